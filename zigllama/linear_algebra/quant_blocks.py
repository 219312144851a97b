"""What unpackers of quant blocks share: the form blocks are taken apart into; bytes as halves and as nibbles.

What it is not: it knows no format. quantization.py has those of 32 values, k_quantization.py the superblocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zigllama.foundation.runtime import F32

U8 = npt.NDArray[np.uint8]
I32 = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Unpacked:
    """Quant blocks of 32 values, taken apart.   value = A * (u - zero) - B, A once per 16 or 32 values.

    codes (n, 32) int32, zero an integer, scales (n, groups) float32 with groups 1 or 2, minimums (n,) float32 or None
    """

    codes: I32
    zero: int
    scales: F32
    minimums: F32 | None = None


def halves(raw: U8) -> F32:
    """Pairs of bytes (n, 2k) as half floats, widened (n, k)."""
    pairs: npt.NDArray[np.float16] = np.ascontiguousarray(raw).view(np.float16)
    return pairs.astype(np.float32)


def nibbles(raw: U8) -> I32:
    """Bytes (n, b) -> (n, 2b): the low halves, then the high halves."""
    return np.concatenate([raw & 15, raw >> 4], axis=1).astype(np.int32)
