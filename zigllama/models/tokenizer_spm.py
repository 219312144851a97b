"""SentencePiece BPE, as LLaMA 2, Mistral 7B and Gemma use it (`tokenizer.ggml.model` = `llama`).

    "a cat"  --escape-->  a\u2581cat  --characters-->  a \u2581 c a t  --scores-->  a \u2581cat

Two neighbouring pieces may be joined if the result is a token; the pair whose token has the highest score goes first,
of equal ones the leftmost. A character that is no token becomes the tokens of its UTF-8 bytes, `<0xE4>` and so on.

A vocabulary without such tokens that names an unknown one has that, a run of them one.

User-defined tokens are cut out of the text first, and what lies between is a text of its own, as in llama.cpp. Where a
file has a map of characters or merges spaces, which llama.cpp does for unigram models only, it is SentencePiece's rule:
the whole text is normalised, those tokens apart, and then cut, so that "a  <x>" keeps the space before <x>.

There is no pre-tokenizer: the whole text is one word. To be fast all the same, the text is cut where no join can ever
reach across: before a \u2581 (U+2581) that follows a byte which, in no token, stands before one. The ids are the same.
Spaces are not spelt out where the index can read them as U+2581: ten megabytes of spaces stay ten.

Source: T. Kudo and J. Richardson, "SentencePiece", 2018.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import pairwise
from types import MappingProxyType
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from zigllama.errors import BadMetadata
from zigllama.foundation.native_pieces import PieceEncoder
from zigllama.foundation.native_strings import StringIndex
from zigllama.foundation.native_unigram import LONGEST_PIECE, PieceTrie

from .space_normalizer import SpaceNormalizer
from .text_encoder import Span, TextEncoder, places
from .vocabulary import BYTE, CONTROL, NORMAL, PREFIX, UNKNOWN, UNUSED, USER_DEFINED, Vocabulary

SPACE = "\u2581"
RAW_SPACE = SPACE.encode()
BLOCK = 1 << 16  # bytes that are looked through at a time for cuts; pieces of a word that are spelt in bytes


class SentencePieceEncoder(TextEncoder):
    """Text to ids and ids to bytes by scores. Special tokens and the ends of a text are tokenizer.py's matter."""

    def __init__(self, vocabulary: Vocabulary, add_space_prefix: bool, unknown: int | None = None) -> None:
        self.vocabulary, self.add_space_prefix, self.unknown = vocabulary, add_space_prefix, unknown
        self._normalizer = SpaceNormalizer(vocabulary)
        if not self._normalizer.trivial and (kept := self._kept()):
            self.cut_out, self.restarts = (), (CONTROL, UNKNOWN)
            self._pieces = {vocabulary.tokens.raw(i): i for i in kept}
            self._normalizer = SpaceNormalizer(vocabulary, PieceTrie(vocabulary.tokens, np.array(kept)))
            self._cut = re.compile(b"|".join(map(re.escape, sorted(self._pieces, key=len, reverse=True))))
        self.merge_spaces = self._normalizer.merge_spaces
        self.strip = add_space_prefix or self.merge_spaces

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
        if self._cut is None:
            return self._merged(raw)
        ids, edges = list[int](), self._edges(raw)
        for k, (begin, end) in enumerate(pairwise(edges)):  # between tokens, a token, between tokens, ..
            found = [self._pieces[raw[begin:end]]] if k % 2 else self._merged(raw[begin:end])
            ids += found[1:] if self._joins(ids, found) else found
        return ids

    @cached_property
    def _encoder(self) -> PieceEncoder:
        index = self._spaced or self.vocabulary.index
        unknown = None if self._falls_back else self.unknown
        return PieceEncoder(index, self._ranks, self._joinable, self._byte_ids, unknown)

    def encode_cut(self, raw: bytes, cuts: npt.NDArray[np.int32]) -> list[int] | None:
        """All parts at once, where nothing is put before them: words that come again in another line are known."""
        if not self._normalizer.trivial or self.add_space_prefix or self._spaced is None:
            return None
        return self._merged(raw, cuts)

    def _merged(self, raw: bytes, cuts: npt.NDArray[np.int32] | None = None) -> list[int]:
        """Ids of a normalised text, in which `cuts` are the special tokens."""
        ids, lacking = self._encoder.encode(raw, cuts)
        if lacking is not None:
            self._no_token(raw[lacking.byte], raw[lacking.begin : lacking.end])
        found: list[int] = ids.tolist()
        return found

    def _no_token(self, byte: int, piece: bytes) -> NoReturn:
        raise BadMetadata(PREFIX + "tokens", f"no token for byte 0x{byte:02X}, and none for {piece!r}")

    def encode_by_definition(self, text: str, after_special: bool) -> list[int]:
        """The twin of `encode`: words one by one, the best pair of each first."""
        prefix = self.add_space_prefix and after_special
        ids: list[int] = []
        for word in self._parts(self._normalizer.apply(text.encode(), prefix)[0].tobytes()):
            found = self._encode_word(word)[0].tolist()
            ids += found[1:] if self._joins(ids, found) else found
        return ids

    def encode_with_offsets(self, text: str, after_special: bool) -> tuple[list[int], list[Span]]:
        """`encode`, and the bytes of the text that each token comes from."""
        normalized, origin = self._normalizer.apply(
            text.encode(), self.add_space_prefix and after_special, with_origin=True
        )
        ids, ends, at = list[int](), list[int](), 0
        for word in self._parts(normalized.tobytes()):
            found, found_ends = self._encode_word(word)
            if self._joins(ids, found[:1].tolist()):
                ids.pop()
                ends.pop()
            ids += found.tolist()
            ends += (found_ends + at).tolist()
            at += len(word)
        assert origin is not None  # it was asked for
        return ids, places(np.array(ends, np.int32), origin)

    _cut: re.Pattern[bytes] | None = None  # finds user-defined tokens in a normalised text
    _pieces: Mapping[bytes, int] = MappingProxyType({})  # and which they are

    @cached_property
    def _falls_back(self) -> bool:
        """Whether there are tokens of bytes."""
        return any(self.vocabulary.index.find(b"<0x%02X>" % b) is not None for b in range(256))

    def _joins(self, ids: list[int], found: list[int]) -> bool:
        """Whether a run of unknown characters goes on from one word to the next."""
        return self.unknown is not None and ids[-1:] == found[:1] == [self.unknown] and not self._falls_back

    def _kept(self) -> list[int]:
        """User-defined tokens that a text can hold."""
        tokens = self.vocabulary.tokens
        found = np.flatnonzero((self.vocabulary.types == USER_DEFINED) & (tokens.lengths > 0))
        long = found[tokens.lengths[found] > LONGEST_PIECE]
        if len(long):
            reason = f"token {long[0]} has {tokens.lengths[long[0]]} bytes, a user-defined one at most {LONGEST_PIECE}"
            raise BadMetadata(PREFIX + "tokens", reason)
        return list(found.tolist())

    def _edges(self, text: bytes) -> list[int]:
        """Where user-defined tokens begin and end in a normalised text, and its own ends."""
        assert self._cut is not None
        return [0, *(e for m in self._cut.finditer(text) for e in m.span()), len(text)]

    def _parts(self, text: bytes) -> Iterator[bytes]:
        """A normalised text as user-defined tokens and words."""
        if self._cut is None:
            return self._split(text)
        parts = [text[a:b] for a, b in pairwise(self._edges(text))]  # between tokens, a token, between tokens, ..
        return (w for i, part in enumerate(parts) for w in ([part] if i % 2 else self._split(part)) if w)

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
        """Ids, and the byte of the word after each. What is no token is given by its bytes; where no byte has a token,
        as the unknown one, a run of it once."""
        if word in self._pieces:
            return np.array([self._pieces[word]], np.int32), np.array([len(word)], np.int32)
        index = self._spaced or self.vocabulary.index
        ends = index.merge(word, ranks=self._ranks)
        ids = index.find_pieces(word, ends)
        if (ids >= 0).all():
            return ids, ends
        if self.unknown is not None and not self._falls_back:
            last = np.append((ids[:-1] >= 0) | (ids[1:] >= 0), True)  # of a run of unknown ones
            return np.where(ids < 0, np.int32(self.unknown), ids)[last], ends[last]
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
                self._no_token(word[k], piece)
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
