"""What the quantisers of a family of formats are from Python: a type by name, rows to blocks and back.

What this file is not: it knows no family. Those are kquantizer.py and iquantizer.py, which name their types and mixes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy.typing as npt

from zigllama.errors import InvalidArgument, UnknownName
from zigllama.foundation.ggml_types import type_by_name
from zigllama.foundation.runtime import F32
from zigllama.linear_algebra.number_formats import U8, dequantize, quantize_rows


class RowQuantizer:
    """Quantises matrices to one type, with or without importance.

    name         one of TYPES, or one of MIXES: recipes for whole models, most of whose matrices have the type given
                 there; `type_name` is that type. In any case of letters.
    importance   (cols,): see zl.quantize_rows

    Raises UnknownName, and InvalidArgument for a type that is not made without importance.
    """

    FAMILY: ClassVar[str]  # what the types are called in an error
    TYPES: ClassVar[tuple[str, ...]]
    MIXES: ClassVar[Mapping[str, str]]
    NEED_IMPORTANCE: ClassVar[tuple[str, ...]] = ()  # types that are refused without, as llama.cpp refuses them

    def __init__(
        self,
        name: str,
        importance: npt.ArrayLike | None = None,
        *,
        isa: str | None = None,
        n_threads: int | None = None,
    ) -> None:
        known = name.upper()
        if known not in self.TYPES and known not in self.MIXES:
            raise UnknownName(self.FAMILY, name, (*self.TYPES, *self.MIXES))
        self.name = known
        self.type_name = self.MIXES.get(known, known)
        self.importance = importance
        if importance is None and self.needs_importance:
            raise InvalidArgument(f"{self.type_name} needs importance, one number per column")
        self._isa, self._n_threads = isa, n_threads

    @property
    def needs_importance(self) -> bool:
        """Whether the type is refused without importance."""
        return self.type_name in self.NEED_IMPORTANCE

    @property
    def block_size(self) -> int:
        """Values of a quant block: what the columns must be a multiple of."""
        return type_by_name(self.type_name).block_size

    @property
    def bits_per_weight(self) -> float:
        return type_by_name(self.type_name).bits_per_weight

    def quantize(self, x: npt.ArrayLike) -> U8:
        """float32 (rows, cols) -> uint8 (rows, bytes per row). Raises what `zl.quantize_rows` does."""
        return quantize_rows(x, self.type_name, self.importance, isa=self._isa, n_threads=self._n_threads)

    def dequantize(self, blocks: U8) -> F32:
        """uint8 (rows, bytes per row) -> float32 (rows, cols). Raises what `zl.dequantize` does."""
        return dequantize(blocks, self.type_name, isa=self._isa, n_threads=self._n_threads)
