"""Sums, products and scalings of rows, and the choice of rows: the small change of a forward pass."""

from __future__ import annotations

from typing import Any

import numpy as np

from zigllama.errors import ShapeError
from zigllama.foundation.opcodes import Opcode
from zigllama.foundation.runtime import ROWS_OUT, Lowered, Step, cols_of, op


def _same_shape(name: str, x: Any, y: Any) -> None:
    one_row = isinstance(y, np.ndarray) and y.shape == (cols_of(x),)
    if not one_row and np.shape(x) != np.shape(y):
        raise ShapeError(f"{name}: shapes {np.shape(x)} and {np.shape(y)} differ")


@op(code=Opcode.ADD, lower=lambda x, y: Lowered([x, y], [cols_of(x)]), rowwise=True)
def add(x: Any, y: Any) -> Any:
    """x + y, the residual connection (He et al., 2015).   x (T, C), y (T, C) or, the same for each row, (C,) -> (T, C).

    Raises ShapeError.
    """
    _same_shape("add", x, y)
    return x + y


@op(code=Opcode.MUL, lower=lambda x, y: Lowered([x, y], [cols_of(x)]), rowwise=True)
def mul(x: Any, y: Any) -> Any:
    """x * y, element by element.   x (T, C), y (T, C) or, the same for each row, (C,) -> (T, C).

    Raises ShapeError.
    """
    _same_shape("mul", x, y)
    return x * y


@op(code=Opcode.SCALE, lower=lambda x, *, factor: Lowered([x], [cols_of(x)], floats=[factor]), rowwise=True)
def scale(x: Any, *, factor: float) -> Any:
    """factor * x.   x (T, C) -> (T, C)"""
    return x * x.dtype.type(factor)


@op(code=Opcode.GATHER, lower=lambda x, step: Lowered([x], [cols_of(x)], rows_kind=ROWS_OUT))
def gather(x: Any, step: Step) -> Any:
    """x[step.out_rows]: the rows whose logits are wanted, so that the largest product is not done for the others.

    x (T, C) -> (R, C)
    """
    return x[step.out_rows]
