"""What the quantisers' twins share: the arithmetic of blocks side by side, step for step as the C kernels do it.

A twin holds the blocks as columns, (values of a block, blocks), float32, where C has them in the lanes of vectors.
Sums go in ascending order of a block's values, nothing is fused, and every operation rounds to float32: so C and NumPy
choose the same codes and scales, bit for bit. What this file is not: it knows no format.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from zigllama.foundation.runtime import F32

U8 = npt.NDArray[np.uint8]


def columns(x: F32, n: int) -> F32:
    """Values in order -> blocks of n as columns, (n, blocks)."""
    return np.ascontiguousarray(x.reshape(-1, n).T)


def total(terms: Any) -> F32:
    """Sums over the values of each block, in ascending order.   (n, blocks) -> (blocks,)"""
    return np.add.accumulate(terms, axis=0, dtype=np.float32)[-1] + np.float32(0)  # type: ignore[no-any-return]


def lesser(a: Any, b: Any) -> Any:
    """The smaller; b where they are equal, so that the sign of a zero is defined."""
    return np.where(a < b, a, b).astype(np.float32)


def greater(a: Any, b: Any) -> Any:
    """The larger; b where they are equal."""
    return np.where(a > b, a, b).astype(np.float32)


def largest(v: F32) -> F32:
    """The largest |value| of each block.   (n, blocks) -> (blocks,)"""
    amax = np.zeros(v.shape[1], np.float32)
    for row in v:
        amax = greater(np.abs(row), amax)
    return amax


def inverse(d: F32) -> F32:
    """1 / d, or 0 where d is so small that this would not be finite."""
    normal = np.abs(d) >= np.float32(2.0**-126)
    return np.where(normal, np.float32(1) / np.where(normal, d, np.float32(1)), np.float32(0)).astype(np.float32)


def round_away(v: F32) -> F32:
    """The nearest integers, halves away from 0."""
    a = np.abs(v)
    whole = np.trunc(a)
    r = whole + np.trunc((a - whole) * np.float32(2))
    return np.where(v < 0, -r, r).astype(np.float32)


def to_half(v: F32) -> F32:
    """Rounded to half precision."""
    return v.astype(np.float16).astype(np.float32)


def half_bytes(v: F32) -> U8:
    """Numbers (blocks,) as half floats, (blocks, 2) bytes."""
    return v.astype("<f2").reshape(-1, 1).view(np.uint8)


def fold(codes: npt.NDArray[np.integer], run: int, bits: int) -> U8:
    """Codes in the order of their values (blocks, n) -> bytes (blocks, n bits / 8): the reverse of quant_blocks.fields.

    Byte j of a run of `run` bytes has in its lowest `bits` bits code j, in the next code j + run, and so on.
    """
    per = 8 // bits
    pieces = codes.reshape(len(codes), -1, per, run).astype(np.uint8) << np.arange(0, 8, bits, dtype=np.uint8)[:, None]
    folded: U8 = np.bitwise_or.reduce(pieces, axis=2)
    return folded.reshape(len(codes), -1)
