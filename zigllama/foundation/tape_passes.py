"""The tape as data, and what every pass over it needs: who reads a value, and where values live (liveness).

    ops     rms_norm(0) -> 1      linear(1) -> 2      add(0, 2) -> 3      each op writes slots that no other op writes
    arena   | 0      | 1 | 2 |    3 goes where 1 was: nobody reads 1 any more

A pass is a function from `Tape` to `Tape` that leaves every result's bits as they are: it joins ops that one C call
does better together, or moves them. Since a slot is written once, an op without side effects may move down to its only
reader, and up to where its last operand is made.

What this file is not: it knows no op. The passes are beside the ops that they join (linear_algebra/linear.py,
neural_primitives/fusion.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from zigllama.foundation.runtime import Op, Rows

ALIGN = 16  # floats: every slot begins on a cache line, whatever the number of rows


@dataclass
class TapeOp:
    """One row of the tape. `ins` holds slot numbers for values (as Rows), other operands as they are, None where
    absent."""

    op: Op
    ins: list[Any]
    outs: list[Rows]
    ints: tuple[int, ...]
    floats: tuple[float, ...]


@dataclass
class Tape:
    """A recorded forward pass: ops in order, and the values that must survive the run."""

    ops: list[TapeOp]
    results: list[Rows]
    n_slots: int
    offsets: list[int] = field(default_factory=list)  # floats per row before each slot, filled by plan_arena
    arena_cols: int = 0


TapePass = Callable[[Tape], Tape]


def slots(values: list[Any]) -> list[int]:
    """The slots among an op's operands or results."""
    return [v.slot for v in values if isinstance(v, Rows)]


def producers(tape: Tape) -> dict[int, int]:
    """Slot -> index of the op that writes it."""
    return {s: i for i, row in enumerate(tape.ops) for s in slots(row.outs)}


def count_readers(tape: Tape) -> dict[int, int]:
    """Slot -> how many operands read it; a result counts as one more."""
    counts: dict[int, int] = {}
    for values in (*(row.ins for row in tape.ops), tape.results):
        for s in slots(values):
            counts[s] = counts.get(s, 0) + 1
    return counts


def plan_arena(tape: Tape) -> None:
    """Give every slot an offset (floats per row), reusing the place of slots that are dead.

    First fit over a list of free intervals, in the order of the tape. An op's outputs are placed before its inputs are
    freed, so no op reads and writes the same place. What fits nowhere is put at the end, beginning in the free interval
    that ends there. Every interval is a multiple of ALIGN floats.
    """
    last = {}
    for i, row in enumerate(tape.ops):
        for value in (*row.ins, *row.outs):
            if isinstance(value, Rows):
                last[value.slot] = i
    for value in tape.results:
        last[value.slot] = len(tape.ops)
    offsets = [-1] * tape.n_slots
    sizes = [0] * tape.n_slots
    free: list[tuple[int, int]] = []  # (offset, size), ascending, never adjacent
    top = 0
    for i, row in enumerate(tape.ops):
        for out in row.outs:
            size = -(-out.cols // ALIGN) * ALIGN
            place = next((k for k, (_, room) in enumerate(free) if room >= size), -1)
            if place < 0:  # at the end, beginning in what is free there
                offset = free.pop()[0] if free and sum(free[-1]) == top else top
                top = offset + size
            else:
                offset, room = free.pop(place)
                if room > size:
                    free.insert(place, (offset + size, room - size))
            offsets[out.slot], sizes[out.slot] = offset, size
        dead = {v.slot for v in (*row.ins, *row.outs) if isinstance(v, Rows) and last[v.slot] == i}
        for slot in dead:
            free.append((offsets[slot], sizes[slot]))
        free = _merge(free)
    tape.offsets, tape.arena_cols = offsets, top


def _merge(intervals: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for offset, size in sorted(intervals):
        if merged and merged[-1][0] + merged[-1][1] == offset:
            merged[-1] = (merged[-1][0], merged[-1][1] + size)
        else:
            merged.append((offset, size))
    return merged
