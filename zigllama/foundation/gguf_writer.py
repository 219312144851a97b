"""Writing GGUF files: streamed, so that memory stays bounded, and whole or not at all.

    write("m.gguf", {"general.architecture": "llama"}, {"output_norm.weight": np.ones(576, np.float32)})

The head of a file lists every tensor's place, so names, shapes and types must be known first; the data may be made when
its turn comes (`TensorData.data` as a function). Everything goes to temporary files in the target's folder, which are
flushed to the disk and renamed only when the last byte is written: a full disk or Ctrl-C leaves the folder as it was.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from zigllama.errors import DTypeError, InvalidArgument, ShapeError

from .byte_source import StrPath, is_open_input
from .ggml_types import GGMLType, row_bytes, type_by_name
from .gguf_encode import encode_entry, encode_name, typed_metadata
from .gguf_header import (
    DEFAULT_ALIGNMENT,
    MAGIC,
    MAX_ALIGNMENT,
    MAX_DIMS,
    MAX_KEYS,
    MAX_TENSORS,
    MIN_ALIGNMENT,
    VERSIONS,
)
from .gguf_metadata import Typed, ValueType
from .gguf_split import KEY_COUNT, KEY_NO, KEY_TENSORS, MAX_PARTS, part_path
from .replacement import Replacement

Chunk = bytes | bytearray | memoryview | npt.NDArray[Any]
_ALIGNMENT_KEY = "general.alignment"
_DTYPE_NAMES = {"<f4": "F32", "<f2": "F16", "<f8": "F64", "|i1": "I8", "<i2": "I16", "<i4": "I32", "<i8": "I64"}


@dataclass(frozen=True, eq=False)
class TensorData:
    """A tensor to be written.

    shape   NumPy order (rows, cols), 1 to 4 dimensions, none of them 0
    data    its bytes in the form of `type`, little-endian: bytes or an array, or a function that returns them or an
            iterable of pieces of them. A function is called once, when the tensor's turn comes.
    """

    name: str
    shape: tuple[int, ...]
    type: GGMLType
    data: Chunk | Callable[[], Chunk | Iterable[Chunk]]

    @property
    def n_bytes(self) -> int:
        """Bytes in the file. Raises `ShapeError` where a row is no whole number of quant blocks."""
        return math.prod(self.shape[:-1]) * row_bytes(self.type, self.shape[-1])

    @classmethod
    def from_array(cls, name: str, array: npt.NDArray[Any]) -> TensorData:
        """A tensor of plain numbers, of the array's own type and shape. Raises `DTypeError` where GGUF has none for
        it.
        """
        array = np.asarray(array)
        little = array.dtype.newbyteorder("<")
        if little.str not in _DTYPE_NAMES:
            raise DTypeError(
                f"tensor {name!r}: GGUF has no type for NumPy's {array.dtype}; give TensorData a type and bytes"
            )
        return cls(name, array.shape, type_by_name(_DTYPE_NAMES[little.str]), array.astype(little, copy=False))


def write(
    path: StrPath,
    metadata: Mapping[str, Any],
    tensors: Mapping[str, npt.NDArray[Any]] | Iterable[TensorData],
    *,
    version: int = 3,
    alignment: int | None = None,
    max_part_tensors: int | None = None,
    max_part_bytes: int | None = None,
) -> list[str]:
    """Write a GGUF file, or several parts of one; returns their paths.

    metadata           values as `gguf_encode.infer` types them, `Typed` values, or a reader's `metadata`, whose types
                       are kept
    tensors            arrays of plain numbers by name, or `TensorData`s in the order they shall have
    alignment          of tensor data: a power of two from 8 to 2 MiB; default: metadata's general.alignment, or 32
    max_part_tensors,  where the tensors pass one of these, `m.gguf` becomes m-00001-of-0000N.gguf and so on. Bytes are
    max_part_bytes     of tensor data; a tensor that is larger by itself gets a part of its own. Metadata goes to the
                       first part; keys split.* are replaced.

    An existing file is replaced. Raises `InvalidArgument` (`ShapeError`, `DTypeError`) for arguments that make no valid
    file, for data that is not as long as its shape says, and where the output is a file that this process is reading;
    `OSError` as writing does. No error leaves a partial or a temporary file behind.
    """
    entries = typed_metadata(metadata)
    if version not in VERSIONS:
        raise InvalidArgument(f"GGUF version {version} cannot be written, only {VERSIONS}")
    alignment = _choose_alignment(entries, alignment)
    items = [TensorData.from_array(n, a) for n, a in tensors.items()] if isinstance(tensors, Mapping) else list(tensors)
    _check_tensors(items)
    for key in (KEY_NO, KEY_COUNT, KEY_TENSORS):
        entries.pop(key, None)
    if len(entries) + 3 > MAX_KEYS or len(items) > MAX_TENSORS:
        raise InvalidArgument(
            f"{len(entries)} keys and {len(items)} tensors; a file holds {MAX_KEYS - 3} and {MAX_TENSORS}"
        )

    parts = _plan(items, alignment, max_part_tensors, max_part_bytes)
    targets = [os.fspath(path)]
    if len(parts) > 1:
        stem = targets[0].removesuffix(".gguf")
        targets = [part_path(stem, no, len(parts)) for no in range(len(parts))]
    for target in targets:
        if os.path.exists(target) and not os.path.isfile(target):  # renaming would replace /dev/null itself
            raise InvalidArgument(f"{target} exists and is no regular file")
        if is_open_input(target):
            raise InvalidArgument(f"{target} is open for reading: it cannot be the output too")

    with Replacement(targets) as files:
        for no, part in enumerate(parts):
            own = dict(entries) if no == 0 else {k: v for k, v in entries.items() if k == _ALIGNMENT_KEY}
            if len(parts) > 1:
                own |= {
                    KEY_NO: Typed(no, ValueType.UINT16),
                    KEY_COUNT: Typed(len(parts), ValueType.UINT16),
                    KEY_TENSORS: Typed(len(items), ValueType.INT32),
                }
            with files.open(no) as f:
                _write_part(f, own, part, version, alignment)
        files.commit()
    return targets


def _choose_alignment(entries: dict[str, Typed], alignment: int | None) -> int:
    """The alignment to use; leaves it in `entries` where it is not the default."""
    given = entries.pop(_ALIGNMENT_KEY, None)
    if alignment is None:
        value = given.value if given is not None else DEFAULT_ALIGNMENT
        alignment = value if isinstance(value, int) else -1
    if not MIN_ALIGNMENT <= alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
        raise InvalidArgument(f"alignment {alignment} is not a power of two from {MIN_ALIGNMENT} to {MAX_ALIGNMENT}")
    if given is not None or alignment != DEFAULT_ALIGNMENT:
        entries[_ALIGNMENT_KEY] = Typed(alignment, ValueType.UINT32)
    return alignment


def _check_tensors(items: Sequence[TensorData]) -> None:
    names = set()
    for t in items:
        if t.name in names:
            raise InvalidArgument(f"tensor {t.name!r} appears twice")
        names.add(t.name)
        if not 1 <= len(t.shape) <= MAX_DIMS or min(t.shape) < 1 or math.prod(t.shape) >= 1 << 63:
            raise ShapeError(f"tensor {t.name!r}: shape {t.shape} is not 1 to {MAX_DIMS} dimensions of 1 or more")
        try:
            _ = t.n_bytes
        except ShapeError as e:
            raise ShapeError(f"tensor {t.name!r}: {e}") from None


def _plan(
    items: list[TensorData], alignment: int, max_tensors: int | None, max_bytes: int | None
) -> list[list[TensorData]]:
    """The tensors of each part, in order, filling one part before the next."""
    for name, limit in (("max_part_tensors", max_tensors), ("max_part_bytes", max_bytes)):
        if limit is not None and limit < 1:
            raise InvalidArgument(f"{name} is {limit}; it must be at least 1")
    parts: list[list[TensorData]] = [[]]
    filled = 0
    for t in items:
        size = _pad(t.n_bytes, alignment)
        full = max_tensors is not None and len(parts[-1]) >= max_tensors
        if parts[-1] and (full or (max_bytes is not None and filled + size > max_bytes)):
            parts.append([])
            filled = 0
        parts[-1].append(t)
        filled += size
    if len(parts) > min(MAX_PARTS, (1 << 16) - 1):  # split.count is a UINT16
        raise InvalidArgument(f"{len(parts)} parts are more than a split model can have")
    return parts


def _pad(n: int, alignment: int) -> int:
    return -(-n // alignment) * alignment


def _write_part(
    f: BinaryIO, entries: dict[str, Typed], tensors: list[TensorData], version: int, alignment: int
) -> None:
    """One whole GGUF file: head, then each tensor's data, each padded to the alignment."""
    head = [MAGIC, struct.pack("<IQQ", version, len(tensors), len(entries))]
    head += [encode_entry(key, typed) for key, typed in entries.items()]
    offset = 0
    for t in tensors:
        ne = t.shape[::-1]
        head.append(encode_name("tensor", t.name) + struct.pack(f"<I{len(ne)}QIQ", len(ne), *ne, t.type.id, offset))
        offset += _pad(t.n_bytes, alignment)
    n = sum(map(len, head))
    f.writelines(head)
    f.write(bytes(_pad(n, alignment) - n))
    for t in tensors:
        written = 0
        for piece in _pieces(t):
            written += piece.nbytes
            if written > t.n_bytes:
                break
            f.write(piece)
        if written != t.n_bytes:
            more = "at least " if written > t.n_bytes else ""
            raise InvalidArgument(
                f"tensor {t.name!r}: {more}{written} bytes of data, but {t.type} of shape {t.shape} has {t.n_bytes}"
            )
        f.write(bytes(_pad(written, alignment) - written))


def _pieces(t: TensorData) -> Iterator[memoryview]:
    data = t.data() if callable(t.data) else t.data
    for piece in [data] if isinstance(data, bytes | bytearray | memoryview | np.ndarray) else data:
        if isinstance(piece, np.ndarray):
            piece = np.ascontiguousarray(piece).reshape(-1).view(np.uint8)
        yield memoryview(piece).cast("B")  # type: ignore[arg-type]  # mypy: an array is a Buffer, its stubs do not say so
