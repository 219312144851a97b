"""Floats into IQ4_NL and IQ4_XS, whose codes are 16 unevenly spaced levels, as plain NumPy; the twin of C's.

Where the bits are is drawn in iq_quantization.py; weights of the values: iq_quantizers.weights. value = s * level, the
level nearest to x / s. What is chosen:

    IQ4_NL   1  for a block of 32 sixteen scales that put its largest value near one end of the levels or the other
             2  for each of them d by least squares, twice, rounded to half precision; that with the smallest error
    IQ4_XS   1  for each block of 32 eight such scales, s by least squares for each; that with the smallest error
             2  for the superblock the best of eight d = (the largest s) / -32 .. -25, s being l d with l = round(s / d)
             3  for each block the best of the eight l around that
             4  d by least squares over the superblock, rounded to half precision, and the nearest levels for it

The order of every operation is that of ckernels/kernels/quantize_iq4.c, so that the bytes are the same; equal errors go
to the scale tried first. What this file is not: it knows no codebook of vectors (iq_quantizers.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from zigllama.foundation.runtime import F32
from zigllama.linear_algebra.iq_quantization import IQ4_VALUES
from zigllama.linear_algebra.iq_quantizers import TINY, weights
from zigllama.linear_algebra.quantize_lanes import U8, fold, half_bytes, inverse, to_half

LEVELS = IQ4_VALUES.astype(np.float32)
MIDDLES = (LEVELS[1:] + LEVELS[:-1]) / 2
# What the largest value of a block becomes, before rounding: near either end of the levels.
ENDS_NL = np.array([-136, -131, -126, -121, -116, -111, -106, -101, 91, 96, 101, 106, 111, 116, 121, 126], np.float32)
ENDS_XS = np.array([-134, -125, -116, -107, 98, 107, 116, 125], np.float32)
DIVISORS = np.arange(-32, -24).astype(np.float32)


def nearest(v: F32) -> npt.NDArray[Any]:
    """The number of the nearest level, of the lower one in the middle between two."""
    return np.searchsorted(MIDDLES, v, side="left")


def _sums(*terms: F32) -> tuple[F32, ...]:
    """Of each the sum over the last axis but one, in ascending order.   (..., 32, lanes) -> (..., lanes)"""
    return tuple(np.add.accumulate(t, axis=-2, dtype=np.float32)[..., -1, :] for t in terms)


def _largest(x: F32) -> F32:
    """Of each block the value of largest size, the first of equal ones.   (..., 32) -> (..., 1)"""
    return np.take_along_axis(x, np.abs(x).argmax(axis=-1)[..., None], -1)


def _fit(x: F32, w: F32, inverses: F32) -> tuple[F32, F32, F32]:
    """Levels for x / s, and least squares for them.   x, w (..., 32, 1), 1 / s (..., 1, lanes) ->
    levels (..., 32, lanes), sum w x level (..., lanes), the scale that fits best (..., lanes)"""
    q = LEVELS[nearest(x * inverses)]
    wq = w * q
    sx, s2 = _sums(wq * x, wq * q)
    return q, sx, sx / s2


def _error(x: F32, w: F32, s: F32, q: F32) -> F32:
    t = x - s * q
    return _sums(w * t * t)[0]


def _iq4_nl(values: F32, importance: F32 | None) -> U8:
    blocks = values.reshape(-1, 32)
    w = weights(blocks, None if importance is None else importance.reshape(-1, 32))[..., None]
    live = np.abs(blocks).max(axis=1) >= TINY
    x = np.where(live[:, None], blocks, np.float32(1))[..., None]
    w = np.where(live[:, None, None], w, np.float32(1))
    _, _, d = _fit(x, w, (ENDS_NL / _largest(x[..., 0]))[:, None, :])
    q, _, d = _fit(x, w, inverse(d)[:, None, :])
    d = to_half(d)
    best = _error(x, w, d[:, None, :], q).argmin(axis=1)[:, None]
    d = np.where(live, np.take_along_axis(d, best, 1)[:, 0], np.float32(0))
    codes = np.where(live[:, None], nearest(x[..., 0] * inverse(d)[:, None]), 0)
    return np.concatenate([half_bytes(d), fold(codes, 16, 4)], axis=1)


def _iq4_xs(values: F32, importance: F32 | None) -> U8:
    n = len(values) // 256
    rows = values.reshape(n, 256)
    w = weights(rows, None if importance is None else importance.reshape(n, 256)).reshape(n, 8, 32, 1)
    x = rows.reshape(n, 8, 32, 1)
    large = _largest(x[..., 0])
    live = np.abs(large[:, :, 0]).max(axis=1) >= TINY
    w = np.where(live[:, None, None, None], w, np.float32(1))
    _, sx, s = _fit(x, w, (ENDS_XS * inverse(large))[:, :, None, :])
    s = np.take_along_axis(s, (sx * s).argmax(axis=2)[..., None], 2)  # (n, 8, 1)
    most = np.take_along_axis(s, np.abs(s).argmax(axis=1)[..., None], 1)
    d = to_half(most / DIVISORS)  # (n, 1, 8)
    error = np.zeros((n, 8), np.float32)
    for b in range(8):
        scale = d[:, 0] * np.clip(np.rint(s[:, b] * inverse(d[:, 0])), -32, 31)
        q = LEVELS[nearest(x[:, b] * inverse(scale)[:, None])]
        error = error + _error(x[:, b], w[:, b], scale[:, None], q)
    d = np.take_along_axis(d[:, 0], error.argmin(axis=1)[:, None], 1)[:, :, None]  # (n, 1, 1)
    start = np.clip(np.rint(s * inverse(d)) - 4, -32, 24)
    l = start + np.arange(8, dtype=np.float32)
    scale = d * l
    q = LEVELS[nearest(x * inverse(scale)[:, :, None, :])]
    best = _error(x, w, scale[:, :, None, :], q).argmin(axis=2)[..., None]
    l = np.take_along_axis(l, best, 2)
    q = np.take_along_axis(q, best[:, :, None, :], 3) * l[:, :, None, :]  # (n, 8, 32, 1)
    wq = w * q
    sx, s2 = _sums((wq * x).reshape(n, 256, 1), (wq * q).reshape(n, 256, 1))
    d = np.where(s2 > 0, sx / np.where(s2 > 0, s2, np.float32(1)), np.float32(0))[..., None]
    d = np.where(live[:, None, None], to_half(d), np.float32(0))
    codes = nearest(x * inverse(d * l)[:, :, None, :]).reshape(n, 256)
    l = np.where(live[:, None, None], l + 32, np.float32(0))
    codes = np.where(live[:, None], codes, 0)
    scales = l[..., 0].astype(np.int64)
    upper = fold(scales >> 4, 1, 2)
    return np.concatenate([half_bytes(d[:, 0, 0]), upper, fold(scales & 15, 1, 4), fold(codes, 16, 4)], axis=1)


QUANTIZE: dict[str, Callable[[F32, F32 | None], U8]] = {"IQ4_NL": _iq4_nl, "IQ4_XS": _iq4_xs}
