"""GGUF files from Python: `zl.gguf.open`, `zl.gguf.write`. Names only: the code is in `zigllama.foundation`."""

from __future__ import annotations

from zigllama.foundation.byte_source import StrPath
from zigllama.foundation.ggml_types import GGML_TYPES, GGMLType
from zigllama.foundation.gguf_format import GGUFReader
from zigllama.foundation.gguf_header import TensorInfo
from zigllama.foundation.gguf_metadata import Metadata, StringArray, Typed, ValueType
from zigllama.foundation.gguf_writer import TensorData, write

__all__ = [
    "GGML_TYPES",
    "GGMLType",
    "GGUFReader",
    "Metadata",
    "StringArray",
    "TensorData",
    "TensorInfo",
    "Typed",
    "ValueType",
    "open",
    "write",
]


def open(path: StrPath) -> GGUFReader:
    """Open a GGUF file (a split model through its first part). See `GGUFReader` for what it has and what it raises."""
    return GGUFReader(path)
