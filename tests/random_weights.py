"""Seeded random weights in every format: the same bytes on every machine and with every NumPy.

Only the raw 64-bit stream of PCG64 is used, which NumPy promises never to change (its distributions it does not), and
only exact arithmetic on it.  Quant blocks are not quantised from anything: codes are random, scales are chosen so
that weights have roughly the standard deviation asked for, signs and minimums included.  Any bytes are a valid block,
these are also a sensible one.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
BLOCK = {"Q4_0": 32, "Q4_1": 32, "Q5_0": 32, "Q8_0": 32, "Q4_K": 256, "Q6_K": 256}  # values per quant block


class Stream:
    """Random numbers that depend on a name alone, so that adding a tensor changes no other."""

    def __init__(self, name: str) -> None:
        self.bits = np.random.PCG64(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little"))

    def bytes(self, *shape: int) -> Bytes:
        """Uniform bytes."""
        count = int(np.prod(shape))
        words = np.asarray(self.bits.random_raw(-(-count // 8)), "<u8")
        return words.view(np.uint8)[:count].reshape(shape)

    def uniform(self, low: float, high: float, *shape: int) -> npt.NDArray[np.float64]:
        """Uniform float64 in [low, high), multiples of 2^-32 of the range."""
        count = int(np.prod(shape))
        words = np.asarray(self.bits.random_raw(count), np.uint64) >> np.uint64(32)
        return (low + (high - low) * (words.astype(np.float64) / 2.0**32)).reshape(shape)

    def near(self, value: float, *shape: int) -> npt.NDArray[np.float64]:
        """Within a quarter of a value, up or down."""
        return self.uniform(0.75 * value, 1.25 * value, *shape)

    def signed(self, value: float, *shape: int) -> npt.NDArray[np.float64]:
        """Within a quarter of a value, of either sign."""
        return self.near(value, *shape) * np.where(self.bytes(*shape) & 1, 1.0, -1.0)


def f16(x: npt.NDArray[np.float64]) -> Bytes:
    """One f16 per row, as two bytes.   (N,) -> (N, 2)"""
    return x.astype("<f2").reshape(-1, 1).view(np.uint8)


def blocks(s: Stream, kind: str, n: int, std: float) -> Bytes:
    """n quant blocks of a type.   -> (n, bytes per block)

    4-bit codes have deviation 4.6, 5-bit 9.2, 6-bit 18.5, 8-bit 74 when uniform; dividing std by these gives the scale.
    """
    if kind == "Q4_0":
        return np.hstack([f16(s.signed(std / 4.6, n)), s.bytes(n, 16)])
    if kind == "Q4_1":  # the minimum sits near -7.5 scales, the codes' middle
        d = s.near(std / 4.6, n)
        return np.hstack([f16(d), f16(-7.5 * d * s.uniform(0.9, 1.1, n)), s.bytes(n, 16)])
    if kind == "Q5_0":
        return np.hstack([f16(s.signed(std / 9.2, n)), s.bytes(n, 20)])
    if kind == "Q8_0":
        codes = s.bytes(n, 32)
        codes[codes == 128] = 0  # -128 is no code that a quantiser writes
        return np.hstack([f16(s.signed(std / 74, n)), codes])
    if kind == "Q4_K":  # eight six-bit scales and minimums, all random: d * sc * u - 7.5 * d * m has deviation 255 d
        return np.hstack([f16(s.near(std / 255, n)), f16(s.near(7.5 * std / 255, n)), s.bytes(n, 12), s.bytes(n, 128)])
    if kind == "Q6_K":  # 16 signed scales between 16 and 47 in size
        scales = ((s.bytes(n, 16) & 31) + 16).astype(np.int8) * np.where(s.bytes(n, 16) & 1, 1, -1).astype(np.int8)
        return np.hstack([s.bytes(n, 192), scales.view(np.uint8), f16(s.near(std / 18.5 / 32, n))])
    raise ValueError(f"no random blocks for {kind}")


def tensor(name: str, kind: str, shape: tuple[int, ...], std: float, mean: float = 0.0) -> Bytes:
    """File bytes of a tensor whose values have about this standard deviation.   shape: slowest axis first"""
    s = Stream(name)
    if kind in BLOCK:
        return blocks(s, kind, int(np.prod(shape)) // BLOCK[kind], std)
    width = std * 3.0**0.5
    x = s.uniform(mean - width, mean + width, *shape).astype("<f4")
    if kind == "F32":
        return x.view(np.uint8)
    if kind == "F16":
        return x.astype("<f2").view(np.uint8)
    if kind == "BF16":  # the upper half of the f32: truncation is as good as rounding for a random weight
        return np.ascontiguousarray(x.view("<u2")[..., 1::2]).view(np.uint8)
    raise ValueError(f"no random tensor of type {kind}")
