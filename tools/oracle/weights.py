"""A GGUF file as a dictionary of metadata and float64 weights, through PyPI's `gguf` package.

Trusted files only: this reader is here to judge ours, and it has none of the checks that a reader of unknown files
needs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


class Weights:
    """Metadata and dequantised tensors of one file.

    A tensor's shape is the NumPy one, slowest axis first: GGUF's (in, out) of a linear layer becomes (out, in), so
    that the layer is `x @ w.T`.  Values are dequantised to float32 as the format defines them and then widened, which
    is exact.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        reader = gguf.GGUFReader(self.path)
        # Arrays as long as the vocabulary are left out: decoding 262,144 strings takes longer than the arithmetic.
        self.metadata: dict[str, Any] = {
            key: field.contents() for key, field in reader.fields.items() if len(field.data) <= 4096
        }
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        self._cache: dict[str, Array] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def __getitem__(self, name: str) -> Array:
        if name not in self._cache:
            tensor = self._tensors[name]
            shape = tuple(int(n) for n in reversed(tensor.shape))
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(shape)
            self._cache[name] = values.astype(np.float64)
        return self._cache[name]

    def get(self, key: str, default: Any = None) -> Any:
        """Metadata `{architecture}.{key}`."""
        return self.metadata.get(f"{self.metadata['general.architecture']}.{key}", default)

    def need(self, key: str) -> Any:
        """Metadata `{architecture}.{key}`, or a KeyError that names it."""
        value = self.get(key)
        if value is None:
            raise KeyError(f"{self.path}: no metadata {self.metadata['general.architecture']}.{key}")
        return value
