"""The short convolution and the scans, natively on every ISA variant: against the formula in double precision within
diff's bound, against the twins; the same bits however rows are cut into steps, on any threads, in any company."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native_ops import THREADS, assert_within, context, usable_variants

from zigllama.app.diff_bounds import bound
from zigllama.errors import DTypeError, ShapeError
from zigllama.foundation.native_cache import NativeCache
from zigllama.foundation.runtime import F32, EagerRuntime, Op, Step
from zigllama.neural_primitives.state_space import PAGE, dual_scan, selective_scan, short_conv, softplus

LAYERS, LAYER = 2, 1
Part = list[tuple[int, int, int]]  # rows of one step: (sequence, from, to)


@dataclass
class World:
    """Sequences of n positions for one op: what it reads row by row, and what is fixed."""

    op: Op
    n: tuple[int, ...]
    rows: list[list[F32]]
    fixed: list[F32 | None]
    params: dict[str, Any]
    dk: int = 1
    dv: int = 1

    def start(self) -> None:
        """Empty tables, and a pool full of NaN."""
        self.cache = NativeCache(0, 0, LAYERS, 1, self.dk, self.dv, 6 * sum(self.n) + 8, state=True)
        self.cache.k[:], self.cache.v[:] = np.nan, np.nan
        self.table = np.full((len(self.n), -(-max(self.n) // PAGE) + 1), -1, np.int32)
        self.next = 0

    def step(self, parts: Part) -> Step:
        """The step of these rows: pages of its own for all that it writes."""
        for i, a, b in parts:
            self.table[i, -1] = self.table[i, (a - 1) // PAGE] if a else -1
            for page in range(a // PAGE, -(-b // PAGE)):
                self.table[i, page] = self.next = self.next + 1
        at = np.concatenate([np.arange(a, b, dtype=np.int32) for _, a, b in parts])
        seq = np.concatenate([np.full(b - a, i, np.int32) for i, a, b in parts])
        zeros = np.zeros(len(at), np.int32)
        return Step(zeros, at[None, :], at, at, seq, zeros[:0], tables=[self.table], n_seq=len(self.n))

    def call(self, parts: Part, ctx: Any, dtype: Any = np.float32) -> Any:
        """One step, natively or by the twin."""
        step = self.step(parts)
        rows = [np.concatenate([x[i][a:b] for i, a, b in parts]) for x in self.rows]
        if ctx is None:
            fixed = [None if x is None else x.astype(dtype) for x in self.fixed]
            return self.op(*(x.astype(dtype) for x in rows), *fixed, step, self.cache, **self.params)
        rt = EagerRuntime(ctx, step)
        return self.op(*map(rt.rows, rows), *self.fixed, step, self.cache, **self.params).array

    def run(self, ctx: Any, plan: list[Part]) -> list[F32]:
        """All steps of a plan; per sequence (n, cols)."""
        self.start()
        out: list[list[F32]] = [[] for _ in self.n]
        for parts in plan:
            got = self.call(parts, ctx)
            for i, a, b in parts:
                out[i].append(got[: b - a])
                got = got[b - a :]
        assert np.isnan(self.cache.k[:, 1 - LAYER]).all() and np.isnan(self.cache.v[:, 1 - LAYER]).all()
        return [np.concatenate(x) for x in out]


def world(kind: str, n: tuple[int, ...], channels: int, states: int, groups: int, seed: int) -> World:
    """Random values: decays from a row to hundreds of them."""
    rng = np.random.default_rng(seed)

    def rows(cols: int, low: float = -1, high: float = 1) -> list[F32]:
        return [rng.uniform(low, high, (k, cols)).astype(np.float32) for k in n]

    def fixed(*shape: int, low: float = -1, high: float = 1) -> F32:
        return rng.uniform(low, high, shape).astype(np.float32)

    how: dict[str, Any] = {"layer": LAYER}
    if kind == "conv":
        bias = fixed(channels) if groups > 1 else None
        return World(short_conv, n, [rows(channels)], [fixed(states + 1, channels), bias], how, dk=states * channels)
    if kind == "selective":
        data = [rows(channels), rows(channels, -6, 3), rows(states), rows(states)]
        a = fixed(states, channels, low=-2, high=-0.02)
        return World(selective_scan, n, data, [a, fixed(channels)], how, dv=states * channels)
    heads = 2 * groups
    data = [rows(heads * channels + 2 * groups * states), rows(heads, -6, 3)]
    how |= {"states": states, "groups": groups}
    a = fixed(heads, low=-2, high=-0.02)
    return World(dual_scan, n, data, [a, fixed(heads)], how, dv=heads * channels * states)


KINDS = st.sampled_from(["conv", "selective", "dual"])


@settings(max_examples=25)
@given(KINDS, st.integers(1, 70), st.integers(1, 15), st.integers(1, 3), st.data())
def test_cut_anyhow_the_same_bits(kind: str, channels: int, states: int, groups: int, data: st.DataObject) -> None:
    """Steps of any size, that cross pages or end with them, sequences together or one after the other."""
    n = tuple(data.draw(st.lists(st.sampled_from([1, 3, 63, 64, 65, 130]), min_size=1, max_size=2)))
    w = world(kind, n, channels, states, groups, data.draw(st.integers(0, 99)))
    whole: Part = [(i, 0, k) for i, k in enumerate(n)]
    at, plan = [0] * len(n), list[Part]()
    while any(a < k for a, k in zip(at, n, strict=True)):
        parts: Part = []
        for i, k in enumerate(n):
            size = min(k - at[i], data.draw(st.sampled_from([0, 1, 2, 17, 64, 100]))) if plan or i else k - at[i] or 1
            if len(plan) == 0 and i == 0:
                size = min(k, data.draw(st.sampled_from([1, 5, 64])))
            if size:
                parts.append((i, at[i], at[i] + size))
                at[i] += size
        if parts:
            plan.append(parts)
    for isa in usable_variants():
        first = w.run(context(isa, 1), [whole])
        for threads in THREADS:
            for got in (w.run(context(isa, threads), [whole]), w.run(context(isa, threads), plan)):
                assert [x.tobytes() for x in got] == [x.tobytes() for x in first]


@pytest.mark.parametrize("isa", usable_variants())
@pytest.mark.parametrize("kind", ["conv", "selective", "dual"])
def test_kernels_within_the_bound_of_the_formula(kind: str, isa: str) -> None:
    """Two steps, the second from a state; in double precision, whose own error is nothing beside the bound."""
    w = world(kind, (90, 40), 37, 11, 2, 5)
    w.start()
    for parts in ([(0, 0, 70), (1, 0, 3)], [(0, 70, 90), (1, 3, 40)]):
        before = w.cache.k.copy(), w.cache.v.copy(), w.table.copy(), w.next
        want = w.call(parts, None, np.float64)
        step = w.step(parts)
        w.cache.k[:], w.cache.v[:], w.table[:], w.next = before
        got = w.call(parts, context(isa, 2))
        rows = [np.concatenate([x[i][a:b] for i, a, b in parts]) for x in w.rows]
        step.tables = [w.table]
        limit = bound(w.op.name, (*rows, *w.fixed, step, w.cache), w.params, got)
        assert np.all(limit < 1e-3)
        assert_within(got, want, np.broadcast_to(limit, got.shape), f"{kind} {isa}")


def test_twins_take_a_step_back() -> None:
    """What a step goes on from is not written: it can be run again."""
    for kind in ("conv", "selective", "dual"):
        w = world(kind, (80,), 5, 3, 2, 1)
        for ctx in (None, context(usable_variants()[0], 1)):
            w.start()
            w.call([(0, 0, 70)], ctx)
            page = int(w.table[0, 1])
            one = w.call([(0, 70, 80)], ctx)
            w.table[0, 1] = page
            np.testing.assert_array_equal(w.call([(0, 70, 80)], ctx), one)


def test_softplus() -> None:
    x = np.array([-np.inf, -200.0, -1.0, 0.0, 1.0, 90.0, np.inf])
    np.testing.assert_allclose(softplus(x)[1:-1], np.logaddexp(0, x[1:-1]), rtol=1e-15)
    assert softplus(x)[0] == 0 and softplus(x)[-1] == np.inf


def test_what_does_not_fit_is_refused() -> None:
    w = world("selective", (2,), 5, 3, 1, 1)
    w.start()
    step, x, bc = w.step([(0, 0, 2)]), w.rows[0][0], w.rows[2][0]
    a, d = w.fixed
    assert a is not None and d is not None
    for args in (
        (x[:, 1:], x, bc, bc, a, d),
        (x, x, bc[:, 1:], bc, a, d),
        (x, x, bc, bc, a.T, d),
        (x, x, bc, bc, a, d[1:]),
    ):
        with pytest.raises(ShapeError):
            selective_scan(*args, step, w.cache, layer=0)
    keys = NativeCache(0, 0, 1, 1, 8, 8, 1)
    with pytest.raises(ShapeError):
        selective_scan(x, x, bc, bc, a, d, step, keys, layer=0)
    with pytest.raises(ShapeError):
        short_conv(x, np.zeros((1, 5), np.float32), None, step, w.cache, layer=0)
    with pytest.raises(ShapeError):
        dual_scan(x, x, d, d, step, w.cache, layer=0, states=3, groups=4)
    with pytest.raises(DTypeError):
        NativeCache(1, 0, 1, 1, 8, 8, 1, state=True)
