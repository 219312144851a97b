"""Quant blocks of every format for tests: random ones, and hostile ones; the same bytes on every machine.

Any bytes are a block. What makes one hostile is its scales: infinite, NaN, subnormal, zero, of either sign.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
from random_weights import Stream

from zigllama.foundation.ggml_types import type_by_name

Bytes = npt.NDArray[np.uint8]

# Where the half-precision scales of a block begin. IQ1_M spreads one over four words; Q8_K has a float32 at 0; the
# scales of MXFP4 and NVFP4 are bytes, of which every value is tried.
HALVES = {
    "Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "Q8_0": (0,), "Q8_1": (0, 2), "Q2_K": (80, 82),
    "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "IQ1_S": (0,), "IQ2_XXS": (0,), "IQ2_XS": (0,),
    "IQ2_S": (0,), "IQ3_XXS": (0,), "IQ3_S": (0,), "IQ4_NL": (0,), "IQ4_XS": (0,), "TQ1_0": (52,), "TQ2_0": (64,),
    "Q1_0": (0,), "Q2_0": (0,),
}  # fmt: skip
BYTES = {"MXFP4": (0,), "NVFP4": (0, 1, 2, 3)}
QUANTIZED = (*HALVES, *BYTES, "IQ1_M", "Q8_K")
# What PyPI's gguf does not read and ggml's C does: values of a block, and the name of its function.
UNREAD = {
    "Q1_0": (128, "dequantize_row_q1_0"),
    "Q2_0": (64, "dequantize_row_q2_0"),
    "Q8_K": (256, "dequantize_row_q8_K"),
}
PLAIN = ("F32", "F16", "BF16", "F64", "I8", "I16", "I32", "I64")
# quiet and signalling NaN, infinities, subnormals, zeros, the largest, the smallest normal
BAD_HALVES = (0x7E00, 0x7C01, 0xFFFF, 0x7C00, 0xFC00, 0x0001, 0x8001, 0x03FF, 0x0000, 0x8000, 0x7BFF, 0xFBFF, 0x0400)
BAD_FLOATS = (0x7FC00000, 0x7F800001, 0x7F800000, 0xFF800000, 1, 0x80000001, 0x7FFFFF, 0, 0x80000000, 0x7F7FFFFF)


def set_halves(blocks: Bytes, name: str, bits: npt.NDArray[np.uint16]) -> None:
    """Put half-precision scales into blocks: bits (n,), into all scales of each."""
    pair = bits.astype("<u2").reshape(-1, 1).view(np.uint8)
    for at in HALVES.get(name, ()):
        blocks[:, at : at + 2] = pair
    if name == "IQ1_M":  # one nibble into the upper half of every second byte
        for i in range(4):
            nibble = (bits >> (4 * i) & 15).astype(np.uint8) << 4
            blocks[:, 49 + 2 * i] = blocks[:, 49 + 2 * i] & 15 | nibble
    if name == "Q8_K":
        blocks[:, :4] = bits.view(np.float16).astype("<f4").reshape(-1, 1).view(np.uint8)


def random_blocks(name: str, n: int, part: int = 0, *, finite: bool = False) -> Bytes:
    """n blocks of random bytes, (n, bytes per block); with `finite` their scales are below 16 in size."""
    s = Stream(f"{name} blocks {part}")
    blocks = s.bytes(n, type_by_name(name).block_bytes)
    if finite:
        half = s.bytes(n, 2).view(np.uint16)[:, 0]
        set_halves(blocks, name, (half & 0x8000 | half % 0x4C00).astype(np.uint16))
    return blocks


def hostile_blocks(name: str) -> Bytes:
    """All bits clear, all bits set, and random codes under every bad scale."""
    size = type_by_name(name).block_bytes
    made = [np.zeros((1, size), np.uint8), np.full((1, size), 255, np.uint8)]
    bad = np.array(BAD_HALVES, np.uint16)
    for round_ in range(4):
        blocks = random_blocks(name, len(bad), -1 - round_)
        set_halves(blocks, name, bad)
        made.append(blocks)
    if name == "Q8_K":
        blocks = random_blocks(name, len(BAD_FLOATS), -9)
        blocks[:, :4] = np.array(BAD_FLOATS, "<u4").reshape(-1, 1).view(np.uint8)
        made.append(blocks)
    if name in BYTES:
        blocks = random_blocks(name, 256, -9)
        for at in BYTES[name]:
            blocks[:, at] = np.roll(np.arange(256, dtype=np.uint8), at)
        made.append(blocks)
    return np.concatenate(made)


def unread_blocks(name: str) -> Bytes:
    """Random and hostile blocks of a type of UNREAD."""
    return np.concatenate([random_blocks(name, 3000, 1, finite=True), hostile_blocks(name)])


def values_digest(y: npt.NDArray[np.float32]) -> str:
    """Of the bits of floats, all NaN being one."""
    return hashlib.sha256(np.where(np.isnan(y), np.float32(np.nan), y).astype("<f4").tobytes()).hexdigest()
