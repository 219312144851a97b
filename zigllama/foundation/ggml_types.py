"""Geometry of the GGML number formats: elements and bytes of each quant block. No decoding here.

A GGUF tensor is stored row by row, and a row is cut into quant blocks: `block_size` consecutive elements that share
their scales and take `block_bytes` bytes together. Plain numbers are the special case of one element per block. That is
all a file reader must know to find and to check every tensor; what the bytes mean is the business of the layer above
(`zigllama.linear_algebra`).

Where a size comes from is written beside each entry as a sum, in the order the fields stand in the block: `f16` is two
bytes. Source: the block structures of ggml (ggml-common.h) and their `static_assert`s.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from zigllama.errors import ShapeError, UnknownName


@dataclass(frozen=True, slots=True)
class GGMLType:
    """One number format: its `id` in files, its `name`, and the geometry of its quant block."""

    id: int
    name: str
    block_size: int  # elements per quant block
    block_bytes: int  # bytes per quant block

    @property
    def bits_per_weight(self) -> float:
        """8 * block_bytes / block_size: 4.5 for Q4_0, whose block of 32 has 16 bytes of codes and 2 of scale."""
        return 8 * self.block_bytes / self.block_size

    @property
    def is_quantized(self) -> bool:
        """True where elements share scales, that is, where a single element has no address of its own."""
        return self.block_size > 1

    def __str__(self) -> str:
        return self.name


_TYPES = (
    # plain numbers
    GGMLType(0, "F32", 1, 4),
    GGMLType(1, "F16", 1, 2),
    GGMLType(30, "BF16", 1, 2),  # the upper half of an F32
    GGMLType(28, "F64", 1, 8),
    GGMLType(24, "I8", 1, 1),
    GGMLType(25, "I16", 1, 2),
    GGMLType(26, "I32", 1, 4),
    GGMLType(27, "I64", 1, 8),
    # blocks of 32 with one scale (_0), or a scale and a minimum (_1)
    GGMLType(2, "Q4_0", 32, 2 + 16),  # f16 d; nibbles
    GGMLType(3, "Q4_1", 32, 2 + 2 + 16),  # f16 d, m; nibbles
    GGMLType(6, "Q5_0", 32, 2 + 4 + 16),  # f16 d; fifth bits; nibbles
    GGMLType(7, "Q5_1", 32, 2 + 2 + 4 + 16),  # f16 d, m; fifth bits; nibbles
    GGMLType(8, "Q8_0", 32, 2 + 32),  # f16 d; int8
    GGMLType(
        9, "Q8_1", 32, 2 + 2 + 32
    ),  # f16 d, d * sum; int8. For activations: no file has it (its first form had f32: 40 bytes)
    # K-quants: superblocks of 256 with quantised scales
    GGMLType(10, "Q2_K", 256, 16 + 64 + 2 + 2),  # 16 x (scale, min) of 4 bits; 2-bit codes; f16 d, dmin
    GGMLType(11, "Q3_K", 256, 32 + 64 + 12 + 2),  # third bits; 2-bit codes; 16 scales of 6 bits; f16 d
    GGMLType(12, "Q4_K", 256, 2 + 2 + 12 + 128),  # f16 d, dmin; 8 x (scale, min) of 6 bits; nibbles
    GGMLType(13, "Q5_K", 256, 2 + 2 + 12 + 32 + 128),  # as Q4_K, with fifth bits before the nibbles
    GGMLType(14, "Q6_K", 256, 128 + 64 + 16 + 2),  # nibbles; upper 2 bits; 16 int8 scales; f16 d
    GGMLType(15, "Q8_K", 256, 4 + 256 + 32),  # f32 d; int8; 16 int16 sums. For activations
    # IQ formats: codes are indices into a codebook
    GGMLType(19, "IQ1_S", 256, 2 + 32 + 16),  # f16 d; low 8 bits of 32 indices; 8 x (3 high bits x 4, scale, sign)
    GGMLType(29, "IQ1_M", 256, 32 + 16 + 8),  # low 8 bits; high bits and shifts; scales, with d's bits spread over them
    GGMLType(16, "IQ2_XXS", 256, 2 + 64),  # f16 d; 8 x (4 indices, signs, scale)
    GGMLType(17, "IQ2_XS", 256, 2 + 64 + 8),  # f16 d; 32 x (9-bit index, 7-bit signs); scales
    GGMLType(22, "IQ2_S", 256, 2 + 64 + 8 + 8),  # f16 d; indices and signs; high bits; scales
    GGMLType(18, "IQ3_XXS", 256, 2 + 96),  # f16 d; 64 indices; 8 x (signs, scale)
    GGMLType(21, "IQ3_S", 256, 2 + 64 + 8 + 32 + 4),  # f16 d; 64 indices; high bits; signs; scales
    GGMLType(20, "IQ4_NL", 32, 2 + 16),  # f16 d; nibbles into a table of 16 values
    GGMLType(23, "IQ4_XS", 256, 2 + 2 + 4 + 128),  # f16 d; scales of 6 bits (high, low); nibbles as IQ4_NL
    # ternary, binary and 4-bit float formats
    GGMLType(34, "TQ1_0", 256, 48 + 4 + 2),  # five ternary digits a byte (240), four a byte (16); f16 d
    GGMLType(35, "TQ2_0", 256, 64 + 2),  # 2 bits a ternary digit; f16 d
    GGMLType(41, "Q1_0", 128, 2 + 16),  # f16 d; one bit each
    GGMLType(42, "Q2_0", 64, 2 + 16),  # f16 d; two bits each
    GGMLType(39, "MXFP4", 32, 1 + 16),  # 8-bit exponent; 4-bit floats
    GGMLType(40, "NVFP4", 64, 4 + 32),  # four 8-bit float scales, one per 16; 4-bit floats
)

GGML_TYPES: dict[str, GGMLType] = {t.name: t for t in _TYPES}  # by name, in the order above
_BY_ID: dict[int, GGMLType] = {t.id: t for t in _TYPES}

# Ids that ggml has withdrawn. Files with them exist but nothing current reads them, so the error can say more than
# "unknown".
RETIRED: dict[int, str] = {
    4: "Q4_2",
    5: "Q4_3",
    31: "Q4_0_4_4",
    32: "Q4_0_4_8",
    33: "Q4_0_8_8",
    36: "IQ4_NL_4_4",
    37: "IQ4_NL_4_8",
    38: "IQ4_NL_8_8",
}


def type_by_id(type_id: int) -> GGMLType:
    """The type with that id in files. Raises `UnknownName` for an id that is not assigned or was withdrawn."""
    found = _BY_ID.get(type_id)
    if found is None:
        retired = f" ({RETIRED[type_id]}, withdrawn from the format)" if type_id in RETIRED else ""
        raise UnknownName("GGML type", f"id {type_id}{retired}")
    return found


def type_by_name(name: str) -> GGMLType:
    """The type of that name, in any case (`"Q4_K"`, `"q4_k"`). Raises `UnknownName` with the nearest name, or the news
    that the name was withdrawn.
    """
    found = GGML_TYPES.get(name.upper())
    if found is None:
        if name.upper() in RETIRED.values():
            raise UnknownName("GGML type", f"{name.upper()} (withdrawn from the format)")
        close = difflib.get_close_matches(name.upper(), GGML_TYPES, n=1)
        raise UnknownName("GGML type", name, nearest=close[0] if close else None)
    return found


def row_bytes(ggml_type: GGMLType, n: int) -> int:
    """Bytes of one row of `n` elements: n / block_size * block_bytes.

    Raises `ShapeError` where n is negative or cuts a quant block.
    """
    blocks, rest = divmod(n, ggml_type.block_size)
    if n < 0 or rest:
        raise ShapeError(
            f"a row of {n} elements is not a whole number of {ggml_type.name} quant blocks of {ggml_type.block_size}"
        )
    return blocks * ggml_type.block_bytes
