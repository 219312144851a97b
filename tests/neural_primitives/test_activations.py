"""Activation functions: the native kernel against the formula, on every ISA variant, and the twins against known
values.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import tolerances
from hypothesis import given
from hypothesis import strategies as st
from native_ops import assert_within, doubles, everywhere
from strategies import COLS, ROWS, arrays

from zigllama.errors import ShapeError, UnknownName
from zigllama.foundation.runtime import Step
from zigllama.neural_primitives.activations import (
    ACTIVATIONS,
    activation_named,
    exp,
    geglu,
    gelu,
    gelu_quick,
    gelu_tanh,
    glu,
    relu,
    relu_squared,
    sigmoid,
    silu,
    swiglu,
    tanh,
)

NAMES = st.sampled_from(sorted(ACTIVATIONS))


@given(st.data(), NAMES, ROWS, COLS)
def test_native_activation(data: st.DataObject, name: str, rows: int, cols: int) -> None:
    op = activation_named(name)[0]
    x = data.draw(arrays((rows, cols)))
    want = op.ref(doubles(x))
    bound = tolerances.activation(name, doubles(x), want)
    for isa, (got,) in everywhere(Step.of_rows(rows), op, [x]):
        assert_within(got, want, bound, f"{name} on {isa}")


@given(st.data(), NAMES, ROWS, COLS)
def test_native_glu(data: st.DataObject, name: str, rows: int, cols: int) -> None:
    # `up` is finite: infinity times a gate that float32 flushes to zero, and double does not, has no one answer
    gate, up = data.draw(arrays((rows, cols))), data.draw(arrays((rows, cols), non_finite=False))
    with np.errstate(all="ignore"):
        act = activation_named(name)[0].ref(doubles(gate))
        act = np.where(act > np.finfo(np.float32).max, np.inf, act)  # as float32 has it before the product
        want = act * doubles(up)
        bound = tolerances.glu(name, doubles(gate), doubles(up), act)
    for isa, (got,) in everywhere(Step.of_rows(rows), glu, [gate, up], activation=name):
        assert_within(got, want, bound, f"glu {name} on {isa}")


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_all_lengths_and_all_values_near_the_steps(name: str) -> None:
    """Every length up to 70 (tails), and a dense walk over the range in which the functions change."""
    op = activation_named(name)[0]
    for n in range(1, 71):
        x = np.linspace(-4, 4, n, dtype=np.float32)[None, :]
        want = op.ref(doubles(x))
        for isa, (got,) in everywhere(Step.of_rows(1), op, [x]):
            assert_within(got, want, tolerances.activation(name, doubles(x), want), f"{name} of {n} on {isa}")
    x = np.linspace(-110, 110, 200_003, dtype=np.float32)[None, :]
    want = op.ref(doubles(x))
    for isa, (got,) in everywhere(Step.of_rows(1), op, [x]):
        assert_within(got, want, tolerances.activation(name, doubles(x), want), f"{name} on {isa}")


def test_known_values() -> None:
    assert relu(-2.0) == 0
    assert relu(3.5) == 3.5
    assert relu_squared(-2.0) == 0
    assert relu_squared(3.5) == 12.25
    assert sigmoid(0.0) == 0.5
    assert tanh(0.5) == pytest.approx(math.tanh(0.5), rel=1e-15)
    assert exp(1.0) == pytest.approx(math.e, rel=1e-15)
    # Of a standard normal distribution 84.13 % lie below 1.
    assert gelu(1.0) == pytest.approx(0.8413447460685429, rel=1e-15)
    assert silu(1.0) == pytest.approx(1 / (1 + math.exp(-1)), rel=1e-15)
    assert gelu_quick(1.0) == pytest.approx(1 / (1 + math.exp(-1.702)), rel=1e-15)
    x = np.linspace(-10, 10, 2001)
    assert 1e-4 < np.abs(gelu_tanh(x) - gelu(x)).max() < 5e-4
    assert sigmoid(-1000.0) == 0
    assert np.isnan(silu(-np.inf))


@given(st.floats(-50, 50))
def test_scalar_and_tensor_forms_agree(value: float) -> None:
    for op, _ in ACTIVATIONS.values():
        alone = op(value)
        assert np.ndim(alone) == 0
        assert op(np.full((2, 3), value)) == pytest.approx(np.full((2, 3), alone), rel=1e-14)
        single = op(np.full((2, 3), value, np.float32))
        assert single.dtype == np.float32
        assert single.shape == (2, 3)


def test_gated_units() -> None:
    g, u = np.array([[1.0, -2.0]]), np.array([[3.0, 4.0]])
    np.testing.assert_array_equal(glu(g, u), sigmoid(g) * u)
    np.testing.assert_array_equal(swiglu(g, u), silu(g) * u)
    np.testing.assert_array_equal(geglu(g, u), gelu_tanh(g) * u)
    np.testing.assert_array_equal(geglu(g, u, approximate=False), gelu(g) * u)
    with pytest.raises(ShapeError, match=r"\(1, 2\).*\(1, 3\)"):
        glu(g, np.zeros((1, 3)))
    with pytest.raises(UnknownName, match="mish"):
        glu(g, u, activation="mish")
