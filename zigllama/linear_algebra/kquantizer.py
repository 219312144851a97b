"""`KQuantizer`: rows of floats to one of the K-quants and back, with or without importance.

What the bytes are is drawn in k_quantization.py, how codes and scales are chosen is in k_quantizers.py. What this file
is not: it computes nothing, and decides for no tensor of a model which type it gets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from zigllama.linear_algebra.row_quantizer import RowQuantizer


class KQuantizer(RowQuantizer):
    """Quantises matrices to a K-quant (Kawrakow, llama.cpp, 2023): 2.63 to 6.56 bits per weight.

        q = KQuantizer("Q4_K")                                # importance=mean_squares, (cols,): see zl.quantize_rows
        blocks = q.quantize(w)                                # float32 (rows, cols) -> uint8 (rows, bytes per row)
        w2 = q.dequantize(blocks)                             # float32 (rows, cols)

    Its blocks are superblocks of 256. Arguments as of RowQuantizer. Raises UnknownName.
    """

    FAMILY = "K-quant"
    TYPES = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
    MIXES: ClassVar[Mapping[str, str]] = {
        "Q2_K_S": "Q2_K",
        "Q3_K_S": "Q3_K",
        "Q3_K_M": "Q3_K",
        "Q3_K_L": "Q3_K",
        "Q4_K_S": "Q4_K",
        "Q4_K_M": "Q4_K",
        "Q5_K_S": "Q5_K",
        "Q5_K_M": "Q5_K",
    }
