"""The profiler: it counts the steps that ran; bytes and operations follow from shapes, shares from ceilings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import zigllama as zl
from zigllama.errors import InvalidArgument
from zigllama.foundation.runtime import Step
from zigllama.inference.model import Model
from zigllama.inference.profile_costs import Counts, visible
from zigllama.inference.profiling import Ceilings, Profiler
from zigllama.linear_algebra.linear import Weight

Small = Callable[[str], Path]
# 1 byte and 1 operation per second: a limit in seconds is then a number of bytes or operations
UNIT = Ceilings(1.0, {"prefill": 1.0, "decode": 1.0}, 1.0, 1.0)
FREE = 1e30  # of a ceiling that limits nothing


@pytest.fixture(params=["llama-mix", "gemma3-mix"])
def model(small_model: Small, request: pytest.FixtureRequest) -> Iterator[Model]:
    with Model(small_model(request.param), 256, 2, keep=0) as m:
        yield m


def run(m: Model, n_prompt: int = 40, n_gen: int = 6) -> None:
    m.generate(list(range(5, 5 + n_prompt)), max_tokens=n_gen, temperature=0.0, ignore_eos=True, reuse=False)


def profiled(m: Model, ceilings: Ceilings = UNIT) -> Profiler:
    with Profiler(m, ceilings) as p:
        run(m)
    return p


def test_steps_tokens_and_calls_are_those_that_ran(model: Model) -> None:
    run(model)  # before: the program has run, untimed
    p = profiled(model)
    run(model)  # after: counts no longer
    prefill, decode = p.phases["prefill"], p.phases["decode"]
    assert (prefill.counts.steps, prefill.counts.rows, prefill.counts.out_rows) == (1, 40, 1)
    assert (decode.counts.steps, decode.counts.rows) == (5, 5)  # the first token comes from the prompt's logits
    for phase in (prefill, decode):
        assert (phase.times[:, 0] == phase.counts.steps).all()
        assert 0 < phase.times[:, 1].sum() / 1e9 <= phase.seconds
        assert len(phase.samples) == phase.counts.steps
        assert phase.tokens_per_second == phase.counts.rows / phase.seconds
        assert p.total(phase.name).calls == phase.counts.steps * len(p.places)


def test_a_second_profile_begins_at_nought(model: Model) -> None:
    first, second = profiled(model), profiled(model)
    assert second.phases["decode"].times[:, 0].tolist() == first.phases["decode"].times[:, 0].tolist()
    with Profiler(model, UNIT) as nothing:
        pass
    assert nothing.phases == {} and str(nothing) == "nothing was profiled"
    with pytest.raises(InvalidArgument, match="no decode was profiled; there is nothing"):
        nothing.ops("decode")


def test_ops_and_layers_are_two_views_of_the_same(model: Model) -> None:
    p = profiled(model)
    for phase in p.phases:
        ops, layers, total = p.ops(phase), p.layers(phase), p.total(phase)
        for lines in (ops, layers):
            assert sum(line.calls for line in lines) == total.calls
            assert sum(line.seconds for line in lines) == pytest.approx(total.seconds, rel=1e-9)
            assert sum(line.limit for line in lines) == pytest.approx(total.limit, rel=1e-9)
        assert [line.seconds for line in ops] == sorted((line.seconds for line in ops), reverse=True)
        names = [line.name for line in layers]
        assert set(names) == {"outside", *(f"layer {i}" for i in range(model.info.n_layer))}
        per_layer = {line.calls for line in layers if line.name not in ("outside", f"layer {model.info.n_layer - 1}")}
        assert len(per_layer) == 1  # the last has the gather of the wanted rows
    labels = {line.name for line in p.ops("decode")}
    assert {"embed token_embd", "attention", "kv_store", "rms_norm attn_norm", "rms_norm output_norm"} <= labels
    assert any(label.startswith("linear attn_q+attn_k") for label in labels)
    assert any(label.startswith("linear ffn_gate+ffn_up") for label in labels)
    assert "linear output" in labels


def test_bytes_and_operations_of_products_by_hand(model: Model) -> None:
    """Every matrix is streamed once per step and costs two operations per value and row; the output's rows are those
    whose logits are wanted, an embedding's bytes those of the rows."""
    p = profiled(model)
    matrices = {n: w for n, w in model.weights.items() if isinstance(w, Weight) and n.startswith("blk.")}
    output, embedding = model.weights["output.weight"], model.weights["token_embd.weight"]
    for phase, rows, steps in (("prefill", 40, 1), ("decode", 5, 5)):
        products = [line for line in p.ops(phase) if line.name.startswith("linear")]
        streamed = sum(w.data.nbytes for w in matrices.values()) + output.data.nbytes
        assert sum(line.streamed for line in products) == steps * streamed
        (embed,) = (line for line in p.ops(phase) if line.name.startswith("embed"))
        assert embed.streamed == pytest.approx(rows * embedding.data.nbytes / embedding.rows)
        (out,) = (line for line in products if line.name == "linear output")
        assert out.operations == 2 * output.rows * output.cols * steps  # one wanted row per step in both
        assert out.activations == 4 * steps * (output.rows + output.cols)


def test_attention_by_hand(small_model: Small) -> None:
    with Model(small_model("llama-mix"), 256, 1, cache_type="F16", keep=0) as m:
        p = profiled(m)
        s = m.spec
        per_position = 2 * s.n_head_kv * 2 * s.head_dim  # bytes of a key and a value of every head, in f16
        seen = {"prefill": 40 * 41 // 2, "decode": sum(range(41, 46))}
        read = {"prefill": 40, "decode": sum(range(41, 46))}
        for phase in seen:
            (line,) = (line for line in p.ops(phase) if line.name == "attention")
            assert line.streamed == s.n_layer * per_position * read[phase]
            assert line.operations == s.n_layer * 2 * s.n_head * 2 * s.head_dim * seen[phase]


def test_what_rows_see() -> None:
    step = Step.of_rows(5)
    step.seq = np.array([1, 1, 1, 0, 0], np.int32)
    step.cache_pos = step.see_to = np.array([7, 8, 9, 0, 1], np.int32)
    assert visible(step, 0) == (8 + 9 + 10 + 1 + 2, 10 + 2)
    assert visible(step, 3) == (3 + 3 + 3 + 1 + 2, 5 + 2)
    assert visible(Step.of_rows(0), 0) == (0, 0)
    counts = Counts()
    counts.add(step, (0, 3))
    counts.add(step, (0, 3))
    assert (counts.steps, counts.rows, counts.seen[3], counts.read[0]) == (2, 10, 24, 24)


@pytest.mark.parametrize(
    ("ceilings", "bound"),
    [
        (Ceilings(1.0, {"prefill": FREE, "decode": FREE}, FREE, FREE), "memory"),
        (Ceilings(FREE, {"prefill": 1.0, "decode": 1.0}, FREE, FREE), "cache"),
        (Ceilings(FREE, {"prefill": FREE, "decode": FREE}, 1.0, FREE), "int8"),
        (Ceilings(FREE, {"prefill": FREE, "decode": FREE}, FREE, 1.0), "f32"),
    ],
)
def test_the_limit_is_the_slowest_ceilings(small_model: Small, ceilings: Ceilings, bound: str) -> None:
    with Model(small_model("llama-mix"), 256, 1, keep=0) as m:
        p = profiled(m, ceilings)
        total = p.total("decode")
        assert total.bound == bound
        lines = p.ops("decode")
        quantised = sum(x.operations for x in lines if x.name.startswith("linear"))
        floats = sum(x.operations for x in lines if x.name == "attention")
        want = {"memory": total.streamed, "cache": total.activations, "int8": quantised, "f32": floats}
        assert total.limit == pytest.approx(want[bound])
        assert total.share == total.limit / total.seconds


def test_the_context_manager_measures_ceilings(small_model: Small, capsys: pytest.CaptureFixture[str]) -> None:
    with Model(small_model("llama-mix"), 256, 1, keep=0) as m:
        with zl.profile(m) as p:
            run(m)
        assert p.ceilings is not None and set(p.ceilings.cache) == {"prefill", "decode"}
        assert all(1e7 < v < 1e16 for v in (p.ceilings.memory, p.ceilings.int8, p.ceilings.f32))
        text = str(p)
        for part in (
            "prefill: 40 tokens in 1 steps",
            "decode: 5 tokens in 5 steps",
            "linear output",
            "layer 1",
            "GB/s",
        ):
            assert part in text
        found = p.to_json()
        assert found["decode"]["total"]["share"] == p.total("decode").share
        memory = found["memory"]
        assert memory["high-water mark"] >= memory["resident"] > memory["weights"] > 0
        assert memory["cache"] == m.engine.cache.classes[0].page_bytes  # 46 positions: one page of 64
    assert capsys.readouterr() == ("", "")


def test_the_same_bits_with_and_without(model: Model) -> None:
    ids = list(range(30))
    alone = model.logits(ids)
    with Profiler(model, UNIT):
        assert model.logits(ids).tobytes() == alone.tobytes()


def test_one_at_a_time_and_only_on_the_tape(small_model: Small, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    with Profiler(model, UNIT), pytest.raises(InvalidArgument, match="being profiled already"):
        Profiler(model, UNIT).start()
    with Profiler(model, UNIT) as p:
        run(model)
    p.stop()
    m = small_model("llama-f32")
    with Model(m, 64, 1, backend="reference") as twins, pytest.raises(InvalidArgument, match="'reference'"):
        Profiler(twins)
    monkeypatch.setenv("ZIGLLAMA_TAPE", "0")
    with Model(m, 64, 1) as eager, pytest.raises(InvalidArgument, match="'eager'"):
        zl.profile(eager)
