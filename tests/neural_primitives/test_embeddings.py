"""Rotary embedding: native against the formula in double, both layouts, large positions; what a rotation must keep."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tolerances
from hypothesis import given
from hypothesis import strategies as st
from native_ops import THREADS, GuardedRuntime, assert_within, context, doubles, everywhere, usable_variants
from strategies import EVEN, ROWS, arrays, guarded_array

from zigllama.errors import InvalidArgument, ShapeError
from zigllama.foundation.ggml_types import row_bytes, type_by_name
from zigllama.foundation.runtime import Step
from zigllama.linear_algebra.linear import Weight, embed
from zigllama.neural_primitives.embeddings import (
    ROPE_HALF_SPLIT,
    ROPE_INTERLEAVED,
    RoPE,
    TokenEmbedding,
    rope,
    rope_frequencies,
)

MODES = st.sampled_from([ROPE_INTERLEAVED, ROPE_HALF_SPLIT])
POSITIONS = st.one_of(st.integers(0, 600), st.integers(0, 131_072), st.sampled_from([-1, 10**6, 2**31 - 1, -(2**31)]))


def partner(x: np.ndarray, heads: int, rot: int, mode: int) -> np.ndarray:
    """For each channel the other one of its pair, 0 where it is not rotated."""
    v = x.reshape(len(x), heads, x.shape[1] // heads)
    y = np.zeros_like(v)
    if mode == ROPE_INTERLEAVED:
        y[..., 0:rot:2], y[..., 1:rot:2] = v[..., 1:rot:2], v[..., 0:rot:2]
    else:
        y[..., : rot // 2], y[..., rot // 2 : rot] = v[..., rot // 2 : rot], v[..., : rot // 2]
    return y.reshape(x.shape)


@given(st.data(), ROWS, EVEN, st.integers(0, 9), st.integers(1, 4), MODES, st.sampled_from([1.0, 1.25]))
def test_native_rope(data: st.DataObject, rows: int, rot: int, rest: int, heads: int, mode: int, scale: float) -> None:
    head_dim = rot + rest
    x = data.draw(arrays((rows, heads * head_dim), 1e30))
    inv_freq = rope_frequencies(
        rot, data.draw(st.sampled_from([10_000.0, 1e6])), factor=data.draw(st.sampled_from([1.0, 8.0]))
    )
    step = Step.of_rows(rows)
    plane = data.draw(st.integers(0, 1))
    step.positions = np.array(
        data.draw(st.lists(st.lists(POSITIONS, min_size=rows, max_size=rows), min_size=2, max_size=2)), np.int32
    ).reshape(2, rows)
    params = {"heads": heads, "mode": mode, "plane": plane, "scale": scale}
    largest = np.abs(step.positions[plane].astype(np.float64))[:, None] * inv_freq.max(initial=0)
    with np.errstate(invalid="ignore"):
        want = rope.ref(doubles(x), inv_freq, step, **params)
        bound = tolerances.rope(doubles(x), partner(doubles(x), heads, rot, mode), largest, scale)
    for isa, (got,) in everywhere(step, rope, [x], inv_freq, step, **params):
        assert_within(got, want, bound, f"rope {params} on {isa}")
        kept = np.arange(heads * head_dim) % head_dim >= rot
        np.testing.assert_array_equal(got[:, kept], x[:, kept], err_msg=isa)


def test_the_table_is_good_at_every_position() -> None:
    """A pair (1, 0) becomes (cos, sin). At 1e-7 the float32 rounding of the angle itself would be seen from position 4
    on.
    """
    inv_freq = rope_frequencies(64)
    positions = np.concatenate([np.arange(2048), np.arange(30_000, 33_000), np.arange(131_000, 131_073)])
    step = Step.of_rows(len(positions))
    step.positions = positions[None, :].astype(np.int32)
    x = np.tile(np.array([1, 0], np.float32), (len(positions), 32))
    angle = positions[:, None] * inv_freq.astype(np.float64)
    want = np.stack([np.cos(angle), np.sin(angle)], axis=-1).reshape(len(positions), 64)
    bound = np.full_like(want, 2 * tolerances.U)
    first: bytes | None = None
    for isa, (got,) in everywhere(step, rope, [x], inv_freq, step, heads=1, mode=ROPE_INTERLEAVED):
        assert_within(got, want, bound, f"rope on {isa}")
        assert first is None or got.tobytes() == first, "the table must not depend on the ISA variant"
        first = got.tobytes()


@given(st.integers(0, 4000), st.integers(0, 4000), st.integers(0, 4000), MODES)
def test_a_score_depends_on_the_distance_alone(p: int, q: int, shift: int, mode: int) -> None:
    rng = np.random.default_rng(p * 4001 + q)
    inv_freq = rope_frequencies(16)
    x = rng.normal(size=(2, 16))

    def score(a: int, b: int) -> float:
        step = Step.of_rows(2)
        step.positions = np.array([[a, b]], np.int32)
        turned = rope(x, inv_freq, step, heads=1, mode=mode)
        assert np.linalg.norm(turned, axis=-1) == pytest.approx(np.linalg.norm(x, axis=-1), rel=1e-12)
        return float(turned[0] @ turned[1])

    assert score(p, q) == pytest.approx(score(p + shift, q + shift), abs=1e-9)


def test_the_two_layouts_are_one_rotation() -> None:
    rng = np.random.default_rng(8)
    x = rng.normal(size=(5, 2, 12)).astype(np.float32)
    order = np.arange(12).reshape(6, 2).T.ravel()  # 0 2 4 .. 1 3 5 ..
    step, inv_freq = Step.of_rows(5), rope_frequencies(12)
    apart, beside = x[..., order].reshape(5, 24), x.reshape(5, 24)
    halves = everywhere(step, rope, [apart], inv_freq, step, heads=2, mode=ROPE_HALF_SPLIT)
    pairs = everywhere(step, rope, [beside], inv_freq, step, heads=2, mode=ROPE_INTERLEAVED)
    for (isa, (half,)), (_, (pair,)) in zip(halves, pairs, strict=True):
        np.testing.assert_array_equal(pair.reshape(5, 2, 12)[..., order], half.reshape(5, 2, 12), err_msg=isa)


def test_frequencies() -> None:
    f = rope_frequencies(64, 10_000.0)
    assert f.dtype == np.float32
    assert f[0] == 1
    np.testing.assert_allclose(f, [10_000.0 ** (-2 * i / 64) for i in range(32)], rtol=2**-24)
    np.testing.assert_allclose(rope_frequencies(8, 1e6, factor=4.0), rope_frequencies(8, 1e6) / 4, rtol=2**-24)
    # one turn of the slowest pair of a 64-channel head takes 2 pi * 10000^(62/64) positions
    assert 2 * math.pi / f[-1] == pytest.approx(47_117, rel=1e-3)


def test_rope_object() -> None:
    x = np.random.default_rng(9).normal(size=(3, 2, 10)).astype(np.float32).reshape(3, 20)
    step = Step.of_rows(3)
    turn = RoPE(8, base=500.0, mode=ROPE_HALF_SPLIT, factor=2.0)
    want = rope(x, rope_frequencies(8, 500.0, factor=2.0), step, heads=2, mode=ROPE_HALF_SPLIT)
    np.testing.assert_array_equal(turn(x, step, heads=2), want)
    np.testing.assert_array_equal(want[0], x[0])  # position 0 turns nothing


def test_errors() -> None:
    x, step = np.zeros((2, 12), np.float32), Step.of_rows(2)
    with pytest.raises(ShapeError, match="12 channels in 5 heads"):
        rope(x, rope_frequencies(2), step, heads=5, mode=0)
    with pytest.raises(ShapeError, match="8 channels of each"):
        rope(x, rope_frequencies(8), step, heads=2, mode=0)
    with pytest.raises(InvalidArgument, match="mode is 2"):
        rope(x, rope_frequencies(4), step, heads=2, mode=2)
    for bad in (
        {"rope_dim": 3},
        {"rope_dim": 0},
        {"rope_dim": -2},
        {"rope_dim": 4, "base": 0.0},
        {"rope_dim": 4, "factor": math.inf},
    ):
        with pytest.raises(InvalidArgument):
            rope_frequencies(**bad)
    with pytest.raises(InvalidArgument, match="plane 1 of 1"):
        list(everywhere(step, rope, [x], rope_frequencies(4), step, heads=2, mode=0, plane=1))


# --- token embedding --------------------------------------------------------------------------------------------------

TABLE_TYPES = st.sampled_from(["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q8_0", "Q4_K", "Q6_K"])


@given(st.data(), TABLE_TYPES, st.integers(1, 40), st.sampled_from([0, 1, 2, 7, 33]), st.booleans(), st.booleans())
def test_native_embedding(
    data: st.DataObject, type_name: str, vocab: int, rows: int, mapped: bool, pictures: bool
) -> None:
    """Every format, from panels and from file rows: the bits of the twin's decoding."""
    kind = type_by_name(type_name)
    cols = data.draw(st.sampled_from([1, 3, 7, 33]) if kind.block_size == 1 else st.just(1)) * kind.block_size
    seed = data.draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    file_bytes = guarded_array(rng.integers(0, 256, vocab * row_bytes(kind, cols), np.uint8), np.uint8)
    step = Step.of_rows(rows)
    step.tokens = rng.integers(-1 if pictures else 0, vocab, rows, np.int32)
    step.inputs = rng.normal(size=(rows, cols)).astype(np.float32) if pictures else None
    scale = data.draw(st.sampled_from([1.0, 24.0]))
    with np.errstate(all="ignore"):
        want = embed.ref(step, Weight(kind, vocab, cols, file_bytes), scale=scale)
    for isa in usable_variants():
        for n_threads in THREADS:
            weight = Weight(kind, vocab, cols, file_bytes)
            weight.prepare(context(isa, n_threads), mapped=mapped)
            got = embed(GuardedRuntime(context(isa, n_threads), step).bind(), weight, scale=scale).array
            weight.close()
            same = (got.view(np.uint32) == want.view(np.uint32)) | (np.isnan(got) & np.isnan(want))
            assert same.all(), f"{isa}, {n_threads} threads: {np.argwhere(~same)[:3]}"


def test_token_embedding() -> None:
    table = np.random.default_rng(10).normal(size=(50, 8)).astype(np.float32)
    embedding = TokenEmbedding.from_array(table, scale=2.0)
    assert (embedding.n_vocab, embedding.n_embd) == (50, 8)
    np.testing.assert_array_equal(embedding.lookup([3, 49, 3]), 2 * table[[3, 49, 3]])
    assert embedding.lookup([]).shape == (0, 8)
    step = Step.of_rows(2)
    step.tokens = np.array([1, 0], np.int32)
    np.testing.assert_array_equal(embedding(step), 2 * table[[1, 0]])
    for bad in (50, -2):
        with pytest.raises(ShapeError, match="vocabulary has 50"):
            embedding.lookup([0, bad])
        step.tokens = np.array([0, bad], np.int32)
        for isa in usable_variants():
            with pytest.raises(InvalidArgument, match="vocabulary has 50"):
                embedding(GuardedRuntime(context(isa, 1), step).bind())
    with pytest.raises(ShapeError, match="no input rows"):
        embedding.lookup([-1])
    step.tokens = np.array([0, -1], np.int32)
    with pytest.raises(ShapeError, match="needs an input of 8 columns"):
        embedding(GuardedRuntime(context("generic", 1), step).bind())
