"""Numbers of few bits: what the blocks mean, and the product of rows with a quantised matrix, as plain NumPy.

A quantised matrix is cut along its rows into quant blocks of 32 values (the formats of other modules: superblocks of 64
to 256, which are several of these). A block stores small integer codes and one or two float scales:

    Q4_0   value = d * (u - 8)       u of 4 bits    18 bytes: d f16 | 16 bytes of nibbles
    Q4_1   value = d * u + m         u of 4 bits    20 bytes: d f16 | m f16 | 16 bytes of nibbles
    Q5_0   value = d * (u - 16)      u of 5 bits    22 bytes: d f16 | 32 fifth bits | 16 bytes of nibbles
    Q5_1   value = d * u + m         u of 5 bits    24 bytes: d f16 | m f16 | 32 fifth bits | 16 bytes of nibbles
    Q8_0   value = d * w             w of 8 bits    34 bytes: d f16 | 32 signed bytes
    Q8_1   value = d * w             w of 8 bits    36 bytes: d f16 | d * sum of w f16 | 32 signed bytes

Byte j of the nibbles holds value j in its low half and value j + 16 in its high half. Q8_1 is a format of activations:
no file has it.

The product with a row x of activations rounds x to 8 bits first (`quantize_activation`), so that the inner sums are
sums of small integers, exact in any order, and only a few steps for each sum are floating point. x has a scale for
every 32 columns. Where the weight's superblocks of 256 have integer scales (`LONG`), those of 256 columns are alike but
for a power of two: powers and integer scales then join one exact sum for all 256. `matmul_twin` does the same steps in
the same order as the C kernels.

Formats: ggml's, as PyPI's `gguf` documents them. What this file is not: it quantises no weights.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from zigllama.errors import DTypeError, InvalidArgument, ShapeError
from zigllama.foundation.ggml_types import type_by_name
from zigllama.foundation.runtime import F32
from zigllama.linear_algebra import fp4_quantization, iq_quantization, k_quantization, ternary_quantization
from zigllama.linear_algebra.quant_blocks import U8, Superblocks, Unpacked, blocks, fields, halves

I8 = npt.NDArray[np.int8]
I16 = npt.NDArray[np.int16]

TINY = np.float32(2.0**-119)  # a quant block of activations below this is zero: 127 / amax would overflow
SHIFTS = 4  # scales of a superblock's activations differ by at most 2^SHIFTS


def _q4_0(b: U8) -> Unpacked:
    return Unpacked(blocks(fields(b[:, 2:], 16, 4)), 8, halves(b[:, :2]))


def _q4_1(b: U8) -> Unpacked:
    return Unpacked(blocks(fields(b[:, 4:], 16, 4)), 0, halves(b[:, :2]), -halves(b[:, 2:4]))


def _q5_0(b: U8) -> Unpacked:
    return Unpacked(blocks(fields(b[:, 6:], 16, 4) | fields(b[:, 2:6], 1, 1) << 4), 16, halves(b[:, :2]))


def _q5_1(b: U8) -> Unpacked:
    codes = fields(b[:, 8:], 16, 4) | fields(b[:, 4:8], 1, 1) << 4
    return Unpacked(blocks(codes), 0, halves(b[:, :2]), -halves(b[:, 2:4]))


def _q8_0(b: U8) -> Unpacked:
    return Unpacked(blocks(b[:, 2:].view(np.int8)), 0, halves(b[:, :2]))


def _q8_1(b: U8) -> Unpacked:
    return Unpacked(blocks(b[:, 4:].view(np.int8)), 0, halves(b[:, :2]))


UNPACK: dict[str, Callable[[U8], Unpacked]] = {
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q8_0": _q8_0,
    "Q8_1": _q8_1,
    **k_quantization.UNPACK,
    **iq_quantization.UNPACK,
    **ternary_quantization.UNPACK,
    **fp4_quantization.UNPACK,
}
# Superblocks of 256 with integer scales, `Unpacked.parts`: their products take scales of x alike by superblocks.
LONG = frozenset({*k_quantization.UNPACK, *iq_quantization.UNPACK} - {"Q8_K", "IQ4_NL"})
PLAIN: dict[str, type[np.generic]] = {
    "F32": np.float32, "F16": np.float16, "F64": np.float64, "I8": np.int8, "I16": np.int16, "I32": np.int32,
    "I64": np.int64,
}  # fmt: skip


def unpack(data: U8, type_name: str) -> Unpacked:
    """File bytes of whole blocks -> quant blocks of 32. Raises DTypeError for a type that has none, ShapeError."""
    unpacker = UNPACK.get(type_name)
    if unpacker is None:
        raise DTypeError(f"{type_name} is not a quantised type; these are: {', '.join(UNPACK)}")
    size = type_by_name(type_name).block_bytes
    if data.nbytes % size:
        raise ShapeError(f"{data.nbytes} bytes are not whole blocks of {type_name}, {size} bytes each")
    with np.errstate(invalid="ignore", over="ignore"):
        return unpacker(np.ascontiguousarray(data).reshape(-1, size))


def dequantize(data: U8, type_name: str) -> F32:
    """File bytes -> float32 (n,), bit for bit as ggml: A * (u - zero) - B with each operation rounded to float32.

    Plain numbers (F32, F16, BF16, F64, integers) are converted. Raises DTypeError, ShapeError.
    """
    raw = np.ascontiguousarray(data).reshape(-1)
    if type_name == "BF16":
        return (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    if type_name in PLAIN:
        with np.errstate(over="ignore"):
            return raw.view(PLAIN[type_name]).astype(np.float32)
    return unpack(raw, type_name).values().reshape(-1)


def activation_block(type_name: str) -> int:
    """How many columns of x are rounded together for a product with a quantised type: 256 for `LONG`'s, else 32."""
    return 256 if type_name in LONG else 32


def quantize_activation(x: F32, per: int = 32) -> tuple[I8, F32, I16]:
    """The activation format: rows as int8 with a float32 scale for every 32 columns.

    d = amax / 127, q = round(x * (127 / amax)) to nearest, ties to even, amax being max|x| of the 32 columns.
    x (T, K), K a multiple of `per` -> q (T, K) int8, d (T, K/32) float32, s (T, K/32, 2) int16: the sums of q over each
    16 columns. With `per` 256 the scales of 256 columns are alike but for a power of two: amax is max|x| of them all,
    times 2^-j, with the largest j up to SHIFTS that the 32 columns allow. Where max|x| of `per` columns is below
    2^-119, or 2^-115 of 256, d and q are zero; where one is a NaN or an infinity d = NaN and q = 0. Raises ShapeError,
    and InvalidArgument for another `per`.
    """
    if per not in (32, 256):
        raise InvalidArgument(f"quantize_activation: {per} columns rounded together, want 32 or 256")
    if x.ndim != 2 or x.shape[1] % per:
        raise ShapeError(f"quantize_activation: shape {x.shape}, want (T, K) with K a multiple of {per}")
    blocks = x.astype(np.float32, copy=False).reshape(x.shape[0], x.shape[1] // per, per // 32, 32)
    own = np.abs(blocks).max(axis=-1, initial=0)
    finite = np.isfinite(own.max(axis=-1, keepdims=True, initial=0))  # a NaN is the largest of all
    own = np.where(finite, own, np.float32(1))
    amax = own.max(axis=-1, keepdims=True, initial=0)
    live = finite & (amax >= (TINY if per == 32 else TINY * 2**SHIFTS))
    amax = np.where(live, amax, np.float32(1))
    halved = sum((own <= amax * np.float32(2.0**-j)).astype(np.int32) for j in range(1, SHIFTS + 1))
    amax = amax * np.ldexp(np.float32(1), -halved if per == 256 else 0)
    inverse = np.float32(127) / amax
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = np.where(live[..., None], blocks * inverse[..., None], 0)
    q = np.clip(np.rint(scaled), -127, 127).astype(np.int8)
    d = np.where(live, amax / np.float32(127), np.where(finite, np.float32(0), np.float32(np.nan))).astype(np.float32)
    s = q.reshape(x.shape[0], x.shape[1] // 32, 2, 16).sum(axis=-1, dtype=np.int16)
    return q.reshape(x.shape), d.reshape(x.shape[0], x.shape[1] // 32), s


def matmul_twin(x: F32, data: U8, type_name: str, rows: int) -> F32:
    """y = x W^T for a matrix of `rows` rows given as file bytes.   x (T, K) -> (T, rows)

    Quantised W, block of 32 after block, i and X exact integers, everything else float32:

        i = sum (u - zero) q        X = sum q        t = i A   (two 16-value groups: t = i1 A1 + i2 A2)
        t = t - B X                 y = y + t dx

    The types of `LONG`, superblock of 256 after superblock, the integer scales sc and mn inside the exact sums:

        i = sum of groups  2^k sc sum (u - zero) q    X = sum of groups  2^k mn sum q
        t = i d                     t = t - dmin X    y = y + t dx

    where dx 2^k, k = 0 to SHIFTS, are the scales of the superblock's eight blocks of x.

    Float W: float32 products, summed in double and rounded (the kernels sum in float32, in order of k).
    """
    if type_name in ("F32", "F16", "BF16"):
        w = dequantize(data, type_name).reshape(rows, -1)
        y: F32 = (x.astype(np.float64) @ w.T.astype(np.float64)).astype(np.float32)
        return y
    q, dx, s = quantize_activation(x, activation_block(type_name))
    u = unpack(data, type_name)
    with np.errstate(invalid="ignore", over="ignore"):
        return _product(q, dx, s, u, rows) if u.parts is None else _long_product(q, dx, s, u, u.parts, rows)


def _product(q: I8, dx: F32, s: I16, u: Unpacked, rows: int) -> F32:
    """y of `matmul_twin`, by blocks of 32."""
    tokens, k = q.shape
    groups = u.scales.shape[1]
    codes = (u.codes - u.zero).reshape(rows, k // 32, groups, 32 // groups)
    scales = u.scales.reshape(rows, k // 32, groups)
    minimums = None if u.minimums is None else u.minimums.reshape(rows, k // 32)
    q4 = q.astype(np.float32).reshape(tokens, k // 32, groups, 32 // groups)  # integers below 2^24: exact as floats
    y = np.zeros((tokens, rows), np.float32)
    for b in range(k // 32):
        t = np.zeros((tokens, rows), np.float32)
        for g in range(groups):
            i = q4[:, b, g] @ codes[:, b, g].T.astype(np.float32)
            t = t + i * scales[:, b, g]
        if minimums is not None:
            t = t - minimums[:, b] * s[:, b].astype(np.float32).sum(axis=1, keepdims=True)
        y = y + t * dx[:, b, None]
    return y


def _long_product(q: I8, d_x: F32, s: I16, u: Unpacked, parts: Superblocks, rows: int) -> F32:
    """y of `matmul_twin`, by superblocks of 256."""
    tokens, n, groups = len(q), q.shape[1] // 256, parts.sc.shape[1]
    codes = (u.codes - u.zero).reshape(rows, n, groups, 256 // groups)
    scaled = (codes * parts.sc.reshape(rows, n, groups, 1)).reshape(rows, n, 256)
    d, eight = parts.d.reshape(rows, n), d_x.reshape(tokens, n, 8)
    dx = eight.max(axis=-1) * np.float32(2.0**-SHIFTS)
    powers = np.where(dx[..., None] > 0, eight / np.where(dx > 0, dx, 1)[..., None], 1).astype(np.float64)  # 2^k
    # A sum is an integer below 2^31: exact in float64.
    q64 = q.astype(np.float64).reshape(tokens, n, 256) * np.repeat(powers, 32, axis=-1)
    sums = s.reshape(tokens, n, groups, 16 // groups).sum(axis=-1) * np.repeat(powers, groups // 8, axis=-1)
    y = np.zeros((tokens, rows), np.float32)
    for b in range(n):
        t = (q64[:, b] @ scaled[:, b].T.astype(np.float64)).astype(np.float32) * d[:, b]
        if parts.dmin is not None and parts.mn is not None:
            m = sums[:, b] @ parts.mn.reshape(rows, n, groups)[:, b].T.astype(np.float64)
            t = t - parts.dmin.reshape(rows, n)[:, b] * m.astype(np.float32)
        y = y + t * dx[:, b, None]
    return y
