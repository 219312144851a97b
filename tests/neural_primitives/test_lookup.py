"""Rows of a table by position: the twin's bits natively, planes and offsets, in runs that move on by themselves, and
what lies beyond the table."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from native_ops import THREADS, GuardedRuntime, context, usable_variants
from strategies import guarded_array

from zigllama.errors import IndexOutOfRange, InvalidArgument, ShapeError
from zigllama.foundation.ggml_types import row_bytes, type_by_name
from zigllama.foundation.runtime import Step
from zigllama.foundation.shared_context import shared_context
from zigllama.foundation.tape import TapeProgram, record
from zigllama.linear_algebra.linear import Weight, embed, linear
from zigllama.neural_primitives.arithmetic import add, gather
from zigllama.neural_primitives.embeddings import lookup
from zigllama.neural_primitives.softmax import top_k

TABLE_TYPES = st.sampled_from(["F32", "F16", "BF16", "Q4_0", "Q8_0", "Q4_K", "Q6_K"])


@given(TABLE_TYPES, st.integers(1, 40), st.sampled_from([0, 1, 7, 33]), st.booleans(), st.integers(0, 2**32 - 1))
def test_native_lookup(type_name: str, height: int, rows: int, mapped: bool, seed: int) -> None:
    kind, rng = type_by_name(type_name), np.random.default_rng(seed)
    cols, plane, offset = 3 * kind.block_size, seed % 2, int(rng.integers(-3, 4))
    file_bytes = guarded_array(rng.integers(0, 256, height * row_bytes(kind, cols), np.uint8), np.uint8)
    step = Step.of_rows(rows)
    step.positions = np.full((2, rows), -9, np.int32)
    step.positions[plane] = rng.integers(0, height, rows) - offset
    with np.errstate(all="ignore"):
        want = lookup.ref(Weight(kind, height, cols, file_bytes), step, plane=plane, offset=offset)
    for isa in usable_variants():
        for n_threads in THREADS:
            weight = Weight(kind, height, cols, file_bytes)
            weight.prepare(context(isa, n_threads), mapped=mapped)
            bound = GuardedRuntime(context(isa, n_threads), step).bind()
            got = lookup(weight, bound, plane=plane, offset=offset).array
            weight.close()
            same = (got.view(np.uint32) == want.view(np.uint32)) | (np.isnan(got) & np.isnan(want))
            assert same.all(), f"{isa}, {n_threads} threads: {np.argwhere(~same)[:3]}"


def test_a_row_beyond_the_table_is_an_error() -> None:
    weight = Weight.from_array(np.eye(6, dtype=np.float32), "positions")
    step = Step.of_rows(3)
    for position, offset in ((6, 0), (4, 2), (-1, 0), (1, -2), (2**31 - 1, 1), (-(2**31), -1)):
        step.positions = np.array([[2, position, 2]], np.int32)
        with pytest.raises(ShapeError, match="positions has 6"):
            lookup(weight, step, offset=offset)
        for isa in usable_variants():
            with pytest.raises(InvalidArgument, match=r"row 1 of the step wants row .*, the table has 6"):
                lookup(weight, GuardedRuntime(context(isa, 1), step).bind(), offset=offset)
    step.positions = np.zeros((1, 3), np.int32)
    for plane in (1, -1):
        with pytest.raises(IndexOutOfRange, match=f"plane {plane} of 1"):
            lookup(weight, step, plane=plane)
        with pytest.raises(InvalidArgument, match=f"plane {plane}"):
            lookup(weight, GuardedRuntime(context("generic", 1), step).bind(), plane=plane)


def test_a_step_without_rows_needs_no_plane() -> None:
    weight, step = Weight.from_array(np.eye(6, dtype=np.float32), "positions"), Step.of_rows(0)
    step.positions = np.zeros((0, 0), np.int32)
    assert lookup(weight, step, plane=1).shape == (0, 6)
    assert lookup(weight, GuardedRuntime(context("generic", 1), step).bind(), plane=1).array.shape == (0, 6)


def test_positions_move_on_in_runs_that_write_by_themselves() -> None:
    """Learned positions in `run_ahead`: the tokens of single runs, until the table ends."""
    vocab, height, width = 40, 12, 8
    rng = np.random.default_rng(4)
    tokens = Weight.from_array(rng.normal(size=(vocab, width)).astype(np.float32), "tokens")
    places = Weight.from_array(2 * rng.normal(size=(height, width)).astype(np.float32), "places")

    def forward(step: Step) -> tuple[object, ...]:
        x = add(embed(step, tokens), lookup(places, step))
        return tuple(top_k(linear(gather(x, step), tokens), step, k=1))

    ctx = shared_context(usable_variants()[0], 2)
    program = TapeProgram(record(forward), ctx, 1)
    token, want = 3, []
    for position in range(height):
        row = tokens.dequantized()[token] + places.dequantized()[position]
        token = int(np.argmax(tokens.dequantized() @ row))
        want.append(token)
    assert len(set(want)) > 5
    step = Step.of_rows(1)
    step.tokens = np.array([3], np.int32)
    native, ends = ctx.make_step(step), np.zeros(0, np.int32)
    assert program.run_ahead(native, height, ends)[:, 0].tolist() == want
    with pytest.raises(InvalidArgument, match=f"wants row {height}, the table has {height}"):
        program.run_ahead(native, height + 1, ends)
    program.close()
    for weight in (tokens, places):
        weight.close()
