"""Random weights written as blocks of a number format directly: no floats are made first and nothing is quantised.

Codes are raw random bits. Only the scales are chosen: within a quarter of what gives the values their standard
deviation, of either sign where the format allows it; minimums put zero in the middle of the codes. So the weights have
mean 0 and the deviation asked for, and every kernel has the work that real weights would give it: it depends on no
value.

    uniform codes of b bits have deviation sqrt((4^b - 1) / 12): 1.12, 4.61, 9.23, 18.47, 73.9 for 2, 4, 5, 6, 8 bits

A tensor's bytes depend on the seed and its name alone. They come in pieces of a few MB, as fast as memory takes them.
What this is not: small_models' weights (tests/random_weights.py), whose bytes must never change.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from zigllama.foundation.ggml_types import GGML_TYPES
from zigllama.linear_algebra.iq_quantization import IQ4_VALUES, codebook
from zigllama.linear_algebra.quantization import dequantize

U8 = npt.NDArray[np.uint8]
U16 = npt.NDArray[np.uint16]

PIECE = 1 << 22  # bytes, about
DEVIATION = {bits: float(((4.0**bits - 1) / 12) ** 0.5) for bits in (2, 4, 5, 6, 8)}
K_SCALE = float(np.sqrt(np.mean(np.arange(32, 64) ** 2.0)))  # K-quants' 6-bit scales here: 32 to 63, their rms
Q6_SCALE = float(np.sqrt(np.mean(np.arange(64, 128) ** 2.0)))  # Q6_K's int8 scales here: 64 to 127, either sign


def _halves(value: float, *, signed: bool) -> U16:
    """A table of 65,536 f16s as bits, within a quarter of `value`: random u16s index it. Odd ones are negative."""
    r = np.arange(65536)
    x = value * (0.75 + 0.5 * r / 65536)
    return (np.where(r & 1, -x, x) if signed else x).astype(np.float16).view(np.uint16)


def _replace(b: U8, at: int, *tables: U16) -> None:
    """The random u16 at byte `at` of each block becomes its entry of each table, one after the other."""
    index = np.ascontiguousarray(b[:, at : at + 2]).view(np.uint16)[:, 0]
    for i, table in enumerate(tables):
        b[:, at + 2 * i : at + 2 * i + 2] = table[index][:, None].view(np.uint8)


def _one_scale(bits: int, std: float) -> Callable[[U8], None]:
    """Q4_0, Q5_0, Q8_0: d f16, then codes around zero."""
    table = _halves(std / DEVIATION[bits], signed=True)
    return lambda b: _replace(b, 0, table)


def _minimum(bits: int, std: float) -> Callable[[U8], None]:
    """Q4_1, Q5_1: d f16, m f16 = -d (2^bits - 1) / 2, then codes from 0."""
    d = std / DEVIATION[bits]
    tables = _halves(d, signed=False), _halves(-d * (2**bits - 1) / 2, signed=False)
    return lambda b: _replace(b, 0, *tables)


def _superblock(bits: int, std: float) -> Callable[[U8], None]:
    """Q4_K, Q5_K: d f16, dmin f16, eight 6-bit scales and as many minimums in 12 bytes; the minimums equal the scales.

    Layout of the 12 bytes: zigllama/linear_algebra/k_quantization.py.
    """
    d = std / DEVIATION[bits] / K_SCALE
    tables = _halves(d, signed=False), _halves(d * (2**bits - 1) / 2, signed=False)

    def finish(b: U8) -> None:
        _replace(b, 0, *tables)
        b[:, 4:8] |= 0xA0  # bit 5 of scales 0..3, and of 4..7, whose upper bits are on top: all are 32 to 63
        b[:, 8:12] = b[:, 4:8]
        low = b[:, 12:16] & 15
        b[:, 12:16] = low | low << 4

    return finish


def _q6_k(std: float) -> Callable[[U8], None]:
    """Q6_K: codes, 16 int8 scales from byte 192, d f16 at 208."""
    table = _halves(std / DEVIATION[6] / Q6_SCALE, signed=True)

    def finish(b: U8) -> None:
        s = b[:, 192:208]
        size = s & 63 | 64
        np.copyto(s, np.where(s & 128, np.uint8(0) - size, size))  # 0 - size wraps: the two's complement
        _replace(b, 208, table)

    return finish


def _q8_0(std: float) -> Callable[[U8], None]:
    """Q8_0 without the code -128, which no quantiser writes."""
    scale = _one_scale(8, std)

    def finish(b: U8) -> None:
        b[:, 2:][b[:, 2:] == 128] = 127
        scale(b)

    return finish


def _rms(x: npt.ArrayLike) -> float:
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))


def _random(at: int, rms: float, std: float) -> Callable[[U8], None]:
    """Types of which all bits but d's, at byte `at`, may be random: `rms` is that of a value with a d of 1."""
    table = _halves(std / rms, signed=True)
    return lambda b: _replace(b, at, table)


def _of_random(kind: str, put_d: Callable[[U8, U16], None]) -> float:
    """The same rms of a type whose values are no plain product: asked of random blocks."""
    size, n_bytes = GGML_TYPES[kind].block_size, GGML_TYPES[kind].block_bytes
    b = np.random.Generator(np.random.SFC64(1)).integers(0, 256, ((1 << 20) // size, n_bytes), np.uint8)
    put_d(b, np.full(len(b), np.float16(1)).view(np.uint16))
    return _rms(dequantize(b.reshape(-1), kind))


def _like_most(kind: str, at: int, std: float) -> Callable[[U8], None]:
    """Such a type with d at byte `at`."""

    def put_d(b: U8, d: U16) -> None:
        b[:, at : at + 2] = d[:, None].view(np.uint8)

    return _random(at, _of_random(kind, put_d), std)


def _iq1_m(std: float) -> Callable[[U8], None]:
    """IQ1_M has a nibble of d on top of each of its four words of scales, from byte 48."""

    def put_d(b: U8, d: U16) -> None:
        for i in range(4):
            b[:, 49 + 2 * i] = b[:, 49 + 2 * i] & 15 | (d >> 4 * i & 15).astype(np.uint8) << 4

    table = _halves(std / _of_random("IQ1_M", put_d), signed=True)
    return lambda b: put_d(b, table[np.ascontiguousarray(b[:, :2]).view(np.uint16)[:, 0]])


def _q2_k(std: float) -> Callable[[U8], None]:
    """Q2_K: 16 nibbles of scale 8 to 15 below equal ones of minimum, 64 bytes of codes, d and dmin = 3/2 d at 80."""
    d = std / DEVIATION[2] / _rms(np.arange(8, 16))
    tables = _halves(d, signed=False), _halves(1.5 * d, signed=False)

    def finish(b: U8) -> None:
        scale = b[:, :16] & 7 | 8
        b[:, :16] = scale | scale << 4
        _replace(b, 80, *tables)

    return finish


SIX_BITS = _rms(np.arange(-32, 32))  # scales of 6 bits about 32


def _float(name: str, std: float) -> Callable[[U8], None]:
    """F32, F16, BF16: uniform within sqrt(3) deviations of 0, no smaller than a 2^-16th of that."""
    steps = ((np.arange(65536) + 0.5) / 32768 - 1) * (3.0**0.5 * std)

    def finish(b: U8) -> None:
        np.copyto(b, table[np.ascontiguousarray(b).view(np.uint16)].view(np.uint8).reshape(b.shape))

    def finish_f32(b: U8) -> None:  # 23 random bits over [1, 2), moved to [-1/2, 1/2)
        x = (b.view(np.uint32) >> 9 | np.uint32(0x3F800000)).view(np.float32)
        np.copyto(b, ((x - np.float32(1.5)) * np.float32(2 * 3.0**0.5 * std)).view(np.uint8))

    if name == "F32":
        return finish_f32
    table = steps.astype(np.float16).view(np.uint16)
    if name == "BF16":  # the upper half of the f32
        table = (steps.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return finish


# name -> (values per block, bytes per block, what makes scales of random bytes)
FORMATS: dict[str, tuple[int, int, Callable[[float], Callable[[U8], None]]]] = {
    "F32": (1, 4, lambda std: _float("F32", std)),
    "F16": (1, 2, lambda std: _float("F16", std)),
    "BF16": (1, 2, lambda std: _float("BF16", std)),
    "Q4_0": (32, 18, lambda std: _one_scale(4, std)),
    "Q4_1": (32, 20, lambda std: _minimum(4, std)),
    "Q5_0": (32, 22, lambda std: _one_scale(5, std)),
    "Q5_1": (32, 24, lambda std: _minimum(5, std)),
    "Q8_0": (32, 34, _q8_0),
    "Q4_K": (256, 144, lambda std: _superblock(4, std)),
    "Q5_K": (256, 176, lambda std: _superblock(5, std)),
    "Q6_K": (256, 210, _q6_k),
    "Q2_K": (256, 84, _q2_k),
    "Q3_K": (256, 110, lambda std: _random(108, _rms(np.arange(-4, 4)) * SIX_BITS, std)),
    "IQ2_XS": (256, 74, lambda std: _random(0, _rms(codebook("IQ2_XS")) * _rms(np.arange(16) + 0.5) / 4, std)),
    "IQ3_S": (256, 110, lambda std: _random(0, _rms(codebook("IQ3_S")) * _rms(2 * np.arange(16) + 1), std)),
    "IQ4_NL": (32, 18, lambda std: _random(0, _rms(IQ4_VALUES), std)),
    "IQ1_S": (256, 50, lambda std: _like_most("IQ1_S", 0, std)),
    "IQ1_M": (256, 56, _iq1_m),
    "IQ2_XXS": (256, 66, lambda std: _like_most("IQ2_XXS", 0, std)),
    "IQ2_S": (256, 82, lambda std: _like_most("IQ2_S", 0, std)),
    "IQ3_XXS": (256, 98, lambda std: _like_most("IQ3_XXS", 0, std)),
    "TQ1_0": (256, 54, lambda std: _like_most("TQ1_0", 52, std)),
    "TQ2_0": (256, 66, lambda std: _like_most("TQ2_0", 64, std)),
    "IQ4_XS": (256, 136, lambda std: _random(0, _rms(IQ4_VALUES) * SIX_BITS, std)),
}


def random_blocks(kind: str, n_values: int, std: float, *, seed: int, name: str) -> Iterator[U8]:
    """The bytes of `n_values` random weights of a type, in pieces. Raises ValueError where a block would be cut."""
    size, n_bytes, make = FORMATS[kind]
    if n_values % size:
        raise ValueError(f"{name}: {n_values} values are no whole number of {kind} blocks of {size}")
    finish = make(std)
    stream = np.random.SFC64([seed, zlib.crc32(name.encode())])
    left = n_values // size
    while left:
        n = min(left, PIECE // n_bytes)
        words: npt.NDArray[np.uint64] = np.asarray(stream.random_raw(-(-n * n_bytes // 8)), "<u8")
        piece = words.view(np.uint8)[: n * n_bytes].reshape(n, n_bytes)
        finish(piece)
        yield piece
        left -= n
