"""Calls of the C library on number formats: file bytes to floats, floats to file bytes, the activation format.

The second leaf of native.py's door: pointers live for one call each. What it is not: names of types, shapes of rows,
defaults; those are `zigllama.linear_algebra.number_formats`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zigllama.errors import ShapeError

from .native import check, ffi, lib
from .native_context import F32, U8, NativeContext
from .native_step import want_array


def dequantize(ctx: NativeContext, type_id: int, n: int, src: U8) -> F32:
    """File bytes of n values -> float32 (n,). Raises ShapeError, DTypeError, MappingFault."""
    want_array(src, np.uint8, 1)
    dst = np.empty(n, np.float32)
    with ctx.using() as pointer:
        to = ffi.from_buffer("float[]", dst)
        check(lib.zl_dequantize(pointer, type_id, n, ffi.from_buffer(src), src.nbytes, to))
    return dst


def quantize_rows(ctx: NativeContext, type_id: int, x: F32, importance: F32 | None, n_bytes: int) -> U8:
    """Rows (rows, cols) -> their file bytes, uint8 (n_bytes,); importance (cols,) or None.

    Raises ShapeError, DTypeError for a type without a quantiser, InvalidArgument for a value that it does not take,
    with its row and column.
    """
    want_array(x, np.float32, 2)
    rows, cols = x.shape
    weights = ffi.NULL
    if importance is not None:
        want_array(importance, np.float32, 1)
        if len(importance) != cols:
            raise ShapeError(f"importance of {len(importance)} columns for rows of {cols}")
        weights = ffi.from_buffer("float[]", importance)
    dst = np.empty(n_bytes, np.uint8)
    with ctx.using() as pointer:
        to = ffi.from_buffer(dst)
        check(lib.zl_quantize_rows(pointer, type_id, rows, cols, ffi.from_buffer("float[]", x), weights, to, n_bytes))
    return dst


def quantize_activation(
    ctx: NativeContext, x: F32, per: int = 32
) -> tuple[npt.NDArray[np.int8], F32, npt.NDArray[np.int16]]:
    """The activation format, `per` columns rounded together, 32 or 256: x (rows, cols) -> q int8 (rows, cols), scales
    d float32 (rows, cols / 32), alike in 256 columns but for powers of two, and the sums of q over each 16 columns,
    int16 (rows, cols / 32, 2). Raises ShapeError unless cols is a multiple of `per`, InvalidArgument for another `per`.
    """
    want_array(x, np.float32, 2)
    rows, cols = x.shape
    q, d = np.empty((rows, cols), np.int8), np.empty((rows, cols // 32), np.float32)
    s = np.empty((rows, cols // 32, 2), np.int16)
    with ctx.using() as pointer:
        to = ffi.from_buffer("int8_t[]", q), ffi.from_buffer("float[]", d), ffi.from_buffer("int16_t[]", s)
        check(lib.zl_quantize_activation(pointer, rows, cols, per, ffi.from_buffer("float[]", x), *to))
    return q, d, s
