"""Weights as C holds them: a leaf of native.py's door.

NativeMatrix   what one is made of: a matrix in a number format, as its file bytes
NativeWeight   panels of its own, or the file's bytes where they lie
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from zigllama import errors

from . import native_structs as structs
from .native import check, ffi, lib
from .native_context import NativeContext
from .native_step import want_array

U8 = npt.NDArray[np.uint8]


class NativeMatrix(NamedTuple):
    """A matrix (rows, cols) in a number format, its file bytes `data` (uint8).

    mapped     it is multiplied as it lies in `data`, which is kept alive, and not in panels of its own
    release    pages of `data`, a mapping under `guard_add`, are let go as they are repacked, or looked up in
    bf16       F16 and BF16 are multiplied in bf16
    together   its panels share huge pages with others of the context, given back with the last of them
    stack      so many matrices of equal rows it is, one behind the other
    """

    type_id: int
    rows: int
    cols: int
    data: U8
    mapped: bool = False
    release: bool = False
    bf16: bool = False
    together: bool = False
    stack: int = 1

    def record(self, pointer: Any) -> tuple[Any, ...]:
        """A zl_matrix, with the pointer to `data`."""
        flags = lib.ZL_WEIGHT_MAPPED * self.mapped | lib.ZL_WEIGHT_RELEASE * self.release
        flags |= lib.ZL_WEIGHT_BF16 * self.bf16 | lib.ZL_WEIGHT_TOGETHER * self.together
        return self.type_id, flags, self.stack, self.rows // self.stack, self.cols, self.data.nbytes, pointer


class NativeWeight:
    """A matrix as the C library multiplies it; the arguments after the context are NativeMatrix's fields.

    Raises ShapeError, DTypeError (a type without kernels), ISAUnavailable (bf16 on another variant), OutOfMemory and
    MappingFault.
    """

    def __init__(self, ctx: NativeContext, *matrix: Any, **fields: Any) -> None:
        made = NativeMatrix(*matrix, **fields)
        self._own(ctx, made, *_made(ctx, [made])[0])

    @classmethod
    def many(cls, ctx: NativeContext, matrices: Sequence[NativeMatrix]) -> list[Self]:
        """All weights of a model, by one call of C during which other threads can run Python: all are made, or none."""
        weights = []
        for matrix, (pointer, data) in zip(matrices, _made(ctx, matrices), strict=True):
            weight = cls.__new__(cls)
            weight._own(ctx, matrix, pointer, data)
            weights.append(weight)
        return weights

    def _own(self, ctx: NativeContext, matrix: NativeMatrix, pointer: Any, data: Any) -> None:
        self.pointer: Any = pointer
        self._data = data if matrix.mapped else None
        self.type_id, self.rows, self.cols, self.mapped = matrix.type_id, matrix.rows, matrix.cols, matrix.mapped
        self.isa = ctx.isa
        self.n_bytes = int(lib.zl_weight_bytes(pointer))

    def native_operand(self, context: Any) -> tuple[int, int, int, Any]:
        """See runtime.NativeOperand. Raises InvalidArgument for a context of another ISA variant: its panels differ."""
        if self.pointer is None:
            raise errors.ClosedError("the weight is closed")
        if context.isa != self.isa:
            raise errors.InvalidArgument(f"a weight packed for {self.isa} is used in a context of {context.isa}")
        return structs.WEIGHT, self.rows, self.cols, self.pointer

    def close(self) -> None:
        """Give its memory back; no op may use it afterwards."""
        if self.pointer is not None:
            ffi.release(self.pointer)
            self.pointer = self._data = None


def _made(ctx: NativeContext, matrices: Sequence[NativeMatrix]) -> list[tuple[Any, Any]]:
    """Pointers to weights, which free them, each with the one to its bytes."""
    for m in matrices:
        want_array(m.data, np.uint8, 1)
    data = [ffi.from_buffer(m.data) for m in matrices]
    records = ffi.new("zl_matrix[]", [m.record(d) for m, d in zip(matrices, data, strict=True)])
    out = ffi.new("zl_weight *[]", len(matrices))
    with ctx.using() as pointer:
        status = lib.zl_weights_new(pointer, len(matrices), records, out)
    check(status)
    return [(ffi.gc(w, lib.zl_weight_free), d) for w, d in zip(out, data, strict=True)]
