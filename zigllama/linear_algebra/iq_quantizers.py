"""Floats into the IQ formats that number vectors of a codebook: IQ1, IQ2 and IQ3, as plain NumPy; the twin of C's.

Where the bits are is drawn in iq_quantization.py. A value there is s * m: s = u (2 l + 1), u = d * UNIT, belongs to the
16 or 32 values of a quant block, m to the vector. What is chosen, superblock by superblock of 256 values:

    1  a weight for each value (`weights`), and its sign: m is a magnitude, so |x| is matched. Where only seven signs of
       eight are stored, an odd number of minuses loses or gains the one that costs least: the smallest w |x|
    2  for each quant block the best of eight scales s, spread around what its largest value and its mean square say
       (of IQ1, whose codebook has every third vector of trits, as if it had them all: only the largest s matters)
    3  u = (the largest s) / (2 levels - 1)
    4  for each quant block the best of the eight l nearest to that s (IQ1 has no more than eight), and its vectors
    5  d by least squares over the superblock, rounded to half precision

"Best" is exact: for a scale each group of 4 or 8 values takes the vector that makes sum w (x - s m)^2 smallest, of all
in the codebook. That is affordable because the cost of a vector is the cost of its lower half plus that of its upper
half, and there are only 64 or 81 different halves: both tables are made once per scale, and a vector costs an addition.

The order of every operation is that of ckernels/kernels/quantize_iq.c, so that the bytes are the same: halves are
summed as pairs, costs of groups in order; equal costs go to the lower upper half, then to the lower number, the lower
scale, and in IQ1 to the shift by plus. What this file is not: it knows no IQ4 (iq4_quantizers.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from zigllama.errors import InvalidArgument
from zigllama.foundation.runtime import F32
from zigllama.linear_algebra.iq_quantization import codebook
from zigllama.linear_algebra.quantize_lanes import U8, fold

Ints = npt.NDArray[np.integer[Any]]
TINY = np.float32(2.0**-40)  # a superblock with nothing larger is zero: half precision has no d that small
FLOOR = np.float32(2.0**-12)  # what a column of no importance still counts for, of the mean


def sum8(terms: F32) -> F32:
    """Sums over the last axis (a multiple of 8): eight partial sums in order, then halves onto halves."""
    parts = terms.reshape(*terms.shape[:-1], -1, 8)
    total = parts[..., 0, :]
    for i in range(1, parts.shape[-2]):
        total = total + parts[..., i, :]
    for width in (4, 2, 1):
        total = total[..., :width] + total[..., width:]
    result: F32 = total[..., 0]
    return result


def weights(x: F32, importance: F32 | None) -> F32:
    """How much the square of an error counts, (n, values of a superblock).

    sqrt(mean(x^2) + x^2), so that what is large is kept somewhat better; with importance h, times h / mean h + 2^-12.
    """
    squares = x * x
    spread = np.sqrt((sum8(squares) / np.float32(x.shape[1]))[:, None] + squares)
    if importance is None:
        return spread
    mean = (sum8(importance) / np.float32(x.shape[1]))[:, None]
    with np.errstate(all="ignore"):
        share = np.where(mean > 0, importance / mean, np.float32(1))
    return (share + FLOOR) * spread


@dataclass(frozen=True)
class GridFormat:
    """A format: `block` values share a scale of `levels` steps, a vector of `grid` stands for `size` values.

    by_top and by_mean: the eight scales first tried, as multiples of max|x| / (the largest magnitude) + those of
    sqrt(sum w x^2 / sum w). shifts: IQ1's signs of 1/8, one per quant block ("block") or per vector ("vector").
    """

    grid: str
    block: int
    levels: int
    unit: float
    parity: bool
    by_top: tuple[float, ...]
    by_mean: tuple[float, ...]
    shifts: str = ""

    @property
    def size(self) -> int:
        return int(codebook(self.grid).shape[1])

    @cached_property
    def digits(self) -> Ints:
        """Each vector's elements as numbers of levels, (n, size)."""
        return np.searchsorted(self.magnitudes, codebook(self.grid))

    @cached_property
    def magnitudes(self) -> Ints:
        return np.unique(codebook(self.grid))

    def values(self, shift: int = 0) -> F32:
        """What an element of each level is worth: m, of IQ1 8 t + shift."""
        m = self.magnitudes.astype(np.float32)
        return m * np.float32(8) + np.float32(shift) if self.shifts else m


def _halves(fmt: GridFormat) -> tuple[Ints, Ints]:
    """Numbers of the lower and of the upper half of each vector, in the order of a table of pairs of pairs."""
    n, half = len(fmt.magnitudes), fmt.size // 2
    place = n ** np.arange(half)
    return (fmt.digits[:, :half] * place).sum(axis=1), (fmt.digits[:, half:] * place).sum(axis=1)


def _pair(a: F32, b: F32) -> F32:
    """Costs of two neighbours (..., n, 8), (..., m, 8) -> of both together (..., n m, 8), the first's number lowest."""
    return (b[..., :, None, :] + a[..., None, :, :]).reshape(*a.shape[:-2], -1, a.shape[-1])


def search(fmt: GridFormat, values: F32, x: F32, w: F32, s: F32, free: bool) -> tuple[F32, Ints]:
    """The best vector for each of eight scales.   x, w (..., size), s (..., 8) -> cost (..., 8), vector (..., 8)

    free: the cost if every vector were in the codebook.
    """
    lower, upper = _halves(fmt)
    t = x[..., :, None, None] - (s[..., None, :] * values[:, None])[..., None, :, :]
    cost = w[..., :, None, None] * t * t  # of an element, a level, a scale
    table = [cost[..., i, :, :] for i in range(fmt.size)]
    if free:
        table = [c.min(axis=-2) for c in table]
        while len(table) > 1:
            table = [table[i] + table[i + 1] for i in range(0, len(table), 2)]
        return table[0], np.zeros(table[0].shape, np.int64)
    while len(table) > 2:
        table = [_pair(table[i], table[i + 1]) for i in range(0, len(table), 2)]
    uppers, first = np.unique(upper, return_index=True)  # the codebooks are sorted by their upper halves
    inner = table[0][..., lower, :]
    least = np.minimum.reduceat(inner, first, axis=-2)
    total = table[1][..., uppers, :] + least
    best = total.argmin(axis=-2)
    found = np.take_along_axis(total, best[..., None, :], -2)[..., 0, :]
    same = (inner == np.take_along_axis(least, best[..., None, :], -2)) & (upper[:, None] == uppers[best][..., None, :])
    return found, same.argmax(axis=-2)


@dataclass(frozen=True)
class Chosen:
    """What stands in the file, for n superblocks: d, l (n, blocks), vectors (n, 256 / size), negative (n, 256) bools,
    shifts (n, 256 / size): 1 where IQ1's eighth is subtracted."""

    d: npt.NDArray[np.float16]
    scales: Ints
    vectors: Ints
    negative: npt.NDArray[np.bool_]
    shifts: Ints


def _block_costs(fmt: GridFormat, x: F32, w: F32, s: F32, free: bool = False) -> tuple[F32, Ints, Ints]:
    """Quant blocks for eight scales: x, w (n, blocks, groups, size), s (n, blocks, 8) -> their cost (n, blocks, 8), and
    vectors and shift bits (n, blocks, groups, 8)."""
    tried = [search(fmt, fmt.values(k), x, w, s[:, :, None, :], free) for k in ((1, -1) if fmt.shifts else (0,))]
    cost, vectors = (np.stack(part) for part in zip(*tried, strict=True))  # (shifts, n, blocks, groups, 8)
    blocks = np.zeros((len(cost), *cost.shape[1:3], 8), np.float32)
    if fmt.shifts == "vector":
        shift = cost.argmin(axis=0)
        cost = cost.min(axis=0, keepdims=True)
        blocks = blocks[:1]
    for g in range(cost.shape[3]):
        blocks = blocks + cost[:, :, :, g]
    if fmt.shifts != "vector":
        shift = np.broadcast_to(blocks.argmin(axis=0)[:, :, None, :], cost.shape[1:])
    return blocks.min(axis=0), np.take_along_axis(vectors, shift[None], 0)[0], shift


def choose(fmt: GridFormat, x: F32, importance: F32 | None) -> Chosen:
    """x (n, 256), importance the same or None."""
    n = len(x)
    w = weights(x, importance)
    negative, xs = x < 0, np.abs(x)
    if fmt.shifts:
        negative, xs = np.zeros_like(negative), x
    if fmt.parity:
        odd = negative.reshape(n, 32, 8).sum(axis=2) % 2 == 1
        cheapest = (w * xs).reshape(n, 32, 8).argmin(axis=2)
        flip = ((np.arange(8) == cheapest[..., None]) & odd[..., None]).reshape(n, 256)
        negative, xs = negative ^ flip, np.where(flip, -xs, xs)
    by = (n, 256 // fmt.block, fmt.block)
    top = np.abs(x).reshape(by).max(axis=2) / np.abs(np.stack([fmt.values(1), fmt.values(-1)])).max()
    mean = np.sqrt(sum8((w * xs * xs).reshape(by)) / np.maximum(sum8(w.reshape(by)), np.float32(2.0**-126)))
    s = top[..., None] * np.array(fmt.by_top, np.float32) + mean[..., None] * np.array(fmt.by_mean, np.float32)
    groups = (n, 256 // fmt.block, fmt.block // fmt.size, fmt.size)
    xg, wg = xs.reshape(groups), w.reshape(groups)
    cost = _block_costs(fmt, xg, wg, s, free=bool(fmt.shifts))[0]
    s = np.take_along_axis(s, cost.argmin(axis=2)[..., None], 2)[..., 0]

    live = np.abs(x).max(axis=1) >= TINY
    u = np.where(live, s.max(axis=1) / np.float32(2 * fmt.levels - 1), np.float32(1))
    start = np.clip((s / u[:, None] * np.float32(0.5)).astype(np.int64) - 4, 0, fmt.levels - 8)
    scales = start[..., None] + np.arange(8)
    odd_scales = (2 * scales + 1).astype(np.float32)
    cost, vectors, shifts = _block_costs(fmt, xg, wg, u[:, None, None] * odd_scales)
    lane = cost.argmin(axis=2)[..., None]
    at = lane[..., None]
    vectors, shifts = (np.take_along_axis(a, at, 3)[..., 0] for a in (vectors, shifts))
    scales = np.take_along_axis(scales, lane, 2)
    odd_scales = np.take_along_axis(odd_scales, lane, 2)

    m = codebook(fmt.grid)[vectors].astype(np.float32)
    if fmt.shifts:
        m = m * np.float32(8) + (1 - 2 * shifts[..., None]).astype(np.float32)
    q = (m * odd_scales[..., None]).reshape(n, 256)
    wq = w * q
    with np.errstate(invalid="ignore"):
        d = np.where(live, sum8(wq * xs) / sum8(wq * q) / np.float32(fmt.unit), np.float32(0)).astype(np.float16)
    keep = live[:, None]
    flat = (n, 256 // fmt.size)
    return Chosen(
        d,
        scales[..., 0] * keep,
        vectors.reshape(flat) * keep,
        negative & keep,
        shifts.reshape(flat) * keep,
    )


# ---- bytes ---------------------------------------------------------------------------------------------------------


def _bytes(a: Ints, dtype: str = "u1") -> U8:
    return np.ascontiguousarray(a.astype(dtype)).view(np.uint8).reshape(len(a), -1)


def _signs(c: Chosen) -> Ints:
    """A byte for each 8 values, (n, 32)."""
    return np.packbits(c.negative.reshape(-1, 32, 8), axis=2, bitorder="little")[..., 0].astype(np.int64)


def _word(c: Chosen) -> Ints:
    """Of each 32 values: four times seven signs and the scale, (n, 8)."""
    seven = (_signs(c) & 127).reshape(-1, 8, 4) << np.array([0, 7, 14, 21])
    words: Ints = seven.sum(axis=2) | c.scales << 28
    return words


def _iq3_xxs(c: Chosen) -> list[U8]:
    return [_bytes(c.vectors), _bytes(_word(c), "<u4")]


def _iq3_s(c: Chosen) -> list[U8]:
    return [_bytes(c.vectors & 255), fold(c.vectors >> 8, 1, 1), _bytes(_signs(c)), fold(c.scales, 1, 4)]


def _iq2_xxs(c: Chosen) -> list[U8]:
    vectors = (c.vectors.reshape(-1, 8, 4) << np.array([0, 8, 16, 24])).sum(axis=2)
    return [_bytes(np.stack([vectors, _word(c)], axis=2), "<u4")]


def _iq2_xs(c: Chosen) -> list[U8]:
    return [_bytes(c.vectors | (_signs(c) & 127) << 9, "<u2"), fold(c.scales, 1, 4)]


def _iq2_s(c: Chosen) -> list[U8]:
    return [_bytes(c.vectors & 255), _bytes(_signs(c)), fold(c.vectors >> 8, 1, 2), fold(c.scales, 1, 4)]


def _iq1_s(c: Chosen) -> list[U8]:
    upper = ((c.vectors >> 8).reshape(-1, 8, 4) << np.array([0, 3, 6, 9])).sum(axis=2)
    return [_bytes(c.vectors & 255), _bytes(upper | c.scales << 12 | c.shifts[:, ::4] << 15, "<u2")]


def _iq1_m(c: Chosen) -> list[U8]:
    words = (c.scales.reshape(-1, 4, 4) << np.array([0, 3, 6, 9])).sum(axis=2)
    d = c.d.view(np.uint16).astype(np.int64)[:, None] >> np.array([0, 4, 8, 12]) & 15
    return [_bytes(c.vectors & 255), fold(c.vectors >> 8 | c.shifts << 3, 1, 4), _bytes(words | d << 12, "<u2")]


_NEAR_TOP = (0.5, 0.6625, 0.825, 0.9875, 1.15, 0, 0, 0)
_TRITS = ((0.3, 0.53, 0.77, 1, 0, 0, 0, 0), (0, 0, 0, 0, 0.096, 0.139, 0.181, 0.224))
FORMATS: dict[str, GridFormat] = {
    "IQ1_S": GridFormat("IQ1", 32, 8, 0.125, False, *_TRITS, "block"),
    "IQ1_M": GridFormat("IQ1", 16, 8, 0.125, False, *_TRITS, "vector"),
    "IQ2_XXS": GridFormat("IQ2_XXS", 32, 16, 0.125, True, _NEAR_TOP, (0, 0, 0, 0, 0, 0.0346, 0.0519, 0.0692)),
    "IQ2_XS": GridFormat("IQ2_XS", 16, 16, 0.125, True, _NEAR_TOP, (0, 0, 0, 0, 0, 0.033, 0.0495, 0.066)),
    "IQ2_S": GridFormat("IQ2_S", 16, 16, 0.125, False, _NEAR_TOP, (0, 0, 0, 0, 0, 0.033, 0.0495, 0.066)),
    "IQ3_XXS": GridFormat("IQ3_XXS", 32, 16, 0.25, True, _NEAR_TOP, (0, 0, 0, 0, 0, 0.0259, 0.0389, 0.0519)),
    "IQ3_S": GridFormat("IQ3_S", 32, 16, 1.0, False, _NEAR_TOP, (0, 0, 0, 0, 0, 0.105, 0.158, 0.211)),
}
_PACK: dict[str, Callable[[Chosen], list[U8]]] = {
    "IQ1_S": _iq1_s,
    "IQ1_M": _iq1_m,
    "IQ2_XXS": _iq2_xxs,
    "IQ2_XS": _iq2_xs,
    "IQ2_S": _iq2_s,
    "IQ3_XXS": _iq3_xxs,
    "IQ3_S": _iq3_s,
}
NEED_IMPORTANCE = ("IQ1_S", "IQ2_XXS", "IQ2_XS")  # as in llama.cpp: without it a model made of these is of no use


def _quantizer(name: str) -> Callable[[F32, F32 | None], U8]:
    def quantize(x: F32, importance: F32 | None) -> U8:
        if importance is None and name in NEED_IMPORTANCE:
            raise InvalidArgument(
                f"{name} needs importance: with 2 bits a value, errors must go where they do least harm"
            )
        chosen = choose(FORMATS[name], x.reshape(-1, 256), None if importance is None else importance.reshape(-1, 256))
        parts = _PACK[name](chosen)
        if name != "IQ1_M":  # which keeps d among its scales
            parts = [chosen.d.astype("<f2").reshape(-1, 1).view(np.uint8), *parts]
        return np.concatenate(parts, axis=1)

    return quantize


QUANTIZE: dict[str, Callable[[F32, F32 | None], U8]] = {name: _quantizer(name) for name in FORMATS}
