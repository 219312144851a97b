"""kv_store and attention, natively on every ISA variant: against dense softmax in double precision and against the
twins; the same bits however rows are cut into steps, on any threads, in any company; what a row does not see, and what
a page held before, never reaches it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pytest
import tolerances
from hypothesis import given, settings
from hypothesis import strategies as st
from native_ops import THREADS, assert_within, context, doubles, usable_variants

from zigllama.errors import DTypeError, InvalidArgument, ShapeError
from zigllama.foundation.native_cache import NativeCache
from zigllama.foundation.native_context import NativeContext
from zigllama.foundation.runtime import F32, EagerRuntime, Step
from zigllama.transformers.attention import attention, kv_store
from zigllama.transformers.cache_pages import read_pages
from zigllama.transformers.interfaces import PAGE

F32_TYPE, F16_TYPE, Q8_TYPE, CLS, LAYERS, LAYER = 0, 1, 8, 2, 2, 1
Part = list[tuple[int, int, int]]  # rows of one step: (sequence, from, to)
Plan = list[Part]
SIZES = st.one_of(st.sampled_from([64, 72, 80, 96, 112, 128, 192, 256]), st.integers(1, 40))


@dataclass
class World:
    """Sequences of n positions: their queries, keys and values; and how they are to be attended to."""

    type_id: int
    n_kv: int
    group: int
    dk: int
    dv: int
    window: int
    softcap: float
    n: tuple[int, ...]  # positions of each sequence
    prefix: int  # positions of sequence 0 that see each other both ways; read in one step
    seed: int
    slope: float = 0.0  # ALiBi: the largest slope of a head, 0: none
    scale: float = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        self.scale = float(np.float32(1 / np.sqrt(self.dk)))
        self.q = [rng.normal(size=(n, self.heads * self.dk)).astype(np.float32) * 2 for n in self.n]
        self.k = [rng.normal(size=(n, self.n_kv * self.dk)).astype(np.float32) for n in self.n]
        self.v = [rng.normal(size=(n, self.n_kv * self.dv)).astype(np.float32) for n in self.n]
        self.order = rng.permutation(sum(-(-n // PAGE) for n in self.n) + 2).astype(np.int32)
        self.see_to = [np.arange(n, dtype=np.int32) for n in self.n]
        self.see_to[0][: self.prefix] = np.maximum(self.see_to[0][: self.prefix], min(self.prefix, self.n[0]) - 1)

    @property
    def heads(self) -> int:
        return self.n_kv * self.group

    @property
    def slopes(self) -> F32 | None:
        """Of another size for each head, and of either sign."""
        each = np.array([(-0.1 if h % 3 == 2 else 1) / (h + 1) for h in range(self.heads)], np.float32)
        return each * np.float32(self.slope) if self.slope else None

    def cache(self) -> tuple[NativeCache, npt.NDArray[np.int32]]:
        """A pool whose every page is full of NaN, and a table whose pages stand in it in any order."""
        cache = NativeCache(self.type_id, CLS, LAYERS, self.n_kv, self.dk, self.dv, len(self.order))
        fill_pages(cache)
        table = np.full((len(self.n), max(-(-n // PAGE) for n in self.n)), -1, np.int32)
        free = iter(self.order)
        for i, n in enumerate(self.n):
            table[i, : -(-n // PAGE)] = [next(free) for _ in range(-(-n // PAGE))]
        return cache, table

    def step(self, parts: Part, table: npt.NDArray[np.int32]) -> Step:
        """The step of the rows (sequence, from, to)."""
        at = np.concatenate([np.arange(a, b, dtype=np.int32) for _, a, b in parts])
        see = np.concatenate([self.see_to[i][a:b] for i, a, b in parts])
        seq = np.concatenate([np.full(b - a, i, np.int32) for i, a, b in parts])
        tables = [np.zeros((len(self.n), 1), np.int32)] * CLS + [table]
        zeros = np.zeros(len(at), np.int32)
        return Step(zeros, at[None, :].copy(), at, see, seq, zeros[:0], tables=tables, n_seq=len(self.n))

    def run(self, ctx: NativeContext | None, plan: Plan) -> list[F32]:
        """Store and attend, step by step; per sequence (n, H*dv). Pages outside of every window are taken away."""
        cache, table = self.cache()
        out = [np.full((n, self.heads * self.dv), np.nan, np.float32) for n in self.n]
        for parts in plan:
            for i, a, _ in parts:
                if self.window:
                    table[i, : max(0, a - self.window + 1) // PAGE] = -1
            step = self.step(parts, table)
            q, k, v = (np.concatenate([x[i][a:b] for i, a, b in parts]) for x in (self.q, self.k, self.v))
            how = {"layer": LAYER, "heads": self.heads, "scale": self.scale, "window": self.window}
            if ctx is None:
                kv_store(k, v, step, cache, layer=LAYER)
                got = attention(q, step, cache, self.slopes, softcap=self.softcap, **how)
            else:
                rt = EagerRuntime(ctx, step)
                kv_store(rt.rows(k), rt.rows(v), step, cache, layer=LAYER)
                got = attention(rt.rows(q), step, cache, self.slopes, softcap=self.softcap, **how).array
            for i, a, b in parts:
                out[i][a:b], got = got[: b - a], got[b - a :]
        assert all(np.isnan(x).all() for x in read_pages(cache, np.arange(len(self.order)), 1 - LAYER))
        return out

    def kept(self, x: F32) -> npt.NDArray[np.floating]:
        """As the cache gives it back, by the formula alone; Q8_0: a scale in half precision for 32 channels."""
        if self.type_id != Q8_TYPE:
            return x.astype(np.float16 if self.type_id == F16_TYPE else np.float32)
        blocks = x.reshape(-1, 32)
        most = np.abs(blocks).max(axis=1, keepdims=True)
        scales = (most / np.float32(127)).astype(np.float16).astype(np.float64)
        back: npt.NDArray[np.float64] = np.rint(blocks * (np.float32(127) / most)) * scales
        return back.reshape(x.shape)

    def whole(self) -> Plan:
        return [[(i, 0, n) for i, n in enumerate(self.n)]]

    def dense(self, i: int) -> Iterator[tuple[int, int, npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
        """(row, head, result, bound) by softmax over everything that a row sees, from the values as they are stored."""
        k, v = (doubles(self.kept(x[i])).reshape(self.n[i], self.n_kv, -1) for x in (self.k, self.v))
        for t in sorted({0, 1, 14, 62, 63, 64, 65, 99, 127, 128, self.n[i] - 1} & set(range(self.n[i]))):
            first, last = max(0, t - self.window + 1) if self.window else 0, int(self.see_to[i][t])
            for h in range(self.heads):
                q = doubles(self.q[i][t, h * self.dk : (h + 1) * self.dk])
                keys, values = k[first : last + 1, h // self.group], v[first : last + 1, h // self.group]
                s = self.scale * (keys @ q)
                s = self.softcap * np.tanh(s / self.softcap) if self.softcap else s
                bias = None
                if self.slopes is not None:
                    bias = doubles(self.slopes[h]) * (np.arange(first, last + 1) - t)
                    s = s + bias
                w = np.exp(s - s.max())
                bound = tolerances.attention(q, keys, values, self.scale, self.softcap, bias)
                yield t, h, (w / w.sum()) @ values, bound


def fill_pages(cache: NativeCache) -> None:
    """NaN everywhere. In Q8_0 pages all bits are set, which makes the scales NaN."""
    if cache.type_id == Q8_TYPE:
        cache.k[...] = cache.v[...] = 255
    else:
        cache.k[...] = cache.v[...] = np.nan


@st.composite
def worlds(draw: st.DrawFn) -> World:
    type_id = draw(st.sampled_from([F32_TYPE, F16_TYPE, Q8_TYPE]))
    sizes = st.sampled_from([32, 64, 96, 128, 192, 256]) if type_id == Q8_TYPE else SIZES
    n = tuple(draw(st.lists(st.sampled_from([1, 2, 15, 63, 64, 65, 100, 129]), min_size=1, max_size=3)))
    return World(
        type_id=type_id,
        n_kv=draw(st.integers(1, 3)),
        group=draw(st.sampled_from([1, 2, 3, 4, 5, 7])),
        dk=draw(sizes),
        dv=draw(sizes),
        window=draw(st.sampled_from([0, 0, 1, 5, 63, 64, 65])),
        softcap=draw(st.sampled_from([0.0, 0.0, 2.0, 30.0])),
        n=n,
        prefix=draw(st.sampled_from([0, 0, 3, 64])),
        seed=draw(st.integers(0, 2**32 - 1)),
        slope=draw(st.sampled_from([0.0, 0.0, 0.03, 0.5])),
    )


def some_plan(world: World, seed: int) -> Plan:
    """Some way to read all sequences: chunks of any sizes, alone or in company; a prefix that sees itself is one."""
    rng = np.random.default_rng(seed)
    at, plan = [0] * len(world.n), []
    while any(a < n for a, n in zip(at, world.n, strict=True)):
        parts = []
        for i, n in enumerate(world.n):
            size = int(rng.choice([0, 1, 1, 2, 9, 30, 64, 200]))
            if size and i == 0 and at[0] < world.prefix:
                size = max(size, world.prefix)
            if size and at[i] < n:
                parts.append((i, at[i], min(n, at[i] + size)))
                at[i] = parts[-1][2]
        if parts:
            plan.append(parts)
    return plan


# --- values -----------------------------------------------------------------------------------------------------------


@given(worlds())
def test_dense_softmax_in_double(world: World) -> None:
    twin = world.run(None, world.whole())
    native = [(isa, world.run(context(isa, 2), world.whole())) for isa in usable_variants()]
    for i in range(len(world.n)):
        for t, h, want, bound in world.dense(i):
            part = slice(h * world.dv, (h + 1) * world.dv)
            assert_within(twin[i][t, part], want, bound, f"twin, sequence {i} row {t} head {h} ")
            for isa, got in native:
                assert_within(got[i][t, part], want, bound, f"{isa}, sequence {i} row {t} head {h} ")


def test_storing_is_the_twins_storing() -> None:
    """Every kind of number to float32 and float16: rounded to even, overflow to infinity, subnormals kept."""
    edges = [
        0.0,
        -0.0,
        65504.0,
        65519.9,
        65520.0,
        -1e30,
        2.0**-24,
        2.0**-25,
        2.0**-25 * 1.01,
        6.1e-5,
        np.inf,
        -np.inf,
        np.nan,
    ]
    rng = np.random.default_rng(1)
    for type_id in (F32_TYPE, F16_TYPE, Q8_TYPE):
        for dk, dv in ((64, 64), (5, 13), (1, 1), (33, 20)) if type_id != Q8_TYPE else ((64, 64), (32, 96), (256, 32)):
            world = World(type_id, 2, 1, dk, dv, 0, 0.0, (70, 3), 0, 5)
            for x in (*world.k, *world.v):
                x[rng.random(x.shape) < 0.3] = rng.choice(edges)
                x *= rng.choice([1, 1e-6, 1e4])
            want, table = world.cache()
            step = world.step([(0, 0, 70), (1, 0, 3)], table)
            k, v = np.concatenate(world.k), np.concatenate(world.v)
            kv_store(k, v, step, want, layer=LAYER)
            for isa in usable_variants():
                got, _ = world.cache()
                rt = EagerRuntime(context(isa, 3), step)
                kv_store(rt.rows(k), rt.rows(v), step, got, layer=LAYER)
                pairs = [(got.k, want.k), (got.v, want.v)]
                if type_id == Q8_TYPE:  # scales as numbers: any NaN is as good as another
                    pairs = [
                        (getattr(got, x), getattr(want, x)) for x in ("k_codes", "k_scales", "v_codes", "v_scales")
                    ]
                for a, b in pairs:
                    np.testing.assert_array_equal(a, b, isa)
                    np.testing.assert_array_equal(np.signbit(a[a == 0]), np.signbit(b[b == 0]), isa)


# --- bits -------------------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(worlds())
def test_the_same_bits_however_it_is_read(world: World) -> None:
    """In chunks, row by row, in company, on any number of threads; with a past long enough to be cut by spans."""
    row_by_row = [[(i, t, t + 1)] for i, n in enumerate(world.n) for t in range(n) if i or t >= world.prefix]
    if world.prefix:
        row_by_row.insert(0, [(0, 0, min(world.prefix, world.n[0]))])
    for isa in usable_variants():
        want = world.run(context(isa, 1), world.whole())
        for n_threads, way in zip(
            THREADS, (some_plan(world, 1), row_by_row, some_plan(world, world.seed)), strict=True
        ):
            got = world.run(context(isa, n_threads), way)
            for i in range(len(world.n)):
                np.testing.assert_array_equal(got[i], want[i], f"{isa}, {n_threads} threads, sequence {i}")


@pytest.mark.parametrize("isa", usable_variants())
@pytest.mark.parametrize("type_id", [F16_TYPE, Q8_TYPE])
@pytest.mark.parametrize(
    ("n_kv", "group", "size", "slope"), [(3, 3, 64, 0), (1, 4, 256, 0), (2, 8, 128, 0), (2, 3, 64, 0.01)]
)
def test_a_long_past_is_the_same_on_any_threads(
    isa: str, type_id: int, n_kv: int, group: int, size: int, slope: float
) -> None:
    """Decode at depth: one thread merges as it goes, several compute spans apart and merge them after."""
    world = World(type_id, n_kv, group, size, size, 0, 0.0, (1100,), 0, 3, slope)
    want = world.run(context(isa, 1), world.whole())[0][1090:]
    for n_threads in THREADS:
        ones = [[(0, t, t + 1)] for t in range(1095, 1100)]
        for last in (
            [[(0, 1090, 1095)], *ones],
            [[(0, 1089, 1100)]],
        ):  # 11 rows: more spans than wait to be merged at once
            got = world.run(context(isa, n_threads), [[(0, 0, last[0][0][1])], *last])[0]
            np.testing.assert_array_equal(got[1090:], want)


def test_heads_with_slopes_look_near() -> None:
    """Without scores of their own the weights are a geometric series of the distance: e^-slope for each position."""
    world = World(F32_TYPE, 2, 1, 4, 5, 0, 0.0, (100,), 0, 8, 0.2)
    world.q[0][...] = 0
    slopes = world.slopes
    assert slopes is not None
    for ctx in (None, *(context(isa, 1) for isa in usable_variants())):
        got = world.run(ctx, world.whole())[0].reshape(100, 2, 5)
        for h in range(2):
            w = np.exp(-doubles(slopes[h]) * np.arange(99, -1, -1))
            want = (w / w.sum()) @ world.v[0].reshape(100, 2, 5)[:, h]
            np.testing.assert_allclose(got[99, h], want, atol=1e-5)


# --- what is not seen -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("isa", usable_variants())
@pytest.mark.parametrize("what", ["k", "v"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_reaches_those_who_see_it(isa: str, what: str, value: float) -> None:
    """Also inside a chunk: a row never multiplies what comes after it, or what its window has left."""
    world = World(F32_TYPE, 1, 3, 8, 12, 20, 0.0, (100, 30), 0, 4)
    clean = world.run(context(isa, 2), world.whole())
    getattr(world, what)[0][50, 5] = value
    for plan in (world.whole(), [[(0, t, t + 1)] for t in range(100)] + [[(1, 0, 30)]]):
        dirty = world.run(context(isa, 2), plan)
        unseeing = [t for t in range(100) if not 50 <= t < 70]
        np.testing.assert_array_equal(dirty[0][unseeing], clean[0][unseeing])
        np.testing.assert_array_equal(dirty[1], clean[1])
        seen = dirty[0][50:70].reshape(20, 3, 12)
        if what == "v":
            assert not np.isfinite(seen[..., 5]).any()
            np.testing.assert_array_equal(np.delete(seen, 5, -1), np.delete(clean[0][50:70].reshape(20, 3, 12), 5, -1))
        else:
            sign = (
                world.q[0].reshape(100, 3, 8)[50:70, :, 5] > 0
            )  # +inf times a positive query: NaN; a negative: weight 0
            assert np.isnan(seen[sign | np.isnan(value)]).all()
            assert np.isfinite(seen[~sign & ~np.isnan(value)]).all()


def test_a_row_that_sees_nothing_is_zero() -> None:
    world = World(F16_TYPE, 2, 2, 16, 8, 10, 0.0, (150,), 0, 6)
    world.see_to[0][100:] -= 10
    for ctx in (None, *(context(isa, n) for isa in usable_variants() for n in THREADS)):
        out = world.run(ctx, world.whole())[0]
        assert (out[100:] == 0).all() and (out[:100] != 0).all()


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_q8_0_needs_whole_blocks() -> None:
    for dk, dv in ((80, 64), (64, 80), (16, 16)):
        with pytest.raises(ShapeError, match=f"32 channels.* {dk} and {dv}"):
            NativeCache(Q8_TYPE, CLS, LAYERS, 1, dk, dv, 1)
    with pytest.raises(DTypeError, match="Q8_0 are possible"):
        NativeCache(2, CLS, LAYERS, 1, 64, 64, 1)


def test_q8_0_takes_34_bytes_for_32_values() -> None:
    f32, q8 = NativeCache(F32_TYPE, CLS, 2, 3, 64, 96, 5), NativeCache(Q8_TYPE, CLS, 2, 3, 64, 96, 5)
    assert q8.n_bytes * 4 * 32 == f32.n_bytes * 34


def test_refusals() -> None:
    world = World(F16_TYPE, 2, 2, 16, 8, 0, 0.0, (70,), 0, 7)
    cache, table = world.cache()
    rt = EagerRuntime(context(usable_variants()[0], 1), world.step([(0, 0, 70)], table))
    q, k, v = rt.rows(world.q[0]), rt.rows(world.k[0]), rt.rows(world.v[0])
    ok = {"layer": 0, "heads": 4, "scale": 1.0}
    for wrong in ({"layer": 2}, {"layer": -1}, {"window": -1}, {"scale": float("nan")}, {"softcap": -1.0}):
        with pytest.raises(InvalidArgument):
            attention(q, rt.step, cache, **(ok | wrong))
    for heads in (0, 3, 5, -4):
        with pytest.raises(ShapeError):
            attention(q, rt.step, cache, **(ok | {"heads": heads}))
    for wrong_slopes in (np.ones(3, np.float32), np.ones((4, 1), np.float32)):
        for arguments in ((q, rt.step), (world.q[0], rt.step)):
            with pytest.raises(ShapeError, match=r"slopes of shape .* for 4 heads"):
                attention(*arguments, cache, wrong_slopes, **ok)
    with pytest.raises(ShapeError):
        kv_store(v, k, rt.step, cache, layer=0)
    with pytest.raises(ShapeError):
        kv_store.ref(world.v[0], world.k[0], rt.step, cache, layer=0)
    with pytest.raises(ShapeError):
        attention.ref(world.q[0], rt.step, cache, **(ok | {"heads": 3}))
    for page in (-1, cache.n_pages, 2**31 - 1):
        bad = table.copy()
        bad[0, 0] = page
        step = world.step([(0, 64, 70)], bad)  # stores in page 1, looks at page 0
        rt = EagerRuntime(context(usable_variants()[0], 1), step)
        with pytest.raises(InvalidArgument):
            attention(rt.rows(world.q[0][64:]), step, cache, **ok)


def test_two_sequences_do_not_write_the_same_page() -> None:
    """What they would read from it would depend on who was last. A page that both only look at may be the same."""
    world = World(F16_TYPE, 1, 1, 16, 8, 0, 0.0, (70, 70), 0, 7)
    cache, table = world.cache()
    table[1, 0] = table[0, 0]
    shared = int(table[0, 0])
    rt = EagerRuntime(context(usable_variants()[0], 1), world.step([(0, 64, 70), (1, 64, 70)], table))
    rows = [rt.rows(np.concatenate([x[0][64:], x[1][64:]])) for x in (world.q, world.k, world.v)]
    kv_store(*rows[1:], rt.step, cache, layer=0)
    assert attention(rows[0], rt.step, cache, layer=0, heads=1, scale=1.0).array.shape == (12, 8)
    rt = EagerRuntime(context(usable_variants()[0], 1), world.step([(0, 10, 20), (1, 60, 70)], table))
    k, v = (rt.rows(np.concatenate([x[0][10:20], x[1][60:]])) for x in (world.k, world.v))
    at = "at position 10 of sequence 0 and at position 60 of sequence 1"
    with pytest.raises(InvalidArgument, match=f"page {shared} of cache class {CLS} is written {at}"):
        kv_store(k, v, rt.step, cache, layer=0)
