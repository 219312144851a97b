"""The structs of zl_api.h as NumPy record types, so that a list of ops is an array and costs one pointer.

    tensors = np.zeros(3, TENSOR)
    tensors[0] = tensor_row(EXTERNAL, rows=8, cols=576, address=address)
    ops = np.zeros(1, OP)
    ops[0] = op_row(Opcode.ADD, ins=(0, 1), outs=(2,))

What it is not: it makes no pointer and loads no library; addresses are numbers that `native.py` hands out. A test
compares every size and offset with what the compiler made of the header.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from zigllama.errors import InvalidArgument

N_IN, N_OUT, N_INT, N_FLOAT, N_CLASSES = 12, 4, 8, 4, 8

# zl_tensor_kind and zl_rows
ARENA, EXTERNAL, CONST, WEIGHT, CACHE_KIND = 0, 1, 2, 3, 4
ROWS_STEP, ROWS_OUT = 0, 1

OP: Final = np.dtype(
    [("code", "i4"), ("in", "i4", N_IN), ("out", "i4", N_OUT), ("ip", "i4", N_INT), ("fp", "f4", N_FLOAT)], align=True
)
TENSOR: Final = np.dtype(
    [("kind", "i4"), ("rows_kind", "i4"), ("rows", "i8"), ("cols", "i8"), ("offset", "i8"), ("data", np.uintp)],
    align=True,
)
STEP: Final = np.dtype(
    [
        *((name, "i4") for name in ("n_rows", "n_out", "n_seq", "n_planes", "input_cols", "skip_top_k")),
        *(
            (name, np.uintp)
            for name in ("tokens", "inputs", "positions", "cache_pos", "see_to", "seq", "out_rows", "mask")
        ),
        ("tables", np.uintp, N_CLASSES),
        ("table_width", "i4", N_CLASSES),
    ],
    align=True,
)
CACHE: Final = np.dtype(
    [
        *((name, "i4") for name in ("type", "cls", "n_layer", "n_kv", "dk", "dv", "n_pages", "state")),
        ("k", np.uintp),
        ("v", np.uintp),
    ],
    align=True,
)

# The same two layouts for struct.pack, which makes one in a third of the time NumPy takes: for ops that run at once.
PACK_OP: Final = struct.Struct(f"=i{N_IN}i{N_OUT}i{N_INT}i{N_FLOAT}f")
PACK_TENSOR: Final = struct.Struct("=iiqqqQ")


def op_fields(
    code: int, ins: Sequence[int], outs: Sequence[int], ints: Sequence[int] = (), floats: Sequence[float] = ()
) -> tuple[Any, ...]:
    """The fields of a zl_op in order, flat: absent operands are -1, absent parameters 0.

    Raises InvalidArgument when there are more than the struct holds.
    """
    n_in, n_out, n_int, n_float = len(ins), len(outs), len(ints), len(floats)
    if n_in > N_IN or n_out > N_OUT or n_int > N_INT or n_float > N_FLOAT:
        raise InvalidArgument(
            f"op {code}: {n_in} inputs, {n_out} outputs, {n_int} integers, {n_float} floats; "
            f"an op holds {N_IN}, {N_OUT}, {N_INT}, {N_FLOAT}"
        )
    return (
        code,
        *ins, *(-1,) * (N_IN - n_in),
        *outs, *(-1,) * (N_OUT - n_out),
        *ints, *(0,) * (N_INT - n_int),
        *floats, *(0.0,) * (N_FLOAT - n_float),
    )  # fmt: skip


def op_row(
    code: int, ins: Sequence[int], outs: Sequence[int], ints: Sequence[int] = (), floats: Sequence[float] = ()
) -> tuple[Any, ...]:
    """A row for an array of type OP. Raises InvalidArgument as `op_fields` does."""
    f = op_fields(code, ins, outs, ints, floats)
    a, b, c = 1 + N_IN, 1 + N_IN + N_OUT, 1 + N_IN + N_OUT + N_INT
    return (f[0], f[1:a], f[a:b], f[b:c], f[c:])


def tensor_row(
    kind: int, *, rows_kind: int = ROWS_STEP, rows: int = 0, cols: int = 0, offset: int = 0, address: int = 0
) -> tuple[int, ...]:
    """A row for an array of type TENSOR. `offset` is for ARENA (floats per row before it), `address` for the others."""
    return (kind, rows_kind, rows, cols, offset, address)
