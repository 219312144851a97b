"""The tape: a forward pass recorded once and replayed by C with a single call per step.

The recorder is a runtime whose values are only numbered slots. Running a forward pass under it yields a list of ops
over slots; the list is the same for every step, because what varies lives in the step struct. `plan_arena` then gives
each slot a place in one arena: a slot whose last reader has run leaves its place to a later one (liveness), so the
arena holds what is alive at once and no more.

What this file is not: it fuses nothing. A pass is a function from `Tape` to `Tape` (tape_passes.py); the layers that
own the ops write them, and whoever records says which are applied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from zigllama.errors import InvalidArgument
from zigllama.foundation import native_structs as structs
from zigllama.foundation.runtime import F32, ROWS_STEP, Lowered, Op, Rows, Step
from zigllama.foundation.tape_passes import Tape, TapeOp, TapePass, plan_arena


class Recorder:
    """The recording runtime: `execute` runs nothing and appends."""

    name = "tape"

    def __init__(self) -> None:
        self.ops: list[TapeOp] = []
        self.n_slots = 0

    def bind(self) -> Step:
        """A step that belongs to this recorder; its arrays are empty, since no op may look at them while recording."""
        step = Step.of_rows(0)
        step.runtime = self
        return step

    def execute(self, op: Op, call: Lowered) -> Any:
        kind = call.rows_kind
        if kind is None:
            kind = next((x.rows_kind for x in call.ins if isinstance(x, Rows)), ROWS_STEP)
        outs = []
        for cols in call.outs:
            outs.append(Rows(self, cols, kind, slot=self.n_slots))
            self.n_slots += 1
        self.ops.append(TapeOp(op, list(call.ins), outs, tuple(call.ints), tuple(call.floats)))
        return outs[0] if len(outs) == 1 else tuple(outs) if outs else None


def record(forward: Callable[[Step], Any], passes: Sequence[TapePass] = ()) -> Tape:
    """Run `forward(step)` once under a recorder, apply `passes`, and lay out the arena.

    `forward` returns a value or a tuple of values: the results, which stay readable after a replay.
    """
    recorder = Recorder()
    result = forward(recorder.bind())
    results = list(result) if isinstance(result, tuple) else [result]
    if not all(isinstance(r, Rows) for r in results):
        raise InvalidArgument("a recorded forward pass must return rows")
    tape = Tape(recorder.ops, results, recorder.n_slots)
    for rewrite in passes:
        tape = rewrite(tape)
    plan_arena(tape)
    return tape


class TapeProgram:
    """A tape bound to a native context: `run(step)` replays it, `result(i, rows)` reads a result in place."""

    def __init__(self, tape: Tape, context: Any, max_rows: int) -> None:
        from zigllama.foundation.native_context import NativeProgram, address_of

        tensors: list[tuple[int, ...]] = []
        numbers: dict[Any, int] = {}
        keep: list[Any] = []

        def number(x: Any) -> int:
            """The tensor number of an operand; the same operand twice is one tensor."""
            if x is None:
                return -1
            key = ("slot", x.slot) if isinstance(x, Rows) else id(x)
            if key not in numbers:
                numbers[key] = len(tensors)
                tensors.append(operand(x))
                keep.append(x)
            return numbers[key]

        def operand(x: Any) -> tuple[int, ...]:
            if isinstance(x, Rows):
                return structs.tensor_row(
                    structs.ARENA, rows_kind=x.rows_kind, cols=x.cols, offset=tape.offsets[x.slot]
                )
            native = getattr(x, "native_operand", None)
            if native is not None:
                kind, rows, cols, data = native(context)
                return structs.tensor_row(kind, rows=rows, cols=cols, address=context.address(data))
            constant = np.ascontiguousarray(x, np.float32)
            keep.append(constant)
            return structs.tensor_row(structs.CONST, rows=1, cols=constant.size, address=address_of(constant))

        rows = [
            structs.op_row(o.op.code, [number(x) for x in o.ins], [number(x) for x in o.outs], o.ints, o.floats)
            for o in tape.ops
        ]
        ops = np.array(rows, structs.OP)
        self.max_rows, self.tape = max_rows, tape
        self._results = [number(r) for r in tape.results]
        self._program = NativeProgram(
            context, ops, np.array(tensors, structs.TENSOR), tape.arena_cols, max_rows, keep=(keep, ops)
        )

    def run(self, step: Any) -> None:
        """Replay for one native step (`context.make_step`): a single call of the C library."""
        self._program.run(step)

    def run_ahead(self, step: Any, n: int, ends: Any) -> Any:
        """Up to n runs, each fed the best tokens of the one before: these, int32 (runs, rows of the step).

        The last op is `top_k`. It ends after a run in which a token of `ends` was best, and before one whose best logit
        is no finite number.
        """
        return self._program.run_ahead(step, n, ends)

    def result(self, i: int, rows: int) -> F32:
        """Rows of result i, in place: valid until the next run."""
        return self._program.tensor(self._results[i], rows)

    def times(self) -> Any:
        """(ops of the tape, 2), int64: calls and nanoseconds of each while the context timed ops (`time_ops`)."""
        return self._program.times()

    def close(self) -> None:
        """Give the arena back."""
        self._program.close()
