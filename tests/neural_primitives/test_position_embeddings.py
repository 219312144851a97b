"""Learned, sinusoidal and segment embeddings: rows of a table, natively the twin's bits; the sines' formula and what
it is for."""

from __future__ import annotations

import math

import numpy as np
import pytest
from native_ops import context, usable_variants

from zigllama.errors import InvalidArgument, ShapeError
from zigllama.foundation.runtime import EagerRuntime, Step
from zigllama.neural_primitives.position_embeddings import (
    LearnedPositions,
    SegmentEmbedding,
    SinusoidalPositions,
    sinusoidal_table,
)


def test_rows_by_position_and_by_segment() -> None:
    table = np.random.default_rng(1).normal(size=(30, 6)).astype(np.float32)
    step = Step.of_rows(4)
    step.positions = np.array([[5, 6, 7, 0], [0, 0, 1, 1]], np.int32)
    learned, moved = LearnedPositions.from_array(table), LearnedPositions.from_array(table, offset=2)
    segments = SegmentEmbedding.from_array(table[:2])
    wanted = ((learned, [5, 6, 7, 0]), (moved, [7, 8, 9, 2]), (segments, [0, 0, 1, 1]))
    for embedding, rows in wanted:
        np.testing.assert_array_equal(embedding(step), table[rows])
        for isa in usable_variants():
            np.testing.assert_array_equal(embedding(EagerRuntime(context(isa, 2), step).bind()).array, table[rows])
    np.testing.assert_array_equal(moved.lookup([3, 0]), table[[5, 2]])
    np.testing.assert_array_equal(segments.lookup([1, 0, 1]), table[[1, 0, 1]])
    assert learned.lookup([]).shape == (0, 6)
    for embedding, last in ((learned, 29), (moved, 27), (segments, 1)):
        embedding.lookup([last])
        with pytest.raises(ShapeError, match=r"has (30|2)$"):
            embedding.lookup([last + 1])
        step.positions[:] = last + 1
        with pytest.raises(InvalidArgument, match="lookup"):
            embedding(EagerRuntime(context("generic", 1), step).bind())
    with pytest.raises(ShapeError):
        LearnedPositions.from_array(table[0])


def test_sines_and_cosines() -> None:
    """Vaswani et al., 2017, section 3.5, element by element."""
    table = sinusoidal_table(50, 8)
    assert table.shape == (50, 8) and table.dtype == np.float32
    for p in range(50):
        for i in range(4):
            angle = p / 10000 ** (2 * i / 8)
            assert table[p, 2 * i] == np.float32(math.sin(angle))
            assert table[p, 2 * i + 1] == np.float32(math.cos(angle))
    assert sinusoidal_table(0, 4).shape == (0, 4)
    assert not np.array_equal(sinusoidal_table(50, 8, base=100.0), table)
    step = Step.of_rows(3)
    step.positions = np.array([[49, 0, 7]], np.int32)
    np.testing.assert_array_equal(SinusoidalPositions.of(50, 8)(step), table[[49, 0, 7]])


def test_a_shift_is_a_rotation() -> None:
    table = sinusoidal_table(200, 16).astype(np.float64)
    rates = 10000.0 ** (-np.arange(0, 16, 2) / 16)
    for k in (1, 7, 100):
        sine, cosine = table[:-k, 0::2], table[:-k, 1::2]
        a = k * rates
        np.testing.assert_allclose(table[k:, 0::2], sine * np.cos(a) + cosine * np.sin(a), atol=1e-6)
        np.testing.assert_allclose(table[k:, 1::2], cosine * np.cos(a) - sine * np.sin(a), atol=1e-6)


@pytest.mark.parametrize(("n", "dim", "base"), [(-1, 4, 1e4), (3, 5, 1e4), (3, 0, 1e4), (3, 4, 0.0), (3, 4, math.inf)])
def test_tables_that_cannot_be(n: int, dim: int, base: float) -> None:
    with pytest.raises(InvalidArgument, match="sinusoidal_table"):
        sinusoidal_table(n, dim, base)
