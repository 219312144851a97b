"""Passes over the tape: what they join, what they must leave alone, and that no bit of a result changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zigllama.foundation.native_context import NativeContext
from zigllama.foundation.runtime import F32, ROWS_OUT, Step
from zigllama.foundation.tape import TapeProgram, record
from zigllama.foundation.tape_passes import Tape, TapePass
from zigllama.inference.model import Model
from zigllama.linear_algebra.linear import Weight, linear, share_inputs
from zigllama.neural_primitives.activations import glu, silu
from zigllama.neural_primitives.arithmetic import add, gather, mul
from zigllama.neural_primitives.fusion import FUSIONS, add_residuals, gather_early, join_gates
from zigllama.neural_primitives.normalization import rms_norm

Small = Callable[[str], Path]
IDS = [int(i) for i in np.random.default_rng(3).integers(3, 200, 40)]


def names(tape: Tape) -> list[str]:
    """Ops by name; products with the number of their weights."""
    return [row.op.name + (str(row.ints[0]) if row.op is linear else "") for row in tape.ops]


# --- whole models -----------------------------------------------------------------------------------------------------

SETS: list[Sequence[TapePass]] = [(p,) for p in FUSIONS] + [FUSIONS, FUSIONS[::-1]]


@pytest.mark.parametrize("model", ["llama-mix", "llama-f16", "gemma3-mix"])
def test_no_bit_changes(model: str, small_model: Small) -> None:
    with Model(small_model(model), n_threads=2) as m:
        engine = m.engine
        sequence = engine.cache.add()

        def run(passes: Sequence[TapePass], wanted: list[int], ids: list[int]) -> F32:
            engine.cache.truncate(sequence, 0)
            program = TapeProgram(record(lambda s: m.decoder.forward(s, engine.cache), passes), engine.context, 64)
            step = engine.cache.extend(sequence, ids)
            step.out_rows = np.array(wanted, np.int32)
            assert engine.context is not None
            program.run(engine.context.make_step(step))
            logits = program.result(0, len(wanted)).copy()
            program.close()
            return logits

        cases = [([0], IDS[:1]), ([39, 3, 3], IDS), ([2, 0], IDS[:3]), (list(range(11)), IDS[:11]), ([], IDS[:5])]
        for wanted, ids in cases:
            want = run((), wanted, ids)
            for passes in SETS:
                np.testing.assert_array_equal(run(passes, wanted, ids), want)


def test_a_layer_is_few_ops(small_model: Small) -> None:
    with Model(small_model("llama-mix")) as m:
        tape = record(lambda s: m.decoder.forward(s, m.engine.cache), FUSIONS)
        attention = ["rms_norm", "linear3", "rope", "rope", "kv_store", "attention", "linear1"]
        layer = [*attention, "rms_norm", "linear2", "linear1"]
        # the last layer's output product and feed-forward see the wanted rows only
        last = [*attention[:-1], "gather", "gather", "linear1", *layer[len(attention) :]]
        assert sorted(names(tape)) == sorted(["embed", *layer * (m.spec.n_layer - 1), *last, "rms_norm", "linear1"])
        outputs = tape.ops[-4:]
        assert all(x.rows_kind == ROWS_OUT for row in outputs for x in row.outs)


# --- what must be left alone ------------------------------------------------------------------------------------------

W = [Weight.from_array(np.random.default_rng(i).standard_normal((64, 64)), str(i)) for i in range(5)]


def recorded(forward: Callable[[Step, Any], Any]) -> Callable[[Sequence[TapePass]], Tape]:
    """A tape of `forward(step, x)` over one product x of the step's input."""

    def with_passes(passes: Sequence[TapePass]) -> Tape:
        from zigllama.linear_algebra.linear import embed

        return record(lambda s: forward(s, embed(s, W[0])), passes)

    return with_passes


def run_both(forward: Callable[[Step, Any], Any], passes: Sequence[TapePass]) -> tuple[list[str], list[str]]:
    """Names without and with the passes, after checking that the bits are equal."""
    make = recorded(forward)
    step = Step.of_rows(7)
    step.tokens[:] = np.arange(7) * 5
    step.out_rows = np.array([6, 2], np.int32)
    found, results = [], []
    with NativeContext(2) as ctx:
        for p in ((), passes):
            tape = make(p)
            program = TapeProgram(tape, ctx, 7)
            program.run(ctx.make_step(step))
            kinds = [2 if r.rows_kind == ROWS_OUT else 7 for r in tape.results]
            results.append([program.result(i, n).copy() for i, n in enumerate(kinds)])
            program.close()
            found.append(names(tape))
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)
    return found[0], found[1]


def test_a_product_that_others_read_stays() -> None:
    def both(s: Step, x: Any) -> Any:
        y = linear(x, W[1])
        return add(x, y), silu(y)

    before, after = run_both(both, (add_residuals,))
    assert before == after

    def result(s: Step, x: Any) -> Any:
        y = linear(x, W[1])
        return add(x, y), y

    before, after = run_both(result, (add_residuals,))
    assert before == after


def test_residual_made_after_the_product() -> None:
    def late(s: Step, x: Any) -> Any:
        y = linear(x, W[1])
        return add(y, mul(x, x))

    assert run_both(late, (add_residuals,))[1] == ["embed", "mul", "linear1"]
    two = run_both(lambda s, x: add(linear(x, W[1]), linear(x, W[2])), (add_residuals, share_inputs))
    assert two[1] == ["embed", "linear1", "linear1"]
    twice = run_both(lambda s, x: (lambda y: add(y, y))(linear(x, W[1])), (add_residuals,))
    assert twice[0] == twice[1]


def test_gates() -> None:
    def of(a: Any, b: Any) -> Any:
        return glu(linear(a, W[1]), linear(b, W[2]), activation="silu")

    assert run_both(lambda s, x: of(x, x), (join_gates,))[1] == ["embed", "linear2"]
    before, after = run_both(lambda s, x: of(x, silu(x)), (join_gates,))
    assert before == after
    one = run_both(lambda s, x: (lambda y: glu(y, y, activation="silu"))(linear(x, W[1])), (join_gates,))
    assert one[0] == one[1]


def test_at_most_three_weights_share() -> None:
    def five(s: Step, x: Any) -> Any:
        return tuple(linear(x, w) for w in W)

    assert run_both(five, (share_inputs,))[1] == ["embed", "linear3", "linear2"]


def test_gather_where_a_value_is_wanted_both_ways() -> None:
    def both(s: Step, x: Any) -> Any:
        y = silu(x)
        return gather(rms_norm(add(x, y), None, eps=1e-6), s), y

    before, after = run_both(both, (gather_early,))
    assert before == ["embed", "silu", "add", "rms_norm", "gather"]
    assert after == ["embed", "silu", "gather", "gather", "add", "rms_norm"]
    twice = run_both(lambda s, x: (gather(silu(x), s), gather(silu(x), s)), (gather_early,))
    assert twice[1] == ["embed", "gather", "silu", "silu"]
    plain = run_both(lambda s, x: (gather(x, s), gather(x, s)), (gather_early,))
    assert plain[1] == ["embed", "gather"]
