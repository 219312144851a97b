"""Scaled rotations: what each kind promises of its rates, pair by pair. That the whole model comes out as the authors'
does is shown in tests/golden (the variants with linear, yarn, llama3 and longrope in their configs)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zigllama.errors import InvalidArgument, ShapeError
from zigllama.neural_primitives.embeddings import ROPE_HALF_SPLIT, RoPE, rope_frequencies
from zigllama.neural_primitives.rope_scaling import Yarn, llama3_divisors, longrope_scale, ntk_base, rope_rates

DIMS, BASES = st.sampled_from([16, 64, 128]), st.sampled_from([1e4, 1e6])
FACTORS = st.sampled_from([1.0, 2.0, 4.0, 40.0])
CONTEXTS = st.sampled_from([128, 4096, 32768])


def turns(dim: int, base: float, context: int) -> np.ndarray:
    """How often each pair turns within a context."""
    return context * base ** (-np.arange(0, dim, 2) / dim) / (2 * math.pi)


@given(DIMS, BASES, FACTORS)
def test_ntk_slows_the_last_pair_only(dim: int, base: float, factor: float) -> None:
    plain, scaled = rope_rates(dim, base), rope_rates(dim, ntk_base(dim, base, factor))
    assert scaled[0] == plain[0] == 1.0
    np.testing.assert_allclose(scaled[-1], plain[-1] / factor, rtol=1e-12)
    assert np.all(np.diff(plain / scaled) >= -1e-9)


@given(DIMS, BASES, FACTORS, CONTEXTS)
def test_yarn(dim: int, base: float, factor: float, context: int) -> None:
    """Quick pairs keep their rates, slow ones are divided by the factor, between them nothing jumps back."""
    plain, scaled = rope_rates(dim, base), Yarn(factor, context).rates(dim, base)
    quotient, n = plain / scaled, turns(dim, base, context)
    spread = base ** (2 / dim)  # the ramp's ends are whole pairs: one more turns that much less
    np.testing.assert_allclose(quotient[n > 32 * spread], 1.0, rtol=1e-12)
    np.testing.assert_allclose(quotient[n * spread < 1], factor, rtol=1e-12)
    assert np.all(np.diff(quotient) >= -1e-9) and quotient.min() >= 1 - 1e-12 and quotient.max() <= factor + 1e-9


def test_yarn_by_hand() -> None:
    """16 channels, base 10,000, trained with 128 positions, 4 times longer: the ramp from pair 0 to pair 3.

    A pair turns r times at i(r) = 16 ln(128 / 2 pi r) / (2 ln 10000): i(32) = -0.39 and i(1) = 2.62; kept within the
    pairs and rounded outwards, 0 and 3. So pair 1 is a third on the way to a fourth of its rate.
    """
    scaled = Yarn(4.0, 128).rates(16, 10000.0)
    want = rope_rates(16, 10000.0) * (1 - 0.75 * np.array([0, 1 / 3, 2 / 3, 1, 1, 1, 1, 1]))
    np.testing.assert_allclose(scaled, want, rtol=1e-12)
    assert Yarn(4.0, 128).scale == pytest.approx(0.1 * math.log(4) + 1) and Yarn(1.0, 128).scale == 1.0


@given(DIMS, BASES, CONTEXTS)
def test_llama3(dim: int, base: float, context: int) -> None:
    divisors, n = llama3_divisors(dim, base, 8.0, 1.0, 4.0, context), turns(dim, base, context)
    np.testing.assert_array_equal(divisors[n >= 4], 1.0)
    np.testing.assert_allclose(divisors[n <= 1], 8.0, rtol=1e-12)
    middle = (n > 1) & (n < 4)
    m = (n[middle] - 1) / 3
    np.testing.assert_allclose(1 / divisors[middle], (1 - m) / 8 + m, rtol=1e-12)


def test_longrope_scale() -> None:
    assert longrope_scale(32.0, 4096) == pytest.approx(math.sqrt(1 + 5 / 12))
    assert longrope_scale(1.0, 4096) == longrope_scale(0.5, 4096) == 1.0
    for factor, context in ((2.0, 1), (2.0, 0), (math.inf, 4096), (math.nan, 4096)):
        with pytest.raises(InvalidArgument, match="LongRoPE"):
            longrope_scale(factor, context)


def test_rope_takes_scalings() -> None:
    """What RoPE makes of each: rates in double, rounded once."""
    plain = rope_rates(16, 1e4)
    divisors = np.linspace(1, 3, 8).astype(np.float32)
    for rope, want in (
        (RoPE(16, 1e4), plain),
        (RoPE(16, 1e4, factor=4.0), plain / 4),
        (RoPE(16, 1e4, yarn=Yarn(4.0, 128)), Yarn(4.0, 128).rates(16, 1e4)),
        (RoPE(16, 1e4).divided(divisors), plain / divisors.astype(np.float64)),
    ):
        np.testing.assert_array_equal(rope.inv_freq, want.astype(np.float32))
    np.testing.assert_array_equal(RoPE(16, 1e4, factor=2.0).inv_freq, rope_frequencies(16, 1e4, factor=2.0))
    assert RoPE(16, 1e4, ROPE_HALF_SPLIT).divided(divisors) == RoPE(16, 1e4, ROPE_HALF_SPLIT).divided(divisors)


def test_refused() -> None:
    with pytest.raises(ShapeError, match="7 divisors for 8 pairs"):
        _ = RoPE(16).divided(np.ones(7, np.float32)).inv_freq
    for bad in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(InvalidArgument, match="divisors"):
            RoPE(16).divided(np.array([1, bad], np.float32))
    for numbers in ((0.0, 128), (math.nan, 128), (4.0, 0), (4.0, 128, 0.0), (4.0, 128, 32.0, -1.0)):
        with pytest.raises(InvalidArgument, match="YaRN"):
            Yarn(*numbers)
    with pytest.raises(InvalidArgument, match="base 1"):
        Yarn(4.0, 128).rates(16, 1.0)
    refused = [(2, 1e4, 4.0), (16, 1e4, 0.0), (16, 1e4, math.inf), (16, 1e4, math.nan)]
    refused += [
        (16, math.nan, 2.0),
        (16, 0.0, 2.0),
        (4, 1e4, 1e300),
        (16, 1e4, 10**400),
        (16, 10**400, 2.0),
        (16, 1e300, 1e20),
        (4, 1e4, 1e-300),
    ]
    for arguments in refused:
        with pytest.raises(InvalidArgument, match="ntk_base"):
            ntk_base(*arguments)
    for low, high, factor, context in ((4.0, 4.0, 8.0, 128), (1.0, 4.0, 0.0, 128), (1.0, 4.0, 8.0, 0)):
        with pytest.raises(InvalidArgument, match="Llama 3"):
            llama3_divisors(16, 1e4, factor, low, high, context)
