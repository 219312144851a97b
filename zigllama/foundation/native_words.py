"""`WordCutter`: a text cut into words by tables; `PairEncoder`: the ids of all its words by byte-pair merges.

A leaf of native.py's door. One call each, in time linear in the text's length, n log n within a word. Which tables a
pre-tokenizer has is `zigllama.models.split_automaton`'s matter. The twins are `zigllama.models.pretokenizers.splitter`
and `zigllama.models.merging.merge`. What it is not: it knows no expression, no Unicode and no file.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zigllama.errors import ShapeError

from .gguf_metadata import StringArray
from .native import check, ffi, lib
from .native_strings import StringIndex, strings_record

I32 = npt.NDArray[np.int32]


class CutKind(IntEnum):
    """What a cut does; see zl_cut in zl_text.h."""

    EXPRESSION = lib.ZL_CUT_EXPRESSION
    THREES = lib.ZL_CUT_THREES
    THREES_JOINED = lib.ZL_CUT_THREES_JOINED
    TAIL = lib.ZL_CUT_TAIL


class Cut(NamedTuple):
    """The tables of one cut: the class of each code point, uint8 (0x110000,); of an expression the automaton, uint16
    (states, classes + 1).
    """

    kind: CutKind
    classes: npt.NDArray[np.uint8]
    next: npt.NDArray[np.uint16] | None = None


def _check(name: str, array: npt.NDArray[Any], dtype: type[np.generic], shape: tuple[int | None, ...]) -> None:
    """Raise ShapeError for an array that C would read otherwise, or past its end. None in a shape: any number."""
    fits = array.ndim == len(shape) and all(b in (None, a) for a, b in zip(array.shape, shape, strict=True))
    if array.dtype != dtype or not fits:
        wanted = f"{dtype.__name__} ({', '.join('n' if n is None else str(n) for n in shape)})"
        raise ShapeError(f"{name} is {array.dtype} {array.shape}, not {wanted}")


class WordCutter:
    """Cuts a text by several cuts, one after the other.

    cutter.ends("it's 12".encode())      # array([2, 4, 7], dtype=int32): the byte after each word

    Raises InvalidArgument for tables that lead out of themselves, ShapeError for others than `Cut` describes.
    """

    def __init__(self, cuts: Sequence[Cut]) -> None:
        for k, cut in enumerate(cuts):
            _check(f"cut {k}: classes", cut.classes, np.uint8, (lib.ZL_CODE_POINTS,))
            if cut.next is not None:
                _check(f"cut {k}: next", cut.next, np.uint16, (None, None))
        self._cuts = ffi.new("zl_cut[]", len(cuts))
        self._keep: list[object] = []
        for record, cut in zip(self._cuts, cuts, strict=True):
            record.kind = cut.kind
            record.classes = self._pointer("uint8_t[]", cut.classes)
            if cut.next is not None:
                record.n_states, record.n_classes = len(cut.next), cut.next.shape[1] - 1
                record.next = self._pointer("uint16_t[]", cut.next)
        check(lib.zl_cuts_check(self._cuts, len(cuts)))

    def _pointer(self, kind: str, array: npt.NDArray[np.generic]) -> object:
        self._keep.append(ffi.from_buffer(kind, array))
        return self._keep[-1]

    def ends(self, text: bytes) -> I32:
        """The byte after each word of a text of UTF-8, int32. Raises ShapeError for 2 GiB and more."""
        ends, n_ends = np.empty(len(text), np.int32), ffi.new("int64_t *")
        check(lib.zl_split(self._cuts, len(self._cuts), text, len(text), ffi.from_buffer("int32_t[]", ends), n_ends))
        return ends[: n_ends[0]].copy()


class Whole(IntEnum):
    """Which words, being tokens, are those tokens whatever the merges make of them."""

    NEVER = lib.ZL_WHOLE_NEVER
    ALWAYS = lib.ZL_WHOLE_ALWAYS
    NEWLINES = lib.ZL_WHOLE_NEWLINES


class PairEncoder:
    """Encodes words by merges: the pair that stands first in the list is joined first, of equal ones the leftmost.

    letters    what each byte is spelt with in a token, 256 characters; None: as it stands, and symbols begin as
               characters
    lone       the token of each byte that ends up in a symbol which is no token, int32 (256,), -1 for none
    spaces     the texts have a space where tokens and merges have U+2581, which is a token and stands in no text

    Raises InvalidArgument for a merge that is not two symbols with a space between, ShapeError for not 256 of these.
    """

    def __init__(
        self,
        index: StringIndex,
        merges: StringArray,
        letters: Sequence[str] | None,
        lone: I32,
        whole: Whole,
        spaces: bool = False,
    ) -> None:
        _check("lone", lone, np.int32, (256,))
        if letters is not None and (len(letters) != 256 or max(letters) >= "\u0800"):
            raise ShapeError(f"{len(letters)} letters, not 256 below U+0800")
        tokens, self._index = index.strings, index
        parts = np.empty((len(merges), 3), np.int32)
        keep: list[Any] = []
        check(lib.zl_pairs_parts(index.record, strings_record(merges, keep), ffi.from_buffer("int32_t[]", parts)))
        others = self._number_others(parts, merges, len(tokens))
        for letter in letters or ():
            if letter.encode() not in index:
                others.setdefault(letter.encode(), len(others))
        self._others = StringIndex(StringArray.from_strings(list(others))) if others else None
        n_symbols = len(tokens) + len(others)
        n_slots = 1 << (len(merges) + len(merges) // 4).bit_length()
        self._slots = np.empty((n_slots, 4), np.int32)
        strings = (tokens, *((self._others.strings,) if self._others else ()))
        lengths = [_lengths(s, letters is not None, spaces) for s in strings]
        self._record = record = ffi.new("zl_pairs *")
        self._keep = [
            ffi.from_buffer("int32_t[]", self._slots),
            ffi.from_buffer("int32_t[]", np.concatenate([*lengths, np.arange(1, 5)]).astype(np.int32)),
            ffi.from_buffer("int32_t[]", np.ascontiguousarray(lone, np.int32)),
        ]
        record.slots, record.lengths, record.lone = self._keep
        if letters is not None:
            symbols = [
                i if (i := index.find(c.encode())) is not None else len(tokens) + others[c.encode()] for c in letters
            ]
            self._keep += [
                ffi.from_buffer("int32_t[]", np.array(symbols, np.int32)),
                ffi.from_buffer("uint16_t[]", np.array([ord(c) for c in letters], np.uint16)),
            ]
            record.bytes, record.letters = self._keep[-2:]
        record.n_slots, record.n_tokens, record.n_symbols, record.whole = n_slots, len(tokens), n_symbols, whole
        if spaces:
            self._index, self._others = _spaced(index), self._others and _spaced(self._others)
        record.tokens = self._index.record
        record.others = ffi.NULL if self._others is None else self._others.record
        secret = os.urandom(16)
        record.key = [int.from_bytes(secret[:8], "little"), int.from_bytes(secret[8:], "little")]
        check(lib.zl_pairs_build(record, ffi.from_buffer("int32_t[]", parts), len(merges)))

    @staticmethod
    def _number_others(parts: I32, merges: StringArray, n_tokens: int) -> dict[bytes, int]:
        """Texts of merges that are no tokens, numbered; their symbols, after the tokens, are written into `parts`."""
        others: dict[bytes, int] = {}
        for i in np.flatnonzero((parts < 0).any(axis=1)).tolist():
            raw = merges.raw(i)
            space = raw.index(b" ", 1)
            for j, text in enumerate((raw[:space], raw[space + 1 :], raw[:space] + raw[space + 1 :])):
                if parts[i, j] < 0:
                    parts[i, j] = n_tokens + others.setdefault(text, len(others))
        return others

    def encode(self, text: bytes, ends: I32) -> tuple[I32, I32]:
        """Ids of the words of a text that end before bytes `ends`, int32; and how many of them end with each word.

        Raises InvalidArgument for an end that does not ascend or lies past the text; ShapeError; OutOfMemory.
        """
        _check("ends", ends, np.int32, (None,))
        ids, id_ends = np.empty(len(text), np.int32), np.empty(len(ends), np.int32)
        n_seen = 1 << min(16, len(ends).bit_length())
        pointers = [ffi.from_buffer("int32_t[]", a) for a in (ends, np.empty(n_seen, np.int32), ids, id_ends)]
        status = lib.zl_pairs_encode(
            self._record, text, len(text), pointers[0], len(ends), pointers[1], n_seen, *pointers[2:]
        )
        check(status)
        return ids[: int(id_ends[-1]) if len(ends) else 0], id_ends


def _spaced(index: StringIndex) -> StringIndex:
    found = index.with_spaces()
    if found is None:
        raise ShapeError(f"a string is too long for spaces to stand for U+2581: {index.record.longest} bytes")
    return found


def _lengths(strings: StringArray, in_letters: bool, spaces: bool) -> I32:
    """Bytes of the texts that each string is found in, int32 (n,): its characters where each stands for a byte, else
    its own, with `spaces` one for U+2581."""
    offsets, data = strings.offsets, strings.data
    if not in_letters and not spaces:
        return strings.lengths.astype(np.int32)
    if in_letters:
        counted = (data & 0xC0) != 0x80
    else:
        counted = np.ones(len(data), bool)
        at = np.flatnonzero((data[:-2] == 0xE2) & (data[1:-1] == 0x96) & (data[2:] == 0x81))
        counted[at + 1] = counted[at + 2] = False
    begins = np.concatenate([[0], np.cumsum(counted, dtype=np.int32)])
    lengths: I32 = (begins[offsets[1:]] - begins[offsets[:-1] + 8]).astype(np.int32)
    return lengths
