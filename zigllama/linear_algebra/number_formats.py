"""Number formats by name: file bytes to floats and back, in C on all threads.

    zl.dequantize(blocks, "IQ3_S")          uint8 (n, bytes per block) -> float32 (n, values per block)
    zl.quantize_rows(x, "IQ4_XS")           float32 (rows, cols) -> uint8 (rows, bytes per row)

What the bytes of a format mean is drawn, and done in NumPy, in quantization.py and the modules it gathers; how codes
and scales are chosen, in quantizers.py and the modules that it gathers. The bits of both are the same. What this file
is not: it multiplies nothing (linear.py) and reads no file.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zigllama.errors import DTypeError, ShapeError
from zigllama.foundation import native_formats
from zigllama.foundation.ggml_types import row_bytes, type_by_name
from zigllama.foundation.runtime import F32
from zigllama.foundation.shared_context import shared_context
from zigllama.linear_algebra.quantizers import checked_rows

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


def quantize_rows(
    x: npt.ArrayLike,
    type_name: str,
    importance: npt.ArrayLike | None = None,
    *,
    isa: str | None = None,
    n_threads: int | None = None,
) -> U8:
    """Rows of floats in a number format.   float32 (rows, cols) -> uint8 (rows, bytes per row)

    importance   (cols,), how much the square of an error in each column matters (the mean square of what the column is
                 multiplied with, as llama-imatrix measures it). Without it, all matter the same. Only ratios count.
                 Most types choose scales and codes by it; plain numbers, Q8_0, and the ternary, binary and 4-bit float
                 formats have one rule for all columns, and check it but do not use it.

    cols must be a multiple of the type's quant block. The bytes do not depend on threads, on the ISA variant, or on the
    other rows. Raises ShapeError, UnknownName, DTypeError for a type without a quantiser, and InvalidArgument with row
    and column for a value that is not finite or too large for the type (65504, half precision's largest, where the
    scale is a half), or an importance that is negative or not finite.
    """
    kind = type_by_name(type_name)
    rows, weights = checked_rows(x, kind.name, importance)
    width = row_bytes(kind, rows.shape[1])
    context = shared_context(isa, n_threads)
    data = native_formats.quantize_rows(context, kind.id, rows, weights, width * len(rows))
    return data.reshape(len(rows), width)
