"""Rows on which the quantisers of IQ formats and K-quants are judged, and the errors that a quantiser makes on them.

Shared by the tests and tools/make_quantize_golden.py, so that the oracle and the engine see the same bits. Rows of real
models are in tests/golden/quantize_*_rows.npz, as half floats.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
GOLDEN = Path(__file__).parent / "golden"
TYPES = {  # of each family, and ggml's numbers for them
    "iq": {
        "IQ2_XXS": 16, "IQ2_XS": 17, "IQ3_XXS": 18, "IQ1_S": 19, "IQ4_NL": 20, "IQ3_S": 21, "IQ2_S": 22, "IQ4_XS": 23,
        "IQ1_M": 29,
    },
    "k": {"Q2_K": 10, "Q3_K": 11, "Q4_K": 12, "Q5_K": 13, "Q6_K": 14},
}  # fmt: skip
NEED_IMPORTANCE = ("IQ1_S", "IQ2_XXS", "IQ2_XS")


def rows_file(family: str) -> Path:
    return GOLDEN / f"quantize_{family}_rows.npz"


def drawn_rows(rows: int = 16, cols: int = 1024) -> dict[str, F32]:
    """Gaussian rows, long tails (Student's t, 3 degrees of freedom), and rows of one value each."""
    rng = np.random.default_rng(20)
    constants = np.resize(np.array([1, -0.37, 0.0123, 0.0033, -2.71, 0.9, 0.05, 0.7777], np.float32), rows)
    return {
        "gaussian": (rng.standard_normal((rows, cols)) * 0.02).astype(np.float32),
        "long tails": (rng.standard_t(3, (rows, cols)) * 0.02).astype(np.float32),
        "constant": np.repeat(constants[:, None], cols, axis=1),
    }


def all_rows(family: str) -> dict[str, F32]:
    """Drawn rows and those of real models; the K-quants are judged on the IQ formats' too."""
    rows = drawn_rows()
    for name in dict.fromkeys(("iq", family)):
        with np.load(rows_file(name)) as arrays:
            rows |= {key: arrays[key].astype(np.float32) for key in sorted(arrays)}
    return rows


def importance_of(cols: int) -> F32:
    """Mean squares of activations as they are found: spread over several orders of magnitude."""
    return np.exp(np.random.default_rng(cols).standard_normal(cols) * 1.5).astype(np.float32)


def error(x: F32, y: F32, importance: F32 | None) -> float:
    """sum h (x - y)^2 / sum h x^2, in float64; h = 1 without importance.   y: what the quantised rows are worth."""
    h = 1.0 if importance is None else importance.astype(np.float64)
    return float((h * (x - y.reshape(x.shape).astype(np.float64)) ** 2).sum() / (h * x.astype(np.float64) ** 2).sum())


def hard_rows(rows: int = 7) -> tuple[F32, F32]:
    """Rows (rows, 256), each of the first seven with something amiss, the others a bell; importance with zeros and one
    huge column."""
    x = (np.random.default_rng(3).standard_normal((rows, 256)) * 0.05).astype(np.float32)
    x[1] = np.round(x[1] * 40) / 8  # ties, zeros of both signs
    x[2] *= 1e-4  # scales are subnormal halves
    x[3, :] = 0
    x[3, 200] = -65504
    x[4] = np.float32(1e-30)  # too small for any scale
    x[5, 32:] = 0  # whole quant blocks of nothing
    x[6] = 65504 * np.sign(x[6])
    importance = importance_of(256)
    importance[::5] = 0
    importance[40] = 3e38
    return x, importance
