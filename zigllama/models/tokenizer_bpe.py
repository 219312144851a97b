"""Byte-level byte-pair encoding, as GPT-2, LLaMA 3, Qwen and SmolLM use it (`tokenizer.ggml.model` = `gpt2`).

    " the"  --pre-tokenizer-->  word " the"  --UTF-8-->  20 74 68 65  --letters-->  \u0120 t h e  --merges-->  \u0120the

Every byte has a printable letter of its own (a space's is U+0120), so a vocabulary can be written as text and any text
can be encoded: nothing is unknown. `tokenizer.ggml.merges` lists the pairs that may be joined, best first. Rules that
are `raw` (Gemma 4) go without the letters: merges join characters, and what is no token falls apart into <0xHH>.

Source: R. Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units", 2016; the alphabet is
GPT-2's (Radford et al., 2019).
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from zigllama.errors import BadMetadata
from zigllama.foundation.gguf_metadata import StringArray
from zigllama.foundation.native_strings import StringIndex

from .pretokenizers import PreTokenizer, splitter
from .text_encoder import TextEncoder
from .vocabulary import BYTE, NORMAL, PREFIX, UNUSED, Vocabulary

WORD_CACHE = 1 << 15  # words whose ids are remembered
LONGEST_CACHED = 64  # characters; longer words hardly ever come back


def byte_letters() -> list[str]:
    """GPT-2's letter for each byte: itself where Latin-1 prints it, else the next one from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    fresh = iter(range(0x100, 0x200))
    return [chr(b if b in printable else next(fresh)) for b in range(256)]


LETTERS = byte_letters()
TO_LETTERS = dict(enumerate(LETTERS))  # for str.translate, of a text in Latin-1
BYTE_OF_LETTER = {letter: byte for byte, letter in enumerate(LETTERS)}


def check_pairs(merges: StringArray) -> None:
    """Raise `BadMetadata` for a merge that is not two symbols with a space between."""
    begins, ends = merges.offsets[:-1] + 9, merges.offsets[1:] - 1  # where the space may stand
    spaces = np.flatnonzero(merges.data == 0x20)
    at = np.searchsorted(spaces, begins)
    found = np.append(spaces, len(merges.data))[at]
    bad = np.flatnonzero(found >= ends)
    if len(bad):
        i = int(bad[0])
        raise BadMetadata(PREFIX + "merges", f"merge {i} is {merges.raw(i)!r}, not two symbols with a space between")


class BytePairEncoder(TextEncoder):
    """Text to ids and ids to bytes by merges. Special tokens and the ends of a text are tokenizer.py's matter."""

    def __init__(self, vocabulary: Vocabulary, rule: PreTokenizer) -> None:
        self.vocabulary, self.rule = vocabulary, rule
        self._split = splitter(rule)
        self._space = "\u2581" if rule.escape_spaces else " "
        self._words: dict[str, list[int]] = {}
        merges = vocabulary.strings("merges")
        if merges is None:
            raise BadMetadata(PREFIX + "merges", "missing: byte-level BPE needs its list of merges")
        self._merges = merges

    @cached_property
    def _pairs(self) -> StringIndex:
        """`left right` to the merge's place in the list, which is its rank; of equal ones the first."""
        check_pairs(self._merges)
        return StringIndex(self._merges)

    def encode(self, text: str, after_special: bool) -> list[int]:
        """Ids of a text without special tokens."""
        ids: list[int] = []
        words = self._words
        for word in self._split(text.replace(" ", self._space)):
            found = words.get(word)
            if found is None:
                found = self._encode_word(word)
                if len(word) <= LONGEST_CACHED:
                    if len(words) >= WORD_CACHE:
                        words.clear()
                    words[word] = found
            ids += found
        return ids

    def _encode_word(self, word: str) -> list[int]:
        text = word.encode()
        if not self.rule.raw:
            text = text.decode("latin-1").translate(TO_LETTERS).encode()
        index = self.vocabulary.index
        if self.rule.ignore_merges or (self.rule.newline_words and not word.strip("\n")):
            whole = index.find(text)
            if whole is not None:
                return [whole]
        ends = self._pairs.merge(text, b" ")
        ids = index.find_pieces(text, ends)
        if (ids >= 0).all():
            return list(ids.tolist())
        found: list[int] = []
        begin = 0
        for i, end in zip(ids.tolist(), ends.tolist(), strict=True):
            # A merge may make what is no token. As llama.cpp does, its ASCII letters are tokens then; a byte for which
            # the vocabulary has no letter has no id at all.
            found += [i] if i >= 0 else [j for b in text[begin:end] if (j := index.find(self._byte(b))) is not None]
            begin = end
        return found

    def _byte(self, b: int) -> bytes:
        """The text of the token for one byte of a spelt word."""
        return b"<0x%02X>" % b if self.rule.raw else bytes((b,))

    def piece(self, i: int, kind: int) -> bytes:
        """The bytes of token `i`, which has type `kind`."""
        if kind == BYTE:
            return bytes((self.vocabulary.byte_of(i),))
        raw = self.vocabulary.tokens.raw(i)
        if kind != NORMAL:
            return b"" if kind == UNUSED else raw
        if self.rule.raw:
            return raw.replace(b"\xe2\x96\x81", b" ") if self.rule.escape_spaces else raw
        try:
            return bytes([BYTE_OF_LETTER[letter] for letter in raw.decode()])
        except (KeyError, UnicodeDecodeError):
            return raw  # not in the byte alphabet: text as it stands
