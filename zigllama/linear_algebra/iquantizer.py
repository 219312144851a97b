"""`IQuantizer`: rows of floats to one of the IQ formats and back, with or without importance.

What the bytes are is drawn in iq_quantization.py, how codes and scales are chosen is in iq_quantizers.py and
iq4_quantizers.py. What this file is not: it computes nothing, and decides for no tensor of a model which type it gets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from zigllama.linear_algebra.iq_quantizers import NEED_IMPORTANCE
from zigllama.linear_algebra.row_quantizer import RowQuantizer


class IQuantizer(RowQuantizer):
    """Quantises matrices to an IQ format (Kawrakow, llama.cpp, 2024): 1.56 to 4.5 bits per weight.

        q = IQuantizer("IQ3_S", importance=mean_squares)      # (cols,): see zl.quantize_rows
        blocks = q.quantize(w)                                # float32 (rows, cols) -> uint8 (rows, bytes per row)
        w2 = q.dequantize(blocks)                             # float32 (rows, cols)

    Arguments as of RowQuantizer. Raises UnknownName, InvalidArgument for a type that is not made without importance
    (IQ1_S, IQ2_XXS, IQ2_XS).
    """

    FAMILY = "IQ format"
    TYPES = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_NL", "IQ4_XS")
    MIXES: ClassVar[Mapping[str, str]] = {"IQ2_M": "IQ2_S", "IQ3_XS": "IQ3_S", "IQ3_M": "IQ3_S"}
    NEED_IMPORTANCE = NEED_IMPORTANCE
