"""K-quants: superblocks of 256 values, whose block scales are themselves quantised (Kawrakow, llama.cpp, 2023).

    Q2_K    84 bytes   16 x (sc, mn) nibbles | 64 bytes of pairs | d f16 | dmin f16               16 groups of 16
    Q3_K   110 bytes   32 third bits | 64 bytes of pairs | 12 bytes of scales | d f16            16 groups of 16
    Q4_K   144 bytes   d f16 | dmin f16 | 12 bytes of scales | 128 bytes of nibbles               8 blocks of 32
    Q5_K   176 bytes   d f16 | dmin f16 | 12 bytes of scales | 32 fifth bits x 8 | 128            8 blocks of 32
    Q6_K   210 bytes   128 low nibbles | 64 upper bit pairs | 16 int8 scales | d f16             16 groups of 16
    Q8_K   292 bytes   d f32 | 256 int8 | 16 int16: sums of 16 codes           of activations: no file has it

    Q2_K, Q4_K, Q5_K   value = (d * sc) * u - (dmin * mn)     sc, mn of 4 or 6 bits
    Q3_K               value = (d * sc) * (u - 4)             sc of 6 bits, -32..31
    Q6_K               value = (d * sc) * (u - 32)            sc of 8 bits, signed
    Q8_K               value = d * u

Where the codes are. A byte with two nibbles, four pairs or eight bits holds that many values, a run apart: byte j of
the pairs holds the values j, j + 32, j + 64, j + 96 of its 128; bit i of third or fifth byte j belongs to value
32 i + j; of the nibbles of Q4_K and Q5_K byte j of each 32 holds value j of one block and of the next, of Q6_K byte j
of each 64 the values j and j + 64.

The twelve scale bytes of Q4_K and Q5_K hold eight 6-bit scales and eight 6-bit minimums:

    byte 0..3    low 6 bits: sc 0..3     upper 2 bits: the upper bits of sc 4..7
    byte 4..7    low 6 bits: mn 0..3     upper 2 bits: the upper bits of mn 4..7
    byte 8..11   low 4 bits: sc 4..7     upper 4 bits: mn 4..7 (their low four bits both)

Those of Q3_K hold sixteen 6-bit scales, 32 more than they mean:

    byte 0..7    low nibble: the low bits of sc 0..7     high nibble: of sc 8..15
    byte 8..11   bits 2g and 2g + 1 of byte 8 + j: the upper bits of sc 4 g + j
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from zigllama.linear_algebra.quant_blocks import U8, Unpacked, blocks, fields, halves, superblocks


def packed_scales(raw: U8) -> tuple[U8, U8]:
    """The twelve bytes of Q4_K and Q5_K (n, 12) -> scales and minimums (n, 8), numbers 0..63."""
    a, b, c = raw[:, 0:4], raw[:, 4:8], raw[:, 8:12]
    sc = np.concatenate([a & 63, (c & 15) | (a >> 6 << 4)], axis=1)
    mn = np.concatenate([b & 63, (c >> 4) | (b >> 6 << 4)], axis=1)
    return sc, mn


def _q2_k(b: U8) -> Unpacked:
    d = halves(b[:, 80:84])
    return superblocks(fields(b[:, 16:80], 32, 2), 0, d[:, :1], b[:, :16] & 15, d[:, 1:], b[:, :16] >> 4)


def _q3_k(b: U8) -> Unpacked:
    codes = fields(b[:, 32:96], 32, 2) | fields(b[:, :32], 32, 1) << 2
    scales = fields(b[:, 96:104], 8, 4) | fields(b[:, 104:108], 4, 2) << 4
    return superblocks(codes, 4, halves(b[:, 108:]), scales.astype(np.int32) - 32)


def _scaled(b: U8, codes: npt.NDArray[Any]) -> Unpacked:
    """Blocks of Q4_K and Q5_K: codes with the scales of bytes 0..15."""
    sc, mn = packed_scales(b[:, 4:16])
    d = halves(b[:, :4])
    return superblocks(codes, 0, d[:, :1], sc, d[:, 1:], mn)


def _q4_k(b: U8) -> Unpacked:
    return _scaled(b, fields(b[:, 16:], 32, 4))


def _q5_k(b: U8) -> Unpacked:
    return _scaled(b, fields(b[:, 48:], 32, 4) | fields(b[:, 16:48], 32, 1) << 4)


def _q6_k(b: U8) -> Unpacked:
    codes = fields(b[:, :128], 64, 4) | fields(b[:, 128:192], 32, 2) << 4
    return superblocks(codes, 32, halves(b[:, 208:]), b[:, 192:208].view(np.int8))


def _q8_k(b: U8) -> Unpacked:
    d = np.ascontiguousarray(b[:, :4]).view(np.float32)
    return Unpacked(blocks(b[:, 4:260].view(np.int8)), 0, np.repeat(d, 8, axis=0))


UNPACK: dict[str, Callable[[U8], Unpacked]] = {
    "Q2_K": _q2_k,
    "Q3_K": _q3_k,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
    "Q8_K": _q8_k,
}
