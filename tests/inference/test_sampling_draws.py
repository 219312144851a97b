"""Every stage that leaves a distribution to draw from: 100,000 draws, and chi-square against the paper's reference.

Two rows: seven candidates that are sorted from the start, and a whole row of 5,000 that C passes over. What is expected
comes from sampling_reference.py alone, in float64. Seeds are fixed; each bound is what a true sampler passes once in
100,000 seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import sampling_reference as reference

from zigllama.foundation.native_context import NativeContext
from zigllama.foundation.runtime import F32
from zigllama.inference.advanced_sampling import AdvancedSampler
from zigllama.inference.candidates import Candidates
from zigllama.inference.row_scan import RowScan
from zigllama.inference.sampling import SamplingParams
from zigllama.inference.stages import XTC_DRAW

F64 = npt.NDArray[np.float64]
N = 100_000
OFF: dict[str, Any] = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "temperature": 1.0}
HISTORY = [0, 0, 2, 5]
SMALL = np.log([0.3, 0.25, 0.2, 0.1, 0.08, 0.05, 0.02]).astype(np.float32)
LARGE = (np.random.default_rng(0).normal(size=5000) * 2).astype(np.float32)
MOST_CLASSES = 60  # of a large row the likeliest one by one, all others together


def only(x: F64, kept: set[int]) -> F64:
    """Probabilities of the kept, 0 for the others."""
    p = np.zeros(len(x))
    ids = sorted(kept)
    p[ids] = reference.softmax(x[ids])
    return p


def left_by_xtc(x: F64) -> F64:
    """Half of the time those above 0.015 are away, but for the least."""
    return 0.5 * reference.softmax(x) + 0.5 * only(x, reference.xtc(x.tolist(), 0.015))


def penalised(x: F64) -> F64:
    """Tokens of HISTORY: divided by or multiplied with 1.3, less 0.2 for each time and 0.1 once."""
    y = x.copy()
    for token in set(HISTORY):
        y[token] = y[token] / 1.3 if y[token] > 0 else y[token] * 1.3
        y[token] -= 0.2 * HISTORY.count(token) + 0.1
    return reference.softmax(y)


def biased(x: F64) -> F64:
    y = x.copy()
    y[1] += 0.7
    y[3] = -math.inf
    return reference.softmax(y)


def warm(x: F64) -> F64:
    return reference.softmax(x / reference.dynamic_temperature(x.tolist(), 1.0, 0.6, 1.5))


def both(x: F64) -> F64:
    """Temperature comes last: what top-p keeps does not depend on it."""
    kept = reference.top_p(x.tolist(), 0.8)
    ids = sorted(kept)
    p = np.zeros(len(x))
    p[ids] = reference.softmax(x[ids] / 0.6)
    return p


CASES: dict[str, tuple[dict[str, Any], Callable[[F64], F64]]] = {
    "none": ({}, reference.softmax),
    "temperature": ({"temperature": 0.7}, lambda x: reference.softmax(x / 0.7)),
    "dynamic temperature": ({"dynatemp_range": 0.6, "dynatemp_exponent": 1.5}, warm),
    "top_k": ({"top_k": 4}, lambda x: only(x, reference.top_k(x.tolist(), 4))),
    "top_p": ({"top_p": 0.7}, lambda x: only(x, reference.top_p(x.tolist(), 0.7))),
    "min_p": ({"min_p": 0.3}, lambda x: only(x, reference.min_p(x.tolist(), 0.3))),
    "typical_p": ({"typical_p": 0.6}, lambda x: only(x, reference.typical(x.tolist(), 0.6))),
    "tfs_z": ({"tfs_z": 0.8}, lambda x: only(x, reference.tail_free(x.tolist(), 0.8))),
    "top_n_sigma": ({"top_n_sigma": 1.2}, lambda x: only(x, reference.top_n_sigma(x.tolist(), 1.2))),
    "xtc": ({"xtc_probability": 0.5, "xtc_threshold": 0.015}, left_by_xtc),
    "penalties": ({"repeat_penalty": 1.3, "frequency_penalty": 0.2, "presence_penalty": 0.1}, penalised),
    "bias": ({"logit_bias": {1: 0.7, 3: -math.inf}}, biased),
    "top_p, temperature": ({"top_p": 0.8, "temperature": 0.6}, both),
}
STAY_WHOLE = ("none", "top_p", "typical_p", "xtc")  # the other stages leave a few, or change nothing of how one draws
MIROSTAT: dict[int, Callable[[F64, float], set[int]]] = {
    1: lambda x, mu: reference.top_k(x.tolist(), reference.mirostat_k(x.tolist(), mu)),
    2: lambda x, mu: {i for i, p in enumerate(reference.softmax(x)) if -math.log2(p) <= mu} | {int(np.argmax(x))},
}


@pytest.fixture(scope="module")
def scan() -> Iterator[RowScan]:
    with NativeContext(1) as context:
        yield RowScan(context)


def tail(x: float, degrees: int) -> float:
    """How often chi-square of an even number of degrees passes x: e^(-x/2) sum_(i < d/2) (x/2)^i / i!."""
    return math.exp(-x / 2) * sum((x / 2) ** i / math.factorial(i) for i in range(degrees // 2))


def bound(degrees: int) -> float:
    """What chi-square passes once in 100,000 times; of an odd number of degrees, that of one more."""
    even, low, high = degrees + degrees % 2, 0.0, 1000.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if tail(middle, even) > 1e-5 else (low, middle)
    return high


def check(counts: npt.NDArray[np.int64], p: F64) -> None:
    """Nothing is drawn that was not kept; all else as often as it should be."""
    n = int(counts.sum())
    assert not counts[p == 0].any()
    order = np.argsort(-p, kind="stable")[: int((p > 0).sum())]
    head = order[:MOST_CLASSES]
    have, want = counts[head].astype(np.float64), n * p[head]
    if len(order) > MOST_CLASSES:
        have, want = np.append(have, counts[order[MOST_CLASSES:]].sum()), np.append(want, n - want.sum())
    assert len(want) > 1 and want.min() > 5
    assert ((have - want) ** 2 / want).sum() < bound(len(want) - 1)


@pytest.fixture(scope="module")
def chances() -> list[tuple[float, float]]:
    """The sampler's own random numbers at each of N positions: of the draw, and of XTC."""
    sampler = AdvancedSampler(SamplingParams(seed=3))
    return [(sampler.uniform(i), sampler.uniform(i, XTC_DRAW)) for i in range(N)]


def left(sampler: AdvancedSampler, x: F32, chance: float) -> Candidates:
    """What the stages leave to draw from, `chance` being the number that XTC asks for."""
    c = sampler.candidates(x, HISTORY)
    c.chance = lambda which: chance
    for stage in sampler.stages:
        c = stage(c)
    return c


def drawn(sampler: AdvancedSampler, x: F32, chances: list[tuple[float, float]]) -> npt.NDArray[np.int64]:
    """N draws. The stages run twice and no more: they depend on a position by XTC's yes or no alone."""
    away, there = left(sampler, x, 0.0), left(sampler, x, 1.0)
    p = sampler.params.xtc_probability
    return np.bincount([(away if other < p else there).pick(u) for u, other in chances], minlength=len(x))


@pytest.mark.parametrize(
    ("name", "row"), [*((name, "few") for name in CASES), *((name, "whole") for name in STAY_WHOLE)]
)
def test_draws(name: str, row: str, scan: RowScan, chances: list[tuple[float, float]]) -> None:
    options, want = CASES[name]
    x = SMALL if row == "few" else LARGE
    sampler = AdvancedSampler(SamplingParams(**OFF | options, seed=3), scan=scan)
    check(drawn(sampler, x, chances), want(x.astype(np.float64)))
    for position, (u, other) in enumerate(chances[:20]):  # and the sampler as a whole does this and no other
        assert sampler(x, HISTORY, position) == left(sampler, x, other).pick(u)


@pytest.mark.parametrize("version", MIROSTAT)
def test_mirostat_at_its_first_mu(version: int, chances: list[tuple[float, float]]) -> None:
    tau, x = 1.4, SMALL.astype(np.float64)
    sampler = AdvancedSampler(SamplingParams(mirostat_mode=version, mirostat_tau=tau, temperature=1.0, seed=3))
    kept = MIROSTAT[version](x, 2 * tau)
    assert 1 < len(kept) < len(x)
    check(drawn(sampler, SMALL, chances), only(x, kept))


def test_the_bound() -> None:
    """Of two degrees the tail is e^(-x/2); many degrees are nearly normal, with mean d and variance 2 d."""
    assert math.isclose(bound(2), -2 * math.log(1e-5), rel_tol=1e-9)
    assert 60 + 4.26 * math.sqrt(120) < bound(60) < 60 + 6 * math.sqrt(120)


def test_a_wrong_distribution_is_found(chances: list[tuple[float, float]]) -> None:
    """A temperature that is 3% off does not pass."""
    counts = drawn(AdvancedSampler(SamplingParams(**OFF | {"temperature": 1.03})), SMALL, chances)
    with pytest.raises(AssertionError):
        check(counts, reference.softmax(SMALL.astype(np.float64)))
