"""WordPiece, as BERT uses it (`tokenizer.ggml.model` = `bert`; Devlin et al., 2018, arXiv 1810.04805).

    "Héllo, unaffable!"  --clean, strip, lower-->  hello, unaffable!  --split-->  hello | , | unaffable | !
    unaffable  --longest token first-->  U+2581 un, aff, able        the vocabulary's `un`, `##aff`, `##able`

A word that cannot be made of tokens to its end, or has more than 100 characters, is [UNK] as a whole. White space is
not kept: what `decode` gives has one space between words.

Which characters are marks, punctuation or control characters is wordpiece_ranges.py's matter: as the library has it
that vocabularies are made with, so that ids are those of a model's training. Letters become small one by one, by
Unicode's own rule (`str.lower`), without its exception for a sigma that ends a word; those that are newer than the
Python that runs stay as they are.

What it is not: [CLS] and [SEP] around a text are put there by tokenizer.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache, cached_property

import numpy as np

from zigllama.errors import BadMetadata
from zigllama.foundation.native_unigram import PieceTrie
from zigllama.foundation.native_wordpiece import LONGEST_WORD, WordPieces

from . import wordpiece_forms
from .text_encoder import Span, TextEncoder
from .unicode_forms import combining, normalized
from .vocabulary import BYTE, CONTROL, NORMAL, PREFIX, UNUSED, USER_DEFINED, Vocabulary

START, CONTINUES = "\u2581", "##"  # a token that begins a word, in a GGUF file; one that goes on, in vocab.txt
LONGEST_TOKEN = len(START.encode()) + 4 * LONGEST_WORD  # bytes; a longer one is in no word


@cache
def _class(*names: str) -> str:
    """Some of the ranges in the form that stands between [ and ]."""
    spelt = (f"\\U{first:08x}-\\U{last:08x}" for name in names for first, last in wordpiece_forms.ranges(name))
    return "".join(spelt)


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    """What is removed; accents; words."""
    alone = _class("ALONE", "CHINESE")
    return (
        re.compile(f"[{_class('REMOVED')}]+"),
        re.compile(f"[{_class('MARKS')}]+"),
        re.compile(rf"[{alone}]|[^\s{alone}]+"),
    )


def _in_order(characters: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Marks in the order of their classes, those of one class as they are: what NFD does after it has taken all
    apart."""
    found: list[tuple[str, int]] = []
    run: list[tuple[str, int]] = []
    for c in characters:
        if combining(c[0]):
            run.append(c)
            continue
        found += sorted(run, key=lambda c: combining(c[0]))
        found.append(c)
        run = []
    return found + sorted(run, key=lambda c: combining(c[0]))


def _is_text(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


class WordPieceEncoder(TextEncoder):
    """Text to ids and ids to bytes. `lower` and `strip` say whether letters become small and accents go."""

    restarts = (CONTROL, USER_DEFINED)  # the unknown token stands for a word
    strip = True  # the first word's space is not the text's

    def __init__(self, vocabulary: Vocabulary, unknown: int | None, lower: bool, strip: bool) -> None:
        if unknown is None:
            raise BadMetadata(
                PREFIX + "unknown_token_id", "missing: a word that is not in the vocabulary needs a token"
            )
        self.vocabulary, self.unknown, self.lower, self.strip_accents = vocabulary, unknown, lower, strip

    @cached_property
    def _chosen(self) -> list[int]:
        """Tokens that words are made of: text that can stand in one."""
        tokens, begins = self.vocabulary.tokens, self.vocabulary.tokens.starts
        fits = np.isin(self.vocabulary.types, (NORMAL, USER_DEFINED)) & (tokens.lengths > 0)
        fits &= tokens.lengths <= LONGEST_TOKEN
        high = np.append(0, np.cumsum(tokens.data > 0x7F, dtype=np.int32))  # bytes before each that are not ASCII
        mark, plain = np.frombuffer(START.encode(), np.uint8), high[begins + tokens.lengths] == high[begins]
        starts = np.flatnonzero(tokens.lengths >= len(mark))
        starts = starts[(tokens.data[begins[starts, None] + np.arange(len(mark))] == mark).all(axis=1)]
        plain[starts] = high[begins[starts] + tokens.lengths[starts]] == high[begins[starts] + len(mark)]
        for i in np.flatnonzero(fits & ~plain).tolist():
            fits[i] = _is_text(tokens.raw(i))
        return list(np.flatnonzero(fits).tolist())

    @cached_property
    def _pieces(self) -> WordPieces:
        trie = PieceTrie(self.vocabulary.tokens, np.array(self._chosen, np.int32))
        return WordPieces(trie, self.unknown, wordpiece_forms.forms(self.lower, self.strip_accents))

    @cached_property
    def _tables(self) -> tuple[dict[str, int], dict[str, int], int]:
        """Tokens that begin a word, tokens that go on, and the characters of the longest."""
        starts, rest, most = dict[str, int](), dict[str, int](), 1
        raw = self.vocabulary.tokens.raw
        for i in self._chosen:
            text = raw(i).decode()
            table, word = (starts, text[1:]) if text.startswith(START) else (rest, text)
            if word:
                table[word] = i
                most = max(most, len(word))
        return starts, rest, most

    def normalize(self, text: str) -> str:
        """The text without control characters, and as the model wants letters: `hello` for `Héllo`."""
        removed, marks, _ = _patterns()
        text = removed.sub("", text)
        if self.strip_accents and not text.isascii():
            text = marks.sub("", normalized(text, "NFD"))
        return wordpiece_forms.small(text) if self.lower else text

    def words(self, text: str) -> Iterator[str]:
        """The words of a text, normalised."""
        return (match.group() for match in _patterns()[2].finditer(self.normalize(text)))

    def encode(self, text: str, after_special: bool) -> list[int]:
        """Ids of a text without special tokens."""
        found: list[int] = self._pieces.encode(text.encode()).tolist()
        return found

    def encode_by_definition(self, text: str) -> list[int]:
        """`encode`, word by word: the kernel's twin."""
        return [i for word in self.words(text) for i in self._encode_word(word)]

    def encode_with_offsets(self, text: str, after_special: bool) -> tuple[list[int], list[Span]]:
        """`encode`, and the bytes of the text that each token comes from: a word's marks and removed characters lie in
        its place where they stand inside it."""
        letters, froms = self._normalize_with_origin(text)
        edges = np.append(0, np.cumsum([len(c.encode()) for c in text])).tolist()  # of each character
        ids, spans = list[int](), list[Span]()
        for match in _patterns()[2].finditer(letters):
            word, at = match.group(), match.start()
            found = self._encode_word(word)
            for i in found:
                n = len(word) if i == self.unknown else len(self._word_part(i))
                spans.append((edges[froms[at]], edges[froms[at + n - 1] + 1]))
                at += n
            ids += found
        return ids, spans

    def _word_part(self, i: int) -> str:
        return self.vocabulary.tokens.raw(i).decode("utf-8", "replace").removeprefix(START)

    def _normalize_with_origin(self, text: str) -> tuple[str, list[int]]:
        """`normalize`, character by character, and which character of the text each comes from."""
        removed, marks, _ = _patterns()
        kept = [(c, i) for i, c in enumerate(text) if not removed.match(c)]
        if self.strip_accents and not text.isascii():
            kept = [(d, i) for c, i in kept for d in normalized(c, "NFD")]
            kept = _in_order(kept)
            kept = [(d, i) for d, i in kept if not marks.match(d)]
        if self.lower:
            kept = [(d, i) for c, i in kept for d in wordpiece_forms.small(c)]
        return "".join(c for c, _ in kept), [i for _, i in kept]

    def _encode_word(self, word: str) -> tuple[int, ...]:
        """The longest token that the rest begins with, again and again."""
        if len(word) > LONGEST_WORD:
            return (self.unknown,)
        table, rest, most = self._tables
        ids: list[int] = []
        at = 0
        while at < len(word):
            for end in range(min(len(word), at + most), at, -1):
                i = table.get(word[at:end])
                if i is not None:
                    break
            else:
                return (self.unknown,)
            ids.append(i)
            at, table = end, rest
        return tuple(ids)

    def piece(self, i: int, kind: int) -> bytes:
        """The bytes of token `i`, which has type `kind`: of one that begins a word, with a space before it."""
        if kind == UNUSED:
            return b""
        if kind == BYTE:
            return bytes((self.vocabulary.byte_of(i),))
        raw = self.vocabulary.tokens.raw(i)
        return b" " + raw[3:] if kind == NORMAL and raw.startswith(START.encode()) else raw
