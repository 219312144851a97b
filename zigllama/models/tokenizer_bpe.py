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
import numpy.typing as npt

from zigllama.errors import BadMetadata
from zigllama.foundation.gguf_metadata import StringArray
from zigllama.foundation.native_words import PairEncoder, Whole, WordCutter

from .merging import merge
from .pretokenizers import PreTokenizer, splitter
from .split_automaton import cutter
from .text_encoder import Span, TextEncoder
from .vocabulary import BYTE, NORMAL, PREFIX, UNUSED, Vocabulary

SPACE = "\u2581"  # as SentencePiece spells it


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
        merges = vocabulary.strings("merges")
        if merges is None:
            raise BadMetadata(PREFIX + "merges", "missing: byte-pair encoding needs its list of merges")
        self._merges = merges

    @cached_property
    def _cutter(self) -> WordCutter:
        return cutter(self.rule)

    @cached_property
    def _pairs(self) -> PairEncoder:
        check_pairs(self._merges)
        rule = self.rule
        whole = Whole.ALWAYS if rule.ignore_merges else Whole.NEWLINES if rule.newline_words else Whole.NEVER
        letters = None if rule.raw else LETTERS
        return PairEncoder(self.vocabulary.index, self._merges, letters, self._lone_ids, whole, self._spaced)

    @cached_property
    def _spaced(self) -> bool:
        """Whether spaces that are spelt U+2581 stay spaces while they are worked on, which keeps a text of spaces a
        third as long: that needs U+2581 to be a token, so that no space falls apart into bytes."""
        index = self.vocabulary.index
        return self.rule.raw and self.rule.escape_spaces and SPACE.encode() in index and index.with_spaces() is not None

    @cached_property
    def _lone_ids(self) -> npt.NDArray[np.int32]:
        return np.array([-1 if (i := self._lone(b)) is None else i for b in range(256)], np.int32)

    def _lone(self, byte: int) -> int | None:
        """The token for a byte whose symbol is no token: a merge may make such a symbol. As llama.cpp does, letters of
        ASCII are tokens then; a byte for which the vocabulary has no letter has no id at all."""
        if self.rule.raw:
            return self.vocabulary.index.find(b"<0x%02X>" % byte)
        letter = LETTERS[byte].encode()
        return self.vocabulary.index.find(letter) if letter.isascii() else None

    def encode(self, text: str, after_special: bool) -> list[int]:
        """Ids of a text without special tokens."""
        raw = self._spelt(text)
        ids, _ = self._pairs.encode(raw, self._cutter.ends(raw))
        found: list[int] = ids.tolist()
        return found

    def _spelt(self, text: str) -> bytes:
        if self._spaced:
            return text.replace(SPACE, " ").encode()
        return (text.replace(" ", SPACE) if self.rule.escape_spaces else text).encode()

    def _origin(self, text: str) -> list[int]:
        """The byte of the text that each byte of `_spelt` comes from, and the text's end."""
        source = np.frombuffer(text.encode(), np.uint8)
        if self._spaced:
            at = np.flatnonzero((source[:-2] == 0xE2) & (source[1:-1] == 0x96) & (source[2:] == 0x81))
            kept = np.delete(np.arange(len(source) + 1), np.concatenate([at + 1, at + 2]))
            return list(kept.tolist())
        widths = np.where((source == 0x20) & self.rule.escape_spaces, len(SPACE.encode()), 1)
        return list(np.append(np.repeat(np.arange(len(source)), widths), len(source)).tolist())

    def encode_with_offsets(self, text: str, after_special: bool) -> tuple[list[int], list[Span]]:
        """`encode`, and the bytes of the text that each token stands for. What no token stands for, a byte that the
        vocabulary has none for, is passed over."""
        raw, origin = self._spelt(text), self._origin(text)
        ends = self._cutter.ends(raw)
        ids, id_ends = self._pairs.encode(raw, ends)
        found, lone, spans, first, at = ids.tolist(), self._lone_ids.tolist(), list[Span](), 0, 0
        for id_end, end in zip(id_ends.tolist(), ends.tolist(), strict=True):
            for i in found[first:id_end]:
                mine = self._bytes(i)
                while at < end and not raw.startswith(mine, at) and lone[raw[at]] != i:
                    at += 1
                start, at = at, min(end, at + (len(mine) if raw.startswith(mine, at) else 1))
                spans.append((origin[start], origin[at]))
            first, at = id_end, end
        return found, spans

    def encode_by_definition(self, text: str) -> list[int]:
        """The twin of `encode`: words by Python's `re`, then merges word by word, best pair first."""
        find = self.vocabulary.index.find
        ranks: dict[bytes, int] = {}
        for i in range(len(self._merges)):
            ranks.setdefault(self._merges.raw(i), i)
        ids: list[int | None] = []
        for word in splitter(self.rule)(text.replace(" ", SPACE) if self.rule.escape_spaces else text):
            spelt = word if self.rule.raw else "".join(LETTERS[b] for b in word.encode())
            whole = find(spelt.encode())
            if whole is not None and (self.rule.ignore_merges or (self.rule.newline_words and not word.strip("\n"))):
                ids.append(whole)
                continue
            for symbol in merge([c.encode() for c in spelt], lambda a, b: ranks.get(a + b" " + b)):
                letters = symbol if self.rule.raw else [BYTE_OF_LETTER[c] for c in symbol.decode()]
                token = find(symbol)
                ids += [self._lone(b) for b in letters] if token is None else [token]
        return [i for i in ids if i is not None]

    def piece(self, i: int, kind: int) -> bytes:
        """The bytes of token `i`, which has type `kind`."""
        if kind == BYTE:
            return bytes((self.vocabulary.byte_of(i),))
        raw = self.vocabulary.tokens.raw(i)
        if kind != NORMAL:
            return b"" if kind == UNUSED else raw
        return raw.replace(SPACE.encode(), b" ") if self.rule.escape_spaces else self._bytes(i)

    def _bytes(self, i: int) -> bytes:
        """The bytes of a text that is cut into words that token `i` stands for, whatever its type."""
        if self.vocabulary.types[i] == BYTE:
            return bytes((self.vocabulary.byte_of(i),))
        raw = self.vocabulary.tokens.raw(i)
        if self.rule.raw:
            return raw.replace(SPACE.encode(), b" ") if self._spaced else raw
        try:
            return bytes([BYTE_OF_LETTER[letter] for letter in raw.decode()])
        except (KeyError, UnicodeDecodeError):
            return raw  # not in the byte alphabet: text as it stands
