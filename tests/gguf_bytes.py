"""The smallest GGUF v3 writer that can make a test model: metadata, tensor table, aligned data.

It is not the package's writer (`zigllama.gguf.write`), on purpose: test models must not depend on what they test.

File:   "GGUF" u32 version u64 n_tensors u64 n_metadata | metadata.. | tensor table.. | padding to 32 | data, each
padded to 32 String: u64 length, UTF-8 bytes.    Array: u32 element type, u64 count, elements.    Tensor: string name,
u32 n_dims, u64 dimensions (fastest first), u32 type, u64 offset from the start of the data.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

ALIGNMENT = 32
TYPE_IDS = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q5_0": 6, "Q8_0": 8, "Q4_K": 12, "Q6_K": 14, "BF16": 30}

Value = bool | int | float | str | Sequence[int] | Sequence[float] | Sequence[str]
Data = npt.NDArray[np.uint8]


def string(text: str) -> bytes:
    """Length and bytes."""
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def scalar(value: bool | int | float | str) -> tuple[int, bytes]:
    """Type id and bytes of one value: bool 7, u32 4 (i32 5 below zero), f32 6, string 8."""
    if isinstance(value, bool):
        return 7, struct.pack("<B", value)
    if isinstance(value, int):
        return (4, struct.pack("<I", value)) if value >= 0 else (5, struct.pack("<i", value))
    if isinstance(value, float):
        return 6, struct.pack("<f", value)
    return 8, string(value)


def metadata(value: Value) -> bytes:
    """Type id and value, arrays included (integers in arrays are i32, as token types are)."""
    if isinstance(value, bool | int | float | str):
        kind, raw = scalar(value)
        return struct.pack("<I", kind) + raw
    items = [(5, struct.pack("<i", v)) if isinstance(v, int) else scalar(v) for v in value]
    return struct.pack("<IIQ", 9, items[0][0], len(items)) + b"".join(raw for _, raw in items)


def write(path: Path, meta: Mapping[str, Value], tensors: Mapping[str, tuple[str, tuple[int, ...], Data]]) -> None:
    """Write a file.   tensors: name -> (type name, NumPy shape with the slowest axis first, bytes in file form)"""
    table, blobs, offset = [], [], 0
    for name, (kind, shape, data) in tensors.items():
        dims = struct.pack(f"<{len(shape)}Q", *reversed(shape))
        table.append(string(name) + struct.pack("<I", len(shape)) + dims + struct.pack("<IQ", TYPE_IDS[kind], offset))
        raw = data.tobytes()
        blobs.append(raw + bytes(-len(raw) % ALIGNMENT))
        offset += len(blobs[-1])
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(meta))
    head += b"".join(string(key) + metadata(value) for key, value in meta.items()) + b"".join(table)
    path.write_bytes(head + bytes(-len(head) % ALIGNMENT) + b"".join(blobs))
