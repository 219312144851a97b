"""Metadata of a GGUF file as Python values: the value types, arrays left in the file's own bytes, the mapping of keys.

A vocabulary is an array of up to a few hundred thousand strings. Turning it into Python strings takes longer than
loading the weights, and few uses need all of it. So a `StringArray` keeps the bytes as they stand in the file and one
offset per string, and makes a string when it is asked for. Arrays of numbers are views of the same bytes. Nothing here
reads a file or checks one: gguf_header.py does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum
from itertools import pairwise
from typing import Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from zigllama.errors import BadMetadata


class ValueType(IntEnum):
    """The types of a metadata value, with their ids in files. Source: the GGUF specification."""

    UINT8 = 0
    INT8 = 1
    UINT16 = 2
    INT16 = 3
    UINT32 = 4
    INT32 = 5
    FLOAT32 = 6
    BOOL = 7  # one byte, 0 or 1
    STRING = 8  # u64 length, then UTF-8 bytes, no terminator
    ARRAY = 9  # u32 element type, u64 count, then the elements without padding
    UINT64 = 10
    INT64 = 11
    FLOAT64 = 12


# Everything but STRING and ARRAY has a fixed size: one little-endian NumPy scalar.
DTYPES: dict[ValueType, np.dtype[Any]] = {
    ValueType.UINT8: np.dtype("u1"),
    ValueType.INT8: np.dtype("i1"),
    ValueType.UINT16: np.dtype("<u2"),
    ValueType.INT16: np.dtype("<i2"),
    ValueType.UINT32: np.dtype("<u4"),
    ValueType.INT32: np.dtype("<i4"),
    ValueType.FLOAT32: np.dtype("<f4"),
    ValueType.BOOL: np.dtype("?"),
    ValueType.UINT64: np.dtype("<u8"),
    ValueType.INT64: np.dtype("<i8"),
    ValueType.FLOAT64: np.dtype("<f8"),
}


class StringArray(Sequence[str]):
    """An array of strings in the bytes of the file, read-only.

        data     | len 0 (8) | text 0 | len 1 (8) | text 1 | ...          uint8
        offsets  ^ offsets[0]         ^ offsets[1]     int64 (n + 1,): each length word, and the end

    So string i is `data[offsets[i] + 8 : offsets[i + 1]]`: kernels take `data`, `starts` and `lengths` as they are.
    `raw(i)` is its bytes; indexing and iterating give `str` and raise `BadMetadata` for a string that is not UTF-8,
    which some vocabularies hold on purpose. `key` and `file_offset` (of data[0]) are for that error's text.
    """

    __slots__ = ("_bytes", "data", "file_offset", "key", "offsets")

    def __init__(
        self, data: bytes | memoryview, offsets: npt.NDArray[np.int64], key: str = "", file_offset: int = 0
    ) -> None:
        self._bytes = memoryview(data)
        self.data: npt.NDArray[np.uint8] = np.frombuffer(self._bytes, np.uint8)
        self.offsets = offsets
        self.key, self.file_offset = key, file_offset

    @classmethod
    def from_strings(cls, strings: Sequence[str | bytes], key: str = "") -> StringArray:
        """The same representation made from strings in memory."""
        parts = bytearray()
        offsets = np.zeros(len(strings) + 1, np.int64)
        for i, s in enumerate(strings):
            b = s.encode() if isinstance(s, str) else s
            parts += len(b).to_bytes(8, "little") + b
            offsets[i + 1] = len(parts)
        return cls(bytes(parts), offsets, key)

    @property
    def starts(self) -> npt.NDArray[np.int64]:
        """First byte of each string's text in `data`, int64 (n,)."""
        return self.offsets[:-1] + 8

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Bytes of each string, int64 (n,)."""
        return np.diff(self.offsets) - 8

    def raw(self, i: int) -> bytes:
        """The bytes of string `i`, which need not be UTF-8."""
        n = len(self)
        if not -n <= i < n:
            raise IndexError(f"string {i} of an array of {n}")
        i %= n
        return bytes(self._bytes[self.offsets[i] + 8 : self.offsets[i + 1]])

    def raw_list(self) -> list[bytes]:
        """All strings as bytes: one slice each, faster than `raw` in a loop."""
        data = bytes(self._bytes)
        edges = self.offsets.tolist()
        return [data[a + 8 : b] for a, b in pairwise(edges)]

    @overload
    def __getitem__(self, i: int) -> str: ...
    @overload
    def __getitem__(self, i: slice) -> list[str]: ...
    def __getitem__(self, i: int | slice) -> str | list[str]:
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        return self._decode(i, self.raw(i))

    def __iter__(self) -> Iterator[str]:
        for i, raw in enumerate(self.raw_list()):
            yield self._decode(i, raw)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __eq__(self, other: object) -> bool:
        if isinstance(other, StringArray):
            return bool(
                np.array_equal(self.data, other.data)
            )  # lengths stand in the data, so equal bytes are equal strings
        if isinstance(other, (list, tuple)):
            return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<StringArray {self.key!r} of {len(self)} strings, {len(self.data)} bytes>"

    def _decode(self, i: int, raw: bytes) -> str:
        try:
            return raw.decode()
        except UnicodeDecodeError as e:
            where = self.file_offset + int(self.offsets[i]) + 8 + e.start
            raise BadMetadata(
                self.key, f"string {i % len(self)} is not UTF-8 ({e.reason}); raw({i}) gives its bytes", where
            ) from None


Value = bool | int | float | str | StringArray | npt.NDArray[Any]


class Typed(NamedTuple):
    """A value together with the type it has in a file, for the writer: `Typed(7, ValueType.UINT16)`."""

    value: Value | Sequence[Any]
    type: ValueType
    element_type: ValueType | None = None  # of an ARRAY


class Entry(NamedTuple):
    """One key's value as the header parser leaves it: numbers are ready, the rest is still a place in the header."""

    type: ValueType
    element_type: ValueType | None  # of an ARRAY
    offset: int  # where the value stands in the file: the first element of an array, the first byte of a string
    n: int  # elements of an array, bytes of a string, else 1
    value: bool | int | float | npt.NDArray[np.int64] | None  # a number; of a string array its `offsets`; else None


class Metadata(Mapping[str, Value]):
    """Keys and values in file order.

    Single values are `int`, `float`, `bool` or `str`, arrays of numbers read-only NumPy arrays, arrays of strings
    `StringArray`s. Strings and arrays are made when they are asked for, and kept; arrays without copying where the
    machine allows it.
    """

    def __init__(self, entries: dict[str, Entry], header: memoryview) -> None:
        self._entries, self._header = entries, header
        self._made: dict[str, Value] = {}

    def __getitem__(self, key: str) -> Value:
        entry = self._entries[key]
        if entry.value is not None and not isinstance(entry.value, np.ndarray):
            return entry.value
        if key not in self._made:
            self._made[key] = self._make(key, entry)
        return self._made[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: object) -> bool:  # Mapping's own would build the array
        return key in self._entries

    def type_of(self, key: str) -> ValueType:
        """The value's type in the file. Raises `KeyError` for a key that is not there, as all methods here do."""
        return self._entries[key].type

    def element_type_of(self, key: str) -> ValueType | None:
        """The type of an array's elements, None for a single value."""
        return self._entries[key].element_type

    def typed(self) -> dict[str, Typed]:
        """All values with their types: a dictionary to change and to hand to `write`, which then keeps the types."""
        return {key: Typed(self[key], e.type, e.element_type) for key, e in self._entries.items()}

    def offset_of(self, key: str) -> int:
        """The byte in the file where the value stands, for error messages (`BadMetadata.offset`)."""
        return self._entries[key].offset

    def _make(self, key: str, entry: Entry) -> Value:
        if isinstance(entry.value, np.ndarray):
            data = self._header[entry.offset : entry.offset + int(entry.value[-1])]
            return StringArray(data, entry.value, key, entry.offset)
        if entry.element_type is None:
            return str(self._header[entry.offset : entry.offset + entry.n], "utf-8")  # the parser has checked it
        dtype = DTYPES[entry.element_type]
        array = np.frombuffer(self._header[entry.offset : entry.offset + entry.n * dtype.itemsize], dtype)
        if not array.flags.aligned:  # files do not align arrays; C code that gets a pointer to one may rely on it
            array = array.copy()
            array.flags.writeable = False
        return array
