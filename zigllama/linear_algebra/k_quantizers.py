"""Floats into the K-quants Q2_K to Q6_K, as plain NumPy; the twin of C's.

What the bytes are is drawn in k_quantization.py. A superblock of 256 values has 8 or 16 blocks, each with a scale
s = d sc and, in Q2_K, Q4_K and Q5_K, a minimum m = dmin mn; d and dmin are halves, sc and mn small integers.

    value = s u - m      u = 0 .. top, nearest to (x + m) / s          Q2_K, Q4_K, Q5_K
    value = s q          q = -n .. n - 1, nearest to x / s             Q3_K, Q6_K

What is minimised is sum w (x - value)^2 over the superblock, w = 1 or, with importance h, h / max h + 2^-20. How:

    1  for each block several first scales, each followed by least squares for the codes it gives, twice with minimums;
       the one with the smallest error, the first of those that are about as good: a block that uses 15 of 16 codes has
       two that are, and the one without needless minimum is a model's that was in this format before
    2  four d (and dmin) under which the largest s (and m) of the superblock is one of the four largest integers. For
       each: of the three sc around s / d, with the mn that fits best, the one with the smallest error, block by block
    3  twice more with the d (and dmin) that least squares over the superblock gives for the best found until then

Step 3 is what ties the blocks together: integers are chosen for a d that is then fitted to them. The order of every
operation is that of ckernels/kernels/quantize_k.c, so that the bytes are the same; equal errors go to what was tried
first. What this file is not: it reads no blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from zigllama.foundation.runtime import F32
from zigllama.linear_algebra.quantize_lanes import U8, fold, greater, half_bytes, inverse, lesser, to_half, total

SUPER = 256
TINY = np.float32(2.0**-40)  # a superblock with nothing larger is zero: half precision has no d that small
FLOOR = np.float32(2.0**-20)  # so that blocks without any importance have scales too
ALIKE = np.float32(2.0**-23)  # times sum w x^2: an error must be smaller by that to be better, for halves round too
FIRM = np.float32(1e-5)  # codes that vary less than this do not determine two unknowns
LARGEST = np.float32(65504)


@dataclass(frozen=True)
class Format:
    """What the search knows of a type.

    size    values of a block
    codes   (lowest, highest)
    scales  (the integer of the largest scale, the other end): an sc of Q3_K and Q6_K is signed
    first   what the first scales make of a block's largest value, or with minimums of its range, before rounding
    """

    size: int
    codes: tuple[int, int]
    scales: tuple[int, int]
    first: tuple[float, ...]


FORMATS = {
    "Q2_K": Format(16, (0, 3), (15, 0), (2.2, 2.6, 3, 3.4, 3.8, 4.2, 4.6, 5.2)),
    "Q4_K": Format(32, (0, 15), (63, 0), (14, 14.5, 15, 15.5, 16, 16.5)),
    "Q5_K": Format(32, (0, 31), (63, 0), (30, 30.5, 31, 31.5, 32, 32.5)),
    "Q3_K": Format(16, (-4, 3), (-32, 31), (-5, -4.5, -4, -3.5, -3, 4, 3.5, 3)),
    "Q6_K": Format(16, (-32, 31), (-128, 127), (-34, -33, -32.2, -31.4, -30.6, -29.8, -29, -28)),
}


def over_blocks(v: F32) -> F32:
    """The sum over the blocks of each superblock: halves onto halves.   (superblocks, 8 or 16) -> (superblocks, 1)"""
    while v.shape[1] > 1:
        v = v[:, : v.shape[1] // 2] + v[:, v.shape[1] // 2 :]
    return v


def clip(v: F32, ends: tuple[int, int]) -> F32:
    return lesser(greater(v, np.float32(min(ends))), np.float32(max(ends)))  # type: ignore[no-any-return]


def nearest(v: F32, ends: tuple[int, int]) -> F32:
    """The nearest integers between two, halves to even; none is a negative zero."""
    return np.rint(clip(v, ends)) + np.float32(0)


def weights(importance: F32 | None, n: int) -> F32:
    """How much the square of an error counts: w of the module docstring, (n, 256)."""
    if importance is None:
        return np.ones((n, SUPER), np.float32)
    h = importance.reshape(n, SUPER)
    return h * inverse(h.max(axis=1, keepdims=True)) + FLOOR


def take(better: Any, new: tuple[F32, ...], old: tuple[F32, ...]) -> tuple[F32, ...]:
    return tuple(np.where(better, a, b) for a, b in zip(new, old, strict=True))


class Search:
    """Superblocks on their way. x, w (size, superblocks, blocks); per block: s, m, sc, mn; per superblock: d, dmin."""

    def __init__(self, fmt: Format, x: F32, w: F32) -> None:
        self.fmt, self.x, self.w = fmt, x, w
        self.wx = w * x
        self.sum_w, self.sum_wx = total(w), total(self.wx)
        self.alike = total(self.wx * x) * ALIKE

    def codes(self, s: F32, m: F32) -> F32:
        raise NotImplementedError

    def first(self) -> tuple[F32, ...]:
        """Step 1: scales (superblocks, blocks), and minimums."""
        raise NotImplementedError

    def starts(self, k: int, s: F32, m: F32) -> tuple[F32, F32]:
        """Step 2: the k-th d and dmin, (superblocks, 1), not yet rounded."""
        raise NotImplementedError

    def minimum(self, s: F32, m: F32, dmin: F32) -> F32:
        """mn for a block's scale."""
        raise NotImplementedError

    def refit(self, d: F32, dmin: F32, sc: F32, mn: F32) -> tuple[F32, F32]:
        """Step 3: d and dmin by least squares."""
        raise NotImplementedError

    def error(self, s: F32, m: F32, u: F32) -> F32:
        t = self.x - (s * u - m)
        return total(self.w * t * t)

    def run(self) -> tuple[F32, F32, F32, F32, F32]:
        """d, dmin (superblocks, 1), sc, mn (superblocks, blocks), codes (size, superblocks, blocks)"""
        s, m = self.first()
        best: tuple[F32, ...] = ()
        for k in range(6):
            d, dmin = self.starts(k, s, m) if k < 4 else self.refit(*best[1:])
            d, dmin = to_half(d), to_half(dmin)
            middle = nearest(s * inverse(d), self.fmt.scales)
            found: tuple[F32, ...] = ()
            for step in (-1, 0, 1):
                sc = clip(middle + np.float32(step), self.fmt.scales)
                mn = self.minimum(d * sc, m, dmin)
                e = self.error(d * sc, dmin * mn, self.codes(d * sc, dmin * mn))
                found = take(e < found[0], (e, sc, mn), found) if found else (e, sc, mn)
            new = (over_blocks(found[0]), d, dmin, found[1], found[2])
            best = take(new[0] < best[0], new, best) if best else new
        _, d, dmin, sc, mn = best
        return d, dmin, sc, mn, self.codes(d * sc, dmin * mn)


class WithMinimum(Search):
    """Q2_K, Q4_K, Q5_K."""

    def codes(self, s: F32, m: F32) -> F32:
        return nearest((self.x + m) * inverse(s), self.fmt.codes)

    def first(self) -> tuple[F32, ...]:
        low, high = np.zeros_like(self.x[0]), np.zeros_like(self.x[0])
        for row in self.x:
            low, high = lesser(row, low), greater(row, high)
        span = high - low
        best: tuple[F32, ...] = ()
        for steps in self.fmt.first:
            s, m = span * (np.float32(1) / np.float32(steps)), 0 - low
            for _ in range(2):
                u = self.codes(s, m)
                s, m = self.fit(u, s, m, span)
            e = self.error(s, m, self.codes(s, m))
            best = take(e < best[0] - self.alike, (e, s, m), best) if best else (e, s, m)
        return best[1:]

    def fit(self, u: F32, s: F32, m: F32, span: F32) -> tuple[F32, F32]:
        """s and m, both 0 or more, by least squares; as they were where the codes are all the same."""
        wu = self.w * u
        su, suu, sxu = total(wu), total(wu * u), total(wu * self.x)
        whole = self.sum_w * suu
        det = whole - su * su
        by = inverse(det)
        fs, fm = (self.sum_w * sxu - self.sum_wx * su) * by, (su * sxu - suu * self.sum_wx) * by
        fs, fm = np.where(fm < 0, sxu * inverse(suu), fs), greater(fm, np.float32(0))
        firm = det > FIRM * whole
        fs, fm = lesser(greater(fs, np.float32(0)), span), lesser(fm, span)
        return np.where(firm, fs, s), np.where(firm, fm, m)

    def starts(self, k: int, s: F32, m: F32) -> tuple[F32, F32]:
        by = np.float32(self.fmt.scales[0] - k)
        return s.max(axis=1, keepdims=True) / by, m.max(axis=1, keepdims=True) / by

    def minimum(self, s: F32, m: F32, dmin: F32) -> F32:
        u = self.codes(s, m)
        mean = total(self.w * (s * u - self.x)) / self.sum_w
        return nearest(mean * inverse(dmin), self.fmt.scales)

    def refit(self, d: F32, dmin: F32, sc: F32, mn: F32) -> tuple[F32, F32]:
        q = sc * self.codes(d * sc, dmin * mn)
        wq = self.w * q
        qq, qx = over_blocks(total(wq * q)), over_blocks(total(wq * self.x))
        qm, mm, mx = (over_blocks(t * mn) for t in (total(wq), self.sum_w * mn, self.sum_wx))
        whole = qq * mm
        det = whole - qm * qm
        by = inverse(det)
        fd, fm = (mm * qx - qm * mx) * by, (qm * qx - qq * mx) * by
        firm = det > FIRM * whole
        fd, fm = np.where(firm, fd, np.where(mm > 0, d, qx * inverse(qq))), np.where(firm, fm, dmin)
        zero = np.float32(0)
        return lesser(greater(fd, zero), LARGEST), lesser(greater(fm, zero), LARGEST)


class Signed(Search):
    """Q3_K, Q6_K: m, mn and dmin are 0."""

    def codes(self, s: F32, m: F32) -> F32:
        return nearest(self.x * inverse(s), self.fmt.codes)

    def first(self) -> tuple[F32, ...]:
        large = np.zeros_like(self.x[0])
        for row in self.x:
            large = np.where(np.abs(row) > np.abs(large), row, large)
        by, zero = inverse(large), np.zeros_like(large)
        best: tuple[F32, ...] = ()
        for end in self.fmt.first:
            q = nearest(self.x * (by * np.float32(end)), self.fmt.codes)
            wq = self.w * q
            s = total(wq * self.x) * inverse(total(wq * q))
            e = self.error(s, zero, q)
            best = take(e < best[0] - self.alike, (e, s), best) if best else (e, s)
        return best[1], zero

    def starts(self, k: int, s: F32, m: F32) -> tuple[F32, F32]:
        most = np.take_along_axis(s, np.abs(s).argmax(axis=1)[:, None], 1)
        return most / np.float32(self.fmt.scales[0] + k), np.zeros_like(most)

    def minimum(self, s: F32, m: F32, dmin: F32) -> F32:
        return m

    def refit(self, d: F32, dmin: F32, sc: F32, mn: F32) -> tuple[F32, F32]:
        q = sc * self.codes(d * sc, mn)
        wq = self.w * q
        return over_blocks(total(wq * self.x)) * inverse(over_blocks(total(wq * q))), dmin


def packed_scales(sc: U8, mn: U8) -> U8:
    """The reverse of k_quantization.packed_scales: (n, 8), (n, 8) -> (n, 12)."""
    a, b = sc[:, :4] | sc[:, 4:] >> 4 << 6, mn[:, :4] | mn[:, 4:] >> 4 << 6
    return np.concatenate([a, b, sc[:, 4:] & 15 | (mn[:, 4:] & 15) << 4], axis=1)


def _quantize(name: str, values: F32, importance: F32 | None) -> U8:
    fmt, rows = FORMATS[name], values.reshape(-1, SUPER)
    live = np.abs(rows).max(axis=1, keepdims=True) >= TINY
    columns = [
        np.ascontiguousarray(v.reshape(len(rows), -1, fmt.size).transpose(2, 0, 1))
        for v in (np.where(live, rows, np.float32(0)), weights(importance, len(rows)))
    ]
    kind = WithMinimum if fmt.codes[0] == 0 else Signed
    d, dmin, sc, mn, u = kind(fmt, *columns).run()
    codes = (u - fmt.codes[0]).transpose(1, 2, 0).reshape(len(rows), SUPER).astype(np.uint8)
    half, least = half_bytes(d[:, 0]), half_bytes(dmin[:, 0])
    if name == "Q2_K":
        parts = [(sc + 16 * mn).astype(np.uint8), fold(codes, 32, 2), half, least]
    elif name == "Q3_K":
        six = (sc + 32).astype(np.uint8)
        parts = [fold(codes >> 2, 32, 1), fold(codes & 3, 32, 2), fold(six & 15, 8, 4), fold(six >> 4, 4, 2), half]
    elif name == "Q6_K":
        parts = [fold(codes & 15, 64, 4), fold(codes >> 4, 32, 2), sc.astype(np.int8).view(np.uint8), half]
    else:
        scales = packed_scales(sc.astype(np.uint8), mn.astype(np.uint8))
        fifth = [fold(codes >> 4, 32, 1)] if name == "Q5_K" else []
        parts = [half, least, scales, *fifth, fold(codes & 15, 32, 4)]
    return np.where(live, np.concatenate(parts, axis=1), np.uint8(0))


def _quantizer(name: str) -> Callable[[F32, F32 | None], U8]:
    return lambda values, importance: _quantize(name, values, importance)


QUANTIZE: dict[str, Callable[[F32, F32 | None], U8]] = {name: _quantizer(name) for name in FORMATS}
