"""The four products: equal within the bound of a float32 sum, on every ISA variant, at the tails, with wrong shapes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tolerances
from hypothesis import given
from hypothesis import strategies as st
from native_ops import assert_within, context, doubles, usable_variants
from strategies import arrays, guarded_array

from zigllama.errors import DTypeError, InvalidArgument, ISAUnavailable, ShapeError, UnknownName
from zigllama.foundation import native_context
from zigllama.linear_algebra.matrix_ops import (
    matmul_reference,
    matmul_scalar,
    matmul_simd,
    matmul_tiled,
    tile_side,
)

SIDES = st.one_of(st.integers(0, 40), st.sampled_from([47, 64, 65, 96, 97]))
DEPTHS = st.one_of(st.integers(0, 40), st.sampled_from([127, 129, 257, 513, 1025]))  # around the kernel's tiles of K


@given(st.data(), SIDES, DEPTHS, SIDES, st.integers(1, 70))
def test_all_forms_agree(data: st.DataObject, m: int, k: int, n: int, tile: int) -> None:
    a = data.draw(arrays((m, k), 1e15, non_finite=False))
    b = data.draw(arrays((k, n), 1e15, non_finite=False))
    want, bound = doubles(a) @ doubles(b), tolerances.product(doubles(a), doubles(b))
    assert_within(matmul_reference(a, b), want, np.abs(want) * tolerances.U + tolerances.FLUSH, "reference")
    assert_within(matmul_tiled(a, b, tile=tile), want, bound, "tiled")
    guarded = guarded_array(a), guarded_array(b)
    assert_within(matmul_scalar(*guarded), want, bound, "scalar")
    for isa in usable_variants():
        got = native_context.matmul(context(isa, 1), *guarded)
        assert_within(got, want, bound, f"simd on {isa}")
        for n_threads in (2, 3):
            assert native_context.matmul(context(isa, n_threads), *guarded).tobytes() == got.tobytes(), (
                f"{isa}: threads change bits"
            )


def test_an_element_does_not_depend_on_the_others() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=s).astype(np.float32) for s in ((13, 700), (700, 77)))
    for isa in usable_variants():
        whole = native_context.matmul(context(isa, 1), a, b)
        for i, j in ((0, 0), (5, 31), (12, 76), (7, 64)):
            alone = native_context.matmul(context(isa, 1), a[i : i + 1], np.ascontiguousarray(b[:, j : j + 1]))
            assert alone.tobytes() == whole[i, j].tobytes(), f"{isa}: element {i}, {j}"


def test_non_finite_values_stay_in_their_row_and_column() -> None:
    a, b = np.ones((9, 40), np.float32), np.ones((40, 50), np.float32)
    a[4, 3], b[7, 48] = np.nan, np.inf
    for got in (matmul_simd(a, b), matmul_scalar(a, b), matmul_tiled(a, b)):
        assert np.isnan(got[4]).all()
        assert np.isinf(np.delete(got[:, 48], 4)).all()
        assert (np.delete(np.delete(got, 4, 0), 48, 1) == 40).all()


def test_strided_inputs_are_taken() -> None:
    a = np.random.default_rng(1).normal(size=(20, 30)).astype(np.float32)
    np.testing.assert_allclose(matmul_simd(a[::2, ::3], a.T[:10]), a[::2, ::3] @ a.T[:10], atol=1e-4)
    np.testing.assert_allclose(matmul_scalar(a[::2, ::3], a.T[:10]), a[::2, ::3] @ a.T[:10], atol=1e-4)


def test_tile_side() -> None:
    assert tile_side(32 * 1024) == 48
    assert tile_side(48 * 1024) == 64
    assert tile_side(3 * 4 * 16 * 16) == 16
    for size in range(4000, 200_000, 7777):
        t = tile_side(size)
        assert 3 * 4 * t * t <= size < 3 * 4 * (t + 16) ** 2
        assert t % 16 == 0
    assert math.isclose(2 / tile_side(), 2 / 48)
    with pytest.raises(InvalidArgument, match="3071"):
        tile_side(3071)


def test_errors() -> None:
    a, b = np.zeros((2, 3), np.float32), np.zeros((3, 4), np.float32)
    for product in (matmul_reference, matmul_tiled, matmul_scalar, matmul_simd):
        with pytest.raises(ShapeError, match=r"\(2, 3\)"):
            product(a, a)
        with pytest.raises(ShapeError):
            product(a[0], b)
        with pytest.raises(DTypeError, match="float64"):
            product(a, b.astype(np.float64))
    with pytest.raises(InvalidArgument):
        matmul_tiled(a, b, tile=0)
    with pytest.raises(UnknownName, match="sse9"):
        matmul_simd(a, b, isa="sse9")
    missing = {"neon", "avx512", "avx2"} - set(usable_variants())
    for isa in missing:
        with pytest.raises(ISAUnavailable, match=isa):
            matmul_simd(a, b, isa=isa)
