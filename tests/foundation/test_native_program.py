"""The door to the C library: steps and programs, and what they keep alive."""

from __future__ import annotations

import gc
import time
import weakref
from typing import Any

import numpy as np
import pytest
from native_calls import add_records, arrays

from zigllama.errors import (
    ClosedError,
    DTypeError,
    InvalidArgument,
    ShapeError,
)
from zigllama.foundation import native_context
from zigllama.foundation import native_structs as structs
from zigllama.foundation.native import ffi
from zigllama.foundation.native_context import NativeContext, NativeProgram, NativeStep
from zigllama.foundation.opcodes import Opcode
from zigllama.foundation.runtime import Step

# --- steps ------------------------------------------------------------------------------------------------------------


def test_step_points_at_the_arrays() -> None:
    s = Step.of_rows(4)
    s.inputs = np.zeros((4, 7), np.float32)
    s.tables = [np.zeros((1, 3), np.int32), np.zeros((1, 5), np.int32)]
    s.masks = [None, np.zeros(2, np.uint32), None, None]
    native_step = NativeStep(s)
    c = native_step.pointer
    assert (c.n_rows, c.n_out, c.n_seq, c.n_planes, c.input_cols) == (4, 4, 1, 1, 7)
    for name in ("tokens", "positions", "cache_pos", "see_to", "seq", "out_rows", "inputs"):
        assert int(ffi.cast("uintptr_t", getattr(c, name))) == native_context.address_of(getattr(s, name))
    assert s.masks is not None
    assert s.masks[1] is not None
    assert [int(ffi.cast("uintptr_t", c.mask[i])) for i in range(4)] == [0, native_context.address_of(s.masks[1]), 0, 0]
    assert list(c.table_width) == [3, 5, 0, 0, 0, 0, 0, 0]
    assert int(ffi.cast("uintptr_t", c.tables[1])) == native_context.address_of(s.tables[1])


def test_step_is_updated_by_what_changed() -> None:
    s = Step.of_rows(2)
    s.tables = [np.zeros((1, 3), np.int32)]
    s.masks = [None, np.zeros(2, np.uint32)]
    native_step = NativeStep(s)
    c = native_step.pointer
    s.tokens[:] = 7, 8  # in place: C sees it without an update
    assert (c.tokens[0], c.tokens[1]) == (7, 8)
    s.tokens = np.array([5, 6], np.int32)
    s.tables, s.masks = [], None
    native_step.update(s)
    assert (c.tokens[0], c.tokens[1]) == (5, 6)
    assert c.tables[0] == ffi.NULL
    assert c.table_width[0] == 0
    assert c.mask == ffi.NULL
    bigger = Step.of_rows(5)
    native_step.update(bigger)
    assert (c.n_rows, c.n_out, c.seq[4]) == (5, 5, 0)


def test_step_keeps_its_arrays_alive() -> None:
    s = Step.of_rows(2)
    gone = weakref.ref(s.tokens)
    native_step = NativeStep(s)
    s.tokens = np.zeros(2, np.int32)
    gc.collect()
    assert gone() is not None
    native_step.update(s)
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"tokens": np.zeros(3, np.int64)}, DTypeError),
        ({"tokens": [1, 2, 3]}, (DTypeError, AttributeError)),
        ({"seq": np.zeros(2, np.int32)}, ShapeError),
        ({"cache_pos": np.zeros((3, 1), np.int32)}, ShapeError),
        ({"see_to": np.zeros(6, np.int32)[::2]}, ShapeError),
        ({"positions": np.zeros((1, 2), np.int32)}, ShapeError),
        ({"positions": np.zeros(3, np.int32)}, ShapeError),
        ({"inputs": np.zeros((2, 4), np.float32)}, ShapeError),
        ({"inputs": np.zeros((3, 4))}, DTypeError),
        ({"masks": [None]}, ShapeError),
        ({"masks": [None, None, np.zeros(4, np.int32)]}, DTypeError),
        ({"tables": [np.zeros((0, 4), np.int32)]}, ShapeError),
        ({"tables": [np.zeros((1, 4), np.int64)]}, DTypeError),
        ({"tables": [np.zeros((1, 4), np.int32)] * 9}, ShapeError),
    ],
)
def test_step_refuses(change: dict[str, Any], error: Any) -> None:
    s = Step.of_rows(3)
    for name, value in change.items():
        setattr(s, name, value)
    with pytest.raises(error):
        NativeStep(s)


# --- programs ---------------------------------------------------------------------------------------------------------


def test_program_is_replayed(ctx: NativeContext) -> None:
    x, y, out = arrays()
    tensors = np.zeros(4, structs.TENSOR)
    for i, a in enumerate((x, y, out)):
        tensors[i] = structs.tensor_row(structs.EXTERNAL, rows=3, cols=5, address=native_context.address_of(a))
    tensors[3] = structs.tensor_row(structs.ARENA, cols=5)
    ops = np.zeros(2, structs.OP)
    ops[0] = structs.op_row(Opcode.ADD, ins=(0, 1), outs=(3,))
    ops[1] = structs.op_row(Opcode.MUL, ins=(3, 3), outs=(2,))
    program = NativeProgram(ctx, ops, tensors, 5, 3, keep=(x, y, out))
    ops[:] = 0  # the program has its own copy
    step = ctx.make_step(Step.of_rows(3))
    program.run(step)
    assert np.array_equal(out, (x + y) * (x + y))
    assert np.array_equal(program.tensor(3), x + y)
    assert np.shares_memory(program.tensor(2), out)
    assert program.tensor(3, rows=2).shape == (2, 5)
    x[:] = 1
    program.run(step)
    assert np.array_equal(out, (1 + y) * (1 + y))
    assert ctx.counters()["program_runs"] == 2
    for wrong in (-1, 4):
        with pytest.raises(InvalidArgument):
            program.tensor(wrong)
    with pytest.raises(InvalidArgument, match="4 rows"):
        program.tensor(3, rows=4)
    with pytest.raises(ShapeError):
        program.run(ctx.make_step(Step.of_rows(4)))
    program.close()
    with pytest.raises(ClosedError):
        program.run(step)


def test_program_keeps_what_it_points_to(ctx: NativeContext) -> None:
    x, y, out = arrays()
    ops, tensors = add_records(x, y, out)
    program = NativeProgram(ctx, ops, tensors, 0, 3, keep=(x, y, out))
    gone = weakref.ref(x)
    del x
    gc.collect()
    assert gone() is not None
    program.close()
    gc.collect()
    assert gone() is None


def test_program_is_validated_when_built(ctx: NativeContext) -> None:
    ops, tensors = add_records(*arrays())
    tensors["cols"][2] = 4
    with pytest.raises(ShapeError, match=r"op 0 \(add\)"):
        NativeProgram(ctx, ops, tensors, 0, 3)


# --- time per op ------------------------------------------------------------------------------------------------------


def test_ops_are_timed_only_while_that_is_on(ctx: NativeContext) -> None:
    x, y, out = (np.ones((4, 8), np.float32) for _ in range(3))
    ops, tensors = add_records(x, y, out)
    step = NativeStep(Step.of_rows(4))
    program = NativeProgram(ctx, ops, tensors, 0, 4, keep=(x, y, out))
    program.run(step)
    assert program.times().tolist() == [[0, 0]]
    ctx.time_ops(True)
    before = time.perf_counter_ns()
    for _ in range(5):
        program.run(step)
    passed = time.perf_counter_ns() - before
    ctx.time_ops(False)
    ((calls, nanoseconds),) = program.times().tolist()
    assert calls == 5 and 0 < nanoseconds < passed
    program.run(step)
    assert program.times().tolist() == [[5, nanoseconds]]
    program.close()
    with pytest.raises(ClosedError):
        program.times()
