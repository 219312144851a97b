"""Small native calls that several tests make: out = x + y, as ops and tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from zigllama.foundation import native_structs as structs
from zigllama.foundation.native_context import address_of
from zigllama.foundation.opcodes import Opcode


def add_records(x: Any, y: Any, out: Any, n_rows: int | None = None) -> tuple[Any, Any]:
    """Ops and tensors of out = x + y."""
    tensors = np.zeros(3, structs.TENSOR)
    for i, a in enumerate((x, y, out)):
        rows = a.shape[0] if n_rows is None else n_rows
        tensors[i] = structs.tensor_row(structs.EXTERNAL, rows=rows, cols=a.shape[1], address=address_of(a))
    ops = np.zeros(1, structs.OP)
    ops[0] = structs.op_row(Opcode.ADD, ins=(0, 1), outs=(2,))
    return ops, tensors


def arrays(rows: int = 3, cols: int = 5) -> tuple[Any, Any, Any]:
    x = np.arange(rows * cols, dtype=np.float32).reshape(rows, cols)
    return x, np.float32(100) - x * x, np.zeros_like(x)
