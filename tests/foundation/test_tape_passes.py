"""Where a tape's values live: no two that are alive at once share a place, and the arena wastes none."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from zigllama.foundation.runtime import Rows
from zigllama.foundation.tape_passes import ALIGN, Tape, TapeOp, plan_arena

NO_OP: Any = None  # planning never looks at what an op does


def tape_of(ops: list[tuple[list[int], list[int]]], results: list[int]) -> Tape:
    """Ops as (slots read, columns written); slots are numbered in the order in which they are written."""
    values: list[Rows] = []
    rows = []
    for reads, cols in ops:
        outs = [Rows(None, c, slot=len(values) + i) for i, c in enumerate(cols)]
        rows.append(TapeOp(NO_OP, [values[i] for i in reads], outs, (), ()))
        values += outs
    return Tape(rows, [values[i] for i in results], len(values))


@st.composite
def tapes(draw: st.DrawFn) -> Tape:
    n_slots = 0
    ops = []
    for _ in range(draw(st.integers(1, 12))):
        reads = draw(st.lists(st.integers(0, n_slots - 1), max_size=3)) if n_slots else []
        cols = draw(st.lists(st.integers(1, 100), max_size=3))
        ops.append((reads, cols))
        n_slots += len(cols)
    return tape_of(ops, draw(st.lists(st.integers(0, n_slots - 1), max_size=2)) if n_slots else [])


@given(tapes())
def test_what_is_alive_at_once_has_places_of_its_own(tape: Tape) -> None:
    plan_arena(tape)
    values = {v.slot: v for row in tape.ops for v in row.outs}
    first = {v.slot: i for i, row in enumerate(tape.ops) for v in row.outs}
    last = dict(first)
    for i, row in enumerate(tape.ops):
        last |= {v.slot: i for v in row.ins}
    last |= {v.slot: len(tape.ops) for v in tape.results}
    for a, value in values.items():
        assert tape.offsets[a] % ALIGN == 0
        assert tape.offsets[a] + value.cols <= tape.arena_cols
        for b in range(a):
            if first[a] <= last[b] and first[b] <= last[a]:
                apart = tape.offsets[a] + value.cols <= tape.offsets[b]
                assert apart or tape.offsets[b] + values[b].cols <= tape.offsets[a]


def test_a_place_is_taken_again_once_nobody_reads_it() -> None:
    tape = tape_of([([], [32]), ([0], [32]), ([1], [32])], [2])
    plan_arena(tape)
    assert tape.offsets == [0, 32, 0]
    assert tape.arena_cols == 64


def test_the_arena_grows_from_what_is_free_at_its_end() -> None:
    """48 do not fit into the 32 that are free: 16 more are enough."""
    tape = tape_of([([], [16]), ([0], [32]), ([1], []), ([0], [48])], [2])
    plan_arena(tape)
    assert tape.offsets == [0, 16, 16]
    assert tape.arena_cols == 64
