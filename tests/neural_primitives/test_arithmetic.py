"""Sums, products, scalings and the choice of rows: exact, so compared as bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from native_ops import everywhere
from strategies import COLS, ROWS, arrays

from zigllama.errors import InvalidArgument, ShapeError
from zigllama.foundation.runtime import Step
from zigllama.neural_primitives.arithmetic import add, gather, mul, scale


@given(st.data(), ROWS, COLS)
def test_native_add_mul_scale(data: st.DataObject, rows: int, cols: int) -> None:
    x, y = data.draw(arrays((rows, cols))), data.draw(arrays((rows, cols)))
    factor = data.draw(st.floats(-100, 100, width=32))
    for op in (add, mul):
        with np.errstate(all="ignore"):
            want = op.ref(x, y)
        for isa, (got,) in everywhere(Step.of_rows(rows), op, [x, y]):
            np.testing.assert_array_equal(got, want, err_msg=f"{op.name} on {isa}", strict=True)
    with np.errstate(all="ignore"):
        want = scale.ref(x, factor=factor)
    for isa, (got,) in everywhere(Step.of_rows(rows), scale, [x], factor=factor):
        np.testing.assert_array_equal(got, want, err_msg=f"scale on {isa}", strict=True)


@given(st.data(), ROWS, COLS)
def test_one_row_for_all(data: st.DataObject, rows: int, cols: int) -> None:
    x, y = data.draw(arrays((rows, cols))), data.draw(arrays((cols,)))
    for op in (add, mul):
        with np.errstate(all="ignore"):
            want = op.ref(x, y)
        for isa, (got,) in everywhere(Step.of_rows(rows), op, [x], y):
            np.testing.assert_array_equal(got, want, err_msg=f"{op.name} on {isa}", strict=True)


def test_large_enough_for_many_chunks() -> None:
    x = np.random.default_rng(1).normal(size=(37, 2051)).astype(np.float32)
    for _, (got,) in everywhere(Step.of_rows(37), add, [x, x[::-1]]):
        np.testing.assert_array_equal(got, x + x[::-1])
    for _, (got,) in everywhere(Step.of_rows(37), mul, [x], x[3].copy()):
        np.testing.assert_array_equal(got, x * x[3])


@given(st.data(), st.integers(1, 20), COLS)
def test_native_gather(data: st.DataObject, rows: int, cols: int) -> None:
    x = data.draw(arrays((rows, cols)))
    step = Step.of_rows(rows)
    step.out_rows = np.array(data.draw(st.lists(st.integers(0, rows - 1), max_size=6)), np.int32)
    for isa, (got,) in everywhere(step, gather, [x], step):
        np.testing.assert_array_equal(got, gather.ref(x, step), err_msg=isa, strict=True)


@pytest.mark.parametrize("row", [-1, 3, 2**31 - 1, -(2**31)])
def test_a_row_that_is_not_there(row: int) -> None:
    step = Step.of_rows(3)
    step.out_rows = np.array([0, row], np.int32)
    with pytest.raises(InvalidArgument, match=str(row)):
        list(everywhere(step, gather, [np.zeros((3, 4), np.float32)], step))


def test_shapes_that_differ() -> None:
    a, b = np.zeros((2, 3), np.float32), np.zeros((2, 4), np.float32)
    for op in (add, mul):
        with pytest.raises(ShapeError, match=r"\(2, 3\).*\(2, 4\)"):
            op(a, b)
        with pytest.raises(ShapeError, match=r"\(2, 3\).*\(2,\)"):
            op(a, b[:, 0])
        with pytest.raises(ShapeError, match="4 values, want 3"):
            list(everywhere(Step.of_rows(2), op, [a], b[0].copy()))
        with pytest.raises(ShapeError):
            list(everywhere(Step.of_rows(2), op, [a, b]))
