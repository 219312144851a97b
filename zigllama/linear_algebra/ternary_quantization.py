"""Formats of one or two bits without a codebook: ternary, binary, and two plain bits.

    TQ1_0   54 bytes   48 bytes of five trits | 4 bytes of four trits | d f16       superblocks of 256
    TQ2_0   66 bytes   64 bytes of pairs | d f16                                   superblocks of 256
    Q1_0    18 bytes   d f16 | 16 bytes of bits                                    blocks of 128
    Q2_0    18 bytes   d f16 | 16 bytes of pairs                                   blocks of 64

    TQ1_0   value = d * (trit - 1)        TQ2_0, Q2_0   value = d * (u - 1)        Q1_0   value = bit ? d : -d

The pairs of TQ2_0 lie a run apart: byte j of each 32 holds the values j, j + 32, j + 64, j + 96 of its 128. Those of
Q2_0 and the bits of Q1_0 are in order, the lowest bits first.

A byte of TQ1_0 stands for a fraction: with t = t0 81 + t1 27 + t2 9 + t3 3 + t4 it is ceil(256 t / 243), so that trit n
is the integer part of 3 (byte 3^n mod 256) / 256. The trits of a byte lie a run apart too: of bytes 0..31 the values j,
j + 32 .. j + 128 of the first 160; of bytes 32..47 those of the next 80, 16 apart; of bytes 48..51 the last 16, 4
apart.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from zigllama.linear_algebra.quant_blocks import U8, Unpacked, blocks, fields, halves

POWERS = np.array([1, 3, 9, 27, 81], np.uint8)[:, None]


def _trits(raw: U8, n: int) -> U8:
    """Runs of bytes (blocks, run) -> n trits of each, (blocks, n * run)."""
    fraction: U8 = raw[:, None, :] * POWERS[:n]  # modulo 256: what stands before the point is gone
    return (fraction.astype(np.uint16) * 3 >> 8).astype(np.uint8).reshape(len(raw), -1)


def _tq1_0(b: U8) -> Unpacked:
    codes = np.concatenate([_trits(b[:, :32], 5), _trits(b[:, 32:48], 5), _trits(b[:, 48:52], 4)], axis=1)
    return Unpacked(blocks(codes), 1, np.repeat(halves(b[:, 52:]), 8, axis=0))


def _tq2_0(b: U8) -> Unpacked:
    return Unpacked(blocks(fields(b[:, :64], 32, 2)), 1, np.repeat(halves(b[:, 64:]), 8, axis=0))


def _q1_0(b: U8) -> Unpacked:
    return Unpacked(2 * blocks(fields(b[:, 2:], 1, 1)), 1, np.repeat(halves(b[:, :2]), 4, axis=0))


def _q2_0(b: U8) -> Unpacked:
    return Unpacked(blocks(fields(b[:, 2:], 1, 2)), 1, np.repeat(halves(b[:, :2]), 2, axis=0))


UNPACK: dict[str, Callable[[U8], Unpacked]] = {"TQ1_0": _tq1_0, "TQ2_0": _tq2_0, "Q1_0": _q1_0, "Q2_0": _q2_0}
