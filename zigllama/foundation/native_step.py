"""A step of the forward pass (see runtime.Step) as the C struct zl_step, kept up to date from run to run.

What it is not: it makes no pointer; `native.py` gives it the function that tells an array's address.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from zigllama.errors import DTypeError, ShapeError

from .native_structs import N_CLASSES, STEP


def want_array(array: Any, dtype: Any, ndim: int) -> None:
    """A C-contiguous array of this type and number of dimensions, or DTypeError / ShapeError."""
    if not isinstance(array, np.ndarray) or array.dtype != dtype:
        raise DTypeError(f"expected a {np.dtype(dtype)} array, found {getattr(array, 'dtype', type(array).__name__)}")
    if array.ndim != ndim or not array.flags.c_contiguous:
        found = f"shape {array.shape}, strides {array.strides}"
        raise ShapeError(f"expected {ndim} dimensions, C-contiguous; found {found}")


_COUNTS = ("n_rows", "n_out", "n_seq", "n_planes", "input_cols", "skip_top_k")
_ONE_PER_ROW = ("tokens", "cache_pos", "see_to", "seq")


class StepRecord:
    """One zl_step as a record array, with the arrays its addresses belong to kept beside it.

    `update(step)` sets the counts, and the addresses of those arrays that are other objects than before. A decode loop
    that writes its token and position into the same arrays pays for nothing else.
    """

    def __init__(self, step: Any, address_of: Callable[[npt.NDArray[Any]], int]) -> None:
        self.record = np.zeros(1, STEP)
        self._address_of = address_of
        self._kept: dict[str, Any] = {}
        self.update(step)

    def _point(self, name: str, array: Any, ndim: int, dtype: Any = np.int32) -> None:
        if self._kept.get(name, self) is array:
            return
        if array is not None:
            want_array(array, dtype, ndim)
        self.record[name] = 0 if array is None else self._address_of(array)
        self._kept[name] = array

    def update(self, step: Any) -> None:
        """Read a step. Raises ShapeError and DTypeError for arrays that C cannot take; C checks what is in them."""
        n = int(step.tokens.shape[0])
        for name in _ONE_PER_ROW:
            array = getattr(step, name)
            self._point(name, array, 1)
            if len(array) != n:
                raise ShapeError(f"step: {name} has {len(array)} entries, tokens {n}")
        self._point("positions", step.positions, 2)
        if step.positions.shape[1] != n:
            raise ShapeError(f"step: positions have shape {step.positions.shape}, there are {n} tokens")
        self._point("out_rows", step.out_rows, 1)
        self._point("inputs", step.inputs, 2, np.float32)
        if step.inputs is not None and step.inputs.shape[0] != n:
            raise ShapeError(f"step: inputs have shape {step.inputs.shape}, there are {n} tokens")
        self._mask(step.masks, len(step.out_rows))
        self._tables(step.tables, step.n_seq)
        width = 0 if step.inputs is None else step.inputs.shape[1]
        counts = (n, len(step.out_rows), step.n_seq, step.positions.shape[0], width, not step.best)
        if self._kept.get("counts") != counts:
            for name, value in zip(_COUNTS, counts, strict=True):
                self.record[name] = value
            self._kept["counts"] = counts

    def _mask(self, masks: Any, n_out: int) -> None:
        if masks is None and self._kept.get("masks") is None:
            return
        if masks is None:
            self.record["mask"] = 0
            self._kept["masks"] = self._kept["mask"] = None
            return
        if len(masks) != n_out:
            raise ShapeError(f"step: {len(masks)} masks for {n_out} wanted rows")
        for mask in masks:
            if mask is not None:
                want_array(mask, np.uint32, 1)
        pointers = np.array([0 if mask is None else self._address_of(mask) for mask in masks], np.uintp)
        self.record["mask"] = self._address_of(pointers)
        self._kept["masks"], self._kept["mask"] = list(masks), pointers

    def _tables(self, tables: Any, n_seq: int) -> None:
        if len(tables) > N_CLASSES:
            raise ShapeError(f"step: {len(tables)} page tables, at most {N_CLASSES}")
        for c in range(max(len(tables), self._kept.get("n_tables", 0))):
            table = tables[c] if c < len(tables) else None
            if table is not None and table.shape[0] < n_seq:
                raise ShapeError(f"step: page table {c} has {table.shape[0]} rows, there are {n_seq} sequences")
            if self._kept.get(f"table{c}", self) is table:
                continue
            if table is not None:
                want_array(table, np.int32, 2)
            self.record["tables"][0, c] = 0 if table is None else self._address_of(table)
            self.record["table_width"][0, c] = 0 if table is None else table.shape[1]
            self._kept[f"table{c}"] = table
        self._kept["n_tables"] = len(tables)
