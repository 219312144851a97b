"""`IQuantizer`: rows of floats to one of the IQ formats and back, with or without importance.

What the bytes are is drawn in iq_quantization.py, how codes and scales are chosen is in iq_quantizers.py and
iq4_quantizers.py. What this file is not: it computes nothing, and decides for no tensor of a model which type it gets.
"""

from __future__ import annotations

from typing import Final

import numpy.typing as npt

from zigllama.errors import InvalidArgument, UnknownName
from zigllama.foundation.ggml_types import type_by_name
from zigllama.foundation.runtime import F32
from zigllama.linear_algebra.iq_quantizers import NEED_IMPORTANCE
from zigllama.linear_algebra.number_formats import U8, dequantize, quantize_rows


class IQuantizer:
    """Quantises matrices to an IQ format (Kawrakow, llama.cpp, 2024): 1.56 to 4.5 bits per weight.

        q = IQuantizer("IQ3_S", importance=mean_squares)      # (cols,): see zl.quantize_rows
        blocks = q.quantize(w)                                # float32 (rows, cols) -> uint8 (rows, bytes per row)
        w2 = q.dequantize(blocks)                             # float32 (rows, cols)

    name   one of TYPES, or one of MIXES: recipes for whole models, most of whose matrices have the type given there;
           `type_name` is that type. In any case of letters.

    Raises UnknownName, InvalidArgument for a type that is not made without importance (IQ1_S, IQ2_XXS, IQ2_XS).
    """

    TYPES: Final = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_NL", "IQ4_XS")
    MIXES: Final = {"IQ2_M": "IQ2_S", "IQ3_XS": "IQ3_S", "IQ3_M": "IQ3_S"}

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
            raise UnknownName("IQ format", name, (*self.TYPES, *self.MIXES))
        self.name = known
        self.type_name = self.MIXES.get(known, known)
        if importance is None and self.needs_importance:
            raise InvalidArgument(f"{self.type_name} needs importance, one number per column")
        self.importance = importance
        self._where = {"isa": isa, "n_threads": n_threads}

    @property
    def needs_importance(self) -> bool:
        """Whether the format is refused without importance, as llama.cpp refuses it."""
        return self.type_name in NEED_IMPORTANCE

    @property
    def block_size(self) -> int:
        """Values of a quant block: what the columns must be a multiple of."""
        return type_by_name(self.type_name).block_size

    @property
    def bits_per_weight(self) -> float:
        return type_by_name(self.type_name).bits_per_weight

    def quantize(self, x: npt.ArrayLike) -> U8:
        """float32 (rows, cols) -> uint8 (rows, bytes per row). Raises what `zl.quantize_rows` does."""
        return quantize_rows(x, self.type_name, self.importance, **self._where)  # type: ignore[arg-type]

    def dequantize(self, blocks: U8) -> F32:
        """uint8 (rows, bytes per row) -> float32 (rows, cols). Raises what `zl.dequantize` does."""
        return dequantize(blocks, self.type_name, **self._where)  # type: ignore[arg-type]
