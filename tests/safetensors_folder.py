"""Writes a Hugging Face folder for tests: config.json and one safetensors file. Not the package's reader turned round:
it knows the format by itself, and writes what a test asks for, also what no reader should take.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

DTYPES = {"float64": "F64", "float32": "F32", "float16": "F16", "int64": "I64", "int32": "I32", "uint8": "U8"}


def header(tensors: Mapping[str, npt.NDArray[Any]]) -> dict[str, Any]:
    """The entries of arrays that lie one after the other."""
    entries, at = {}, 0
    for name, x in tensors.items():
        entries[name] = {"dtype": DTYPES[str(x.dtype)], "shape": list(x.shape), "data_offsets": [at, at + x.nbytes]}
        at += x.nbytes
    return entries


def safetensors(path: Path, tensors: Mapping[str, npt.NDArray[Any]], head: Any = None) -> Path:
    """Write a file; `head`: in place of the header that fits, an object or raw bytes."""
    head = header(tensors) if head is None else head
    raw = head if isinstance(head, bytes) else json.dumps(head).encode()
    with path.open("wb") as f:
        f.write(len(raw).to_bytes(8, "little") + raw)
        for x in tensors.values():
            f.write(np.ascontiguousarray(x).tobytes())
    return path


def folder(path: Path, config: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]]) -> Path:
    """Write a folder with a config and one file of tensors."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(config))
    safetensors(path / "model.safetensors", tensors)
    return path
