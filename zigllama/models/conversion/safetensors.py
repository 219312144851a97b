"""One safetensors file: where each tensor lies, checked before a byte of data is looked at.

    u64 N, little-endian | N bytes of JSON | data
    JSON: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ..., "__metadata__": {...}}

Offsets count from the first byte of the data. A header may come from anybody: its length, every dtype, shape and range
is checked, ranges must lie inside the file and may not overlap. Format: the documentation of PyPI's `safetensors`.
What this file is not: it knows nothing of folders (checkpoint.py) or models.
"""

from __future__ import annotations

import json
import math
import reprlib
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn, Self, TypeGuard

import numpy as np

from zigllama.errors import BadCheckpoint, MissingTensor, NotGGUF
from zigllama.foundation.byte_source import FileSource, StrPath
from zigllama.foundation.memory_mapping import MemoryMap
from zigllama.foundation.runtime import F32

MAX_HEADER = 100_000_000  # bytes, the format's own limit
MAX_DIMS = 8
MAX_TENSORS = 1 << 16  # of a file: four times those of a mixture of 48 x 128 experts that is one file
MAX_CONTAINERS, MAX_ITEMS = 1 << 21, 1 << 23  # in a JSON file: "[]," takes 3 bytes there and 64 here
SLAB = 1 << 20  # values that are converted at a time
BF16 = "BF16"
_SHORT = reprlib.Repr()
_SHORT.maxstring = 80
NOT_FINITE = ("Infinity", "-Infinity", "NaN")
# dtype -> NumPy's, little-endian; BF16 is read as the upper half of a float32
DTYPES: dict[str, str] = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", BF16: "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip


SIZES = {name: np.dtype(kind).itemsize for name, kind in DTYPES.items()}


class Entry(NamedTuple):
    """One tensor of a file: dtype, shape, and where its bytes lie in the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    n_bytes: int


class SafetensorsFile:
    """A mapped file: `entries` by name, `slabs(name)` as float32. Raises BadCheckpoint, OSError."""

    def __init__(self, path: StrPath) -> None:
        try:
            source = FileSource(path)
        except NotGGUF as e:  # a folder, a fifo: the message says what it is
            raise BadCheckpoint(str(path), str(e)) from None
        with source:
            self.path = source.path
            self.entries = self._header(source)
            self._mapping = MemoryMap(source)

    def _bad(self, reason: str) -> NoReturn:
        raise BadCheckpoint(self.path, reason)

    def _header(self, source: FileSource) -> dict[str, Entry]:
        head = source.read_at(0, 8)
        n = int.from_bytes(head, "little")
        if len(head) < 8 or n > min(MAX_HEADER, source.size - 8):
            limit = min(MAX_HEADER, max(source.size - 8, 0))
            self._bad(f"a header of {n} bytes is announced in a file of {source.size}; at most {limit} are possible")
        raw = source.read_at(8, n)
        if (count := raw.count(b"{")) > MAX_TENSORS + 2:  # each has an object of its own; one around, one of metadata
            self._bad(f"the header opens {count} objects, and at most {MAX_TENSORS} tensors of a file are read")
        found = parse_json(raw, self.path, "the header")
        entries, first = {}, 8 + n
        for name, value in found.items():
            if name != "__metadata__":
                entries[name] = self._entry(name, value, first, source.size - first)
        end, last = first, ""
        for e in sorted(entries.values(), key=lambda e: (e.offset, e.n_bytes)):
            if e.n_bytes and e.offset < end:
                self._bad(f"tensors {last!r} and {e.name!r} overlap: one ends at byte {end}, one begins at {e.offset}")
            end, last = max(end, e.offset + e.n_bytes), e.name
        return entries

    def _entry(self, name: str, value: Any, first: int, size: int) -> Entry:
        if not isinstance(value, dict):
            self._bad(f"tensor {name!r}: an object is expected, found {type(value).__name__}")
        dtype, shape, ends = value.get("dtype"), value.get("shape"), value.get("data_offsets")
        if not isinstance(dtype, str) or dtype not in DTYPES:
            self._bad(f"tensor {name!r}: dtype {shown(dtype)} is not read; these are: {', '.join(DTYPES)}")
        if not _naturals(shape) or len(shape) > MAX_DIMS:
            self._bad(f"tensor {name!r}: shape {shown(shape)} is no list of at most {MAX_DIMS} sizes")
        if not _naturals(ends) or len(ends) != 2:
            self._bad(f"tensor {name!r}: data_offsets {shown(ends)} are no two byte numbers")
        begin, end = ends
        n_bytes = math.prod(shape) * SIZES[dtype]
        if not begin <= end <= size:
            self._bad(f"tensor {name!r}: bytes {begin} to {end} of {size} bytes of data")
        if end - begin != n_bytes:
            self._bad(f"tensor {name!r}: {dtype} of shape {shape} has {n_bytes} bytes, data_offsets span {end - begin}")
        return Entry(name, dtype, tuple(shape), first + begin, n_bytes)

    def entry(self, name: str) -> Entry:
        """The tensor of that name. Raises MissingTensor."""
        if name not in self.entries:
            raise MissingTensor(name)
        return self.entries[name]

    def slabs(self, name: str) -> Iterator[F32]:
        """The tensor's values in order as flat float32 arrays of at most SLAB values (or one row), whole rows of the
        last axis each. The file's pages are let go behind them. Raises MappingFault for a file that shrank."""
        e = self.entry(name)
        kind = np.dtype(DTYPES[e.dtype])
        width = max(e.shape[-1] if e.shape else 1, 1)
        step = max(1, SLAB // width) * width
        self._mapping.check_size()
        for first in range(0, math.prod(e.shape), step):
            begin = e.offset + first * kind.itemsize
            part = self._mapping.view[begin : min(begin + step * kind.itemsize, e.offset + e.n_bytes)]
            values = np.frombuffer(part, kind)  # also where the file does not align it
            yield _floats(values, e.dtype)
            self._mapping.release(begin, part.nbytes)

    def close(self) -> None:
        """Close the file."""
        self._mapping.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _floats(values: np.ndarray[Any, Any], dtype: str) -> F32:
    if dtype == BF16:
        return (values.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):  # an F64 out of range becomes infinite, which whoever writes it refuses
        return values.astype(np.float32)


def _naturals(value: Any) -> TypeGuard[list[int]]:
    """Whether this is a list of integers, none negative, that a file's size could be compared with."""
    return isinstance(value, list) and all(type(x) is int and 0 <= x < 1 << 62 for x in value)


def shown(value: Any) -> str:
    """A value of a JSON file for a message, however large or deep it is."""
    return _SHORT.repr(value)[:80]


def parse_json(raw: bytes, path: str, what: str) -> dict[str, Any]:
    """A JSON object. Raises BadCheckpoint for anything else, and for a key that appears twice."""
    value = parse_any_json(raw, path, what)
    if not isinstance(value, dict):
        raise BadCheckpoint(path, f"{what}: an object is expected, found {type(value).__name__}")
    return value


def parse_any_json(raw: bytes, path: str, what: str) -> Any:
    """JSON of any kind. Raises BadCheckpoint for what is none, and for a key that appears twice in an object."""

    def once(pairs: list[tuple[str, Any]]) -> Any:
        if len(pairs) == 1 and pairs[0][0] == "__float__" and pairs[0][1] in NOT_FINITE:
            return float(pairs[0][1])  # as transformers 5 writes what JSON has no number for
        made = dict(pairs)
        if len(made) != len(pairs):
            twice = next(key for key, n in Counter(key for key, _ in pairs).items() if n > 1)
            raise BadCheckpoint(path, f"{what}: key {shown(twice)} appears twice")
        return made

    for marks, most in ((b"[{", MAX_CONTAINERS), (b",", MAX_ITEMS)):
        if (n := sum(map(raw.count, marks))) > most:
            raise BadCheckpoint(path, f"{what}: {n} times {' or '.join(marks.decode())}, at most {most} are read")
    try:
        return json.loads(raw.decode(), object_pairs_hook=once)
    except (UnicodeDecodeError, ValueError, RecursionError) as e:  # JSONDecodeError is a ValueError
        raise BadCheckpoint(path, f"{what} is no JSON: {type(e).__name__}: {e}") from None
