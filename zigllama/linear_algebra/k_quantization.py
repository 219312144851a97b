"""K-quants: superblocks of 256 values, whose block scales are themselves quantised (Kawrakow, llama.cpp, 2023).

    Q4_K   144 bytes   d f16 | dmin f16 | 12 bytes of scales | 128 bytes of nibbles         8 blocks of 32
    Q5_K   176 bytes   d f16 | dmin f16 | 12 bytes of scales | 32 fifth bits x 8 | 128      8 blocks of 32
    Q6_K   210 bytes   128 low nibbles | 64 upper bit pairs | 16 int8 scales | d f16        16 groups of 16

    Q4_K, Q5_K   value = (d * sc) * u - (dmin * mn)     sc, mn of 6 bits per block
    Q6_K         value = (d * sc) * (u - 32)            sc signed, per group of 16

The twelve scale bytes of Q4_K and Q5_K hold eight 6-bit scales and eight 6-bit minimums:

    byte 0..3    low 6 bits: sc 0..3     upper 2 bits: the upper bits of sc 4..7
    byte 4..7    low 6 bits: mn 0..3     upper 2 bits: the upper bits of mn 4..7
    byte 8..11   low 4 bits: sc 4..7     upper 4 bits: mn 4..7 (their low four bits both)
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from zigllama.foundation.runtime import F32
from zigllama.linear_algebra.quant_blocks import I32, U8, Unpacked, halves


def packed_scales(raw: U8) -> tuple[F32, F32]:
    """The twelve bytes (n, 12) -> scales and minimums (n, 8), as numbers 0..63."""
    a, b, c = raw[:, 0:4], raw[:, 4:8], raw[:, 8:12]
    sc = np.concatenate([a & 63, (c & 15) | (a >> 6 << 4)], axis=1)
    mn = np.concatenate([b & 63, (c >> 4) | (b >> 6 << 4)], axis=1)
    return sc.astype(np.float32), mn.astype(np.float32)


def _four_bits(raw: U8) -> I32:
    """128 bytes -> (n, 8, 32): byte j of each 32 holds value j of one block (low half) and of the next (high half)."""
    r = raw.reshape(-1, 4, 1, 32)
    return np.concatenate([r & 15, r >> 4], axis=2).reshape(-1, 8, 32).astype(np.int32)


def _scaled(b: U8, codes: I32) -> Unpacked:
    """Blocks of Q4_K and Q5_K: codes (n, 8, 32) with the scales of bytes 0..15."""
    sc, mn = packed_scales(b[:, 4:16])
    d = halves(b[:, :4])
    return Unpacked(codes.reshape(-1, 32), 0, (d[:, :1] * sc).reshape(-1, 1), (d[:, 1:] * mn).reshape(-1))


def _q4_k(b: U8) -> Unpacked:
    return _scaled(b, _four_bits(b[:, 16:]))


def _q5_k(b: U8) -> Unpacked:
    high = b[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[:, None] & 1  # bit i of byte j: value j of block i
    return _scaled(b, _four_bits(b[:, 48:]) | high.astype(np.int32) << 4)


def _q6_k(b: U8) -> Unpacked:
    low, high = b[:, :128].reshape(-1, 2, 64), b[:, 128:192].reshape(-1, 2, 1, 32)
    nibble = np.stack([low & 15, low >> 4], axis=2).reshape(-1, 2, 4, 32)  # per 128 values: four runs of 32
    pair = high >> np.array([0, 2, 4, 6], np.uint8)[:, None] & 3
    codes = (nibble | pair << 4).astype(np.int32).reshape(-1, 32)
    scales = halves(b[:, 208:210]) * b[:, 192:208].view(np.int8).astype(np.float32)
    return Unpacked(codes, 32, scales.reshape(-1, 2))


UNPACK: dict[str, Callable[[U8], Unpacked]] = {"Q4_K": _q4_k, "Q5_K": _q5_k, "Q6_K": _q6_k}
