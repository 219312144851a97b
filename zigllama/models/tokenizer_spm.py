"""SentencePiece BPE, as LLaMA 2, Mistral 7B and Gemma use it (`tokenizer.ggml.model` = `llama`).

    "a cat"  --escape-->  a\u2581cat  --characters-->  a \u2581 c a t  --scores-->  a \u2581cat

Two neighbouring pieces may be joined if the result is a token; the pair whose token has the highest score goes first,
of equal ones the leftmost. A character that is no token becomes the tokens of its UTF-8 bytes, `<0xE4>` and so on.

There is no pre-tokenizer: the whole text is one word. To be fast all the same, the text is cut where no join can ever
reach across: before a \u2581 (U+2581) that follows a byte which, in no token, stands before one. The ids are the same.
Spaces are not spelt out where the index can read them as U+2581: ten megabytes of spaces stay ten.

Source: T. Kudo and J. Richardson, "SentencePiece", 2018.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import numpy.typing as npt

from zigllama.errors import BadMetadata
from zigllama.foundation.native_strings import StringIndex

from .space_normalizer import SpaceNormalizer
from .text_encoder import Span, TextEncoder, places
from .vocabulary import BYTE, NORMAL, PREFIX, UNUSED, Vocabulary

SPACE = "\u2581"
RAW_SPACE = SPACE.encode()
WORD_CACHE = 1 << 15  # words whose ids are remembered
LONGEST_CACHED = 128  # bytes
BLOCK = 1 << 16  # bytes that are looked through at a time for cuts; pieces of a word that are spelt in bytes


class SentencePieceEncoder(TextEncoder):
    """Text to ids and ids to bytes by scores. Special tokens and the ends of a text are tokenizer.py's matter."""

    def __init__(self, vocabulary: Vocabulary, add_space_prefix: bool) -> None:
        self.vocabulary, self.add_space_prefix = vocabulary, add_space_prefix
        self._normalizer = SpaceNormalizer(vocabulary)
        self.merge_spaces = self._normalizer.merge_spaces
        self.strip = add_space_prefix or self.merge_spaces
        self._words: dict[bytes, list[int]] = {}

    @cached_property
    def _ranks(self) -> npt.NDArray[np.uint32]:
        """Whole numbers that fall where scores rise, equal for equal scores: the bits of -score as an ordered integer.

        Positive floats are ordered like their bits, negative ones the other way round; NaN is refused before.
        """
        bits = (np.float32(0.0) - self.vocabulary.scores).view(np.uint32)  # 0 - x: never -0
        return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))

    @cached_property
    def _joinable(self) -> npt.NDArray[np.bool_]:
        """Whether each byte stands right before a U+2581 inside some token, bool (256,); a space does where the last
        byte of U+2581 does."""
        tokens = self.vocabulary.tokens
        data = tokens.data
        found = np.zeros(256, bool)
        if len(data) >= 4:
            at = np.flatnonzero((data[:-2] == 0xE2) & (data[1:-1] == 0x96) & (data[2:] == 0x81))
            first = np.zeros(len(data) + 1, bool)
            first[tokens.starts] = True
            found[data[at[~first[at]] - 1]] = True
        found[0x20] |= found[RAW_SPACE[-1]]
        return found

    @cached_property
    def _spaced(self) -> StringIndex | None:
        """The index that reads a space as U+2581. None where U+2581 is no token, so that a space may be three ids."""
        index = self.vocabulary.index
        return index.with_spaces() if RAW_SPACE in index else None

    @cached_property
    def _byte_ids(self) -> npt.NDArray[np.int32]:
        """Token of each byte, int32 (256,): `<0xHH>`, else the byte itself as text; -1 for none."""
        find = self.vocabulary.index.find
        ids = (find(bytes((b,))) if (i := find(b"<0x%02X>" % b)) is None else i for b in range(256))
        return np.array([-1 if i is None else i for i in ids], np.int32)

    def encode(self, text: str, after_special: bool) -> list[int]:
        """Ids of a text without special tokens. Raises `BadMetadata` if a byte is needed that has no token."""
        prefix = self.add_space_prefix and after_special
        if not self._normalizer.trivial:
            raw = self._normalizer.apply(text.encode(), prefix)[0].tobytes()
        elif self._spaced is not None:
            raw = (b" " if prefix else b"") + text.encode()
        else:
            raw = (" " + text if prefix else text).replace(" ", SPACE).encode()
        ids: list[int] = []
        words = self._words
        for word in self._split(raw):
            found = words.get(word)
            if found is None:
                found = self._encode_word(word)[0].tolist()
                if len(word) <= LONGEST_CACHED:
                    if len(words) >= WORD_CACHE:
                        words.clear()
                    words[word] = found
            ids += found
        return ids

    def encode_with_offsets(self, text: str, after_special: bool) -> tuple[list[int], list[Span]]:
        """`encode`, and the bytes of the text that each token comes from."""
        normalized, origin = self._normalizer.apply(
            text.encode(), self.add_space_prefix and after_special, with_origin=True
        )
        ids, ends, at = list[int](), list[int](), 0
        for word in self._split(normalized.tobytes()):
            found, found_ends = self._encode_word(word)
            ids += found.tolist()
            ends += (found_ends + at).tolist()
            at += len(word)
        assert origin is not None  # it was asked for
        return ids, places(np.array(ends, np.int32), origin)

    def _split(self, text: bytes) -> Iterator[bytes]:
        """The words of a normalised text: no join reaches across their ends."""
        data, begin = np.frombuffer(text, np.uint8), 0
        for first in range(0, len(text), BLOCK):
            block = data[first : first + BLOCK + 2]  # U+2581 may end beyond
            spaces, n = block[:BLOCK] == 0x20, min(BLOCK, max(0, len(block) - 2))
            spaces[:n] |= (block[:n] == 0xE2) & (block[1 : n + 1] == 0x96) & (block[2 : n + 2] == 0x81)
            at = first + np.flatnonzero(spaces)
            at = at[at > 0]
            for cut in at[~self._joinable[data[at - 1]]].tolist():
                yield text[begin:cut]
                begin = cut
        yield text[begin:]

    def _encode_word(self, word: bytes) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Ids, and the byte of the word after each. What is no token is given by its bytes."""
        index = self._spaced or self.vocabulary.index
        ends = index.merge(word, ranks=self._ranks)
        ids = index.find_pieces(word, ends)
        if (ids >= 0).all():
            return ids, ends
        data, begin, n = np.frombuffer(word, np.uint8), 0, 0
        of_bytes = int(np.diff(ends, prepend=np.int32(0))[ids < 0].sum())
        found, found_ends = (np.empty(int((ids >= 0).sum()) + of_bytes, np.int32) for _ in range(2))
        for first in range(0, len(ids), BLOCK):  # a few at a time: what it takes is many times as long
            some, its_ends = ids[first : first + BLOCK], ends[first : first + BLOCK]
            lengths = np.diff(its_ends, prepend=np.int32(begin))
            # A piece that is a token is one id, at its last byte; of another one each byte is.
            wanted = np.repeat(some < 0, lengths)
            wanted[its_ends - begin - 1] = True
            made = np.where(np.repeat(some < 0, lengths), self._byte_ids[data[begin : its_ends[-1]]], 0)
            made[its_ends[some >= 0] - begin - 1] = some[some >= 0]
            if (made < 0).any():
                k = begin + int(np.argmax(made < 0))
                i = first + int(np.searchsorted(its_ends, k, "right"))
                piece = word[ends[i - 1] if i else 0 : ends[i]]
                raise BadMetadata(PREFIX + "tokens", f"no token for byte 0x{word[k]:02X}, and none for {piece!r}")
            places = np.flatnonzero(wanted)
            found[n : n + len(places)] = made[places]
            found_ends[n : n + len(places)] = begin + 1 + places
            begin, n = int(its_ends[-1]), n + len(places)
        return found, found_ends

    def piece(self, i: int, kind: int) -> bytes:
        """The bytes of token `i`, which has type `kind`."""
        if kind == BYTE:
            return bytes((self.vocabulary.byte_of(i),))
        raw = self.vocabulary.tokens.raw(i)
        if kind == NORMAL:
            return raw.replace(RAW_SPACE, b" ")
        return b"" if kind == UNUSED else raw
