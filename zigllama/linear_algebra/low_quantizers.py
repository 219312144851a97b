"""Floats into ternary and binary formats, two plain bits, and 4-bit floats, as plain NumPy; the twin of C's.

    TQ1_0, TQ2_0, Q2_0   d = max |x|                      u = round(x / d) + 1, halves away from 0: 0, 1 or 2
    Q1_0                 d = mean |x|                     bit = x >= 0
    MXFP4                e = floor(log2 max |x|) + 125    the nearest x / 2^(e - 127), the smaller of two as near
    NVFP4                d = max |x| / 6 as E4M3          the nearest x / d of 16 values, the smaller of two as near

What the blocks look like: ternary_quantization.py, fp4_quantization.py. Each format has this one rule, whatever the
importance of the columns. The bytes are those of ggml's `quantize_row_*_ref`, its oddities too: of Q2_0's four codes
the fourth is not used, and a scale of NVFP4 of 256 or more becomes 448. They differ where ggml's are not defined, or
depend on the C library's log2f:

    - a block of TQ1_0, TQ2_0 or Q2_0 whose largest value is subnormal: 1 / d is infinite there; here it is zero
    - a block of MXFP4 whose largest value is below 2^-125: a negative number becomes an unsigned byte; here e is 0
    - one whose largest value is within some 2^-22 below a power of two: log2f may round up to the next integer

What this file is not: it knows no search (legacy_importance.py, iq_quantizers.py).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from zigllama.foundation.runtime import F32
from zigllama.linear_algebra.fp4_quantization import half_e4m3, half_power
from zigllama.linear_algebra.quantize_lanes import (
    U8,
    columns,
    fold,
    half_bytes,
    inverse,
    largest,
    lesser,
    round_away,
    total,
)

DIGITS = np.array([81, 27, 9, 3, 1])[:, None]
MIDDLES = np.array([0.5, 1.5, 2.5, 3.5, 5, 7, 10], np.float32)  # between the levels, 0 to 12: twice the 4-bit floats


def _ternary(x: F32, n: int) -> tuple[F32, U8]:
    """Scales (blocks,), codes (blocks, n)."""
    v = columns(x, n)
    d = largest(v)
    return d, (round_away(v * inverse(d)) + 1).astype(np.uint8).T


def _trits(u: U8, n: int) -> U8:
    """Codes (blocks, n run), n digits each a run apart -> bytes (blocks, run)."""
    t = (u.reshape(len(u), n, -1) * DIGITS[:n]).sum(axis=1)
    byte: U8 = ((t * 256 + 242) // 243).astype(np.uint8)
    return byte


def _tq1_0(x: F32, importance: F32 | None) -> U8:
    d, u = _ternary(x, 256)
    return np.concatenate([_trits(u[:, :160], 5), _trits(u[:, 160:240], 5), _trits(u[:, 240:], 4), half_bytes(d)], 1)


def _tq2_0(x: F32, importance: F32 | None) -> U8:
    d, u = _ternary(x, 256)
    return np.concatenate([fold(u, 32, 2), half_bytes(d)], axis=1)


def _q2_0(x: F32, importance: F32 | None) -> U8:
    d, u = _ternary(x, 64)
    return np.concatenate([half_bytes(d), fold(u, 1, 2)], axis=1)


def _q1_0(x: F32, importance: F32 | None) -> U8:
    v = columns(x, 128)
    d = total(np.abs(v)) / np.float32(128)
    return np.concatenate([half_bytes(d), fold((v >= 0).astype(np.uint8).T, 1, 1)], axis=1)


def _fp4(v: F32, d: F32) -> U8:
    """Codes (n, blocks) of values, d being half of what 1 is worth; 0 where d is."""
    above = np.where(d > 0, MIDDLES[:, None] * d, np.float32(np.inf))
    level = np.zeros(v.shape, np.uint8)
    for middle in above:
        level += np.abs(v) > middle
    return np.where((v < 0) & (level > 0), level | np.uint8(8), level)


def _mxfp4(x: F32, importance: F32 | None) -> U8:
    v = columns(x, 32)
    e = np.maximum((largest(v).view(np.int32) >> 23) - 2, 0).astype(np.uint8)
    return np.concatenate([e[:, None], fold(_fp4(v, half_power(e)).T, 16, 4)], axis=1)


def _e4m3(wide: F32) -> npt.NDArray[np.uint8]:
    """Positive numbers as E4M3, halves up."""
    few = np.trunc(lesser(wide * np.float32(512) + np.float32(0.5), np.float32(7)))
    many = ((wide.view(np.int32) + 0x80000) >> 20) - (120 << 3)
    return np.where(wide < np.float32(2.0**-6), few, np.where(many < 120, many, 126)).astype(np.uint8)


def _nvfp4(x: F32, importance: F32 | None) -> U8:
    v = columns(x, 16)
    scales = _e4m3(largest(v) / np.float32(6))
    codes = _fp4(v, half_e4m3(scales).astype(np.float32)).T
    return np.concatenate([scales.reshape(-1, 4), fold(codes, 8, 4).reshape(-1, 32)], axis=1)


QUANTIZE: dict[str, Callable[[F32, F32 | None], U8]] = {
    "TQ1_0": _tq1_0,
    "TQ2_0": _tq2_0,
    "Q1_0": _q1_0,
    "Q2_0": _q2_0,
    "MXFP4": _mxfp4,
    "NVFP4": _nvfp4,
}
