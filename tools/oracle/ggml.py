"""ggml's own quantisers, through the C library that llama.cpp builds (libggml-base.so)."""

from __future__ import annotations

import ctypes

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]


def library(path: str) -> ctypes.CDLL:
    """The library, its quantiser declared."""
    lib = ctypes.CDLL(path)
    lib.ggml_quantize_chunk.restype = ctypes.c_size_t
    p, n = ctypes.c_void_p, ctypes.c_int64
    lib.ggml_quantize_chunk.argtypes = [ctypes.c_int, p, p, n, n, n, p]
    return lib


def quantized(
    lib: ctypes.CDLL, x: F32, number: int, sizes: tuple[int, int], importance: F32 | None
) -> npt.NDArray[np.uint8]:
    """Rows (rows, cols) in ggml's type of that number, whose blocks have (values, bytes) = sizes, as bytes.

    Raises SystemExit where ggml wrote another number of them.
    """
    data: npt.NDArray[np.uint8] = np.zeros((len(x), x.shape[1] // sizes[0] * sizes[1]), np.uint8)
    lib.ggml_quantize_init(number)
    weights = None if importance is None else importance.ctypes.data
    written = lib.ggml_quantize_chunk(number, x.ctypes.data, data.ctypes.data, 0, *x.shape, weights)
    if written != data.nbytes:
        raise SystemExit(f"type {number}: {written} bytes, expected {data.nbytes}")
    return data
