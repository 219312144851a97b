"""Floats into Q4_0, Q4_1, Q5_0 and Q5_1 where columns differ in importance, as plain NumPy; the twin of C's.

Where the bits are is drawn in quantization.py; weights of the values: iq_quantizers.weights. Without importance these
formats have one rule each (quantizers.py); with it the scale is searched for, block by block of 32:

    Q4_0, Q5_0   1  sixteen scales that put the largest value near one end of the codes or the other
                 2  for each of them d by least squares, twice, rounded to half precision; that with the smallest error
    Q4_1, Q5_1   1  sixteen scales around (max x - min x) / (the largest code), the minimum being min x
                 2  for each of them d and m by least squares, twice; d is rounded to half precision, m is fitted to it
                    and rounded; that pair with the smallest error
                    a block of equal values: all codes are 1, m is the value and d what rounding m has left of it

and the codes are those nearest for the d (and m) that was chosen. The order of every operation is that of
ckernels/kernels/quantize_weighted.c, so that the bytes are the same; equal errors go to the scale tried first.

What this file is not: it has nothing for Q8_0, whose 8 bits leave nothing to trade, as in ggml.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from zigllama.foundation.runtime import F32
from zigllama.linear_algebra.iq_quantizers import TINY, weights
from zigllama.linear_algebra.quantize_lanes import U8, fold, half_bytes, inverse, to_half

# By how much the largest value becomes less than the lowest code, before rounding, or more than the highest.
LOWER = np.array([2.5, 1.8, 1.2, 0.7, 0.3, 0, -0.3, -0.7], np.float32)
UPPER = np.array([-2.4, -1.7, -1.1, -0.6, -0.2, 0.1, 0.4, 0.8], np.float32)
# By how much the codes that a block's range is given are more than there are.
WIDER = np.array(
    [-4, -3.4, -2.9, -2.5, -2.1, -1.8, -1.5, -1.2, -0.9, -0.7, -0.5, -0.3, -0.1, 0.1, 0.4, 0.7], np.float32
)
MOST = np.float32(65504)


def _sum(terms: F32) -> F32:
    """Over the values of each block, in ascending order.   (n, 32, lanes) -> (n, lanes)"""
    return np.add.accumulate(terms, axis=1, dtype=np.float32)[:, -1]


def _nearest(v: Any, low: int, high: int) -> Any:
    """The nearest code, ties to even; bounded first, so that what is rounded is small."""
    return np.rint(np.clip(v, np.float32(low), np.float32(high)))


def _blocks(values: F32, importance: F32) -> tuple[F32, F32, F32]:
    """Values and weights (n, 32, 1), and which blocks are more than dust (n,); dust is replaced by ones."""
    x = values.reshape(-1, 32)
    w = weights(x, importance.reshape(-1, 32))
    live = np.abs(x).max(axis=1) >= TINY
    x, w = (np.where(live[:, None], a, np.float32(1))[..., None] for a in (x, w))
    return x, w, live


def _best(error: F32, *of: F32) -> Any:
    """Of each block what belongs to the smallest error, (n, 1)."""
    best = error.argmin(axis=1)[:, None]
    return tuple(np.take_along_axis(a, best, 1) for a in of)


def _with_zero(values: F32, importance: F32, bits: int) -> tuple[F32, U8]:
    """Scales (n,), codes (n, 32)."""
    zero = 1 << bits - 1
    x, w, live = _blocks(values, importance)
    most = np.take_along_axis(x[..., 0], np.abs(x[..., 0]).argmax(axis=1)[:, None], 1)
    inverses: Any = np.concatenate([-zero - LOWER, zero - 1 + UPPER]) / most
    for _ in range(2):
        q = _nearest(x * inverses[:, None, :], -zero, zero - 1)
        wq = w * q
        d = _sum(wq * x) / _sum(wq * q)
        inverses = inverse(d)
    d = to_half(d)
    t = x - d[:, None, :] * q
    (d,) = _best(_sum(w * t * t), d)
    d = np.where(live[:, None], d, np.float32(0))
    codes = _nearest(x[..., 0] * inverse(d), -zero, zero - 1) + zero
    return d[:, 0], codes.astype(np.uint8)


def _with_minimum(values: F32, importance: F32, bits: int) -> tuple[F32, F32, U8]:
    """Scales, minimums (n,), codes (n, 32)."""
    top = (1 << bits) - 1
    x, w, live = _blocks(values, importance)
    low = x[..., 0].min(axis=1)[:, None]
    wide = x[..., 0].max(axis=1)[:, None] - low
    equal = wide < TINY
    y = x - low[:, None, :]
    sw, sy = _sum(w), _sum(w * y)
    inverses: Any = (top + WIDER) * inverse(wide)
    m: Any = np.zeros((len(x), len(WIDER)), np.float32)
    for _ in range(2):
        q = _nearest((y - m[:, None, :]) * inverses[:, None, :], 0, top)
        wq = w * q
        sq, s2, sx = _sum(wq), _sum(wq * q), _sum(wq * y)
        spread = sw * s2 - sq * sq
        sound = spread > 0
        d = np.where(sound, (sw * sx - sy * sq) / np.where(sound, spread, np.float32(1)), inverse(inverses))
        m = (sy - d * sq) / sw
        inverses = inverse(d)
    d = to_half(d)
    m = to_half(np.clip(low + (sy - d * sq) / sw, -MOST, MOST))
    t = x - (d[:, None, :] * q + m[:, None, :])
    d, m = _best(_sum(w * t * t), d, m)
    m = np.where(equal, to_half(low), m)
    d = np.where(equal, to_half(low - m), d)
    codes = np.where(equal, np.float32(1), _nearest((x[..., 0] - m) * inverse(d), 0, top))
    d, m, codes = (np.where(live[:, None], a, np.float32(0)) for a in (d, m, codes))
    return d[:, 0], m[:, 0], codes.astype(np.uint8)


def _q4_0(x: F32, importance: F32) -> U8:
    d, codes = _with_zero(x, importance, 4)
    return np.concatenate([half_bytes(d), fold(codes, 16, 4)], axis=1)


def _q4_1(x: F32, importance: F32) -> U8:
    d, m, codes = _with_minimum(x, importance, 4)
    return np.concatenate([half_bytes(d), half_bytes(m), fold(codes, 16, 4)], axis=1)


def _q5_0(x: F32, importance: F32) -> U8:
    d, codes = _with_zero(x, importance, 5)
    return np.concatenate([half_bytes(d), fold(codes >> 4, 1, 1), fold(codes & 15, 16, 4)], axis=1)


def _q5_1(x: F32, importance: F32) -> U8:
    d, m, codes = _with_minimum(x, importance, 5)
    return np.concatenate([half_bytes(d), half_bytes(m), fold(codes >> 4, 1, 1), fold(codes & 15, 16, 4)], axis=1)


QUANTIZE: dict[str, Callable[[F32, F32], U8]] = {"Q4_0": _q4_0, "Q4_1": _q4_1, "Q5_0": _q5_0, "Q5_1": _q5_1}
