"""Q4_0 to Q5_1 with importance: C on each ISA variant against the twin, byte for byte, and both against ggml's errors.

tests/golden/quantize_legacy.json has the errors of ggml's own quantisers on the same rows with the same importance
(tools/make_legacy_golden.py).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from native_ops import check_quantizing_threads, usable_variants
from quantize_low_samples import error, importance_of, searched_rows
from quantize_samples import hard_rows
from strategies import guarded_array

from zigllama.linear_algebra import legacy_importance, quantizers
from zigllama.linear_algebra.number_formats import dequantize, quantize_rows

F32 = npt.NDArray[np.float32]
GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "quantize_legacy.json").read_text("utf-8"))
ROWS = searched_rows()
TYPES = tuple(legacy_importance.QUANTIZE)
WORSE = 1.02  # what is accepted
# The square of what rounding scales to half precision may do, relatively. The rows of the real model are worth what its
# Q4_1 was: where the codes come back, this is all the error there is.
HALVES = 2.0**-24


def rows_of_32() -> tuple[F32, F32]:
    """Those that are hard for any format, and three that are for scales with minimums; a block of no importance."""
    x, importance = hard_rows(10)
    x[7] = -65504 + np.abs(x[7]) * 1e5  # a minimum by least squares would be below the smallest half
    x[8] = np.float32(0.7) + np.arange(256, dtype=np.float32) % 2 * np.float32(2.0**-24)  # a step is all there is
    x[9] = np.abs(x[9]) + 5
    importance[96:128] = 0
    return x, importance


@pytest.mark.parametrize("name", TYPES)
def test_c_makes_the_bytes_of_the_twin(name: str) -> None:
    x, importance = rows_of_32()
    for rows, weights in ((x, importance), (ROWS["long tails"], importance_of(1024))):
        want = quantizers.quantize(rows, name, weights)
        for isa in usable_variants():
            np.testing.assert_array_equal(quantize_rows(rows, name, weights, isa=isa), want, err_msg=isa)
        assert np.isfinite(dequantize(want, name)).all()
    part, weights = guarded_array(x[:3, 32:128], np.float32), guarded_array(importance[32:128], np.float32)
    np.testing.assert_array_equal(quantize_rows(part, name, weights), quantizers.quantize(part, name, weights))


@pytest.mark.parametrize("name", TYPES)
def test_bytes_do_not_depend_on_threads_or_other_rows(name: str) -> None:
    check_quantizing_threads(ROWS["gaussian"], name, importance_of(1024))


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("rows", ROWS)
def test_weighted_errors_are_not_above_ggmls_nor_those_without_importance(name: str, rows: str) -> None:
    x = ROWS[rows]
    importance = importance_of(x.shape[1])
    found = error(x, dequantize(quantize_rows(x, name, importance), name), importance)
    assert found <= WORSE * GOLDEN["weighted errors"][name][rows]
    without = error(x, dequantize(quantize_rows(x, name), name), importance)
    assert found < without or found < HALVES


def test_without_importance_nothing_is_searched() -> None:
    """Equal importance is importance: the search is taken, and the error is the smaller."""
    x = ROWS["gaussian"]
    ones = np.ones(x.shape[1], np.float32)
    for name in TYPES:
        plain, searched = (error(x, dequantize(quantize_rows(x, name, h), name), None) for h in (None, ones))
        assert searched < plain
        np.testing.assert_array_equal(quantize_rows(x, name, ones), quantize_rows(x, name, ones * 1024))
        np.testing.assert_array_equal(quantize_rows(x, name, ones), quantize_rows(x, name, ones * 0))  # as if all equal


@pytest.mark.parametrize("name", TYPES)
def test_a_column_of_great_importance_is_kept(name: str) -> None:
    """By what half precision leaves of a scale, where without importance it is off by a good part of a step."""
    x = np.random.default_rng(7).standard_normal((64, 32)).astype(np.float32)
    importance = np.ones(32, np.float32)
    importance[11] = 1e6
    with_it, without = (np.abs(dequantize(quantize_rows(x, name, h), name) - x)[:, 11] for h in (importance, None))
    assert with_it.mean() < without.mean() / 4


@pytest.mark.parametrize("name", TYPES)
def test_zero_rows_are_zero(name: str) -> None:
    data = quantize_rows(np.zeros((2, 64), np.float32), name, np.ones(64, np.float32))
    assert not dequantize(data, name).any()
    np.testing.assert_array_equal(data, quantizers.quantize(np.zeros((2, 64)), name, np.ones(64)))
