"""Formats whose codes are 4-bit floats (E2M1: a sign, two bits of exponent, one of mantissa).

    MXFP4   17 bytes   e u8 | 16 bytes of nibbles         blocks of 32: value = 2^(e - 127) * x
    NVFP4   36 bytes   4 x d u8 | 32 bytes of nibbles     blocks of 64: value = d * x, d once per 16 values

    code    0   1    2   3    4   5   6   7    8 .. 15
    x       0   0.5  1   1.5  2   3   4   6    the same, negative (8 is 0)

The nibbles of MXFP4: byte j holds the values j and j + 16; of NVFP4: byte j of each 8 holds j and j + 8 of 16. As
integers the codes are 2 x (FP4_VALUES), and half goes into the scale: 2^(e - 128). A scale d of NVFP4 is a float of
four bits of exponent and three of mantissa (E4M3 without a sign; the eighth bit is not read): m 2^-9 where the exponent
field e is 0, else (1 + m/8) 2^(e - 7). The byte 127, a NaN of E4M3, is read as 0, as GGML does.

Sources: Open Compute Project, Microscaling Formats (MX) v1.0, 2023; ggml.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from zigllama.foundation.runtime import F32
from zigllama.linear_algebra import codebooks
from zigllama.linear_algebra.quant_blocks import U8, Unpacked, blocks, fields, per_block

FP4_VALUES = np.array(codebooks.FP4_VALUES, np.int8)


def half_power(e: U8) -> F32:
    """2^(e - 128), subnormal for e of 0 and 1."""
    return np.ldexp(np.float32(1), e.astype(np.int32) - 128)


def half_e4m3(byte: U8) -> F32:
    """Half of an unsigned E4M3 float; 127 is 0."""
    e, m = (byte >> 3 & 15).astype(np.int32), (byte & 7).astype(np.float32)
    value = np.where(e == 0, np.ldexp(m, -10), np.ldexp(8 + m, e - 11))
    return np.where(byte == 127, np.float32(0), value)


def _mxfp4(b: U8) -> Unpacked:
    return Unpacked(blocks(FP4_VALUES[fields(b[:, 1:], 16, 4)]), 0, half_power(b[:, :1]))


def _nvfp4(b: U8) -> Unpacked:
    return Unpacked(blocks(FP4_VALUES[fields(b[:, 4:], 8, 4)]), 0, per_block(half_e4m3(b[:, :4]), 2))


UNPACK: dict[str, Callable[[U8], Unpacked]] = {"MXFP4": _mxfp4, "NVFP4": _nvfp4}
