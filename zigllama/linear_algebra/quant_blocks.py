"""What unpackers of quant blocks share: the form blocks are taken apart into; bytes as halves, bit fields and signs.

What it is not: it knows no format. quantization.py has those of 32 values, k_quantization.py, iq_quantization.py,
ternary_quantization.py and fp4_quantization.py the others.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zigllama.foundation.runtime import F32

U8 = npt.NDArray[np.uint8]
I32 = npt.NDArray[np.int32]


class Superblocks(NamedTuple):
    """What superblocks of 256 values store for A and B: a float, times an integer for each group of 16 or 32 values.

    d     (n, 1) float32            A = d * sc
    sc    (n, 8 or 16) int32        in the order of their values
    dmin  (n, 1) float32            B = dmin * mn; both None where a format has no minimums
    mn    (n, 8 or 16) int32
    """

    d: F32
    sc: I32
    dmin: F32 | None = None
    mn: I32 | None = None


class Unpacked(NamedTuple):
    """Quant blocks of 32 values, taken apart.   value = A * (u - zero) - B, A and B once per 16 or 32 values.

    codes     (n, 32) int32: u
    zero      an integer
    scales    (n, groups) float32, groups 1 or 2: A of all 32 values, or of each half
    minimums  (n, groups) float32: B; None where a format has none
    parts     what A and B were made of, one row per 8 of these blocks; None where a format has no integer scales

    Every quantised format of GGML has this form, superblocks too: they are several such blocks. Their products are of
    `parts` where there are any.
    """

    codes: I32
    zero: int
    scales: F32
    minimums: F32 | None = None
    parts: Superblocks | None = None

    def values(self) -> F32:
        """What the blocks are worth, (n, 32) float32: a product and, where there are minimums, a sum, each rounded."""
        with np.errstate(invalid="ignore", over="ignore", under="ignore"):
            values = spread(self.scales) * (self.codes - self.zero).astype(np.float32)
            return values if self.minimums is None else values - spread(self.minimums)


def spread(groups: F32) -> F32:
    """Numbers of a block's groups (n, 1 or 2) -> one per value (n, 32)."""
    return np.repeat(groups, 32 // groups.shape[1], axis=1)


def per_block(scales: F32, groups: int = 1) -> F32:
    """Scales of superblocks (n, m), in the order of their values -> (n * m / groups, groups), one row per 32 values."""
    return scales.reshape(-1, groups)


def superblocks(
    codes: npt.NDArray[np.integer],
    zero: int,
    d: F32,
    sc: npt.NDArray[np.integer],
    dmin: F32 | None = None,
    mn: npt.NDArray[np.integer] | None = None,
) -> Unpacked:
    """Superblocks by their codes in the order of their values, any shape, and their scales as `Superblocks` has them.

    A = d * sc and B = dmin * mn are exact: a half float has 11 bits, an integer at most 8.
    """
    parts = Superblocks(d, sc.astype(np.int32), dmin, None if mn is None else mn.astype(np.int32))
    minimums = None
    if dmin is not None and mn is not None:
        minimums = per_block(dmin * mn.astype(np.float32), mn.shape[1] // 8)
    return Unpacked(blocks(codes), zero, per_block(d * sc.astype(np.float32), sc.shape[1] // 8), minimums, parts)


def blocks(codes: npt.NDArray[np.integer]) -> I32:
    """Codes in the order of their values, any shape -> (n, 32)."""
    return codes.reshape(-1, 32).astype(np.int32)


def halves(raw: U8) -> F32:
    """Pairs of bytes (n, 2k) as half floats, widened (n, k)."""
    pairs: npt.NDArray[np.float16] = np.ascontiguousarray(raw).view(np.float16)
    return pairs.astype(np.float32)


def words(raw: U8, dtype: npt.DTypeLike) -> npt.NDArray[np.int64]:
    """Bytes (n, b) as little-endian unsigned integers of that type, widened (n, b / size)."""
    return np.ascontiguousarray(raw).view(dtype).astype(np.int64)


def fields(raw: U8, run: int, bits: int) -> U8:
    """Bit fields of bytes: (n, b) -> (n, 8 b / bits), in the order of their values.

    Of each run of `run` bytes the lowest fields come first, then the next higher ones: byte j of a run of 16 holds, 4
    bits each, the values j and j + 16.
    """
    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:, None]
    pieces: U8 = raw.reshape(len(raw), raw.shape[1] // run, 1, run) >> shifts & np.uint8((1 << bits) - 1)
    return pieces.reshape(len(raw), raw.shape[1] * 8 // bits)


def signed(magnitudes: npt.NDArray[np.int8], signs: npt.NDArray[np.integer]) -> npt.NDArray[np.int32]:
    """Vectors of magnitudes (..., k) -> the same, negative where bits say so: `signs` one byte per 8 values."""
    negative = np.unpackbits(np.ascontiguousarray(signs, np.uint8).reshape(-1, 1), axis=1, bitorder="little")
    return magnitudes.astype(np.int32).reshape(-1, 8) * (1 - 2 * negative.astype(np.int32))
