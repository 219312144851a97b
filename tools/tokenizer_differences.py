"""Why another tokenizer gives other ids for a text: a reason counts only if it makes that tokenizer's very ids.

    gap      (byte-level BPE) a byte whose letter the vocabulary lacks. `tokenizers` drops it before it merges, and
             its neighbours meet; here and in llama.cpp it stands between them. Right is that: a byte that no token can
             say is still no reason to join what it parts.
    table    (falcon) a mark of punctuation that Unicode has had since after the table of `tokenizers`' Punctuation was
             made. Right is Unicode, whose \\p{P} the rule is published with; the tables here are those of 15.1.
    tie      (unigram) SentencePiece adds scores up in float32 from a text's start and takes the first of what is equal
             then. Right is the sum: what is chosen here is at least as probable, added up exactly.
    forms    (WordPiece) llama.cpp takes of what NFD makes of a character the first only, so that of a Hangul syllable
             one letter is left, and removes every kind of mark, those that take room too: the vowel signs of Indic
             scripts. Right is BERT's own tokenizer, in whose library's ids the vocabularies were made: all letters, and
             only marks that take no room.

What it is not: a judge of differences that nobody has explained; `reason` gives "" for those.
"""

from __future__ import annotations

import math
import unicodedata
from functools import cache
from typing import Any

import numpy as np

from zigllama.models.code_point_sets import prop
from zigllama.models.pretokenizers import PRE_TOKENIZERS
from zigllama.models.split_automaton import cutter
from zigllama.models.tokenizer import Tokenizer
from zigllama.models.tokenizer_bpe import LETTERS, BytePairEncoder
from zigllama.models.tokenizer_unigram import UnigramEncoder
from zigllama.models.tokenizer_wordpiece import WordPieceEncoder
from zigllama.models.vocabulary import BYTE, NORMAL, UNUSED, USER_DEFINED


def reason(ours: Tokenizer, oracle: str, text: str, mine: list[int], other: list[int]) -> str:
    """The reason that gives the other ids for this text, "" for none."""
    encoder = ours._encoder
    if oracle == "sentencepiece" and isinstance(encoder, UnigramEncoder):
        return "tie" if is_tie(encoder, text, mine, other) else ""
    if oracle == "tokenizers" and isinstance(encoder, BytePairEncoder) and not encoder.rule.raw:
        for newest in (False, True) if ours.pre == "falcon" else (False,):
            for gaps in (False, True):
                if bpe_ids(ours, text, gaps, newest) == other:
                    return {(1, 0): "gap", (0, 1): "table", (1, 1): "gap and table"}.get((gaps, newest), "")
    if oracle == "llama.cpp" and isinstance(encoder, WordPieceEncoder) and encoder.strip_accents:
        return "forms" if ours.encode(first_of_forms(text), add_special=False) == other else ""
    return ""


# --- WordPiece ---


def first_of_forms(text: str) -> str:
    """The first character of each one's NFD, without those that are marks of any kind."""
    firsts = (unicodedata.normalize("NFD", c)[0] for c in text)
    return "".join(c for c in firsts if not unicodedata.category(c).startswith("M"))


# --- byte-level BPE ---


@cache
def newer_marks() -> str:
    """The marks of punctuation that `tokenizers` does not know as such, asked one by one."""
    from tokenizers import pre_tokenizers

    cut = pre_tokenizers.Punctuation("isolated").pre_tokenize_str
    marks = (chr(c) for first, last in prop("P") for c in range(first, last + 1))
    return "".join(c for c in marks if len(cut(f"a{c}a")) == 1)


@cache
def _falcon_of_old() -> Any:
    rule = PRE_TOKENIZERS["falcon"]
    first, *others = rule.stages
    assert isinstance(first, str) and first.endswith("]+")
    return cutter(rule._replace(stages=(f"{first[:-2]}&&[^{newer_marks()}]]+", *others)))


def bpe_ids(ours: Tokenizer, text: str, gaps: bool, newer: bool) -> list[int]:
    """Our ids with another one's ways: `gaps`, bytes without a letter are dropped before merging; `newer`, cut by
    falcon's rule without `newer_marks`."""
    encoder = ours._encoder
    assert isinstance(encoder, BytePairEncoder)
    find, ids = ours._vocabulary.index.find, list[int]()
    kept = np.array([not gaps or find(letter.encode()) is not None for letter in LETTERS])
    for part in ours._user_defined.partition(text):
        if isinstance(part, int):
            ids.append(part)
            continue
        raw = np.frombuffer(part.encode(), np.uint8)
        ends = (_falcon_of_old() if newer else encoder._cutter).ends(part.encode())
        stays = kept[raw]
        ends = np.unique(np.cumsum(stays, dtype=np.int32)[ends - 1])
        found, _ = encoder._pairs.encode(raw[stays].tobytes(), np.ascontiguousarray(ends[ends > 0]))
        ids += found.tolist()
    return ids


# --- unigram ---


def is_tie(encoder: UnigramEncoder, text: str, mine: list[int], other: list[int]) -> bool:
    """Whether the other ids are those of SentencePiece's search in float32, and ours are as probable, exactly added."""
    made = sentencepiece_search(encoder, encoder.normalize(text).encode())
    if made is None or [i for i, _ in made] != other:
        return False
    return _probability(encoder, mine) >= _probability(encoder, other)


def _scores(encoder: UnigramEncoder) -> tuple[dict[bytes, tuple[int, float]], float]:
    vocabulary = encoder.vocabulary
    scores, types = vocabulary.scores, vocabulary.types
    normal = scores[types == NORMAL]
    highest, lowest = float(normal.max()), float(normal.min())
    pieces = dict[bytes, tuple[int, float]]()
    for i in np.flatnonzero(np.isin(types, (NORMAL, USER_DEFINED))).tolist():
        raw = vocabulary.tokens.raw(i)
        own = len(raw) * highest - 0.1 if types[i] == USER_DEFINED else float(scores[i])
        pieces[raw] = i, own
    return pieces, float(np.float32(lowest) - np.float32(10.0))


def sentencepiece_search(encoder: UnigramEncoder, text: bytes) -> list[tuple[int, int]] | None:
    """(token, its end) by the search as SentencePiece does it (unigram_model.cc, EncodeOptimized): each place keeps the
    best sum up to it, as float32; runs of the unknown token are one, or the tokens of its bytes where there are such.
    None for a vocabulary with unused pieces, where this is not written out."""
    types = encoder.vocabulary.types
    if (types == UNUSED).any():
        return None
    bytes_of = {encoder.vocabulary.byte_of(i): i for i in np.flatnonzero(types == BYTE).tolist()}
    pieces, unknown = _scores(encoder)
    longest, n = max(map(len, pieces)), len(text)
    best, start, token = np.zeros(n + 1, np.float32), [-1] * (n + 1), [-1] * (n + 1)

    def offer(begin: int, end: int, i: int, candidate: float) -> None:
        if start[end] < 0 or np.float32(candidate) > best[end]:
            best[end], start[end], token[end] = np.float32(candidate), begin, i

    at = 0
    while at < n:
        width = 1 if text[at] < 0xC0 else 2 if text[at] < 0xE0 else 3 if text[at] < 0xF0 else 4
        alone = False
        for end in range(at + 1, min(n, at + longest) + 1):
            found = pieces.get(text[at:end])
            if found is not None:
                offer(at, end, found[0], found[1] + float(best[at]))
                alone = alone or end == at + width
        if not alone:
            offer(at, at + width, encoder.unknown, float(np.float32(unknown) + best[at]))
        at += width
    made, at = list[tuple[int, int]](), n
    while at > 0:
        begin = start[at]
        if token[at] == encoder.unknown and bytes_of:
            made += [(bytes_of[text[k]], k + 1) for k in range(at - 1, begin - 1, -1)]
        elif not (made and token[at] == made[-1][0] == encoder.unknown):
            made.append((token[at], at))
        at = begin
    return made[::-1]


def _probability(encoder: UnigramEncoder, ids: list[int]) -> float:
    """The sum of the scores, rounded once. An unknown character counts nothing: there are as many on both sides."""
    pieces, _ = _scores(encoder)
    by_id = dict(pieces.values())
    return math.fsum(by_id.get(i, 0.0) for i in ids)
