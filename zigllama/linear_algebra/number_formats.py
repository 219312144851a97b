"""Number formats by name: file bytes to floats, in C on all threads.

    zl.dequantize(blocks, "IQ3_S")          uint8 (n, bytes per block) -> float32 (n, values per block)

What the bytes of a format mean is drawn, and done in NumPy, in quantization.py and the modules it gathers; the bits of
both are the same. What this file is not: it multiplies nothing (linear.py) and reads no file.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zigllama.errors import DTypeError, ShapeError
from zigllama.foundation import native_formats
from zigllama.foundation.ggml_types import type_by_name
from zigllama.foundation.runtime import F32
from zigllama.foundation.shared_context import shared_context

U8 = npt.NDArray[np.uint8]


def dequantize(blocks: U8, type_name: str, *, isa: str | None = None, n_threads: int | None = None) -> F32:
    """Whole quant blocks as floats, bit for bit as GGML.

    uint8 (..., k * block_bytes) -> float32 (..., k * block_size)

    So (n_blocks, block_bytes) becomes (n_blocks, block_size), and the rows of a matrix become its rows. All of GGML's
    types are read, plain numbers too. Infinite and NaN scales give what arithmetic gives. Raises UnknownName for a type
    that does not exist or was withdrawn, DTypeError, ShapeError.
    """
    kind = type_by_name(type_name)
    array = np.asarray(blocks)
    if array.dtype != np.uint8:
        raise DTypeError(f"dequantize: expected file bytes (uint8), found {array.dtype}")
    width = array.shape[-1] if array.ndim else 0
    if not array.ndim or width % kind.block_bytes:
        raise ShapeError(
            f"dequantize: shape {array.shape}, the last axis must be whole quant blocks of {kind.name}, "
            f"{kind.block_bytes} bytes each"
        )
    n = array.size // kind.block_bytes * kind.block_size
    flat = np.ascontiguousarray(array).reshape(-1)
    values = native_formats.dequantize(shared_context(isa, n_threads), kind.id, n, flat)
    return values.reshape(*array.shape[:-1], width // kind.block_bytes * kind.block_size)
