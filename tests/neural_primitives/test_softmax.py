"""Softmax, soft cap and top-k: native against twin, and the order of ties, zeros, infinities and NaN in top-k."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
import tolerances
from hypothesis import given
from hypothesis import strategies as st
from native_ops import assert_within, doubles, everywhere
from strategies import COLS, ROWS, arrays

from zigllama.errors import InvalidArgument
from zigllama.foundation.runtime import Step
from zigllama.neural_primitives.softmax import allowed, softcap, softmax, top_k, top_k_ids


@given(st.data(), ROWS, COLS, st.sampled_from([1.0, 0.125, 2.5, -1.0, 0.0]))
def test_native_softmax(data: st.DataObject, rows: int, cols: int, scale: float) -> None:
    x = data.draw(arrays((rows, cols), 1e4))
    with np.errstate(invalid="ignore"):
        want = softmax.ref(doubles(x), scale=scale)
        bound = tolerances.softmax(doubles(x) * scale, want)
    for isa, (got,) in everywhere(Step.of_rows(rows), softmax, [x], scale=scale):
        assert_within(got, want, bound, f"softmax on {isa}")


def test_softmax_of_a_vocabulary() -> None:
    x = np.random.default_rng(5).normal(0, 4, size=(3, 49_152)).astype(np.float32)
    want = softmax.ref(doubles(x))
    for isa, (got,) in everywhere(Step.of_rows(3), softmax, [x]):
        assert_within(got, want, tolerances.softmax(doubles(x), want), f"softmax on {isa}")
        np.testing.assert_allclose(got.astype(np.float64).sum(-1), 1, atol=200 * tolerances.U)


def test_softmax_properties() -> None:
    x = np.array([[1.0, 2.0, 3.0]], np.float32)
    np.testing.assert_allclose(softmax(x), softmax(x + 50), rtol=1e-5)  # a constant added to all changes nothing
    np.testing.assert_allclose(softmax(x)[0], [0.09003057, 0.24472847, 0.66524096], rtol=1e-6)
    masked = np.array([[0.0, -np.inf, 0.0]], np.float32)
    for isa, (got,) in everywhere(Step.of_rows(1), softmax, [masked]):
        np.testing.assert_array_equal(got, [[0.5, 0.0, 0.5]], err_msg=isa)
    for row in ([-np.inf, -np.inf], [np.inf, 0.0], [np.nan, 0.0]):
        bad = np.array([row], np.float32)
        for isa, (got,) in everywhere(Step.of_rows(1), softmax, [bad]):
            assert np.isnan(got).any(), isa
            np.testing.assert_array_equal(np.isnan(got), np.isnan(softmax.ref(bad)), err_msg=isa)


@given(st.data(), ROWS, COLS, st.sampled_from([0.5, 30.0, 50.0]))
def test_native_softcap(data: st.DataObject, rows: int, cols: int, cap: float) -> None:
    x = data.draw(arrays((rows, cols)))
    want = softcap.ref(doubles(x), cap=cap)
    for isa, (got,) in everywhere(Step.of_rows(rows), softcap, [x], cap=cap):
        assert_within(got, want, tolerances.softcap(doubles(x), cap, want), f"softcap on {isa}")
        assert not (np.abs(got) > cap).any()


@pytest.mark.parametrize("cap", [0.0, -1.0, float("inf"), float("nan")])
def test_a_cap_that_is_none(cap: float) -> None:
    with pytest.raises(InvalidArgument, match="cap"):
        list(everywhere(Step.of_rows(1), softcap, [np.zeros((1, 4), np.float32)], cap=cap))


# --- top-k ------------------------------------------------------------------------------------------------------------


def check_top_k(
    x: npt.NDArray[np.float32], k: int, masks: Sequence[npt.NDArray[np.uint32] | None] | None = None
) -> None:
    step = Step.of_rows(len(x))
    step.masks = None if masks is None else list(masks)
    values, ids = top_k.ref(x, step, k=k)
    for isa, (got_values, got_ids) in everywhere(step, top_k, [x], step, k=k):
        np.testing.assert_array_equal(top_k_ids(got_ids), ids, err_msg=f"ids on {isa}")
        assert got_values.tobytes() == values.tobytes(), f"values on {isa}"


@given(st.data(), st.sampled_from([0, 1, 2, 4]), st.integers(1, 300), st.booleans())
def test_native_top_k(data: st.DataObject, rows: int, n: int, ties: bool) -> None:
    x = data.draw(arrays((rows, n)))
    if ties:
        x = np.round(x)
    k = data.draw(st.one_of(st.integers(1, min(n, 8)), st.integers(1, n)))
    words = -(-n // 32)
    one = st.integers(0, 2**32 - 1)
    mask = st.one_of(st.none(), st.lists(one, min_size=words, max_size=words).map(lambda v: np.array(v, np.uint32)))
    masks = data.draw(st.one_of(st.none(), st.lists(mask, min_size=rows, max_size=rows)))
    check_top_k(x, k, masks)


@pytest.mark.parametrize("k", [1, 40, 4096])
@pytest.mark.parametrize("order", ["random", "ties", "ascending", "descending", "nan", "masked"])
def test_top_k_of_a_vocabulary(k: int, order: str) -> None:
    """Rows long enough to be cut among threads: the pieces' lists must merge into the one list."""
    rng = np.random.default_rng(6)
    x = rng.normal(size=(1, 70_001)).astype(np.float32)
    masks: list[npt.NDArray[np.uint32] | None] | None = None
    if order == "ties":
        x = np.round(x)
    elif order == "ascending":
        x.sort()
    elif order == "descending":
        x = np.sort(x)[:, ::-1].copy()
    elif order == "nan":
        x[0, ::2] = np.nan
        x[0, 1::4] = -np.inf
    elif order == "masked":
        mask = rng.integers(0, 2**32, 2188, np.uint32) & rng.integers(0, 2**32, 2188, np.uint32)
        mask[100:] = 0  # fewer allowed than the largest k: the rest is -inf, by id
        masks = [mask]
    check_top_k(x, k, masks)


def test_top_k_order() -> None:
    nan, inf = np.nan, np.inf
    x = np.array([[0.0, -0.0, nan, -inf, inf, 1.0, 1.0, -0.0]], np.float32)
    values, ids = top_k(x, Step.of_rows(1), k=8)
    assert ids.tolist() == [[2, 4, 5, 6, 0, 1, 7, 3]]
    assert np.signbit(values[0, 4:7]).tolist() == [False, True, True]
    check_top_k(x, 8)
    nothing: list[npt.NDArray[np.uint32] | None] = [np.zeros(1, np.uint32)]
    check_top_k(x, 3, nothing)  # nothing allowed: all are -inf, the lower id first, even the NaN
    step = Step.of_rows(1)
    step.masks = nothing
    assert top_k(x, step, k=3)[1].tolist() == [[0, 1, 2]]


def test_mask_bits() -> None:
    mask = np.array([0b101, 1 << 31, 1], np.uint32)
    assert np.flatnonzero(allowed(mask, 65)).tolist() == [0, 2, 63, 64]
    assert allowed(None, 3).all()


@pytest.mark.parametrize("k", [0, -1, 6, 5000])
def test_a_k_that_does_not_fit(k: int) -> None:
    x = np.zeros((1, 5), np.float32)
    with pytest.raises(InvalidArgument, match=str(k)):
        top_k(x, Step.of_rows(1), k=k)
    if k >= 0:
        with pytest.raises(InvalidArgument):
            list(everywhere(Step.of_rows(1), top_k, [x], Step.of_rows(1), k=k))
