"""`StringIndex`: which number a text has among many strings, and the joining of a word's characters by such numbers.

A leaf of native.py's door. The strings stay in the bytes of the file (`StringArray`); the index adds four bytes
for each slot of its hash table, where a dictionary would make two Python objects of each string. The twins are a
dictionary, and `zigllama.models.merging.merge`.

What it is not: a tokenizer; those are in `zigllama.models`.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from zigllama import errors

from .gguf_metadata import StringArray
from .native import check, ffi, lib

I32 = npt.NDArray[np.int32]
NO_RANK = 2**32 - 1


def strings_record(strings: StringArray, keep: list[Any]) -> Any:
    """The C record of an array of strings, without an index; what it points at goes into `keep`."""
    record = ffi.new("zl_strings *")
    data, offsets = ffi.from_buffer(strings.data), ffi.from_buffer(strings.offsets)
    keep += [data, offsets, strings]
    record.n, record.n_bytes = len(strings), len(strings.data)
    record.data, record.offsets = ffi.cast("uint8_t *", data), ffi.cast("int64_t *", offsets)
    return record


class StringIndex:
    """An index of `strings`; of equal ones the first is found, with `last` the last.

    index.find(b"the")                   # 257, or None
    index.find_pieces(b"ab", ends)       # number of each piece, -1 where it is none of the strings
    index.merge("hello".encode(), " ")   # ends of the symbols left when no pair can be joined

    Raises InvalidArgument for offsets that leave the data, which a header that was read never has.
    """

    def __init__(self, strings: StringArray, last: bool = False) -> None:
        n = len(strings)
        n_slots = 1 << (2 * n).bit_length()  # at most half of them taken
        self.strings, self._slots = strings, np.empty(n_slots, np.int32)
        self.record = record = ffi.new("zl_strings *")
        self._keep = (ffi.from_buffer(strings.data), ffi.from_buffer(strings.offsets), ffi.from_buffer(self._slots))
        record.n, record.n_bytes, record.n_slots = n, len(strings.data), n_slots
        record.data = ffi.cast("uint8_t *", self._keep[0])
        record.offsets = ffi.cast("int64_t *", self._keep[1])
        record.slots = ffi.cast("int32_t *", self._keep[2])
        secret = os.urandom(16)
        record.key = [int.from_bytes(secret[:8], "little"), int.from_bytes(secret[8:], "little")]
        check(lib.zl_strings_build(record, last))

    def with_spaces(self) -> StringIndex | None:
        """The same index for texts in which a space stands for U+2581: they are a third as long where they are mostly
        spaces. None where a string is too long for that."""
        if self.record.longest > lib.ZL_LONGEST_PIECE:
            return None
        spaced = StringIndex.__new__(StringIndex)
        spaced.strings, spaced._slots, spaced._keep = self.strings, self._slots, self._keep
        spaced.record = ffi.new("zl_strings *", self.record[0])
        spaced.record.spaces = 1
        return spaced

    def find(self, text: bytes) -> int | None:
        """The number of the string that equals `text`, None where there is none."""
        found = ffi.new("int32_t *")
        check(lib.zl_strings_find(self.record, text, len(text), ffi.new("int32_t *", len(text)), 1, found))
        return None if found[0] < 0 else int(found[0])

    def __contains__(self, text: bytes) -> bool:
        return self.find(text) is not None

    def find_pieces(self, text: bytes, ends: I32) -> I32:
        """Numbers of the pieces of a text, int32 (n,), -1 for none. `ends` (n,): the byte after each piece, ascending.

        Raises InvalidArgument for an end that descends or lies past the text.
        """
        found = np.empty(len(ends), np.int32)
        pointers = ffi.from_buffer("int32_t[]", ends), len(ends), ffi.from_buffer("int32_t[]", found)
        check(lib.zl_strings_find(self.record, text, len(text), *pointers))
        return found

    def merge(self, word: bytes, separator: bytes = b"", ranks: npt.NDArray[np.uint32] | None = None) -> I32:
        """Byte-pair merging of a word of UTF-8: the end of each symbol that is left, int32 (n,).

        Two neighbouring symbols a, b may be joined where a + separator + b is one of the strings; its rank is its
        number, or `ranks[number]`, `NO_RANK` for none. The lowest rank is joined first, of equal ones the leftmost.
        Raises ShapeError for a word of 2 GiB or more, or ranks that are not one per string; OutOfMemory.
        """
        ends = np.empty(len(word), np.int32)
        n_ends = ffi.new("int64_t *")
        if ranks is not None and ranks.shape != (len(self.strings),):
            raise errors.ShapeError(f"ranks {ranks.shape} for {len(self.strings)} strings")
        by = ffi.NULL if ranks is None else ffi.from_buffer("uint32_t[]", ranks)
        between = separator[0] if separator else -1
        check(lib.zl_merge(self.record, by, between, word, len(word), ffi.from_buffer("int32_t[]", ends), n_ends))
        return ends[: n_ends[0]]
