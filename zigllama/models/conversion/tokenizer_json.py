"""`tokenizer.json`, as PyPI's `tokenizers` writes it -> `Words`.

    BPE over bytes      GPT-2's alphabet of printable letters for bytes; the pre-tokenizer's rule must be one that
                        models/pretokenizers.py knows by name
    BPE with U+2581     a SentencePiece model in another coat (LLaMA 2, Gemma): scores are made from the merges' order
    WordPiece           BERT: pieces inside a word lose their ##, first ones get a U+2581, as files have them
    Unigram             T5, XLM-R: its scores and character map are kept

What it is not: it runs no rule, and knows no folder (vocabulary_files.py).
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

import numpy as np

from zigllama.errors import BadCheckpoint, UnsupportedTokenizer
from zigllama.models import pretokenizers
from zigllama.models.conversion.checkpoint import Config
from zigllama.models.conversion.safetensors import shown
from zigllama.models.conversion.tokenizer_checks import (
    around,
    check_bpe,
    check_normalizers,
    check_spaced,
    check_unigram,
    check_word_piece,
    notes_on_added,
    spaces_of_unigram,
    steps,
)
from zigllama.models.conversion.words import Added, Words
from zigllama.models.vocabulary import BYTE, UNKNOWN

SPACE = "\u2581"
MAX_CUTS = 1 << 28  # squares of the tokens' lengths: 25 times those of Gemma's 262,144 tokens
BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")
_TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_TAIL_M = r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|"
GPT2_REGEX = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# The rule as its authors wrote it -> GGUF's names for it: where a word that is a token stays whole, and elsewhere
REGEXES: dict[str, tuple[str, str]] = {
    GPT2_REGEX: ("", "gpt-2"),
    _SHORT + r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|" + _TAIL: ("llama-bpe", "dbrx"),
    _SHORT + r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|" + _TAIL: ("", "qwen2"),
    _SHORT + r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}|" + _TAIL_M: ("", "qwen35"),
}
BLOOM_REGEX = r" ?[^(\s|[.,!?…。，、।۔،])]+"


def convert_json(data: dict[str, Any], path: str, pre: str | None) -> Words:
    """The vocabulary. `pre` goes before the rule that the file has. Raises BadCheckpoint, UnsupportedTokenizer."""
    top = Config(data)
    top.path = path
    model = top.object("model")
    kind = model.text("type", default="BPE" if "merges" in model else "")
    if kind == "BPE":
        check_bpe(model, path)
    if kind == "BPE" and steps(top, "pre_tokenizer", "ByteLevel") + steps(top, "decoder", "ByteLevel"):
        words = _byte_bpe(top, model, path, pre)
    elif kind == "BPE" and model.bool("byte_fallback", default=False):
        words = _spaced_bpe(top, model, path)
    elif kind == "WordPiece":
        check_word_piece(top, model)
        words = word_piece(_vocab(model, path), path, model.text("unk_token", default="[UNK]"))
        normalizer = top.object("normalizer")
        lower = normalizer.bool("lowercase", default=True)
        accents = normalizer.bool("strip_accents", default=lower)
        words.keys |= {"normalizer.lowercase": lower, "normalizer.strip_accents": accents}
    elif kind == "Unigram":
        words = _unigram(top, model, path)
    else:
        hint = "has none of BPE over bytes, BPE with byte_fallback, WordPiece and Unigram"
        raise UnsupportedTokenizer(kind or "(no type)", f"{path} {hint}")
    words.add(_added(top, path))
    words.notes += notes_on_added(top)
    words.around = around(top, words.tokens)
    if words.around is not None:
        before, after = (i is not None for i in words.around)
        words.keys |= {"add_bos_token": before, "add_eos_token": after}
    return words


def _vocab(model: Config, path: str) -> dict[str, Any]:
    vocab = model.get("vocab")
    if not isinstance(vocab, dict) or not vocab:
        raise BadCheckpoint(path, "model.vocab: an object of tokens and ids is expected")
    return vocab


def _added(top: Config, path: str) -> list[Added]:
    found = []
    for value in top.list("added_tokens", default=[]):
        token = Config(value if isinstance(value, dict) else {})
        token.path = path
        found.append(Added(token.int("id"), token.text("content"), token.bool("special", default=False)))
    return found


# --- BPE --------------------------------------------------------------------------------------------------------------


def _merges(model: Config, path: str, ids: dict[str, Any]) -> list[tuple[str, str]]:
    """Pairs in their order, in either spelling: "a b" or ["a", "b"]."""
    pairs = []
    for i, value in enumerate(model.list("merges", default=[])):
        pair = value.split(" ", 2) if isinstance(value, str) else value
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(p, str) for p in pair):
            raise BadCheckpoint(path, f"merge {i} is {shown(value)}, not two tokens")
        if pair[0] + pair[1] not in ids:
            raise BadCheckpoint(path, f"merge {i} makes {pair[0] + pair[1]!r:.80}, which is no token")
        pairs.append((pair[0], pair[1]))
    return pairs


def _byte_bpe(top: Config, model: Config, path: str, pre: str | None) -> Words:
    words = Words.by_id(path, "gpt2", ids := _vocab(model, path))
    words.pre = pre or _rule(top, model)
    pretokenizers.lookup(words.pre)
    words.merges = []
    for i, (a, b) in enumerate(_merges(model, path, ids)):
        if " " in a + b:
            raise BadCheckpoint(path, f"merge {i} has a space, {a + b!r:.80}: no letter of the byte alphabet is one")
        words.merges.append(f"{a} {b}")
    if [step.get("type") for step in steps(top, "normalizer")] == ["NFC"]:
        words.keys["normalizer.form"] = "NFC"  # Qwen's and GPT-NeoX's; programs that do not know the key skip it
    else:
        words.notes += check_normalizers(top)
    words.keys["add_bos_token"] = False  # what the post-processor says goes before
    return words


def _rule(top: Config, model: Config) -> str:
    """GGUF's name of the pre-tokenizer. Raises UnsupportedTokenizer, whose text says how to pass one."""
    parts = steps(top, "pre_tokenizer")
    whole = model.bool("ignore_merges", default=False)
    shape, found = [], None
    for step in parts:
        kind = str(step.get("type"))
        if kind == "Split":
            pattern = step.object("pattern")
            shape.append(f"Split {pattern.get('Regex', pattern.get('String'))} {step.get('behavior')}")
        elif kind == "ByteLevel":
            if step.get("add_prefix_space"):
                raise _unknown("ByteLevel with add_prefix_space")
            shape.append("ByteLevel words" if step.bool("use_regex", default=True) else "ByteLevel")
        elif kind == "Digits":
            shape.append("Digits one by one" if step.get("individual_digits") else "Digits")
        elif kind == "Punctuation":
            shape.append(f"Punctuation {step.get('behavior')}")
        else:
            shape.append(kind)
    if shape == ["ByteLevel words"]:
        found = "gpt-2"
    elif shape == ["Digits one by one", "ByteLevel words"]:
        found = "smollm"
    elif shape == ["Punctuation Contiguous", "ByteLevel words", "Digits", "Split [0-9][0-9][0-9] Isolated"]:
        found = "falcon"
    elif shape == [f"Split {BLOOM_REGEX} Isolated", "ByteLevel"] and "bloom" in pretokenizers.PRE_TOKENIZERS:
        found = "bloom"
    elif len(shape) == 2 and shape[1] == "ByteLevel" and parts[0].get("type") == "Split":
        regex = str(parts[0].object("pattern").get("Regex"))
        isolated = parts[0].get("behavior") == "Isolated" and not parts[0].get("invert")
        removed = parts[0].get("behavior") == "Removed" and parts[0].get("invert") is True  # the same, said otherwise
        if (isolated or removed) and regex in REGEXES:
            found = REGEXES[regex][0 if whole else 1]
    if not found or whole != pretokenizers.lookup(found).ignore_merges:
        raise _unknown(", ".join(shape) + (" with ignore_merges" if whole else ""))
    return found


def _unknown(rule: str) -> UnsupportedTokenizer:
    known = ", ".join(sorted(pretokenizers.PRE_TOKENIZERS))
    hint = "its pre-tokenizer has no name in GGUF that is known here; pass the one it behaves like as pre= (--pre)"
    return UnsupportedTokenizer(rule, f"{hint}: {known}")


def _spaced_bpe(top: Config, model: Config, path: str) -> Words:
    """Tokens with U+2581 for spaces: the score of a token is minus the rank of the first merge that makes it, so that
    joining the pair with the highest score is joining the pair of the first merge."""
    ids = _vocab(model, path)
    pairs = _merges(model, path, ids)
    words = Words.by_id(path, "llama", ids)
    scores = np.full(len(words.tokens), -float(1 << 24))
    for rank in range(len(pairs) - 1, -1, -1):
        scores[ids[pairs[rank][0] + pairs[rank][1]]] = -float(rank)
    words.scores = scores.tolist()
    _kinds(words, model.get("unk_token"))
    added = {token.text for token in _added(top, path)}
    if sum(len(t) ** 2 for t in ids if t not in added) > MAX_CUTS:
        raise BadCheckpoint(path, f"model.vocab: a token of {max(map(len, ids))} characters")
    splits = sum(t[:i] in ids and t[i:] in ids for t in ids if t not in added for i in range(1, len(t)))
    if splits != len(pairs):
        words.notes.append(f"{len(pairs)} merges, but {splits} pairs of tokens make a token: scores join all of them")
    prepend = any(step.get("prepend") == SPACE for step in steps(top, "normalizer", "Prepend"))
    for step in steps(top, "pre_tokenizer", "Metaspace"):
        prepend = step.text("prepend_scheme", default="always") != "never"
    words.keys["add_space_prefix"] = prepend
    words.notes += check_spaced(top)
    return words


def _kinds(words: Words, unknown: Any) -> None:
    """BYTE for <0xHH>, UNKNOWN for the token of that text."""
    for i, text in enumerate(words.tokens):
        if BYTE_TOKEN.fullmatch(text):
            words.types[i] = BYTE
        elif text == unknown:
            words.types[i] = UNKNOWN


# --- others -----------------------------------------------------------------------------------------------------------


def word_piece(ids: dict[str, Any], path: str, unknown: str) -> Words:
    """BERT's tokens: `[..]` as it is, `##ing` as `ing`, `word` as U+2581`word`."""
    words = Words.by_id(path, "bert", ids)
    for text, i in ids.items():
        if text == unknown:
            words.types[i] = UNKNOWN
        if text.startswith("##") and len(text) > 2:
            words.tokens[i] = text[2:]
        elif not (text.startswith("[") and text.endswith("]") and len(text) > 2):
            words.tokens[i] = SPACE + text
    return words


def _unigram(top: Config, model: Config, path: str) -> Words:
    entries = model.list("vocab")
    if not entries or not all(isinstance(e, list) and len(e) == 2 and isinstance(e[0], str) for e in entries):
        raise BadCheckpoint(path, "model.vocab: a list of tokens with their scores is expected")
    if not all(isinstance(e[1], int | float) and not isinstance(e[1], bool) and abs(e[1]) < 1e30 for e in entries):
        raise BadCheckpoint(path, "model.vocab: a score is no finite number")
    words = Words(path, "t5", [e[0] for e in entries], [1] * len(entries), [float(e[1]) for e in entries])
    at = model.int("unk_id", default=0, high=len(entries) - 1)
    _kinds(words, words.tokens[at])
    words.notes += check_unigram(top)
    for step in steps(top, "normalizer", "Precompiled"):
        try:
            raw = base64.b64decode(step.text("precompiled_charsmap", default=""), validate=True)
        except binascii.Error as e:
            raise BadCheckpoint(path, f"precompiled_charsmap is no base64: {e}") from None
        words.keys["precompiled_charsmap"] = np.frombuffer(raw, np.uint8)
    prefix, merge, notes = spaces_of_unigram(top)
    words.keys |= {"add_space_prefix": prefix, "remove_extra_whitespaces": merge}
    words.notes += notes
    return words
