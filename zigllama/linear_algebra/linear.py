"""Weights, and the products of rows with them: `y = x W^T (+ bias) (+ residual)`.

A `Weight` is a matrix (rows, cols) in some number format, as its file bytes. On native values it is multiplied in the C
library's own form (panels, or straight from the mapped file); on NumPy arrays by the twin of its format.

What it is not: it knows no block layout. Those are in quantization.py and k_quantization.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from zigllama.errors import ShapeError
from zigllama.foundation.ggml_types import GGMLType, row_bytes, type_by_name
from zigllama.foundation.opcodes import Opcode
from zigllama.foundation.runtime import F32, Lowered, op
from zigllama.foundation.tape_passes import Tape, TapeOp

U8 = npt.NDArray[np.uint8]


class Weight:
    """A matrix W (rows, cols) in a number format.

    type    its `GGMLType`
    data    its file bytes, uint8 (n_bytes,); row r begins at r * n_bytes / rows
    name    for error messages
    source  the tensor of the file that its rows are of: another than `name` where the file joins several matrices
    stack   how many matrices of rows / stack rows each it holds, one behind the other (a layer's experts); else 1
    compute how F16 and BF16 are multiplied: "f32", or "bf16" (bf16.py); set before it is first prepared

    Raises ShapeError when `data` is not exactly rows * cols values long.
    """

    def __init__(
        self,
        type: GGMLType,
        rows: int,
        cols: int,
        data: U8,
        name: str = "weight",
        source: str | None = None,
        stack: int = 1,
    ) -> None:
        if stack < 1 or rows % stack:
            raise ShapeError(f"{name}: {rows} rows are no {stack} matrices of equal size")
        need = rows * row_bytes(type, cols)
        if data.nbytes != need:
            raise ShapeError(f"{name}: {rows} x {cols} values of {type.name} take {need} bytes, found {data.nbytes}")
        self.type, self.rows, self.cols, self.name, self.source = type, rows, cols, name, source or name
        self.data: U8 = data
        self.stack = stack
        self.compute = "f32"
        self._native: dict[int, Any] = {}  # id(context) -> NativeWeight

    @classmethod
    def from_array(cls, array: npt.ArrayLike, name: str = "weight") -> Weight:
        """A float32 weight of a (rows, cols) array."""
        a = np.ascontiguousarray(array, np.float32)
        if a.ndim != 2:
            raise ShapeError(f"{name}: expected (rows, cols), found shape {a.shape}")
        rows, cols = a.shape
        return cls(type_by_name("F32"), rows, cols, a.reshape(-1).view(np.uint8), name)

    def prepare(self, context: Any, *, mapped: bool = False, release: bool = False, together: bool = False) -> Any:
        """Bring it into the form that `context` multiplies: panels, or with `mapped` the file's bytes as they are.

        With `release` the pages of the mapped file are let go as they are read; `together` is for the weights of a
        model, which are closed together (see NativeWeight). Done once per context; the ops do it when it was not done
        before. Raises DTypeError, ISAUnavailable, OutOfMemory and MappingFault.
        """
        if id(context) not in self._native:
            prepare_all(context, [(self, mapped, release, together)])
        return self._native[id(context)]

    def native_operand(self, context: Any) -> tuple[int, int, int, Any]:
        """See runtime.NativeOperand."""
        operand: tuple[int, int, int, Any] = self.prepare(context).native_operand(context)
        return operand

    def matrix(self, i: int) -> Weight:
        """Matrix i of the stack, a weight of its own over the same bytes."""
        rows, size = self.rows // self.stack, self.data.nbytes // self.stack
        data = self.data[i * size : (i + 1) * size]
        part = Weight(self.type, rows, self.cols, data, f"{self.name}[{i}]", self.source)
        part.compute = self.compute
        return part

    def dequantized(self) -> F32:
        """Its values, float32 (rows, cols), as GGML's dequantisation gives them."""
        from zigllama.linear_algebra.quantization import dequantize

        return dequantize(self.data, self.type.name).reshape(self.rows, self.cols)

    def close(self) -> None:
        """Give back the native forms."""
        while self._native:
            self._native.popitem()[1].close()

    def __repr__(self) -> str:
        return f"<Weight {self.name} ({self.rows}, {self.cols}) {self.type.name}>"


def prepare_all(context: Any, jobs: Sequence[tuple[Weight, bool, bool, bool]]) -> None:
    """`Weight.prepare` of many: (weight, mapped, release, together) each, once. The C library is called once, and other
    threads run Python meanwhile; all are made that were not, or none. Raises as `prepare`."""
    from zigllama.foundation.native_weights import NativeMatrix, NativeWeight

    new = {id(job[0]): job for job in jobs if id(context) not in job[0]._native}.values()
    matrices = [
        NativeMatrix(w.type.id, w.rows, w.cols, w.data, mapped, release, w.compute == "bf16", together, w.stack)
        for w, mapped, release, together in new
    ]
    for (w, *_), native in zip(new, NativeWeight.many(context, matrices), strict=True):
        w._native[id(context)] = native


def _lower_linear(x: Any, weight: Weight, bias: Any = None, residual: Any = None) -> Lowered:
    return Lowered([x, weight, bias, residual], [weight.rows], ints=[1])


@op(code=Opcode.LINEAR, lower=_lower_linear, rowwise=True)
def linear(x: Any, weight: Any, bias: Any = None, residual: Any = None) -> Any:
    """y = x W^T + bias + residual, the additions in that order and only where given.

    x (T, C), W (N, C), bias (N,), residual (T, N) -> (T, N)

    With a quantised W, x is rounded to 8 bits per value first, with scales for 32 columns that may be alike in 256, and
    products under like scales are summed as integers (see quantization.py); with a float W everything is float32, or
    bf16 products (see bf16.py) where its `compute` says so. Raises ShapeError.
    """
    from zigllama.linear_algebra.bf16 import bf16_product
    from zigllama.linear_algebra.quantization import matmul_twin

    if x.ndim != 2 or x.shape[1] != weight.cols:
        raise ShapeError(f"linear: x has shape {x.shape}, {weight.name} is ({weight.rows}, {weight.cols})")
    if weight.stack != 1:
        raise ShapeError(f"linear: {weight.name} is a stack of {weight.stack} matrices")
    if weight.compute == "bf16":
        y = bf16_product(x, weight.dequantized())
    else:
        y = matmul_twin(x, weight.data, weight.type.name, weight.rows)
    y = y if bias is None else y + bias
    return y if residual is None else y + residual


def share_inputs(tape: Tape) -> Tape:
    """A pass: products of the same x with up to three weights (q, k, v) become one op, which quantises x once and is
    one stage of the thread pool instead of three. It takes the place of the first."""
    ops: list[TapeOp] = []
    first: dict[tuple[int, int], TapeOp] = {}  # (slot and kind of x) -> the op that others may join
    for row in tape.ops:
        alone = row.op is linear and row.ints == (1,) and row.ins[3] is None
        key = (row.ins[0].slot, row.ins[0].rows_kind) if alone else None
        group = first.get(key) if key is not None else None
        if group is not None and group.ints[0] < 3:
            group.ins += row.ins[1:]
            group.outs += row.outs
            group.ints = (group.ints[0] + 1,)
            continue
        row = replace(row, ins=list(row.ins), outs=list(row.outs))
        if key is not None:
            first[key] = row
        ops.append(row)
    return replace(tape, ops=ops)


def _lower_embed(step: Any, weight: Weight, *, scale: float = 1.0) -> Lowered:
    return Lowered([weight], [weight.cols], floats=[scale])


@op(code=Opcode.EMBED, lower=_lower_embed)
def embed(step: Any, weight: Any, *, scale: float = 1.0) -> Any:
    """scale * W[token] for each row of the step; rows whose token is -1 are those of `step.inputs`, unscaled.

    W (V, C) -> (T, C). Raises ShapeError for a token outside the vocabulary.
    """
    from zigllama.linear_algebra.quantization import dequantize

    tokens = step.tokens
    if tokens.size and not (tokens.min() >= -1 and tokens.max() < weight.rows):
        raise ShapeError(f"embed: tokens from {tokens.min()} to {tokens.max()}, the vocabulary has {weight.rows}")
    rows = weight.data.reshape(weight.rows, -1)[np.maximum(tokens, 0)]
    y = dequantize(rows.reshape(-1), weight.type.name).reshape(len(tokens), weight.cols) * np.float32(scale)
    if step.inputs is not None:
        y = np.where((tokens < 0)[:, None], step.inputs, y)
    elif (tokens < 0).any():
        raise ShapeError("embed: a row has no token and the step has no input rows")
    return y.astype(np.float32)
