"""Make docs/formats.md: each number format of GGML, the layout of its quant block drawn byte by byte.

    python tools/make_formats_page.py

The layouts below are the page's own statement, checked against two others when the test runs: their bytes add up to
the geometry of foundation/ggml_types.py, and changing a field changes exactly as many dequantised values as `reach`
says, so a field that stands elsewhere, or is of another width, shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zigllama.foundation.ggml_types import GGML_TYPES

TARGET = Path(__file__).resolve().parent.parent / "docs" / "formats.md"
BYTES = {"u8": 1, "i8": 1, "u16": 2, "i16": 2, "f16": 2, "u32": 4, "f32": 4}


@dataclass(frozen=True)
class Field:
    """`count` numbers of a `kind`, each of which is in the value of `reach` elements; 0: no value depends on it."""

    name: str
    kind: str
    count: int
    reach: int

    @property
    def n_bytes(self) -> int:
        return self.count * BYTES[self.kind]

    @property
    def label(self) -> str:
        return f"{self.name} {self.kind}" + (f" x {self.count}" if self.count > 1 else "")


@dataclass(frozen=True)
class Repeat:
    """The same fields several times over."""

    times: int
    fields: tuple[Field, ...]

    @property
    def n_bytes(self) -> int:
        return self.times * sum(f.n_bytes for f in self.fields)

    @property
    def label(self) -> str:
        return f"{self.times} x ({', '.join(f.label for f in self.fields)})"


Part = Field | Repeat


@dataclass(frozen=True)
class Layout:
    """A quant block: its parts in order, what a value is, and where the codes are."""

    parts: tuple[Part, ...]
    value: str
    notes: tuple[str, ...] = ()

    def fields(self) -> Iterator[tuple[int, Field]]:
        """Every field with the byte at which it begins, repeated ones as often as they are there."""
        at = 0
        for part in self.parts:
            times, fields = (part.times, part.fields) if isinstance(part, Repeat) else (1, (part,))
            for f in fields * times:
                yield at, f
                at += f.n_bytes


def d(reach: int) -> Field:
    """The scale of a whole block."""
    return Field("d", "f16", 1, reach)


def dmin(reach: int, name: str = "dmin") -> Field:
    return Field(name, "f16", 1, reach)


def nibbles(count: int) -> Field:
    return Field("nibbles", "u8", count, 2)


def pairs(count: int) -> Field:
    return Field("pairs", "u8", count, 4)


HALVES = "byte j of the nibbles: value j in the low half, value j + 16 in the high half"
FIFTH = "bit j of the 32 fifth bits, as one little-endian number, is the top bit of value j"
TWELVE = (
    Field("sc 0..3", "u8", 4, 64),
    Field("mn 0..3", "u8", 4, 64),
    Field("sc, mn 4..7", "u8", 4, 32),
)
SIX_BITS = (
    "sc and mn have 6 bits: of the first four low in their own byte, of the last four low in the nibbles of bytes 8 to "
    "11, their upper two bits on top of the bytes of the first four"
)
OF_32 = "byte j of each 32 bytes: value j of one run of 32 low, value j of the next run high"
EVEN = "seven bits stand for eight signs, the eighth makes the number of minuses even"
VECTOR = "a vector is the number of 8 magnitudes in a codebook (linear_algebra/codebooks.py)"
FLOAT4 = "x: 4-bit floats, 0 0.5 1 1.5 2 3 4 6 and their negatives"

LAYOUTS: dict[str, Layout] = {
    "Q4_0": Layout((d(32), nibbles(16)), "d (u - 8)", (HALVES,)),
    "Q4_1": Layout((d(32), dmin(32, "m"), nibbles(16)), "d u + m", (HALVES,)),
    "Q5_0": Layout((d(32), Field("fifth bits", "u8", 4, 8), nibbles(16)), "d (u - 16)", (HALVES, FIFTH)),
    "Q5_1": Layout((d(32), dmin(32, "m"), Field("fifth bits", "u8", 4, 8), nibbles(16)), "d u + m", (HALVES, FIFTH)),
    "Q8_0": Layout((d(32), Field("codes", "i8", 32, 1)), "d u"),
    "Q8_1": Layout(
        (d(32), Field("s", "f16", 1, 0), Field("codes", "i8", 32, 1)), "d u", ("s = d (sum of u); of activations",)
    ),
    "Q2_K": Layout(
        (Field("sc, mn", "u8", 16, 16), pairs(64), d(256), dmin(256)),
        "d sc u - dmin mn",
        (
            "a byte of scales is for 16 values: sc in the low half, mn in the high half",
            "byte j of the pairs: values j, j + 32, j + 64, j + 96 of its 128, lowest bits first",
        ),
    ),
    "Q3_K": Layout(
        (
            Field("third bits", "u8", 32, 8),
            pairs(64),
            Field("sc, low", "u8", 8, 32),
            Field("sc, high", "u8", 4, 64),
            d(256),
        ),
        "d (sc - 32) (u - 4)",
        (
            "bit i of third byte j is the top bit of value 32 i + j; pairs as in Q2_K",
            "16 scales of 6 bits: byte i has the low bits of sc i and i + 8, each of the last four two bits of four",
        ),
    ),
    "Q4_K": Layout((d(256), dmin(256), *TWELVE, nibbles(128)), "d sc u - dmin mn", (SIX_BITS, OF_32)),
    "Q5_K": Layout(
        (d(256), dmin(256), *TWELVE, Field("fifth bits", "u8", 32, 8), nibbles(128)),
        "d sc u - dmin mn",
        (SIX_BITS, OF_32, "bit i of fifth byte j is the top bit of value 32 i + j"),
    ),
    "Q6_K": Layout(
        (nibbles(128), pairs(64), Field("sc", "i8", 16, 16), d(256)),
        "d sc (u - 32)",
        ("byte j of each 64 bytes of nibbles: values j and j + 64 of 128; pairs as in Q2_K, the upper bits",),
    ),
    "Q8_K": Layout(
        (Field("d", "f32", 1, 256), Field("codes", "i8", 256, 1), Field("sums", "i16", 16, 0)),
        "d u",
        ("a sum is of 16 codes; of activations",),
    ),
    "IQ1_S": Layout(
        (d(256), Field("vectors", "u8", 32, 8), Field("high, sc, shift", "u16", 8, 32)),
        "d (2 sc + 1) (t +- 1/8)",
        (
            "t: -1, 0 or 1, eight of a codebook's vector; its number has 11 bits, the upper 3 in the words",
            "a word is for 32 values: 4 x 3 bits of numbers, 3 bits of sc, the sign of 1/8 (1: minus)",
        ),
    ),
    "IQ1_M": Layout(
        (Field("vectors", "u8", 32, 8), Field("high, shift", "u8", 16, 16), Field("sc, d", "u16", 4, 256)),
        "d (2 sc + 1) (t +- 1/8)",
        (
            "as IQ1_S; a nibble is for 8 values: 3 bits of the number, the sign of 1/8",
            "the words' top four bits are d, its low bits first; below them 4 x 3 bits of sc, each of 16 values",
        ),
    ),
    "IQ2_XXS": Layout(
        (d(256), Repeat(8, (Field("vectors", "u8", 4, 8), Field("signs, sc", "u32", 1, 32)))),
        "d (sc + 1/2) / 4 (+- magnitude)",
        (VECTOR, "a word is for 32 values: 4 x 7 bits of signs, 4 bits of sc on top", EVEN),
    ),
    "IQ2_XS": Layout(
        (d(256), Field("vector, signs", "u16", 32, 8), Field("sc", "u8", 8, 32)),
        "d (sc + 1/2) / 4 (+- magnitude)",
        (
            VECTOR,
            "9 bits of the number, 7 bits of signs on top",
            EVEN,
            "a nibble of scales is for 16 values, the low one first",
        ),
    ),
    "IQ2_S": Layout(
        (
            d(256),
            Field("vectors", "u8", 32, 8),
            Field("signs", "u8", 32, 8),
            Field("high", "u8", 8, 32),
            Field("sc", "u8", 8, 32),
        ),
        "d (sc + 1/2) / 4 (+- magnitude)",
        (
            VECTOR,
            "its number has 10 bits, the upper two in `high`, four vectors a byte",
            "a nibble of scales is for 16 values",
        ),
    ),
    "IQ3_XXS": Layout(
        (d(256), Field("vectors", "u8", 64, 4), Field("signs, sc", "u32", 8, 32)),
        "d (sc + 1/2) / 2 (+- magnitude)",
        (
            "a vector is the number of 4 magnitudes in a codebook",
            "a word is for 32 values: 4 x 7 bits of signs, 4 bits of sc",
            EVEN,
        ),
    ),
    "IQ3_S": Layout(
        (
            d(256),
            Field("vectors", "u8", 64, 4),
            Field("ninth bits", "u8", 8, 32),
            Field("signs", "u8", 32, 8),
            Field("sc", "u8", 4, 64),
        ),
        "d (2 sc + 1) (+- magnitude)",
        ("as IQ3_XXS, with numbers of 9 bits", "a nibble of scales is for 32 values"),
    ),
    "IQ4_NL": Layout((d(32), nibbles(16)), "d level[u]", (HALVES, "level: a table of 16 values, denser around 0")),
    "IQ4_XS": Layout(
        (d(256), Field("sc, high", "u16", 1, 256), Field("sc, low", "u8", 4, 64), nibbles(128)),
        "d (sc - 32) level[u]",
        (
            "8 scales of 6 bits, one for 32 values: four bits in the nibbles, two in the word",
            "nibbles as in IQ4_NL, 16 bytes for 32 values",
        ),
    ),
    "TQ1_0": Layout(
        (Field("five trits", "u8", 32, 5), Field("five trits", "u8", 16, 5), Field("four trits", "u8", 4, 4), d(256)),
        "d (t - 1)",
        (
            "a byte is 256/243 of a number of five ternary digits, rounded up; digit n: 3 (byte 3^n mod 256) / 256",
            "the digits of a byte lie a run apart: 32 values in the first bytes, 16 in the next, 4 in the last",
        ),
    ),
    "TQ2_0": Layout((pairs(64), d(256)), "d (u - 1)", ("byte j of each 32: values j, j + 32, j + 64, j + 96 of 128",)),
    "Q1_0": Layout((d(128), Field("bits", "u8", 16, 8)), "d or -d", ("in order, the lowest bit first; 1 is d",)),
    "Q2_0": Layout((d(64), pairs(16)), "d (u - 1)", ("in order, the lowest bits first",)),
    "MXFP4": Layout((Field("e", "u8", 1, 32), nibbles(16)), "2^(e - 127) x", (HALVES, FLOAT4)),
    "NVFP4": Layout(
        (Field("d", "u8", 4, 16), nibbles(32)),
        "d x",
        (
            FLOAT4,
            "d: unsigned floats of 4 bits of exponent and 3 of mantissa, one for 16 values",
            "byte j of each 8 bytes of nibbles: values j and j + 8 of 16",
        ),
    ),
}

CHAPTERS = (
    (
        "Blocks of 32 with one scale",
        ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q8_1"),
        "The first formats: one scale d, and for `_1` a minimum m, for 32 values.",
    ),
    (
        "K-quants",
        ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_K"),
        "Superblocks of 256 values: the scales of 8 or 16 "
        "groups are small integers themselves, and d is their scale. So groups can be small and their scales cheap.",
    ),
    (
        "IQ formats",
        ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_NL", "IQ4_XS"),
        "Codes are "
        "no numbers: a code names a vector of 8 or 4 magnitudes in a codebook, signs apart, or a level in a table.",
    ),
    ("Ternary and binary", ("TQ1_0", "TQ2_0", "Q1_0", "Q2_0"), "For models that were trained with such weights."),
    (
        "4-bit floats",
        ("MXFP4", "NVFP4"),
        "Codes are floats of 4 bits; the scale is a power of two, or a float of 8 bits.",
    ),
)

HEAD = """# Number formats

Generated by tools/make_formats_page.py; a test holds its drawings against the code. All formats are GGML's.

A matrix is stored row by row, and a row is cut into quant blocks: values that share their scales. A value is written
with a code u of few bits and the block's scales; what is drawn below is one block, with the byte at which each field
begins above it. Numbers are little-endian. f16 is a half-precision float, u8 an unsigned and i8 a signed byte.

```python
import numpy as np
import zigllama as zl

x = np.linspace(-1, 1, 32, dtype=np.float32).reshape(1, 32)
block = zl.quantize_rows(x, "Q4_0")[0]                    # 18 bytes: d, then 16 bytes of nibbles
d = block[:2].view(np.float16).astype(np.float32)
u = np.concatenate([block[2:] & 15, block[2:] >> 4])      # byte j holds the values j and j + 16
y = d * (u.astype(np.float32) - 8)
assert np.array_equal(y, zl.dequantize(block, "Q4_0"))
```

## What they cost

`zigllama inspect --errors` puts every matrix that may be quantised into every quantised format that there is a
quantiser of, and compares: the root of the mean squared error, beside the tensor's own (relative RMSE), the largest
error, the cosine. IQ1_S, IQ2_XXS and IQ2_XS cannot be made without importances (`--imatrix`). With `--kl` it runs the
model on a short text with that one tensor replaced, and says how far the logits move (KL divergence, in nats).

```bash
zigllama quantize smollm2 smollm2-f16.gguf F16 --allow-requantize
zigllama inspect smollm2-f16.gguf --errors --kl --only 'blk.[0-9]*5.ffn_down' --picture docs/formats-smollm2.svg
```

![Rate against distortion of the formats, SmolLM2](formats-smollm2.svg)

A point is a format over all tensors asked for, its line goes from the best tensor to the worst. Dashed: 2^-bits, the
least that any code can reach for independent normal values. Two things to know of this picture: the model by that name
is a file in Q4_1, so its values stand on that format's levels and are not what a training left (Q4_1 itself loses next
to nothing here, and Q4_K to Q6_K, whose levels are as even, less than elsewhere); and KL is measured in a file of
floats because products with quantised matrices round their activations to 8 bits, so that in a quantised model any
change at all, however small, moves the logits a little. (`--types F32` shows how much: no value changes.)

From Python:

```python
import zigllama as zl

report = zl.quant_report(zl.pull("smollm2"), types=["Q4_0", "Q8_0"], tensors=r"blk\\.0\\.attn_k")
for row in report.rows:
    print(row.tensor, row.type, row.bits_per_weight, row.relative_rmse, row.cosine)
```

`zigllama inspect small.gguf --errors --reference wide.gguf` compares a file as it is with the one that it was made
from. `--imatrix` gives the quantisers importances, and the report an error weighted by them.

## Plain numbers

F32, F16 and BF16 (the upper half of an F32) are read, multiplied and made; F64, I8, I16, I32 and I64 are read.
"""


def drawing(layout: Layout) -> str:
    """A box per part, the bytes at which they begin above."""
    top, edge, middle, at = "", "", "", 0
    for part in layout.parts:
        width = max(len(part.label), 3) + 3
        top += str(at).ljust(width)
        edge += "+".ljust(width, "-")
        middle += f"| {part.label}".ljust(width)
        at += part.n_bytes
    return "\n".join([f"{top}{at}", f"{edge}+", f"{middle}|", f"{edge}+"])


def section(name: str) -> str:
    """One format."""
    kind, layout = GGML_TYPES[name], LAYOUTS[name]
    size = f"{kind.block_size} values in {kind.block_bytes} bytes, {kind.bits_per_weight:.6g} bits per weight"
    notes = "".join(f"- {note}\n" for note in layout.notes)
    return f"### {name}\n\n{size}; value = {layout.value}\n\n```text\n{drawing(layout)}\n```\n" + (
        f"\n{notes}" if notes else ""
    )


def page() -> str:
    """The whole page."""
    chapters = (
        f"## {title}\n\n{text}\n\n" + "\n".join(section(name) for name in names) for title, names, text in CHAPTERS
    )
    return "\n".join([HEAD, *chapters])


if __name__ == "__main__":
    TARGET.write_text(page(), "utf-8")
