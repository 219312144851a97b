"""A tensor of a model file, a few rows at a time: as bytes, as floats, and in another number format.

    for slab in slabs(reader, info, importance):
        x = slab.floats()                       # float32 (rows, C), finite
        slab.quantized(x, type_by_name("Q4_0")) # uint8 (rows, bytes per row)

So a model of any size is quantised or measured in a few megabytes. What it is not: it decides nothing
(quantize_plan.py) and rounds nothing itself (layer 2's `quantize_rows`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zigllama.app.quantize_plan import importance_for
from zigllama.errors import BadTensor, InvalidArgument
from zigllama.foundation.ggml_types import GGMLType, row_bytes
from zigllama.foundation.gguf_format import GGUFReader, TensorInfo
from zigllama.foundation.runtime import F32
from zigllama.linear_algebra.number_formats import dequantize, quantize_rows
from zigllama.models.importance import Importance

SLAB = 1 << 20  # values that are taken at a time: 4 MB as floats

U8 = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Slab:
    """Rows of one matrix of a tensor.

    first        the first of them, counted through all matrices of a stack
    data         their bytes in the file, uint8 (rows, bytes per row)
    importance   of the matrix's columns, float32 (C,), None where there is none
    """

    info: TensorInfo
    first: int
    data: U8
    importance: F32 | None
    n_threads: int | None = None

    def floats(self) -> F32:
        """float32 (rows, C). Raises BadTensor with the place of a value that is not finite."""
        x = dequantize(self.data, self.info.type.name, n_threads=self.n_threads)
        if not (math.isfinite(x.max()) and math.isfinite(x.min())):  # NaN is passed on by both
            row, column = (int(i) for i in np.argwhere(~np.isfinite(x))[0])
            where = f"value {column} of row {self.first + row}"
            raise BadTensor(self.info.name, f"{where} is {x[row, column]}, not finite")
        return x

    def quantized(self, x: F32, target: GGMLType) -> U8:
        """These floats in another type. Raises BadTensor for a value that it does not take."""
        try:
            return quantize_rows(x, target.name, self.importance, n_threads=self.n_threads)
        except InvalidArgument as e:
            raise BadTensor(self.info.name, f"in the rows from {self.first}: {e}") from e


def slabs(
    reader: GGUFReader, info: TensorInfo, importance: Importance | None = None, n_threads: int | None = None
) -> Iterator[Slab]:
    """All rows in order; no slab has rows of two matrices of a stack. A slab's pages are let go when the next is asked
    for. Raises BadImportance."""
    width, per_matrix = info.shape[-1], math.prod(info.shape[-2:-1])
    weights = importance_for(info, importance)
    size, n_rows = row_bytes(info.type, width), max(1, SLAB // width)
    rows = reader.tensor_bytes(info.name).reshape(-1, size)
    mapping = reader.mapping(info.part)
    for matrix in range(len(rows) // per_matrix):
        end = (matrix + 1) * per_matrix
        for first in range(matrix * per_matrix, end, n_rows):
            part = rows[first : min(first + n_rows, end)]
            yield Slab(info, first, part, None if weights is None else weights[matrix], n_threads)
            mapping.release(info.offset + first * size, part.nbytes)
