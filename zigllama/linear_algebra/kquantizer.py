"""`KQuantizer`: rows of floats to one of the K-quants and back, with or without importance.

What the bytes are is drawn in k_quantization.py, how codes and scales are chosen is in k_quantizers.py. What this file
is not: it computes nothing, and decides for no tensor of a model which type it gets.
"""

from __future__ import annotations

from typing import Final

import numpy.typing as npt

from zigllama.errors import UnknownName
from zigllama.foundation.ggml_types import type_by_name
from zigllama.foundation.runtime import F32
from zigllama.linear_algebra.number_formats import U8, dequantize, quantize_rows


class KQuantizer:
    """Quantises matrices to a K-quant (Kawrakow, llama.cpp, 2023): 2.63 to 6.56 bits per weight.

        q = KQuantizer("Q4_K")                                # importance=mean_squares, (cols,): see zl.quantize_rows
        blocks = q.quantize(w)                                # float32 (rows, cols) -> uint8 (rows, bytes per row)
        w2 = q.dequantize(blocks)                             # float32 (rows, cols)

    name   one of TYPES, or one of MIXES: recipes for whole models, most of whose matrices have the type given there;
           `type_name` is that type. In any case of letters.

    Raises UnknownName.
    """

    TYPES: Final = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
    MIXES: Final = {
        "Q2_K_S": "Q2_K",
        "Q3_K_S": "Q3_K",
        "Q3_K_M": "Q3_K",
        "Q3_K_L": "Q3_K",
        "Q4_K_S": "Q4_K",
        "Q4_K_M": "Q4_K",
        "Q5_K_S": "Q5_K",
        "Q5_K_M": "Q5_K",
    }

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
            raise UnknownName("K-quant", name, (*self.TYPES, *self.MIXES))
        self.name = known
        self.type_name = self.MIXES.get(known, known)
        self.importance = importance
        self._where = {"isa": isa, "n_threads": n_threads}

    @property
    def block_size(self) -> int:
        """Values of a superblock, 256: what the columns must be a multiple of."""
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
