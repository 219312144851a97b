"""RMSNorm and LayerNorm: native against the formula in double, in groups, with and without parameters; and what they
are for.
"""

from __future__ import annotations

import numpy as np
import pytest
import tolerances
from hypothesis import given
from hypothesis import strategies as st
from native_ops import assert_within, doubles, everywhere
from strategies import COLS, ROWS, arrays

from zigllama.errors import InvalidArgument, ShapeError
from zigllama.foundation.runtime import Step
from zigllama.neural_primitives.normalization import LayerNorm, RMSNorm, layer_norm, rms_norm

EPS = st.sampled_from([1e-12, 1e-6, 1e-5, 1.0]).map(lambda e: float(np.float32(e)))
LIMIT = 1e15  # squares and their sums stay inside float32
GROUPS = st.sampled_from([1, 1, 2, 9])


@given(st.data(), ROWS, COLS, GROUPS, EPS, st.booleans())
def test_native_rms_norm(data: st.DataObject, rows: int, m: int, groups: int, eps: float, weighted: bool) -> None:
    x = data.draw(arrays((rows, m * groups), LIMIT))
    w = data.draw(arrays((m,), 1e3, non_finite=False)) if weighted else None
    wide = None if w is None else doubles(w)
    with np.errstate(invalid="ignore"):
        want = rms_norm.ref(doubles(x), wide, eps=eps, group=m)
        bound = tolerances.rms_norm(doubles(x).reshape(rows, groups, m), want.reshape(rows, groups, m), wide)
    for isa, (got,) in everywhere(Step.of_rows(rows), rms_norm, [x], w, eps=eps, group=m):
        assert_within(got, want, bound.reshape(want.shape), f"rms_norm on {isa}")


@given(st.data(), ROWS, COLS, GROUPS, EPS, st.booleans(), st.booleans())
def test_native_layer_norm(
    data: st.DataObject, rows: int, m: int, groups: int, eps: float, weighted: bool, biased: bool
) -> None:
    x = data.draw(arrays((rows, m * groups), LIMIT))
    w = data.draw(arrays((m,), 1e3, non_finite=False)) if weighted else None
    b = data.draw(arrays((m,), 1e3, non_finite=False)) if biased else None
    wide_w, wide_b = (None if p is None else doubles(p) for p in (w, b))
    with np.errstate(invalid="ignore"):
        want = layer_norm.ref(doubles(x), wide_w, wide_b, eps=eps, group=m)
        bound = tolerances.layer_norm(doubles(x).reshape(rows, groups, m), wide_w, wide_b, eps)
    for isa, (got,) in everywhere(Step.of_rows(rows), layer_norm, [x], w, b, eps=eps, group=m):
        assert_within(got, want, bound.reshape(want.shape), f"layer_norm on {isa}")


def test_every_length() -> None:
    rng = np.random.default_rng(0)
    for m in range(1, 140):
        x, w, b = (rng.normal(size=s).astype(np.float32) for s in ((2, m), (m,), (m,)))
        d = doubles(x)
        want, layered = rms_norm.ref(d, doubles(w), eps=1e-6), layer_norm.ref(d, doubles(w), doubles(b), eps=1e-6)
        for isa, (got,) in everywhere(Step.of_rows(2), rms_norm, [x], w, eps=1e-6):
            assert_within(got, want, tolerances.rms_norm(d, want, doubles(w)), f"{m} on {isa}")
        bound = tolerances.layer_norm(d, doubles(w), doubles(b), 1e-6)
        for isa, (got,) in everywhere(Step.of_rows(2), layer_norm, [x], w, b, eps=1e-6):
            assert_within(got, layered, bound, f"{m} on {isa}")


def test_a_row_does_not_depend_on_the_others() -> None:
    x = np.random.default_rng(2).normal(size=(300, 576)).astype(np.float32)  # enough rows for several chunks
    w = np.ones(576, np.float32)
    alone = dict(everywhere(Step.of_rows(1), rms_norm, [x[217:218]], w, eps=1e-5))
    for isa, (got,) in everywhere(Step.of_rows(300), rms_norm, [x], w, eps=1e-5):
        assert got[217].tobytes() == alone[isa][0][0].tobytes()


def test_the_row_after_is_normal() -> None:
    x = np.random.default_rng(3).normal(3, 7, size=(4, 1000))
    y = LayerNorm(None, eps=0.0)(x)
    np.testing.assert_allclose(y.mean(-1), 0, atol=1e-12)
    np.testing.assert_allclose(y.std(-1), 1, rtol=1e-12)
    np.testing.assert_allclose((RMSNorm(None, eps=0.0)(x) ** 2).mean(-1), 1, rtol=1e-12)
    np.testing.assert_allclose(RMSNorm(None, 0.0)(5 * x), RMSNorm(None, 0.0)(x), rtol=1e-12)  # the size is taken out
    np.testing.assert_array_equal(RMSNorm(np.ones(5, np.float32), 1e-6)(np.zeros((1, 5), np.float32)), 0)


def test_scale_and_shift() -> None:
    x = np.random.default_rng(4).normal(size=(2, 6)).astype(np.float32)
    w, b = np.arange(6, dtype=np.float32), np.full(6, 3, np.float32)
    np.testing.assert_allclose(LayerNorm(w, b, 1e-5)(x), LayerNorm(None, None, 1e-5)(x) * w + b, rtol=1e-6)
    np.testing.assert_allclose(RMSNorm(w, 1e-5)(x), RMSNorm(None, 1e-5)(x) * w, rtol=1e-6)
    by_head = RMSNorm(w[:3], 1e-5)(x)  # three weights on six channels: two groups
    np.testing.assert_allclose(by_head[:, 3:], RMSNorm(w[:3], 1e-5)(x[:, 3:]), rtol=1e-6)


def test_errors() -> None:
    x = np.zeros((2, 10), np.float32)
    with pytest.raises(ShapeError, match=r"10 channels.*groups of 3"):
        rms_norm(x, np.ones(3, np.float32), eps=1e-5)
    with pytest.raises(ShapeError):
        layer_norm(x, np.ones(5, np.float32), eps=1e-5, group=2)
    with pytest.raises(InvalidArgument, match="eps"):
        RMSNorm(None, -1.0)
    with pytest.raises(InvalidArgument, match="eps"):
        LayerNorm(None, None, float("nan"))
    with pytest.raises(ShapeError):
        LayerNorm(np.ones(3, np.float32), np.ones(4, np.float32))
    with pytest.raises(ShapeError):
        RMSNorm(np.ones((2, 3), np.float32))
    with pytest.raises(InvalidArgument, match="eps"):
        list(everywhere(Step.of_rows(2), rms_norm, [x], None, eps=-1.0))
    w, b = np.ones(10, np.float32), np.ones(9, np.float32)
    with pytest.raises(ShapeError):  # a bias of another length reaches C, which refuses it
        list(everywhere(Step.of_rows(2), layer_norm, [x], w, b, eps=1e-5))
