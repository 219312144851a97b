"""Blocks, attentions and feed-forward networks on their own: against torch's (tests/golden/blocks.*, made by
tools/make_blocks_golden.py), at once and from a tape, by C and by the twins, whole and piece by piece; and what does
not fit together.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import block_cases
import numpy as np
import pytest
from block_cases import CASES, Case
from native_ops import usable_variants

from zigllama.errors import ContextOverflow, InvalidArgument, ShapeError, UnknownName
from zigllama.foundation.runtime import F32, Step
from zigllama.foundation.shared_context import shared_context
from zigllama.foundation.tape import TapeProgram, record
from zigllama.linear_algebra.linear import Weight, embed
from zigllama.neural_primitives.embeddings import alibi_slopes
from zigllama.neural_primitives.fusion import FUSIONS
from zigllama.neural_primitives.normalization import LayerNorm, RMSNorm
from zigllama.transformers.attention import MultiHeadAttention, attention
from zigllama.transformers.cross_attention import CrossAttention
from zigllama.transformers.feed_forward import KINDS, FeedForward
from zigllama.transformers.interfaces import CacheClass
from zigllama.transformers.one_sequence import OneSequence, Part, cache_spec_of
from zigllama.transformers.transformer_block import TransformerBlock

GOLDEN = Path(__file__).parents[1] / "golden"
# Results are of size one to ten, made of a dozen sums of at most 70 products of that size, each sum off by at most
# 70 u of its terms, in practice by sqrt(70) u: 12 * 8.4 * 2^-24 * 10
NEAR = 6e-5


@cache
def golden() -> tuple[dict[str, Any], dict[str, F32]]:
    with np.load(GOLDEN / "blocks.npz") as arrays:
        return json.loads((GOLDEN / "blocks.json").read_text("utf-8")), dict(arrays)


def of_attention(w: dict[str, F32], name: str) -> dict[str, Any]:
    """The arguments of `from_arrays`."""
    found: dict[str, Any] = {part: w[f"{name}.{part}.weight"] for part in ("q", "k", "v", "out")}
    return found | {f"{part}_bias": w.get(f"{name}.{part}.bias") for part in ("q", "k", "v", "out")}


def build(label: str) -> Part:
    """The block of a case, or its attention."""
    case, w = CASES[label], block_cases.weights(label)
    heads = {"heads": case.heads, "kv_heads": case.kv_heads}
    if case.alone and case.memory:
        return CrossAttention.from_arrays(**of_attention(w, "cross"), **heads, cache_class=0)
    own = MultiHeadAttention.from_arrays(
        **of_attention(w, "attention"),
        **heads,
        window=case.window,
        softcap=case.softcap,
        slopes=alibi_slopes(case.heads) if case.alibi else None,
    )
    if case.alone:
        return own

    def norm(name: str) -> Any:
        weight = w[f"{name}.weight"]
        return LayerNorm(weight, w[f"{name}.bias"], case.eps) if case.norm == "layer" else RMSNorm(weight, case.eps)

    biases: dict[str, Any] = {f"{part}_bias": w.get(f"ffn.{part}.bias") for part in ("gate", "up", "down")}
    up, down, gate = w["ffn.up.weight"], w["ffn.down.weight"], w.get("ffn.gate.weight")
    return TransformerBlock(
        norm("attn_norm"),
        own,
        None if case.shared_norm else norm("ffn_norm"),
        FeedForward.from_arrays(case.kind, up, down, gate, **biases),
        parallel=case.parallel,
        norm_sums=case.post_norm,
        cross=CrossAttention.from_arrays(**of_attention(w, "cross"), **heads) if case.memory else None,
        cross_norm=norm("cross_norm") if case.memory else None,
    )


def begin(label: str, part: Part, **options: Any) -> tuple[OneSequence, Any]:
    """A sequence that knows the case's memory, and the forward pass of its block."""
    text = OneSequence.of(part, n_ctx=128, **options)
    memory = block_cases.inputs(label)[1]
    cross = part if isinstance(part, CrossAttention) else getattr(part, "cross", None)
    if memory is not None:
        assert cross is not None
        text.remember(cross.store, memory)
    return text, part


def run(label: str, sizes: list[int], **options: Any) -> F32:
    """All rows, so many at a time."""
    text, forward = begin(label, build(label), **options)
    x, at, out = block_cases.inputs(label)[0], 0, []
    for n in sizes:
        out.append(text.run(forward, x[at : at + n], both_ways=CASES[label].both_ways))
        at += n
    assert text.length == at == len(x)
    return np.concatenate(out)


def kept(case: Case) -> list[int]:
    """The rows that the golden file has."""
    return [row for row in golden()[0]["rows"] if row < case.rows - 1] + [case.rows - 1]


# --- against torch ----------------------------------------------------------------------------------------------------


def test_golden_is_from_outside() -> None:
    about, arrays = golden()
    assert about["about"]["oracle"].startswith("torch ") and "zigllama" not in str(about["about"])
    assert about["cases"] == list(CASES) == [name[6:] for name in arrays if name.startswith("block/")]


@pytest.mark.parametrize("label", CASES)
def test_as_torch_has_it(label: str) -> None:
    case, want = CASES[label], golden()[1][f"block/{label}"]
    reference = run(label, [case.rows], backend="reference")[kept(case)]
    np.testing.assert_allclose(reference, want, atol=NEAR, rtol=0)
    for isa in usable_variants():
        native = run(label, [case.rows], context=shared_context(isa, 2))[kept(case)]
        np.testing.assert_allclose(native, want, atol=NEAR, rtol=0, err_msg=isa)


@pytest.mark.parametrize("label", [label for label, case in CASES.items() if not case.both_ways])
def test_piece_by_piece_is_the_same(label: str) -> None:
    """Native: the same bits. The twins' products go by BLAS, whose order may depend on how many rows there are."""
    rows = CASES[label].rows
    whole = run(label, [rows], context=shared_context(None, 1))
    for sizes in ([1] * rows, [11, rows - 12, 1]):
        np.testing.assert_array_equal(run(label, sizes, context=shared_context(None, 3)), whole)
    reference = run(label, [5, rows - 5], backend="reference")
    np.testing.assert_allclose(reference, run(label, [rows], backend="reference"), atol=NEAR, rtol=0)


@pytest.mark.parametrize("label", CASES)
def test_the_tape_has_the_same_bits(label: str) -> None:
    """Recorded once, with every pass over it, and replayed: rows come in as `step.inputs`."""
    x, context = block_cases.inputs(label)[0], shared_context(None, 2)
    part = build(label)
    text, forward = begin(label, part, context=context)
    door = Weight.from_array(np.zeros((1, x.shape[1]), np.float32), "no token's row")
    program = TapeProgram(record(lambda step: forward(embed(step, door), step, text), FUSIONS), context, 128)
    step = text.step(len(x), both_ways=CASES[label].both_ways)
    step.tokens, step.inputs = np.full(len(x), -1, np.int32), x
    program.run(context.make_step(step))
    recorded = program.result(0, len(x)).copy()
    program.close()
    np.testing.assert_array_equal(recorded, text.run(forward, x, both_ways=CASES[label].both_ways))


def test_every_case_is_another_function() -> None:
    """What a case's options say has an effect on the rows: none is idle."""
    label, case = "decoder-pre", CASES["decoder-pre"]
    x = block_cases.inputs(label)[0]
    for field, value in (("window", 9), ("softcap", 0.7), ("slopes", alibi_slopes(3)), ("scale", 0.1)):
        block = build(label)
        assert isinstance(block, TransformerBlock)
        setattr(block.attention, field, value)
        other = OneSequence.of(block, n_ctx=128).run(block, x)
        assert np.abs(other - run(label, [case.rows]))[-1].max() > 0.01, field
    both = OneSequence.of(build(label), n_ctx=128).run(build(label), x, both_ways=True)
    assert np.abs(both - run(label, [case.rows]))[0].max() > 0.01


# --- a memory ---------------------------------------------------------------------------------------------------------


def test_rows_without_a_memory_get_the_bias_alone() -> None:
    label = "cross-wide-memory"
    cross = build(label)
    assert isinstance(cross, CrossAttention) and cross.out_bias is not None
    for options in ({"backend": "reference"}, {}):
        text = OneSequence.of(cross, n_ctx=70, **options)
        got = text.run(cross, block_cases.inputs(label)[0])
        np.testing.assert_array_equal(got, np.tile(cross.out_bias, (70, 1)))


def test_another_memory_takes_its_place() -> None:
    label = "encoder-decoder-pre"
    block, (x, memory) = build(label), block_cases.inputs(label)
    assert isinstance(block, TransformerBlock) and block.cross is not None and memory is not None
    text = OneSequence.of(block, n_ctx=128)
    text.remember(block.cross.store, 3 * np.tile(memory, (7, 1)))
    other = text.run(block, x)
    text.clear()
    text.remember(block.cross.store, memory)
    assert text.memory == 9
    want = run(label, [len(x)])
    np.testing.assert_array_equal(text.run(block, x), want)
    assert np.abs(other - want).max() > 0.01


def test_two_blocks_share_classes() -> None:
    """Layers of one class: two decoder blocks over one memory, in one step."""
    label = "encoder-decoder-pre"
    blocks, (x, memory) = [build(label), build(label)], block_cases.inputs(label)
    stores = []
    for i, block in enumerate(blocks):
        assert isinstance(block, TransformerBlock) and block.cross is not None
        block.attention.layer = block.cross.layer = i
        stores.append(block.cross.store)
    spec = cache_spec_of(*blocks)
    assert spec.layers == ((0, 0), (1, 0), (0, 1), (1, 1))
    assert spec.classes == (CacheClass(0, 2, 3, 8, 8),) * 2
    text = OneSequence.of(*blocks, n_ctx=128)

    def store_all(m: Any, step: Step, to: Any) -> None:
        for store in stores:
            store(m, step, to)

    assert memory is not None
    text.remember(store_all, memory)
    assert not isinstance(blocks[0], CrossAttention) and not isinstance(blocks[1], CrossAttention)
    first, second = blocks[0], blocks[1]
    got = text.run(lambda rows, step, to: second(first(rows, step, to), step, to), x)
    alone, forward = begin(label, build(label))
    np.testing.assert_array_equal(got, alone.run(forward, run(label, [len(x)])))


# --- feed-forward kinds -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_kinds(kind: str) -> None:
    gated, activation = KINDS[kind]
    up, gate = np.eye(4, dtype=np.float32) * 2, np.eye(4, dtype=np.float32) if gated else None
    ffn = FeedForward.from_arrays(kind, up, np.eye(4), gate, activation="relu_squared")
    x = np.array([[-1.0, 0.5, 2.0, 3.0]], np.float32)
    squared = np.maximum(x, 0) ** 2
    np.testing.assert_allclose(ffn(x), squared * 2 * x if gated else 4 * squared, rtol=1e-6)
    assert FeedForward.from_arrays(kind, up, np.eye(4), gate).activation == activation


def test_feed_forwards_that_do_not_fit() -> None:
    up, down = np.ones((6, 4)), np.ones((4, 6))
    with pytest.raises(UnknownName, match="mish"):
        FeedForward.from_arrays("mish", up, down)
    for wrong in (("glu", up, down), ("gelu", up, down, up), ("glu", up, down, down), ("gelu", up, up)):
        with pytest.raises(ShapeError, match="feed-forward"):
            FeedForward.from_arrays(*wrong)
    with pytest.raises(UnknownName):
        FeedForward.from_arrays("gelu", up, down, activation="mish")


# --- what does not fit ------------------------------------------------------------------------------------------------


def test_heads_that_do_not_fit() -> None:
    q, k, out = np.ones((12, 8)), np.ones((6, 8)), np.ones((8, 12))
    for kind in (MultiHeadAttention, CrossAttention):
        assert kind.from_arrays(q, k, k, out, heads=4, kv_heads=2).scale == 3**-0.5
        for heads, kv_heads in ((4, 4), (4, 3), (5, 1), (0, 0), (2, 2), (-4, -2)):
            with pytest.raises(ShapeError, match="q, k, v, out are"):
                kind.from_arrays(q, k, k, out, heads=heads, kv_heads=kv_heads)
        with pytest.raises(ShapeError, match="q, k, v, out are"):
            kind.from_arrays(q, k, np.ones((6, 9)), out, heads=4, kv_heads=2)


def test_blocks_that_do_not_fit() -> None:
    block = build("encoder-decoder-pre")
    assert isinstance(block, TransformerBlock)
    norm, own, ffn = block.attn_norm, block.attention, block.feed_forward
    for wrong in (
        {"cross": block.cross},
        {"cross_norm": norm},
        {"parallel": True, "norm_sums": True},
        {"parallel": True, "cross": block.cross, "cross_norm": norm},
        {"norm_sums": True, "ffn_post_norm": norm},
    ):
        with pytest.raises(InvalidArgument, match="TransformerBlock"):
            TransformerBlock(norm, own, norm, ffn, **wrong)
    with pytest.raises(InvalidArgument, match="one norm for each sum"):
        TransformerBlock(norm, own, None, ffn, norm_sums=True)


def test_sequences_that_do_not_fit() -> None:
    own = build("windowed")
    assert isinstance(own, MultiHeadAttention)
    with pytest.raises(InvalidArgument, match="each stands once"):
        cache_spec_of(own, own)
    for places in ((1, 0), (0, 1)):
        other = build("windowed")
        assert isinstance(other, MultiHeadAttention)
        other.cache_class, other.layer = places
        with pytest.raises(InvalidArgument, match="count from 0"):
            cache_spec_of(other)
    other = build("soft-capped")
    assert isinstance(other, MultiHeadAttention)
    other.layer = 1
    with pytest.raises(ShapeError, match="cache class 0 differ"):
        cache_spec_of(own, other)
    x = block_cases.inputs("windowed")[0]
    for options in ({"n_ctx": 0}, {"n_ctx": 9, "backend": "torch"}):
        with pytest.raises(InvalidArgument):
            OneSequence.of(own, **options)
    text = OneSequence.of(own, n_ctx=71)
    text.run(own, x)
    for act in (text.run, text.remember):
        with pytest.raises(ContextOverflow):
            act(own, np.concatenate([x, x]))
        with pytest.raises(ShapeError, match="rows"):
            act(own, x[0])
    with pytest.raises(ShapeError):
        text.run(own, x[:1, :5])
    assert text.length == 70


def test_a_memory_that_is_stored_in_part_is_none() -> None:
    """Where storing fails midway, rows see no mixture of two memories."""
    label = "encoder-decoder-pre"
    block, (x, memory) = build(label), block_cases.inputs(label)
    assert isinstance(block, TransformerBlock) and block.cross is not None and memory is not None
    cross = block.cross
    text = OneSequence.of(block, n_ctx=128)
    want = text.run(block, x)
    text.clear()
    text.remember(cross.store, memory)

    def half(rows: Any, step: Step, cache: Any) -> None:
        cross.store(rows, step, cache)
        raise ShapeError("the second layer")

    with pytest.raises(ShapeError, match="second layer"):
        text.remember(half, memory[:3])
    assert text.memory == 0
    np.testing.assert_array_equal(text.run(block, x), want)


def test_a_memory_has_no_window_and_no_slopes() -> None:
    own = build("alibi")
    assert isinstance(own, MultiHeadAttention)
    text = OneSequence.of(own, n_ctx=64)
    step, q = Step.of_rows(2), np.zeros((2, 24), np.float32)
    how: dict[str, Any] = {"layer": 0, "heads": 6, "scale": 1.0}
    for slopes, wrong in ((alibi_slopes(6), {"memory": 0}), (None, {"memory": 0, "window": 3}), (None, {"memory": -1})):
        with pytest.raises(InvalidArgument, match="memory by plane"):
            attention(q, step, text.pages[0], slopes, **how, **wrong)


def test_parts_are_found_by_their_names() -> None:
    """`named` takes what a file has: biases where there are some, a gate where it is asked for."""
    rng = np.random.default_rng(3)
    names = [f"attn_{x}.{kind}" for x in ("q", "k", "v", "out") for kind in ("weight", "bias")]
    names += [f"ffn_{x}.{kind}" for x in ("gate", "up", "down") for kind in ("weight", "bias")]
    w: dict[str, Any] = {n: np.ones(8, np.float32) for n in names}
    w |= {n: Weight.from_array(rng.normal(size=(8, 8)), n) for n in names if n.endswith("weight")}
    sizes: dict[str, Any] = {"heads": 2, "kv_heads": 2, "scale": 1.0, "rope": None, "cache_class": 3, "layer": 1}
    for found in (w, {n: x for n, x in w.items() if not n.endswith("bias")}):
        a = MultiHeadAttention.named(found.get, out="attn_out", **sizes)
        f, plain = FeedForward.named(found.get, "silu", gated=True), FeedForward.named(found.get, "relu")
        assert [a.q, a.k, a.v, a.out] == [w[f"attn_{x}.weight"] for x in ("q", "k", "v", "out")]
        biases = [found.get(f"attn_{x}.bias") for x in ("q", "k", "v", "out")]
        assert [a.q_bias, a.k_bias, a.v_bias, a.out_bias] == biases
        assert (a.heads, a.cache_class, a.layer) == (2, 3, 1)
        assert [f.gate, f.up, f.down] == [w[f"ffn_{x}.weight"] for x in ("gate", "up", "down")]
        assert [f.gate_bias, f.up_bias, f.down_bias] == [found.get(f"ffn_{x}.bias") for x in ("gate", "up", "down")]
        assert f.activation == "silu" and plain.activation == "relu"
        assert plain.gate is None and plain.gate_bias is None and plain.up is f.up
