"""IQ formats: a code is the number of a vector in a codebook, or of a level in a table (Kawrakow, llama.cpp, 2024).

    IQ4_NL    18 bytes   d f16 | 16 bytes of nibbles, each a level of IQ4_VALUES         blocks of 32
    IQ4_XS   136 bytes   d f16 | upper scale bits u16 | 4 bytes of scale nibbles | 128   superblocks, 8 blocks of 32
    IQ3_XXS   98 bytes   d f16 | 64 vectors u8 | 8 x u32: four 7-bit signs, scale 4 bits
    IQ3_S    110 bytes   d f16 | 64 vectors, low 8 bits | 8 bytes: their ninth bits | 32 signs | 4 bytes of scales
    IQ2_XXS   66 bytes   d f16 | 8 x (4 vectors u8 | u32: four 7-bit signs, scale 4 bits)
    IQ2_XS    74 bytes   d f16 | 32 x u16: vector 9 bits, signs 7 bits | 8 bytes of scales
    IQ2_S     82 bytes   d f16 | 32 vectors, low 8 bits | 32 signs | 8 bytes: upper pairs | 8 bytes of scales
    IQ1_S     50 bytes   d f16 | 32 vectors, low 8 bits | 8 x u16: four upper threes of bits, scale 3 bits, shift 1 bit
    IQ1_M     56 bytes   32 vectors, low 8 bits | 16 bytes: 2 x (upper 3 bits, shift 1 bit) | 4 x u16: scales, d

    IQ4_NL    value = d * level                          IQ2_*    value = d (sc + 1/2) / 4 * sign * magnitude
    IQ4_XS    value = d (sc - 32) * level                IQ1_*    value = d (2 sc + 1) * (trit +- 1/8)
    IQ3_XXS   value = d (sc + 1/2) / 2 * sign * magnitude
    IQ3_S     value = d (2 sc + 1) * sign * magnitude

A vector is 8 values of IQ1 and IQ2, 4 of IQ3. A scale sc covers 32 values, of IQ2_XS, IQ2_S and IQ1_M 16. Scale bytes
hold two nibbles, the first block's low. Signs: bit i of a byte, 1 for minus, belongs to value i of 8; seven bits stand
for eight with an even number of ones (SIGNS). The shift of IQ1 is the sign of 1/8, for 32 values (IQ1_S) or 8 (IQ1_M);
as integers, value = d (2 sc + 1) / 8 * (8 trit +- 1). IQ1_M has no room for d: the upper four bits of its four scale
words are the four nibbles of d, the lowest first; the words' other twelve bits are four scales.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from zigllama.linear_algebra import codebooks
from zigllama.linear_algebra.quant_blocks import U8, Unpacked, blocks, fields, halves, signed, superblocks, words

F32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.integer[Any]]
IQ4_VALUES = np.array(codebooks.IQ4_VALUES, np.int8)
SIGNS = np.array(codebooks.SIGNS, np.uint8)


@cache
def codebook(name: str) -> npt.NDArray[np.int8]:
    """The vectors of a codebook (IQ1, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S), int8 (n, 8) or (n, 4)."""
    levels = np.array(getattr(codebooks, f"{name}_LEVELS"), np.int8)
    numbers = np.array([int(word, 16) for word in getattr(codebooks, name).split()])[:, None]
    bits, size = (2, 8) if len(levels) < 8 else (3, 4)
    vectors: npt.NDArray[np.int8] = levels[numbers >> bits * np.arange(size) & (1 << bits) - 1]
    return vectors


def _odd(codes: Ints, d: F32, sc: Ints, factor: float) -> Unpacked:
    """Superblocks whose scales are d * factor * (2 sc + 1): halves become integers. factor is a power of two: exact."""
    return superblocks(codes, 0, d * np.float32(factor), 2 * sc.astype(np.int32) + 1)


def _iq4_nl(b: U8) -> Unpacked:
    return Unpacked(blocks(IQ4_VALUES[fields(b[:, 2:], 16, 4)]), 0, halves(b[:, :2]))


def _iq4_xs(b: U8) -> Unpacked:
    sc = fields(b[:, 4:8], 1, 4) | fields(b[:, 2:4], 1, 2) << 4
    return superblocks(IQ4_VALUES[fields(b[:, 8:], 16, 4)], 0, halves(b[:, :2]), sc.astype(np.int32) - 32)


def _iq3_xxs(b: U8) -> Unpacked:
    word = words(b[:, 66:], np.uint32)
    signs = SIGNS[word[:, :, None] >> np.array([0, 7, 14, 21]) & 127]
    codes = signed(codebook("IQ3_XXS")[b[:, 2:66]], signs)
    return _odd(codes, halves(b[:, :2]), word >> 28, 0.25)


def _iq3_s(b: U8) -> Unpacked:
    vectors = b[:, 2:66].astype(np.int32) | fields(b[:, 66:74], 1, 1).astype(np.int32) << 8
    codes = signed(codebook("IQ3_S")[vectors], b[:, 74:106])
    return _odd(codes, halves(b[:, :2]), fields(b[:, 106:], 1, 4), 1)


def _iq2_xxs(b: U8) -> Unpacked:
    pairs = words(b[:, 2:], np.uint32).reshape(len(b), 8, 2)
    vectors, word = pairs[:, :, :1] >> np.array([0, 8, 16, 24]) & 255, pairs[:, :, 1]
    signs = SIGNS[word[:, :, None] >> np.array([0, 7, 14, 21]) & 127]
    codes = signed(codebook("IQ2_XXS")[vectors], signs)
    return _odd(codes, halves(b[:, :2]), word >> 28, 0.125)


def _iq2_xs(b: U8) -> Unpacked:
    word = words(b[:, 2:66], np.uint16)
    codes = signed(codebook("IQ2_XS")[word & 511], SIGNS[word >> 9])
    return _odd(codes, halves(b[:, :2]), fields(b[:, 66:], 1, 4), 0.125)


def _iq2_s(b: U8) -> Unpacked:
    vectors = b[:, 2:34].astype(np.int32) | fields(b[:, 66:74], 1, 2).astype(np.int32) << 8
    codes = signed(codebook("IQ2_S")[vectors], b[:, 34:66])
    return _odd(codes, halves(b[:, :2]), fields(b[:, 74:], 1, 4), 0.125)


def _iq1(vectors: Ints, shift: Ints, d: F32, sc: Ints) -> Unpacked:
    """Vectors (n, 32) and their shift bits (n, 32 or fewer); d, and sc per 16 or 32 values."""
    shifts = np.repeat(1 - 2 * shift.astype(np.int32), vectors.shape[1] // shift.shape[1], axis=1)
    codes = 8 * codebook("IQ1")[vectors].astype(np.int32) + shifts[:, :, None]
    return _odd(codes, d, sc, 0.125)


def _iq1_s(b: U8) -> Unpacked:
    word = words(b[:, 34:], np.uint16)
    vectors = b[:, 2:34] | (word[:, :, None] >> np.array([0, 3, 6, 9]) & 7).reshape(len(b), 32) << 8
    return _iq1(vectors, word >> 15, halves(b[:, :2]), word >> 12 & 7)


def _iq1_m(b: U8) -> Unpacked:
    high, word = fields(b[:, 32:48], 1, 4), words(b[:, 48:], np.uint16)
    vectors = b[:, :32] | (high & 7).astype(np.int64) << 8
    d = ((word >> 12) << np.array([0, 4, 8, 12])).sum(axis=1, keepdims=True).astype(np.uint16).view(np.float16)
    sc = (word[:, :, None] >> np.array([0, 3, 6, 9]) & 7).reshape(len(b), 16)
    return _iq1(vectors, high >> 3, d.astype(np.float32), sc)


UNPACK: dict[str, Callable[[U8], Unpacked]] = {
    "IQ1_S": _iq1_s,
    "IQ1_M": _iq1_m,
    "IQ2_XXS": _iq2_xxs,
    "IQ2_XS": _iq2_xs,
    "IQ2_S": _iq2_s,
    "IQ3_XXS": _iq3_xxs,
    "IQ3_S": _iq3_s,
    "IQ4_NL": _iq4_nl,
    "IQ4_XS": _iq4_xs,
}
