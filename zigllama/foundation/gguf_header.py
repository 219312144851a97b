"""Reading the head of a GGUF file: metadata and the list of tensors, from any `ByteSource`, trusting nothing.

    "GGUF" | version u32 | tensors u64 | keys u64            24 bytes, little-endian as everything
    keys x ( key string | type u32 | value )                 a string is u64 length + bytes
    tensors x ( name string | n_dims u32 | n_dims x u64 | type u32 | offset u64 )
    padding to a multiple of general.alignment (32)          here the data begins; offsets count from here
    tensor data

A file is data from strangers, so the rules are: a count or length is compared with what is left of the file before
anything is done with it, which bounds memory by the file's size; a few generous limits (below) bound the time, since a
file that is legal byte for byte may still be a billion empty strings; every failure is one of the typed errors, with
the place. Tensors have to stand in the order of the list without overlapping, which is how every writer makes them.

Source: the GGUF specification of ggml, versions 2 and 3. Version 1 had 32-bit counts; version 3 allows big-endian
files, which are refused.
"""

from __future__ import annotations

import codecs
import math
import struct
from dataclasses import dataclass

import numpy as np

from zigllama.errors import BadMetadata, BadTensor, NotGGUF, Truncated, UnknownName, UnsupportedType

from .byte_source import ByteSource
from .ggml_types import GGMLType, row_bytes, type_by_id
from .gguf_cursor import Cursor, scan_strings
from .gguf_metadata import DTYPES, Entry, Metadata, ValueType

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
MAX_DIMS = 4

# Limits, each far above any file seen: a Mixture of Experts of 60 layers x 256 unmerged experts has 46,080 tensors; the
# largest vocabulary has 262,144 tokens and 514,906 merges in a header of 16 MB; 2 MiB is a huge page.
MAX_KEYS = 1 << 16
MAX_TENSORS = 1 << 16
MAX_STRINGS = 1 << 21  # in all arrays together
MAX_NAME_BYTES = (1 << 16) - 1  # the specification's limit for keys
MAX_ALIGNMENT = 1 << 21
MIN_ALIGNMENT = 8  # "must be a multiple of 8"

_UTF8_PIECE = 1 << 16
_U32_U64 = struct.Struct("<IQ")
_HEADER = struct.Struct("<4sIQQ")
# struct's letters are not NumPy's: of 64-bit integers NumPy calls one "L", which in struct has 4 bytes.
_LETTERS = dict(zip(["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8", "b1"], "BbHhIiQqfd?", strict=True))
_SCALARS = {int(t): (t, struct.Struct("<" + _LETTERS[d.str[1:]]), d.itemsize) for t, d in DTYPES.items()}
_TENSOR_REST = [struct.Struct(f"<{n}QIQ") for n in range(MAX_DIMS + 1)]  # by number of dimensions
_MIN_KEY_BYTES = 8 + 1 + 4 + 1  # a key of one letter and a value of one byte
_MIN_TENSOR_BYTES = 8 + 1 + 4 + 8 + 4 + 8  # a name of one letter and one dimension


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor is and what it is.

    shape    NumPy order, (rows, cols): GGUF lists the dimensions ("ne") the other way round, the contiguous one first
    offset   first byte, counted from the start of the file (of its part, where a model is split)
    part     which file of a split model, 0 for the first or only one
    """

    name: str
    shape: tuple[int, ...]
    type: GGMLType
    offset: int
    n_bytes: int
    part: int = 0


@dataclass(frozen=True, slots=True)
class Header:
    """What `parse_header` found."""

    version: int
    metadata: Metadata
    tensors: dict[str, TensorInfo]  # in file order
    alignment: int
    data_offset: int


def parse_header(source: ByteSource) -> Header:
    """Read and check the head of a GGUF file.

    Raises `NotGGUF`, `Truncated`, `BadMetadata`, `BadTensor` or `UnsupportedType`. Holds the header's bytes, 8 bytes
    per string of an array, and a few hundred bytes of Python objects per key and per tensor.
    """
    cursor = Cursor(source)
    version, n_tensors, n_keys = _read_counts(cursor)
    entries = _read_keys(cursor, n_keys)
    alignment = _alignment(entries)
    tensors = _read_tensors(cursor, n_tensors)
    data_offset = -(-cursor.pos // alignment) * alignment
    placed = _place(tensors, alignment, data_offset, source.size)
    return Header(version, Metadata(entries, cursor.finish()), placed, alignment, data_offset)


def _read_counts(cursor: Cursor) -> tuple[int, int, int]:
    size = cursor.size
    cursor.fill(_HEADER.size)
    start = bytes(cursor.buf[:4])
    if start != MAGIC[: len(start)]:
        raise NotGGUF(f"the file begins with {start!r}, not with {MAGIC!r}")
    cursor.need(_HEADER.size, "the GGUF header")
    _, version, n_tensors, n_keys = _HEADER.unpack_from(cursor.buf)
    cursor.pos = _HEADER.size
    if version & 0xFFFF == 0 and version:
        raise NotGGUF(f"big-endian GGUF (version reads {version:#x}): only little-endian files are read")
    if version not in VERSIONS:
        raise NotGGUF(
            f"GGUF version {version}: only versions 2 and 3 are read"
            + ("; convert the file anew" if version == 1 else "")
        )
    need = cursor.pos + n_keys * _MIN_KEY_BYTES + n_tensors * _MIN_TENSOR_BYTES
    if need > size:
        raise Truncated(f"a header with {n_keys} keys and {n_tensors} tensors", need, size)
    if n_keys > MAX_KEYS:
        raise BadMetadata("(header)", f"{n_keys} keys; the limit is {MAX_KEYS}", 16)
    if n_tensors > MAX_TENSORS:
        raise BadMetadata("(header)", f"{n_tensors} tensors; the limit is {MAX_TENSORS}", 8)
    return version, n_tensors, n_keys


# --- keys and values --------------------------------------------------------------------------------------------------


def _read_keys(cursor: Cursor, n_keys: int) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    n_strings = 0
    for i in range(n_keys):
        start = cursor.pos
        key = _name(cursor, f"(key {i})")
        if key in entries:
            raise BadMetadata(key, "the key appears twice", start)
        entry = _read_value(cursor, key, MAX_STRINGS - n_strings)
        if entry.element_type is ValueType.STRING:
            n_strings += entry.n
        entries[key] = entry
    return entries


def _name(cursor: Cursor, what: str) -> str:
    start = cursor.pos
    n = cursor.u64(what)
    if n == 0:
        raise BadMetadata(what, "the name is empty", start)
    if cursor.pos + n <= cursor.size and n > MAX_NAME_BYTES:
        raise BadMetadata(what, f"the name is {n} bytes long; the limit is {MAX_NAME_BYTES}", start)
    cursor.need(n, what)
    cursor.pos += n
    try:
        return cursor.buf[cursor.pos - n : cursor.pos].decode()
    except UnicodeDecodeError as e:
        raise BadMetadata(what, f"the name is not UTF-8 ({e.reason})", start + 8 + e.start) from None


def _read_value(cursor: Cursor, key: str, strings_left: int) -> Entry:
    type_id = cursor.u32(key)
    offset = cursor.pos
    if type_id in _SCALARS:
        value_type, scalar, size = _SCALARS[type_id]
        cursor.need(size, key)
        if value_type is ValueType.BOOL:
            _check_boolean(cursor.buf, key, offset)
        cursor.pos += size
        return Entry(value_type, None, offset, 1, scalar.unpack_from(cursor.buf, offset)[0])
    if type_id == ValueType.STRING:
        n = cursor.u64(key)
        cursor.need(n, key)
        cursor.pos += n
        _check_utf8(cursor.buf, key, offset + 8, offset + 8 + n)
        return Entry(ValueType.STRING, None, offset + 8, n, None)
    if type_id != ValueType.ARRAY:
        raise BadMetadata(key, f"unknown value type {type_id}", offset - 4)
    return _read_array(cursor, key, strings_left)


def _read_array(cursor: Cursor, key: str, strings_left: int) -> Entry:
    start = cursor.pos
    cursor.need(12, key)
    element_id, count = _U32_U64.unpack_from(cursor.buf, start)
    cursor.pos = offset = start + 12
    if element_id in _SCALARS:
        element_type, _, size = _SCALARS[element_id]
        cursor.need(count * size, key)
        if element_type is ValueType.BOOL:
            bad = np.flatnonzero(np.frombuffer(cursor.buf, np.uint8)[offset : offset + count] > 1)
            if bad.size:
                _check_boolean(cursor.buf, key, offset + int(bad[0]))
        cursor.pos += count * size
        return Entry(ValueType.ARRAY, element_type, offset, count, None)
    if element_id == ValueType.ARRAY:
        raise BadMetadata(key, "an array of arrays, which no known model uses, is not read", start)
    if element_id != ValueType.STRING:
        raise BadMetadata(key, f"unknown element type {element_id}", start)
    if offset + 8 * count > cursor.size:
        raise Truncated(key, offset + 8 * count, cursor.size)
    if count > strings_left:
        raise BadMetadata(key, f"{count} strings; the limit is {MAX_STRINGS} in a file", start + 4)
    return Entry(ValueType.ARRAY, ValueType.STRING, offset, count, scan_strings(cursor, key, count))


def _check_utf8(buf: bytearray, key: str, start: int, end: int) -> None:
    """Decode piece by piece and keep nothing: one emoji makes four bytes of every letter of a Python string."""
    while True:
        stop = min(start + _UTF8_PIECE, end)
        try:
            _, used = codecs.utf_8_decode(buf[start:stop], "strict", stop == end)
        except UnicodeDecodeError as e:
            raise BadMetadata(key, f"the string is not UTF-8 ({e.reason})", start + e.start) from None
        if stop == end:
            return
        start += used  # all but the bytes of a character that the piece's end has cut


def _check_boolean(buf: bytearray, key: str, at: int) -> None:
    if buf[at] > 1:
        raise BadMetadata(key, f"a boolean is {buf[at]}, neither 0 nor 1", at)


def _alignment(entries: dict[str, Entry]) -> int:
    key = "general.alignment"
    if key not in entries:
        return DEFAULT_ALIGNMENT
    entry = entries[key]
    n = entry.value
    if entry.type is not ValueType.UINT32 or not isinstance(n, int):
        raise BadMetadata(key, f"the type is {entry.type.name}, not UINT32", entry.offset)
    if not MIN_ALIGNMENT <= n <= MAX_ALIGNMENT or n & (n - 1):
        raise BadMetadata(key, f"{n} is not a power of two from {MIN_ALIGNMENT} to {MAX_ALIGNMENT}", entry.offset)
    return n


# --- tensors ----------------------------------------------------------------------------------------------------------


def _read_tensors(cursor: Cursor, n_tensors: int) -> list[TensorInfo]:
    """The entries as they stand, `offset` still counted from the start of the data."""
    tensors = []
    for i in range(n_tensors):
        try:
            name = _name(cursor, f"(tensor {i})")
        except BadMetadata as e:
            raise BadTensor(e.key, f"{e.reason}, at byte {e.offset}") from None
        n_dims = cursor.u32(name)
        if not 1 <= n_dims <= MAX_DIMS:
            raise BadTensor(name, f"it has {n_dims} dimensions, not 1 to {MAX_DIMS}")
        rest = _TENSOR_REST[n_dims]
        cursor.need(rest.size, name)
        *ne, type_id, offset = rest.unpack_from(cursor.buf, cursor.pos)
        cursor.pos += rest.size
        tensors.append(_tensor(name, ne, type_id, offset))
    return tensors


def _tensor(name: str, ne: list[int], type_id: int, offset: int) -> TensorInfo:
    try:
        ggml_type = type_by_id(type_id)
    except UnknownName as e:
        raise UnsupportedType(name, e.name) from None
    shape = tuple(reversed(ne))
    if 0 in ne:
        raise BadTensor(name, f"shape {shape} has a dimension of 0")
    if math.prod(ne) >= 1 << 63:
        raise BadTensor(name, f"shape {shape} has 2^63 elements or more")
    if ne[0] % ggml_type.block_size:
        raise BadTensor(
            name, f"rows of {ne[0]} elements are not whole {ggml_type.name} quant blocks of {ggml_type.block_size}"
        )
    return TensorInfo(name, shape, ggml_type, offset, math.prod(ne[1:]) * row_bytes(ggml_type, ne[0]))


def _place(tensors: list[TensorInfo], alignment: int, data_offset: int, size: int) -> dict[str, TensorInfo]:
    """Check the tensors' places against each other and the file, and count them from the start of the file."""
    placed: dict[str, TensorInfo] = {}
    end, before = 0, "the start of the data"
    for t in tensors:
        if t.name in placed:
            raise BadTensor(t.name, "the name appears twice")
        if t.offset % alignment:
            raise BadTensor(t.name, f"offset {t.offset} is not a multiple of the alignment {alignment}")
        if t.offset < end:
            raise BadTensor(
                t.name, f"offset {t.offset} lies before {end}, where the tensor before it ({before!r}) ends"
            )
        end, before = t.offset + t.n_bytes, t.name
        if data_offset + end > size:
            raise Truncated(f"tensor {t.name!r}", data_offset + end, size)
        placed[t.name] = TensorInfo(t.name, t.shape, t.type, data_offset + t.offset, t.n_bytes)
    return placed
