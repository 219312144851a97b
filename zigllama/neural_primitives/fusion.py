"""Passes over the tape that join ops of this layer with products, and do no work on rows that nobody wants.

    add(x, linear(h))                    ->  linear(h) with residual x             one pass over memory less
    glu(linear(h, gate), linear(h, up))  ->  linear(h, gate, up) with activation   the halves never leave the cache
    gather(f(x))                         ->  f(gather(x))                          nothing for rows that nobody wants

Each leaves the bits as they are: the C op does the same operations on the same numbers in the same order. A test runs
tapes with and without each pass.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from zigllama.foundation.runtime import ROWS_OUT, Rows
from zigllama.foundation.tape_passes import Tape, TapeOp, TapePass, count_readers, producers, slots
from zigllama.linear_algebra.linear import linear, share_inputs
from zigllama.neural_primitives.activations import glu
from zigllama.neural_primitives.arithmetic import add, gather


def _plain(row: TapeOp) -> bool:
    """A product with one weight and nothing after it but its bias."""
    return row.op is linear and row.ints == (1,) and row.ins[3] is None


def add_residuals(tape: Tape) -> Tape:
    """A sum of a value and a product that nobody else reads becomes that product's residual, in the sum's place."""
    made, readers = producers(tape), count_readers(tape)
    ops: list[TapeOp | None] = list(tape.ops)
    for i, row in enumerate(tape.ops):
        if row.op is not add or len(slots(row.ins)) < 2:  # with one row for all: no residual
            continue
        for product, other in (row.ins[::-1], row.ins):
            p = made[product.slot]
            before = ops[p]
            if before is not None and _plain(before) and readers[product.slot] == 1:
                ops[i] = replace(before, ins=[*before.ins[:3], other], outs=row.outs)
                ops[p] = None
                break
    return replace(tape, ops=[row for row in ops if row is not None])


def join_gates(tape: Tape) -> Tape:
    """A gated pair of products of one value, which nobody else reads, becomes one op that ends with the activation."""
    made, readers = producers(tape), count_readers(tape)
    ops: list[TapeOp | None] = list(tape.ops)
    for i, row in enumerate(tape.ops):
        if row.op is not glu or row.ins[0].slot == row.ins[1].slot:
            continue
        places = [made[x.slot] for x in row.ins]
        gate, up = (tape.ops[p] for p in places)
        alone = all(readers[x.slot] == 1 for x in row.ins)
        if alone and _plain(gate) and _plain(up) and gate.ins[0].slot == up.ins[0].slot:
            ins, outs = [*gate.ins, *up.ins[1:]], [row.outs[0], up.outs[0]]
            ops[i] = TapeOp(linear, ins, outs, (2, row.ints[0]), ())
            ops[places[0]] = ops[places[1]] = None
    return replace(tape, ops=[row for row in ops if row is not None])


def gather_early(tape: Tape) -> Tape:
    """Row-wise ops whose results are only read through `gather` are done after it, for the wanted rows alone.

    Walking up from the gathers, an op is turned when all it writes is wanted gathered and nothing of it whole; then
    what it reads is wanted gathered. Where a value is wanted both ways a gather of it is put in.
    """
    whole, gathered, turned = {*slots(tape.results)}, set[int](), set[int]()
    for i in range(len(tape.ops) - 1, -1, -1):
        row = tape.ops[i]
        outs = slots(row.outs)
        turn = row.op.rowwise and all(s in gathered and s not in whole for s in outs)
        if turn:
            turned.add(i)
        (gathered if turn or row.op is gather else whole).update(slots(row.ins))

    ops: list[TapeOp] = []
    wanted: dict[int, Rows] = {}  # slot of a value -> its wanted rows
    renamed: dict[int, Rows] = {}  # result of a gather that is no longer needed -> what it would have held
    n_slots = tape.n_slots

    def rows_of(x: Any) -> Any:
        """The wanted rows of an operand of a turned op."""
        nonlocal n_slots
        if not isinstance(x, Rows):
            return x
        if x.slot not in wanted:
            wanted[x.slot] = Rows(x.runtime, x.cols, ROWS_OUT, slot=n_slots)
            n_slots += 1
            ops.append(TapeOp(gather, [x], [wanted[x.slot]], (), ()))
        return wanted[x.slot]

    for i, row in enumerate(tape.ops):
        if i in turned:
            ins = [rows_of(x) for x in row.ins]
            made = [Rows(x.runtime, x.cols, ROWS_OUT, slot=x.slot) for x in row.outs]
            wanted.update({x.slot: x for x in made})
            ops.append(replace(row, ins=ins, outs=made))
        elif row.op is gather and row.ins[0].slot in wanted:
            renamed[row.outs[0].slot] = wanted[row.ins[0].slot]
        else:
            if row.op is gather:
                wanted[row.ins[0].slot] = row.outs[0]
            ops.append(replace(row, ins=[renamed.get(x.slot, x) if isinstance(x, Rows) else x for x in row.ins]))
    results = [renamed.get(x.slot, x) for x in tape.results]
    return replace(tape, ops=ops, results=results, n_slots=n_slots)


FUSIONS: tuple[TapePass, ...] = (gather_early, add_residuals, join_gates, share_inputs)
