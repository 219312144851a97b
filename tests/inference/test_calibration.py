"""`zl.importance`: the sums are those of the definition, whatever runs them, and nothing half is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import zigllama as zl
from zigllama import errors
from zigllama.foundation.runtime import F32
from zigllama.inference import calibration
from zigllama.inference.calibration import Collector, Sums, importance, squares, windows_of
from zigllama.inference.model import Model
from zigllama.inference.perplexity import cut, window_surprises, with_bos
from zigllama.linear_algebra.linear import linear as linear_op
from zigllama.models.importance import Entry, Importance

Small = Callable[[str], Path]
IDS = [int(i) for i in np.random.default_rng(6).integers(3, 200, 200)]
MATRICES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")


@pytest.fixture(scope="module")
def llama(small_model: Small) -> Iterator[Model]:
    with Model(small_model("llama-f32"), 256, 2) as m:
        yield m


def bits(found: Importance) -> dict[str, bytes]:
    return {name: e.sums.tobytes() + e.counts.tobytes() for name, e in found.entries.items()}


@given(hnp.arrays(np.float32, st.tuples(st.integers(0, 300), st.integers(1, 40)), elements=st.floats(-9, 9, width=32)))
def test_squares_are_summed(x: F32) -> None:
    want = (x.astype(np.float64) ** 2).sum(0)
    # each of at most n additions rounds to 53 bits of a sum that is no larger than the whole
    np.testing.assert_allclose(squares(x), want, rtol=2.0**-52 * (len(x) + 1), atol=0)
    assert squares(x).dtype == np.float64


def test_every_matrix_of_the_layers_is_there(small_model: Small) -> None:
    for name, n_layer in (("llama-f32", 3), ("llama-mix", 2), ("gemma3-f32", 7)):
        with Model(small_model(name), 64, 1) as m:
            found = importance(m, IDS[:64], n_ctx=32)
            assert set(found.entries) == {f"blk.{i}.{x}.weight" for i in range(n_layer) for x in MATRICES}
            for tensor, entry in found.entries.items():
                assert entry.sums.shape == (1, m.weights[tensor].cols)
                assert entry.sums.dtype == np.float32 and (entry.sums > 0).all()
                assert entry.counts.tolist() == [64]
            assert (found.n_chunks, found.chunk_size) == (2, 32)


def test_the_sums_are_those_of_the_definition(llama: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """What enters products is seen in the twins themselves, which are called on plain arrays without any runtime."""
    import zigllama.transformers.attention as attention
    import zigllama.transformers.feed_forward as feed_forward

    want: dict[str, Any] = {}
    n: dict[str, int] = {}

    def linear(x: Any, weight: Any, *more: Any) -> Any:
        want[weight.name] = want.get(weight.name, 0) + (x.astype(np.float64) ** 2).sum(0)
        n[weight.name] = n.get(weight.name, 0) + len(x)
        return linear_op.ref(x, weight, *more)

    monkeypatch.setattr(attention, "linear", linear)
    monkeypatch.setattr(feed_forward, "linear", linear)
    with Model(llama._loader.reader.paths[0], 64, backend="reference") as m:
        for window in cut(IDS, 64):
            m.logits(with_bos(m, window))
    monkeypatch.undo()
    found = importance(llama, IDS, n_ctx=64)
    assert set(found.entries) == set(want)
    for name, entry in found.entries.items():
        # logits of this model are known to 1e-4 in any float32 evaluation (tests/golden): so are its values of size one
        np.testing.assert_allclose(entry.sums[0], want[name], rtol=2e-4, atol=0)
        # what the last rows of a window, whose logits nobody wants, add is there too
        assert entry.counts.tolist() == [192]
    assert n["blk.0.attn_q.weight"] == 192


def test_one_value_has_one_sum(llama: Model) -> None:
    found = importance(llama, IDS, n_ctx=64).entries
    for i in range(3):
        q, k, v, out, gate, up, _ = (found[f"blk.{i}.{x}.weight"].sums for x in MATRICES)
        assert np.array_equal(q, k) and np.array_equal(q, v) and np.array_equal(gate, up)
        assert not np.array_equal(q, out) and not np.array_equal(q, gate)


def test_threads_and_other_variants(small_model: Small) -> None:
    """The bits do not depend on threads; the reference's sums are within float32's rounding of the native ones."""
    runs = []
    for n_threads in (1, 2, 3):
        with Model(small_model("llama-q4_k"), 64, n_threads) as m:
            runs.append(importance(m, IDS[:128], n_ctx=64))
    assert bits(runs[0]) == bits(runs[1]) == bits(runs[2])
    with Model(small_model("llama-f32"), 64, 2) as m, Model(small_model("llama-f32"), 64, backend="reference") as r:
        a, b = (importance(x, IDS[:64], n_ctx=32).entries for x in (m, r))
    for name in a:
        np.testing.assert_allclose(a[name].sums, b[name].sums, rtol=2e-4, atol=0)


def test_a_window_longer_than_a_chunk(llama: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = importance(llama, IDS, n_ctx=100)
    monkeypatch.setattr(calibration, "CHUNK", 24)
    parts = importance(llama, IDS, n_ctx=100)
    for name, entry in whole.entries.items():
        np.testing.assert_allclose(parts.entries[name].sums, entry.sums, rtol=2.0**-23, atol=0)  # float64 in two orders
        assert parts.entries[name].counts.tolist() == [200]
    window = with_bos(llama, cut(IDS, 100)[0])
    scores = Collector(llama, 100).add(window, score=True)
    monkeypatch.undo()
    again = Collector(llama, 100).add(window, score=True)
    assert scores is not None and again is not None
    assert np.array_equal(scores, again)


@pytest.mark.parametrize("name", ["llama-f16", "llama-mix", "gemma3-f32"])
def test_the_scores_are_those_of_perplexity(name: str, small_model: Small) -> None:
    with Model(small_model(name), 64, 2) as m:
        collector = Collector(m, 64)
        for window in cut(IDS, 64):
            scores = collector.add(with_bos(m, window), score=True)
            assert scores is not None
            assert np.array_equal(scores, window_surprises(m, window))
        assert collector.add(IDS[:64]) is None


@pytest.mark.parametrize(("name", "entry"), [("llama-f32", "output.weight"), ("llama-mix", "token_embd.weight")])
def test_the_output_when_asked_for(name: str, entry: str, small_model: Small) -> None:
    with Model(small_model(name), 64, 2) as m:
        plain, more = (importance(m, IDS[:128], n_ctx=64, process_output=p) for p in (False, True))
        seen: list[F32] = []

        def hidden(*args: Any, run: Callable[..., F32] = m.engine.hidden) -> F32:
            seen.append(run(*args).copy())
            return seen[-1]

        m.engine.hidden = hidden  # type: ignore[method-assign, assignment]
        importance(m, IDS[:128], n_ctx=64)
    assert set(more.entries) - set(plain.entries) == {entry}
    assert bits(plain).items() <= bits(more).items()
    want = sum(squares(x) for x in seen)
    assert np.array_equal(more.entries[entry].sums[0], np.asarray(want).astype(np.float32))
    assert more.entries[entry].counts.tolist() == [128]


def test_earlier_runs_are_added(llama: Model, small_model: Small) -> None:
    parts = [importance(llama, ids, n_ctx=50, dataset=name) for ids, name in ((IDS[:100], "a"), (IDS[100:], "b"))]
    whole = importance(llama, IDS, n_ctx=50)
    both = importance(llama, IDS[100:], n_ctx=50, dataset="b", add_to=parts[:1])
    assert (both.datasets, both.n_chunks, both.chunk_size) == (("a", "b"), 4, 50)
    for name, entry in whole.entries.items():
        np.testing.assert_allclose(both.entries[name].sums, entry.sums, rtol=2.0**-22, atol=0)
        assert np.array_equal(both.entries[name].counts, entry.counts)
    with (
        Model(small_model("llama-mix"), 64, 1) as other,
        pytest.raises(errors.BadImportance, match=r"'blk\.0\.attn_q\.weight' has 96 sums, the model's has 192 columns"),
    ):
        importance(other, IDS, n_ctx=50, add_to=parts)


def test_what_is_interrupted_counts_for_nothing(llama: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    collector = Collector(llama, 64)
    collector.add(IDS[:64])
    before = bits(collector.importance())
    monkeypatch.setattr(calibration, "CHUNK", 16)
    runs = iter(range(9))

    def hidden(*args: Any, run: Callable[..., F32] = llama.engine.hidden) -> F32:
        if next(runs) == 2:
            raise KeyboardInterrupt
        return run(*args)

    monkeypatch.setattr(llama.engine, "hidden", hidden)
    with pytest.raises(KeyboardInterrupt):
        collector.add(IDS[64:128])
    monkeypatch.undo()
    assert bits(collector.importance()) == before
    assert collector.n_windows == 1
    collector.add(IDS[64:128])  # its place in the cache was given back
    assert collector.importance().entries["blk.0.attn_q.weight"].counts.tolist() == [128]


def test_values_that_are_not_finite_are_named(small_model: Small, tmp_path: Path) -> None:
    def broken(tensor: str) -> Path:
        path = tmp_path / "nan.gguf"
        raw = bytearray(small_model("llama-f16").read_bytes())
        with zl.gguf.open(small_model("llama-f16")) as r:
            offset = r.tensors[tensor].offset
        raw[offset : offset + 2] = b"\x00\x7e"  # a half-float NaN
        path.write_bytes(raw)
        return path

    where = {"blk.1.attn_v.weight": r"inputs of blk\.1\.attn_output", "blk.1.ffn_down.weight": "last norm"}
    for tensor, says in where.items():
        with Model(broken(tensor), 64, 1) as m, pytest.raises(errors.NonFinite, match=says):
            importance(m, IDS[:64], n_ctx=32)
    with Model(small_model("llama-f16"), 64, 1) as m:
        collector = Collector(m, 64)
        m.engine.logits = lambda rows: np.full((len(rows), 3), np.nan, np.float32)  # type: ignore[method-assign, assignment]
        with pytest.raises(errors.NonFinite, match="logits"):
            collector.add(IDS[:64], score=True)
        assert not collector.importance().entries
    sums = Sums("x", 2)
    sums.add(np.array([1, 3e38]), 1)
    with pytest.raises(errors.NonFinite, match="squared inputs of x"):
        sums.add(np.array([1, 3e38]), 1)


def test_a_stack_has_a_row_per_matrix() -> None:
    a, b = Sums("exps", 2, 3), Sums("exps", 2, 3)
    a.add(np.array([1.0, 2.0]), 5, matrix=1)
    b.add(np.array([1.0, 0.0]), 2, matrix=1)
    b.add(np.array([4.0, 4.0]), 1, matrix=2)
    both = a.plus(b)
    assert both.sums.tolist() == [[0, 0], [2, 2], [4, 4]]
    assert both.counts.tolist() == [0, 7, 1]
    assert a.counts.tolist() == [0, 5, 0]


def test_what_is_refused(llama: Model) -> None:
    with pytest.raises(errors.InvalidArgument, match=r"the text has 127 tokens; windows of 64 take at least two, 128"):
        importance(llama, IDS[:127], n_ctx=64)
    with pytest.raises(errors.ContextOverflow, match=r"257 positions are needed, the context has 256"):
        Collector(llama, 257)
    with pytest.raises(errors.InvalidArgument, match="token id 99999 is outside the vocabulary"):
        importance(llama, [*IDS[:100], *[99999] * 28], n_ctx=64)
    with pytest.raises(errors.ContextOverflow, match=r"65 positions are needed, the context has 64"):
        Collector(llama, 64).add(IDS[:65])
    wrong = Importance({"blk.0.attn_q.weight": Entry(np.ones((1, 7), np.float32), np.ones(1, np.float32))}, path="w")
    with pytest.raises(errors.BadImportance, match=r"w: 'blk\.0\.attn_q\.weight' has 7 sums"):
        importance(llama, IDS, n_ctx=64, add_to=[wrong])


def test_windows_and_progress(llama: Model) -> None:
    assert windows_of(llama, IDS, 30).shape == (6, 30)
    assert windows_of(llama, IDS, 30, skip=2).tolist() == windows_of(llama, IDS, 30)[2:].tolist()
    said: list[tuple[int, int]] = []
    found = zl.importance(llama, IDS, n_ctx=30, chunks=3, progress=lambda *at: said.append(at), dataset="d")
    assert said == [(1, 3), (2, 3), (3, 3)]
    assert (found.n_chunks, found.datasets) == (3, ("d",))
    text = "A text, which is cut into windows, each of which begins anew. " * 4
    by_text = importance(llama, text, n_ctx=32)
    assert bits(by_text) == bits(importance(llama, llama.tokenizer.encode(text), n_ctx=32))
