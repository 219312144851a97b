"""Rows on which quantisers that are neither K nor IQ are judged.

Where they have one rule they are compared with ggml byte for byte, so the rows have the same bits on every machine;
where they search, by the error that is left. Shared by test_low_quantizers.py, test_legacy_importance.py and
tools/make_legacy_golden.py.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
from quantize_samples import all_rows, rows_file
from quantize_samples import error as error
from quantize_samples import importance_of as importance_of
from random_weights import Stream

F32 = npt.NDArray[np.float32]
TYPES = {"TQ1_0": 34, "TQ2_0": 35, "MXFP4": 39, "NVFP4": 40, "Q1_0": 41, "Q2_0": 42}  # and ggml's numbers for them


def low_rows() -> dict[str, F32]:
    """Rows (40, 768) with long tails, each of another size, some special ones; and four of a real model (8, 1536)."""
    drawn = Stream("low quantisers").uniform(-1, 1, 40, 768) ** 3
    x = (drawn * np.ldexp(1.0, np.arange(40) - 28)[:, None]).astype(np.float32)
    x[3] = 0
    x[4] = -0.0
    x[5] = -0.375
    x[6] = np.round(drawn[6] * 64) / 8  # ties
    x[7, ::16] = 2688  # the largest value that NVFP4 takes
    with np.load(rows_file("iq")) as arrays:
        real = np.concatenate([arrays[name] for name in sorted(arrays)]).astype(np.float32)
    return {"drawn": x, "real": real}


def searched_rows() -> dict[str, F32]:
    """Rows for Q4_0 to Q5_1: those of the K-quants."""
    return all_rows("k")


def digest(data: npt.NDArray[np.uint8]) -> str:
    return hashlib.sha256(data.tobytes()).hexdigest()
