"""Floats into quant blocks, as plain NumPy: the twins of the C quantisers, and those of blocks of 32 with one scale.

    F16, BF16   to nearest, ties to even
    Q4_0   d = (the value of largest size) / -8       u = min(trunc(x / d + 8.5), 15)
    Q4_1   m = min x, d = (max x - m) / 15            u = min(trunc((x - m) / d + 0.5), 15)
    Q5_0   d = (the value of largest size) / -16      u = min(trunc(x / d + 16.5), 31)
    Q5_1   m = min x, d = (max x - m) / 31            u = min(trunc((x - m) / d + 0.5), 31)
    Q8_0   d = max |x| / 127                          w = round(x / d), halves away from 0

What the blocks look like: quantization.py. The bytes of these types are those of ggml's `quantize_row_*_ref` and of
PyPI's `gguf`; where importance is given, Q4_0 to Q5_1 are legacy_importance.py's.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from zigllama.errors import DTypeError, InvalidArgument, ShapeError
from zigllama.foundation.ggml_types import row_bytes, type_by_name
from zigllama.foundation.runtime import F32
from zigllama.linear_algebra import (
    iq4_quantizers,
    iq_quantizers,
    k_quantizers,
    legacy_importance,
    low_quantizers,
)
from zigllama.linear_algebra.bf16 import round_bf16
from zigllama.linear_algebra.quantize_lanes import (
    U8,
    columns,
    fold,
    greater,
    half_bytes,
    inverse,
    largest,
    lesser,
    round_away,
)

# A quantiser takes values in order (n,) and the importance of each (n,) or None; it gives file bytes (blocks, bytes).
Quantizer = Callable[[F32, F32 | None], U8]


def checked_rows(x: npt.ArrayLike, type_name: str, importance: npt.ArrayLike | None) -> tuple[F32, F32 | None]:
    """Rows and importance as float32 arrays. Raises ShapeError, DTypeError, InvalidArgument."""
    rows = np.asarray(x)
    if rows.dtype.kind != "f":
        raise DTypeError(f"quantize_rows: expected floats, found {rows.dtype}")
    if rows.ndim != 2:
        raise ShapeError(f"quantize_rows: shape {rows.shape}, want (rows, cols)")
    if type_name in REFUSED:
        raise DTypeError(f"there is no quantiser of {type_name}: {REFUSED[type_name]}")
    row_bytes(type_by_name(type_name), rows.shape[1])
    rows = np.ascontiguousarray(rows, np.float32)
    if importance is None:
        return rows, None
    weights = np.ascontiguousarray(importance, np.float32)
    if weights.shape != rows.shape[1:]:
        raise ShapeError(f"quantize_rows: importance {weights.shape} for rows of {rows.shape[1]} columns")
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(bad):
        raise InvalidArgument(
            f"quantize_rows: the importance of column {bad[0]} is {weights[bad[0]]}, want a finite number, 0 or more"
        )
    return rows, weights


def _with_zero(x: F32, bits: int) -> tuple[F32, U8]:
    """Q4_0, Q5_0: scales (blocks,), codes (blocks, 32)."""
    v = columns(x, 32)
    amax, most = np.zeros(v.shape[1], np.float32), np.zeros(v.shape[1], np.float32)
    for row in v:
        more = np.abs(row) > amax
        most, amax = np.where(more, row, most), np.where(more, np.abs(row), amax)
    zero = np.float32(1 << bits - 1)
    d = most / -zero
    return d, np.trunc(lesser(v * inverse(d) + (zero + np.float32(0.5)), 2 * zero - 1)).astype(np.uint8).T


def _with_minimum(x: F32, bits: int) -> tuple[F32, F32, U8]:
    """Q4_1, Q5_1: scales, minimums (blocks,), codes (blocks, 32)."""
    v = columns(x, 32)
    low, high = v[0], v[0]
    for row in v[1:]:
        low, high = lesser(row, low), greater(row, high)
    top = np.float32((1 << bits) - 1)
    d = (high - low) / top
    return d, low, np.trunc(lesser((v - low) * inverse(d) + np.float32(0.5), top)).astype(np.uint8).T


def _q4_0(x: F32) -> U8:
    d, codes = _with_zero(x, 4)
    return np.concatenate([half_bytes(d), fold(codes, 16, 4)], axis=1)


def _q4_1(x: F32) -> U8:
    d, m, codes = _with_minimum(x, 4)
    return np.concatenate([half_bytes(d), half_bytes(m), fold(codes, 16, 4)], axis=1)


def _q5_0(x: F32) -> U8:
    d, codes = _with_zero(x, 5)
    return np.concatenate([half_bytes(d), fold(codes >> 4, 1, 1), fold(codes & 15, 16, 4)], axis=1)


def _q5_1(x: F32) -> U8:
    d, m, codes = _with_minimum(x, 5)
    return np.concatenate([half_bytes(d), half_bytes(m), fold(codes >> 4, 1, 1), fold(codes & 15, 16, 4)], axis=1)


def _q8_0(x: F32, importance: F32 | None) -> U8:
    v = columns(x, 32)
    d = largest(v) / np.float32(127)
    codes = round_away(v * inverse(d)).astype(np.int8).T
    return np.concatenate([half_bytes(d), np.ascontiguousarray(codes).view(np.uint8)], axis=1)


def _f32(x: F32, importance: F32 | None) -> U8:
    return x.astype("<f4").view(np.uint8).reshape(-1, 4)


def _f16(x: F32, importance: F32 | None) -> U8:
    return half_bytes(x)


def _bf16(x: F32, importance: F32 | None) -> U8:
    return (round_bf16(x).view(np.uint32) >> 16).astype("<u2").view(np.uint8).reshape(-1, 2)


def _weighed(name: str, plain: Callable[[F32], U8]) -> Quantizer:
    """Two ways to the same blocks: one rule without importance, a search with it."""

    def quantize(x: F32, importance: F32 | None) -> U8:
        return plain(x) if importance is None else legacy_importance.QUANTIZE[name](x, importance)

    return quantize


QUANTIZE: dict[str, Quantizer] = {
    "F32": _f32,
    "F16": _f16,
    "BF16": _bf16,
    "Q4_0": _weighed("Q4_0", _q4_0),
    "Q4_1": _weighed("Q4_1", _q4_1),
    "Q5_0": _weighed("Q5_0", _q5_0),
    "Q5_1": _weighed("Q5_1", _q5_1),
    "Q8_0": _q8_0,
    **k_quantizers.QUANTIZE,
    **low_quantizers.QUANTIZE,
    **iq4_quantizers.QUANTIZE,
    **iq_quantizers.QUANTIZE,
}
WEIGHED = frozenset(  # where importance makes a difference
    {
        **legacy_importance.QUANTIZE,
        **k_quantizers.QUANTIZE,
        **iq4_quantizers.QUANTIZE,
        **iq_quantizers.QUANTIZE,
    }
)
_OF_ACTIVATIONS = "it is how ggml holds activations, with their sums, and no file has it"
_READ_ONLY = "it is read where a file has it, but no weight of a model becomes one"
REFUSED = {  # types of GGML that nothing makes, and why
    "Q8_1": _OF_ACTIVATIONS,
    "Q8_K": _OF_ACTIVATIONS,
    "F64": _READ_ONLY,
    "I8": _READ_ONLY,
    "I16": _READ_ONLY,
    "I32": _READ_ONLY,
    "I64": _READ_ONLY,
}


def quantize(x: npt.ArrayLike, type_name: str, importance: npt.ArrayLike | None = None) -> U8:
    """`zl.quantize_rows` without C, for finite values: float32 (rows, cols) -> uint8 (rows, bytes per row)."""
    kind = type_by_name(type_name)
    rows, weights = checked_rows(x, kind.name, importance)
    width = row_bytes(kind, rows.shape[1])
    if kind.name not in QUANTIZE:
        raise DTypeError(f"there is no quantiser of {kind.name}; there is one of: {', '.join(QUANTIZE)}")
    spread = None if weights is None else np.broadcast_to(weights, rows.shape).reshape(-1)
    if not rows.size:
        return np.empty((len(rows), width), np.uint8)
    with np.errstate(all="ignore"):
        return QUANTIZE[kind.name](rows.reshape(-1), spread).reshape(len(rows), width)
