"""`QuantizedTensor`: a matrix in few bits, with one scale per row or per group of columns; its products with rows.

    Q4_0    d (u - 8)     u of 4 bits, d = (the value of largest size) / -8
    Q4_1    d u + m       u of 4 bits, m = min x, d = (max x - m) / 15
    Q8_0    d w           w of 8 bits, d = max |x| / 127
    INT8    s (q - z)     q of 8 bits. Symmetric: z = 0, s = max |x| / 127. Otherwise, lo and hi being the smallest and
                          largest value or 0: s = (hi - lo) / 255, z = round(-128 - lo / s), which is what stands for 0
    F16     half precision, no codes

Q scales are half precision, INT8's are float32. In groups of 32 the first three and F16 are GGUF's types, byte for
byte, and are multiplied by the C kernels; any other layout is multiplied here, on the integer codes:

    x is rounded to 8 bits in the groups of W:        x = t a        t = max |x| / 127
    i = sum a u  and  X = sum a  are exact (int32)     y = sum over groups of t (d (i - z X) + m X)

What this file is not: a number format of a model file (number_formats.py), or one that looks for its scales.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from zigllama.errors import DTypeError, InvalidArgument, ShapeError, UnknownName
from zigllama.foundation.ggml_types import type_by_name
from zigllama.foundation.runtime import F32, EagerRuntime, Step
from zigllama.foundation.shared_context import shared_context
from zigllama.linear_algebra.linear import Weight, linear
from zigllama.linear_algebra.number_formats import U8, dequantize, quantize_rows
from zigllama.linear_algebra.quant_blocks import fields
from zigllama.linear_algebra.quantization import unpack
from zigllama.linear_algebra.quantize_lanes import fold, inverse, round_away, to_half

I32 = npt.NDArray[np.int32]
F64 = npt.NDArray[np.float64]
MOST_HALF = 65504.0
LONGEST_SUM = (2**31 - 1) // (127 * 255)  # values of a group whose products surely sum within 32 bits


class Distortion(NamedTuple):
    """How far a quantised matrix is from the one it was made of."""

    rmse: float  # sqrt(mean((x - y)^2))
    largest: float  # max |x - y|
    cosine: float  # sum x y / sqrt(sum x^2 sum y^2); 1 where both are zero


class _Groups(NamedTuple):
    """Codes (rows, cols); scales, zeros and minimums (rows, groups)."""

    codes: I32
    scales: F32
    zeros: I32 | None
    minimums: F32 | None


def _q4_0(x: F32) -> _Groups:
    most = np.take_along_axis(x, np.abs(x).argmax(axis=2)[..., None], 2)
    d = most / np.float32(-8)
    u = np.minimum(np.trunc(x * inverse(d) + np.float32(8.5)), 15)
    return _Groups(u.astype(np.int32), to_half(d[..., 0]), np.full(d.shape[:2], 8, np.int32), None)


def _q4_1(x: F32) -> _Groups:
    low = x.min(axis=2, keepdims=True)
    d = (x.max(axis=2, keepdims=True) - low) / np.float32(15)
    u = np.minimum(np.trunc((x - low) * inverse(d) + np.float32(0.5)), 15)
    return _Groups(u.astype(np.int32), to_half(d[..., 0]), None, to_half(low[..., 0]))


def _q8_0(x: F32) -> _Groups:
    d = np.abs(x).max(axis=2, keepdims=True) / np.float32(127)
    return _Groups(round_away(x * inverse(d)).astype(np.int32), to_half(d[..., 0]), None, None)


def _int8(x: F32, symmetric: bool) -> _Groups:
    v = x.astype(np.float64)
    low, high = np.minimum(v.min(axis=2, keepdims=True), 0), np.maximum(v.max(axis=2, keepdims=True), 0)
    s = (np.maximum(-low, high) / 127 if symmetric else (high - low) / 255).astype(np.float32)
    s = np.where(s < np.float32(2.0**-126), np.float32(0), s)  # a subnormal scale has too few digits left
    by = np.divide(1.0, s, out=np.zeros(s.shape), where=s > 0)
    zeros = np.zeros(s.shape, np.int32) if symmetric else np.rint(-128 - low * by).clip(-128, 127).astype(np.int32)
    zeros = np.where(s > 0, zeros, 0)
    codes = (np.rint(v * by).astype(np.int32) + zeros).clip(-127 if symmetric else -128, 127)
    return _Groups(codes, s[..., 0], None if symmetric else zeros[..., 0], None)


class QuantizedTensor:
    """A matrix W (rows, cols) of one of SCHEMES, made by `QuantizedTensor.quantize`.

    scheme, shape     which of SCHEMES, and (rows, cols)
    per, group_size   "channel": each row has one scale, group_size is cols; "group": every group_size columns of a row
    scales            (rows, groups) float32, None for F16
    zeros             (rows, groups) int32, the code that stands for 0: of INT8 that is not symmetric, and 8 for Q4_0
    minimums          (rows, groups) float32, of Q4_1
    blocks            its bytes where they are a GGUF type's, uint8 (rows, bytes per row), else None

    Source: Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference,
    2018 (zero points); ggml (blocks).
    """

    SCHEMES: Final = ("Q4_0", "Q4_1", "Q8_0", "INT8", "F16")

    def __init__(
        self, scheme: str, shape: tuple[int, int], per: str, group_size: int, groups: _Groups | None, blocks: U8 | None
    ) -> None:
        """For `quantize`, which checks what it hands over."""
        self.scheme, self.shape, self.per, self.group_size, self.blocks = scheme, shape, per, group_size, blocks
        self.scales: F32 | None = None
        self.zeros: I32 | None = None
        self.minimums: F32 | None = None
        self._codes: npt.NDArray[Any] = np.empty((0, 0), np.int8)  # two to a byte where they have 4 bits
        self._weight: Weight | None = None
        if groups is not None:
            self.scales, self.zeros, self.minimums = groups.scales, groups.zeros, groups.minimums
            if blocks is None and scheme.startswith("Q4"):
                flat = groups.codes.reshape(1, -1)
                self._codes = fold(np.pad(flat, ((0, 0), (0, flat.size % 2))), 1, 4)
            elif blocks is None:
                self._codes = groups.codes.astype(np.int8)

    @classmethod
    def quantize(
        cls,
        x: npt.ArrayLike,
        scheme: str = "Q8_0",
        *,
        per: str = "group",
        group_size: int = 32,
        symmetric: bool | None = None,
    ) -> QuantizedTensor:
        """Floats (rows, cols) -> a QuantizedTensor.

        scheme      one of SCHEMES, in any case of letters
        per         "channel" for one scale a row, "group" for one every `group_size` columns, which must divide cols
        symmetric   of INT8: whether 0 is the code of 0 (default). The others are what they are: Q4_1 is not symmetric

        F16 has no scales; `per` and `group_size` say nothing there. Raises UnknownName, DTypeError, ShapeError, and
        InvalidArgument for a value that is not finite, or above 65504 where a half stands for it.
        """
        name = scheme.upper()
        if name not in cls.SCHEMES:
            raise UnknownName("scheme", scheme, cls.SCHEMES)
        if per not in ("channel", "group"):
            raise UnknownName("granularity", per, ("channel", "group"))
        if symmetric is not None and name != "INT8" and symmetric is not (name != "Q4_1"):
            raise InvalidArgument(
                f"{name} is {'not ' if name == 'Q4_1' else ''}symmetric; INT8 is the one to choose for"
            )
        w = cls._checked(x, MOST_HALF if name != "INT8" else float(np.finfo(np.float32).max))
        rows, cols = w.shape
        size = cols if per == "channel" or name == "F16" else group_size
        if size < 1 or cols % size:
            raise ShapeError(f"QuantizedTensor: {cols} columns are not whole groups of {size}")
        if name == "F16" or (name != "INT8" and size == 32):
            blocks = quantize_rows(w, name)
            groups = None if name == "F16" else cls._of_blocks(blocks, name, w.shape)
            return cls(name, (rows, cols), per, size, groups, blocks)
        grouped = w.reshape(rows, cols // size, size)
        if name == "INT8":
            made = _int8(grouped, symmetric is not False)
        else:
            made = {"Q4_0": _q4_0, "Q4_1": _q4_1, "Q8_0": _q8_0}[name](grouped)
        return cls(name, (rows, cols), per, size, made._replace(codes=made.codes.reshape(rows, cols)), None)

    @staticmethod
    def _checked(x: npt.ArrayLike, most: float) -> F32:
        array = np.asarray(x)
        if array.dtype.kind != "f":
            raise DTypeError(f"QuantizedTensor: expected floats, found {array.dtype}")
        if array.ndim != 2 or not array.size:
            raise ShapeError(f"QuantizedTensor: shape {array.shape}, want (rows, cols), neither of them 0")
        w = np.ascontiguousarray(array, np.float32)
        bad = np.argwhere(~(np.abs(w) <= most))
        if len(bad):
            row, column = bad[0]
            raise InvalidArgument(
                f"QuantizedTensor: row {row}, column {column} is {w[row, column]}, want at most {most:.6g} in size"
            )
        return w

    @staticmethod
    def _of_blocks(blocks: U8, name: str, shape: tuple[int, ...]) -> _Groups:
        parts = unpack(blocks.reshape(-1), name)
        scales = parts.scales.reshape(shape[0], -1)
        minimums = None if parts.minimums is None else -parts.minimums.reshape(shape[0], -1)
        zeros = np.full(scales.shape, parts.zero, np.int32) if parts.zero else None
        return _Groups(parts.codes.reshape(shape), scales, zeros, minimums)

    @property
    def codes(self) -> I32:
        """The integers, int32 (rows, cols). Raises InvalidArgument for F16, which has none."""
        if self.scheme == "F16":
            raise InvalidArgument("F16 has no codes: each value stands for itself")
        if self.blocks is not None:
            return self._of_blocks(self.blocks, self.scheme, self.shape).codes
        codes = fields(self._codes, 1, 4)[:, : self.size] if self.scheme.startswith("Q4") else self._codes
        return codes.reshape(self.shape).astype(np.int32)

    @property
    def size(self) -> int:
        """Values: rows * cols."""
        return self.shape[0] * self.shape[1]

    @property
    def symmetric(self) -> bool:
        """Whether the code of 0 is in the middle: of Q4_0 it is, of Q4_1 it is not."""
        return self.scheme != "Q4_1" and not (self.scheme == "INT8" and self.zeros is not None)

    @property
    def nbytes(self) -> int:
        """Bytes that it takes: codes, and scales of 2 bytes (INT8: 4), minimums of 2, zero points of 1."""
        if self.blocks is not None:
            return self.blocks.nbytes
        assert self.scales is not None
        each = (5 if self.zeros is not None else 4) if self.scheme == "INT8" else 4 if self.scheme == "Q4_1" else 2
        return self._codes.nbytes + each * self.scales.size

    @property
    def bits_per_weight(self) -> float:
        return 8 * self.nbytes / self.size

    def dequantize(self) -> F32:
        """Its values, float32 (rows, cols): the products, and the sums with minimums, each rounded to float32."""
        if self.blocks is not None:
            return dequantize(self.blocks, self.scheme)
        assert self.scales is not None
        shape = (*self.scales.shape, self.group_size)
        codes = self.codes.reshape(shape) - (0 if self.zeros is None else self.zeros[..., None])
        values: F32 = codes.astype(np.float32) * self.scales[..., None]
        if self.minimums is not None:
            values = values + self.minimums[..., None]
        return values.reshape(self.shape)

    def error(self, x: npt.ArrayLike) -> Distortion:
        """How far it is from x (rows, cols). Raises ShapeError."""
        a = np.asarray(x, np.float64)
        if a.shape != self.shape:
            raise ShapeError(f"QuantizedTensor.error: shape {a.shape}, this is {self.shape}")
        b = self.dequantize().astype(np.float64)
        norms = np.sqrt((a * a).sum() * (b * b).sum())
        cosine = float((a * b).sum() / norms) if norms else float(not (a.any() or b.any()))
        return Distortion(float(np.sqrt(((a - b) ** 2).mean())), float(np.abs(a - b).max()), cosine)

    def matmul(self, x: npt.ArrayLike, *, isa: str | None = None, n_threads: int | None = None) -> F32:
        """y = x W^T.   x (T, cols) -> float32 (T, rows)

        By the C kernels where the layout is a GGUF type's (see zl's `linear`), else as the file's head says, in NumPy,
        whatever `isa` and `n_threads`. Raises ShapeError, DTypeError, InvalidArgument for x that is not finite.
        """
        rows = self._checked(x, float(np.finfo(np.float32).max))
        if rows.shape[1] != self.shape[1]:
            raise ShapeError(f"QuantizedTensor.matmul: x has {rows.shape[1]} columns, the matrix {self.shape[1]}")
        if self.blocks is None:
            return self._integer_product(rows)
        if self._weight is None:
            self._weight = Weight(type_by_name(self.scheme), *self.shape, self.blocks.reshape(-1))
        runtime = EagerRuntime(shared_context(isa, n_threads), Step.of_rows(len(rows)))
        y: F32 = np.array(linear(runtime.rows(rows), self._weight).array)
        return y

    def _integer_product(self, x: F32) -> F32:
        assert self.scales is not None
        groups, size = self.scales.shape[1], self.group_size
        if size > LONGEST_SUM:
            raise ShapeError(
                f"QuantizedTensor.matmul: sums of {size} products may exceed 32 bits, at most {LONGEST_SUM}"
            )
        parts = x.reshape(len(x), groups, size)
        t = np.abs(parts).max(axis=2) / np.float32(127)
        a = np.rint(parts * inverse(t)[..., None]).astype(np.int32).clip(-127, 127)
        codes = self.codes.reshape(self.shape[0], groups, size)
        y = np.zeros((len(x), self.shape[0]), np.float32)
        for g in range(groups):
            i, total = a[:, g] @ codes[:, g].T, a[:, g].sum(axis=1, dtype=np.int32)[:, None]
            if self.zeros is not None:
                i = i - total * self.zeros[:, g]
            part = self.scales[:, g] * i.astype(np.float32)
            if self.minimums is not None:
                part = part + self.minimums[:, g] * total.astype(np.float32)
            y = y + t[:, g, None] * part
        return y

    def __repr__(self) -> str:
        where = "" if self.scheme == "F16" else f" per {self.per}" + (f" of {self.group_size}" * (self.per == "group"))
        return f"<QuantizedTensor {self.shape} {self.scheme}{where}, {self.bits_per_weight:.3g} bits per weight>"
