"""Choosing experts and products with their weights: against the twins, and the same bits however they are run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zigllama.app.diff_bounds import bound
from zigllama.errors import InvalidArgument, ShapeError, UnknownName
from zigllama.foundation.ggml_types import type_by_name
from zigllama.foundation.native import isa_variants
from zigllama.foundation.runtime import F32, EagerRuntime, Step
from zigllama.foundation.shared_context import shared_context
from zigllama.foundation.tape import TapeProgram, record
from zigllama.linear_algebra.linear import Weight, linear
from zigllama.linear_algebra.number_formats import quantize_rows
from zigllama.neural_primitives.experts import GATINGS, expert_ids, experts_down, experts_gated, route
from zigllama.neural_primitives.fusion import FUSIONS
from zigllama.transformers.mixture_of_experts import MixtureOfExperts

USABLE = [name for name, ok in isa_variants() if ok]
KINDS = ["F32", "F16", "BF16", "Q4_0", "Q8_0", "Q4_K", "IQ4_NL"]


def stack(kind: str, n: int, rows: int, cols: int, seed: int) -> Weight:
    """n random matrices (rows, cols)."""
    x = np.random.default_rng(seed).standard_normal((n * rows, cols)).astype(np.float32) * np.float32(cols**-0.5)
    return Weight(type_by_name(kind), n * rows, cols, quantize_rows(x, kind).reshape(-1), kind, stack=n)


def normal(seed: int, *shape: int) -> F32:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def run(isa: str, threads: int, op: Any, rows: list[F32], *more: Any, **params: Any) -> Any:
    runtime = EagerRuntime(shared_context(isa, threads), Step.of_rows(len(rows[0])))
    made = op(*map(runtime.rows, rows), *more, **params)
    return tuple(np.array(y.array) for y in made) if isinstance(made, tuple) else np.array(made.array)


def close(op: Any, args: tuple[Any, ...], params: dict[str, Any], ours: F32, twin: F32) -> None:
    limit = bound(op.name, args, params, twin)
    assert (np.abs(ours.astype(np.float64) - twin) <= limit).all()


@pytest.mark.parametrize("isa", USABLE)
@given(st.integers(0, 40), st.integers(1, 40), st.integers(1, 8), st.sampled_from(sorted(GATINGS)), st.integers(0, 99))
def test_route(isa: str, t: int, n: int, k: int, gating: str, seed: int) -> None:
    """Ids to the bit, ties, infinities and NaN among the logits; weights within a softmax's bound."""
    k = min(k, n)
    x = (np.round(normal(seed, t, n) * 3) / 2).astype(np.float32)
    if t > 2:
        x[0, n // 2], x[1, 0] = np.nan, -np.inf
    weights, ids = route.ref(x, k=k, gating=gating)
    for threads in (1, 3):
        w, i = run(isa, threads, route, [x], k=k, gating=gating)
        np.testing.assert_array_equal(expert_ids(i), expert_ids(ids))
        np.testing.assert_allclose(w, weights, rtol=1e-5, atol=1e-7)


def test_route_by_hand() -> None:
    x = np.array([[0, 2, 1, 2], [np.nan, 5, np.nan, 0]], np.float32)
    weights, ids = route(x, k=3, gating="softmax_chosen")
    assert expert_ids(ids).tolist() == [[1, 3, 2], [0, 2, 1]] and np.isnan(weights[1]).all()
    e = np.exp(np.array([0, 0, -1.0]))
    np.testing.assert_allclose(weights[0], e / e.sum(), rtol=1e-6)
    whole = route(x, k=3)[0][0]
    np.testing.assert_allclose(whole, e / (e.sum() + np.exp(-2)), rtol=1e-6)
    np.testing.assert_allclose(route(x, k=1, gating="sigmoid")[0][0], 1 / (1 + np.exp(-2)), rtol=1e-6)
    assert route(x, k=4, gating="sigmoid_share")[0][0].sum() == pytest.approx(1)


def test_what_is_refused() -> None:
    x, w = normal(0, 2, 4), stack("F32", 3, 5, 4, 1)
    for k in (0, 5):
        with pytest.raises(InvalidArgument, match=f"k is {k}, want 1 to 4"):
            route(x, k=k)
    with pytest.raises(UnknownName):
        route(x, k=1, gating="argmax")
    ids = np.zeros((2, 2), np.int32).view(np.float32)
    with pytest.raises(ShapeError, match="3 columns, want 4"):
        experts_gated(x[:, :3], ids, w, w)
    with pytest.raises(ShapeError, match="4 columns, want 8"):
        experts_down(x, ids, x[:, :2], w)
    with pytest.raises(ShapeError, match="stack of 3"):
        linear(x, w)
    with pytest.raises(ShapeError, match="15 rows are no 2"):
        Weight(w.type, 15, 4, w.data, stack=2)
    with pytest.raises(InvalidArgument, match="4 of 3 experts"):
        MixtureOfExperts(Weight.from_array(normal(0, 3, 4)), w, w, w, 4)


CASES = [(1, 1, 1), (1, 4, 2), (3, 7, 7), (9, 3, 1), (40, 5, 2), (130, 2, 2)]


@pytest.mark.parametrize("isa", USABLE)
@pytest.mark.parametrize("kind", KINDS)
def test_products(isa: str, kind: str) -> None:
    """Of few rows and many, one expert and all of them, all rows to one: within the bound of the twin, and the same
    bits with any number of threads, in panels and mapped, and row by row."""
    f, c = (96, 160) if kind != "Q4_K" else (256, 512)
    for seed, (t, n, k) in enumerate(CASES):
        x = normal(seed, t, c)
        ids = np.array([np.random.default_rng([seed, i]).permutation(n)[:k] for i in range(t)], np.int32)
        if seed % 2:
            ids[:] = np.arange(n - k, n)
        bits, weights = ids.view(np.float32), np.abs(normal(seed + 50, t, k))
        gate, up, down = (stack(kind, n, *s, seed + i) for i, s in enumerate(((f, c), (f, c), (c, f))))
        h = run(isa, 1, experts_gated, [x, bits], gate, up)
        y = run(isa, 1, experts_down, [h, bits, weights], down)
        close(experts_gated, (x, bits, gate, up), {}, h, experts_gated.ref(x, bits, gate, up))
        close(experts_down, (h, bits, weights, down), {}, y, experts_down.ref(h, bits, weights, down))
        for threads in (2, 3):
            np.testing.assert_array_equal(run(isa, threads, experts_gated, [x, bits], gate, up), h)
            np.testing.assert_array_equal(run(isa, threads, experts_down, [h, bits, weights], down), y)
        for w in (gate, up, down):
            w.close()
            w.prepare(shared_context(isa, 1), mapped=True)
        np.testing.assert_array_equal(run(isa, 1, experts_gated, [x, bits], gate, up), h)
        np.testing.assert_array_equal(run(isa, 1, experts_down, [h, bits, weights], down), y)
        one = run(isa, 1, experts_gated, [x[-1:], bits[-1:]], gate, up)
        np.testing.assert_array_equal(one[0], h[-1])
        for w in (gate, up, down):
            w.close()


@pytest.mark.parametrize("isa", USABLE)
def test_ids_that_no_expert_has(isa: str) -> None:
    """NaN in their places, from both, and nothing else is touched."""
    x, w = normal(1, 4, 32), stack("Q8_0", 3, 32, 32, 2)
    ids = np.array([[0, 1], [3, 2], [-1, 0], [2, 2**31 - 1]], np.int32).view(np.float32)
    h, twin = run(isa, 2, experts_gated, [x, ids], w, w), experts_gated.ref(x, ids, w, w)
    np.testing.assert_array_equal(np.isnan(h), np.isnan(twin))
    assert np.isnan(h[1, :32]).all() and not np.isnan(h[1, 32:]).any()
    y = run(isa, 2, experts_down, [np.nan_to_num(h), ids, normal(3, 4, 2)], w)
    assert np.isnan(y[1:]).all() and not np.isnan(y[0]).any()
    none = np.full((4, 2), 3, np.int32).view(np.float32)
    assert np.isnan(run(isa, 2, experts_gated, [x, none], w, w)).all()
    assert np.isnan(run(isa, 2, experts_down, [normal(4, 4, 64), none, normal(3, 4, 2)], w)).all()


def test_only_chosen_experts_are_read() -> None:
    """The context counts the bytes of panels that products were made with."""
    ctx = shared_context(USABLE[0], 2)
    gate, up, down = stack("Q8_0", 16, 64, 96, 0), stack("Q8_0", 16, 64, 96, 1), stack("Q8_0", 16, 96, 64, 2)
    per_expert = sum(w.prepare(ctx).n_bytes // 16 for w in (gate, up, down))
    for t, chosen in ((1, [3, 9]), (1, [5]), (50, [3, 9]), (300, list(range(16)))):
        ids = np.tile(np.array(chosen, np.int32), (t, 1)).view(np.float32)
        before = ctx.counters()["expert_bytes"]
        h = run(ctx.isa, 2, experts_gated, [normal(t, t, 96), ids], gate, up)
        run(ctx.isa, 2, experts_down, [h, ids, np.ones_like(ids)], down)
        assert ctx.counters()["expert_bytes"] - before == per_expert * len(chosen)


@pytest.mark.parametrize("t", [1, 4, 37])
def test_on_the_tape(t: int) -> None:
    """A mixture with a shared expert: the tape with all fusions has the bits of the ops one by one."""
    ctx, x = shared_context(None, 2), normal(7, t, 64)
    shapes = ((48, 64), (48, 64), (64, 48))
    gate, up, down = (stack("F32", 1, *s, i) for i, s in enumerate(shapes))
    shared = MixtureOfExperts(Weight.from_array(normal(1, 1, 64)), gate, up, down, 1, gating="sigmoid")
    gate, up, down = (stack("F32", 6, *s, 9 + i) for i, s in enumerate(shapes))
    mixture = MixtureOfExperts(Weight.from_array(normal(2, 6, 64)), gate, up, down, 3, "gelu", "softmax", shared)
    runtime = EagerRuntime(ctx, Step.of_rows(t))
    eager = np.array(mixture(runtime.rows(x)).array)
    table = Weight.from_array(x)
    from zigllama.linear_algebra.linear import embed

    step = Step.of_rows(t)
    step.tokens = np.arange(t, dtype=np.int32)
    program = TapeProgram(record(lambda s: mixture(embed(s, table)), FUSIONS), ctx, t)
    program.run(ctx.make_step(step))
    np.testing.assert_array_equal(program.result(0, t), eager)
    np.testing.assert_allclose(eager, mixture(x), rtol=1e-4, atol=1e-5)
    program.close()
