"""The door to the C library: structs, statuses, contexts; forks and threads."""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from native_calls import add_records, arrays

from zigllama import errors
from zigllama.errors import (
    ClosedError,
    ContextBusy,
    DTypeError,
    ForkedContext,
    InvalidArgument,
    OutOfMemory,
    ShapeError,
    UnknownName,
)
from zigllama.foundation import native, native_context
from zigllama.foundation import native_structs as structs
from zigllama.foundation.native import ffi, lib
from zigllama.foundation.native_context import NativeContext, NativeProgram, NativeStep
from zigllama.foundation.native_weights import NativeWeight
from zigllama.foundation.opcodes import Opcode
from zigllama.foundation.runtime import Step

# --- structs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("zl_op", structs.OP), ("zl_tensor", structs.TENSOR), ("zl_step", structs.STEP), ("zl_cache", structs.CACHE)],
)
def test_records_are_the_structs_of_the_header(name: str, dtype: np.dtype[Any]) -> None:
    c = ffi.typeof(name)
    assert dtype.itemsize == ffi.sizeof(c)
    assert dtype.names == tuple(field for field, _ in c.fields)
    for field, info in c.fields:
        assert dtype.fields is not None
        ours, offset = dtype.fields[field][:2]
        assert (offset, ours.itemsize) == (info.offset, ffi.sizeof(info.type)), field


def test_packed_structs_are_the_records() -> None:
    assert structs.PACK_OP.size == structs.OP.itemsize
    assert structs.PACK_TENSOR.size == structs.TENSOR.itemsize
    row = structs.op_row(Opcode.GLU, ins=(3, 1, 4), outs=(1, 5), ints=(9, 2, 6), floats=(5.0, 0.25))
    ops = np.zeros(1, structs.OP)
    ops[0] = row
    fields = structs.op_fields(Opcode.GLU, (3, 1, 4), (1, 5), (9, 2, 6), (5.0, 0.25))
    assert ops.tobytes() == structs.PACK_OP.pack(*fields)
    assert list(ops[0]["in"]) == [3, 1, 4] + [-1] * 9
    assert list(ops[0]["out"]) == [1, 5, -1, -1]
    tensors = np.zeros(1, structs.TENSOR)
    tensors[0] = structs.tensor_row(structs.ARENA, rows_kind=1, rows=7, cols=8, offset=9, address=10)
    assert tensors.tobytes() == structs.PACK_TENSOR.pack(0, 1, 7, 8, 9, 10)


@pytest.mark.parametrize("field", ["ins", "outs", "ints", "floats"])
def test_an_op_holds_so_much_and_no_more(field: str) -> None:
    room = {"ins": 12, "outs": 4, "ints": 8, "floats": 4}[field]
    full: dict[str, Any] = {"ins": (), "outs": (), field: (0,) * room}
    structs.op_row(1, **full)
    full[field] = (0,) * (room + 1)
    with pytest.raises(InvalidArgument, match=str(room + 1)):
        structs.op_row(1, **full)


def test_kinds_are_those_of_the_header() -> None:
    ours = (structs.ARENA, structs.EXTERNAL, structs.CONST, structs.WEIGHT, structs.CACHE_KIND)
    assert ours == (lib.ZL_ARENA, lib.ZL_EXTERNAL, lib.ZL_CONST, lib.ZL_WEIGHT, lib.ZL_CACHE)
    assert (structs.ROWS_STEP, structs.ROWS_OUT) == (lib.ZL_ROWS_STEP, lib.ZL_ROWS_OUT)


# --- statuses ---------------------------------------------------------------------------------------------------------


def statuses() -> dict[str, int]:
    return {name: number for number, name in ffi.typeof("enum zl_status").elements.items()}


def test_every_status_has_an_exception() -> None:
    for name, number in statuses().items():
        if name == "ZL_OK":
            native.check(number)
            continue
        with pytest.raises(errors.ZigllamaError) as caught:
            native.check(number)
        assert type(caught.value) is not errors.ZigllamaError, name
    with pytest.raises(errors.NativeError):
        native.check(1234)


def test_arg_and_shape_and_bounds(ctx: NativeContext) -> None:
    x, y, out = arrays()
    ops, tensors = add_records(x, y, out)
    step = NativeStep(Step.of_rows(3))
    ops["code"] = 999
    with pytest.raises(InvalidArgument, match="op 0: unknown opcode 999"):
        ctx.run(ops, tensors, step)
    ops, tensors = add_records(x, y, out)
    ops["in"][0, 1] = 17
    with pytest.raises(InvalidArgument, match=r"op 0 \(add\): in\[1\] is tensor 17 of 3"):
        ctx.run(ops, tensors, step)
    ops, tensors = add_records(x, y, out, n_rows=2)
    with pytest.raises(ShapeError, match="3 rows, there is room for 2"):
        ctx.run(ops, tensors, step)
    assert not out.any()


def test_type_and_memory(ctx: NativeContext) -> None:
    with pytest.raises(DTypeError):
        NativeWeight(ctx, 28, 4, 32, np.zeros(1024, np.uint8))  # F64
    with pytest.raises(InvalidArgument, match="in no guarded range"):  # releasing what is no file's page would lose it
        NativeWeight(ctx, 8, 4, 32, np.zeros(136, np.uint8), release=True)
    with pytest.raises(OutOfMemory) as caught:
        native_context.alloc_array(1 << 60)
    assert caught.value.need == 1 << 60
    with pytest.raises(InvalidArgument):
        native_context.alloc_array(-1)


def test_isa_names(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownName) as caught:
        NativeContext(1, "genric")
    assert (caught.value.name, caught.value.nearest) == ("genric", "generic")
    assert "generic" in caught.value.known
    usable = [name for name, runs in native.isa_variants() if runs]
    monkeypatch.delenv("ZIGLLAMA_ISA", raising=False)
    for isa in (None, "auto"):
        with NativeContext(1, isa) as made:
            assert made.isa == usable[0]
    monkeypatch.setenv("ZIGLLAMA_ISA", "generic")
    for isa, want in ((None, "generic"), ("auto", "generic"), (usable[0], usable[0])):
        with NativeContext(1, isa) as made:
            assert made.isa == want
            assert set(native_context.kernel_variants(made)) == set(native.kernel_names())
            assert set(native_context.kernel_variants(made).values()) == {want}
    monkeypatch.setenv("ZIGLLAMA_ISA", "mmx")
    with pytest.raises(UnknownName, match="mmx"):
        NativeContext(1)


def test_texts_belong_to_their_thread(ctx: NativeContext) -> None:
    lib.zl_ctx_new(0, ffi.NULL, ffi.NULL, ffi.new("zl_ctx **"))
    mine = native.error_text()
    others: list[str] = []

    def fail() -> None:
        others.append(native.error_text())
        lib.zl_ctx_new(777, ffi.NULL, ffi.NULL, ffi.new("zl_ctx **"))
        others.append(native.error_text())

    t = threading.Thread(target=fail)
    t.start()
    t.join()
    assert others[0] == ""
    assert "777" in others[1]
    assert native.error_text() == mine


# --- contexts ---------------------------------------------------------------------------------------------------------


def test_run_and_counters(ctx: NativeContext) -> None:
    x, y, out = arrays()
    ops, tensors = add_records(x, y, out)
    ctx.run(ops, tensors, ctx.make_step(Step.of_rows(3)))
    assert np.array_equal(out, x + y)
    counted = {"runs": 1, "program_runs": 0, "ops": 1, "stages": 0, "chunks": 1, "stolen": 0, "blas_calls": 0}
    counted |= {"bound_ranges": 0, "bind_failures": 0, "expert_bytes": 0}
    assert ctx.counters() == counted


def test_closing(ctx: NativeContext) -> None:
    x, y, out = arrays()
    ops, tensors = add_records(x, y, out)
    step = ctx.make_step(Step.of_rows(3))
    program = NativeProgram(ctx, ops, tensors, 0, 3)
    ctx.close()
    ctx.close()
    assert ctx.closed
    for use in (
        lambda: ctx.run(ops, tensors, step),
        ctx.counters,
        lambda: program.run(step),
        lambda: ctx.stall(0, 0),
        lambda: native_context.kernel_variants(ctx),
    ):
        with pytest.raises(ClosedError):
            use()
    program.close()
    with pytest.raises(ClosedError):
        program.tensor(0)


def test_threads_end_with_the_context() -> None:
    def workers() -> int:
        return sum((t / "comm").read_text().startswith("zl-worker") for t in Path("/proc/self/task").iterdir())

    gc.collect()
    before = workers()
    made = NativeContext(4)
    assert workers() == before + 3
    made.close()
    assert workers() == before
    made = NativeContext(3)
    gone = weakref.ref(made)
    del made  # not closed: collected
    gc.collect()
    assert gone() is None
    assert workers() == before


def slow_run(ctx: NativeContext, seconds: float) -> tuple[threading.Thread, list[Any]]:
    """A thread that is inside the context for at least so long, because every thread sleeps before each chunk."""
    x = np.ones((64, 4096), np.float32)
    out = np.zeros_like(x)
    ops, tensors = add_records(x, x, out)
    step = ctx.make_step(Step.of_rows(64))
    for thread in range(ctx.n_threads):
        ctx.stall(thread, int(seconds * 1e6))
    failures: list[Any] = []
    inside = threading.Event()

    def run() -> None:
        inside.set()
        try:
            ctx.run(ops, tensors, step)
            assert (out == x + x).all()  # and this keeps both alive until the run is over
        except Exception as e:
            failures.append(e)

    t = threading.Thread(target=run)
    t.start()
    inside.wait()
    time.sleep(0.05)
    return t, failures


def test_another_thread_inside(ctx: NativeContext) -> None:
    t, failures = slow_run(ctx, 0.4)
    with pytest.raises(ContextBusy):
        ctx.counters()
    start = time.monotonic()
    ctx.close()  # waits: nothing is freed under the run
    assert time.monotonic() - start > 0.1
    t.join()
    assert not failures


def test_fork(ctx: NativeContext) -> None:
    x, y, out = arrays()
    ops, tensors = add_records(x, y, out)
    step = ctx.make_step(Step.of_rows(3))
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        answer = "nothing was raised"
        try:
            ctx.run(ops, tensors, step)
        except ForkedContext as e:
            answer = f"refused: {e}"
        try:
            ctx.close()
            with NativeContext(2) as own:
                own.run(ops, tensors, step)
            answer += "; own context works" if np.array_equal(out, x + y) else "; wrong sum"
        except BaseException as e:
            answer += f"; own context: {e!r}"
        os.write(write, answer.encode())
        os._exit(0)
    os.close(write)
    told = b""
    while chunk := os.read(read, 4096):
        told += chunk
    os.close(read)
    os.waitpid(child, 0)
    assert told.startswith(b"refused: ")
    assert str(os.getpid()).encode() in told
    assert told.endswith(b"own context works")
    ctx.run(ops, tensors, step)


def test_fork_while_a_thread_is_inside(ctx: NativeContext) -> None:
    t, failures = slow_run(ctx, 0.3)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            ctx.counters()
        except ForkedContext:
            code = 0
        except BaseException:
            code = 2
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    t.join()
    assert not failures


def test_stolen_chunks_are_counted(ctx: NativeContext) -> None:
    x = np.ones((64, 4096), np.float32)
    out = np.zeros_like(x)
    ops, tensors = add_records(x, x, out)
    ctx.stall(1, 1_000_000)
    start = time.monotonic()
    ctx.run(ops, tensors, ctx.make_step(Step.of_rows(64)))
    assert time.monotonic() - start < 0.9  # the stage did not wait for the worker that hangs
    ctx.stall(1, 0)
    assert (out == 2).all()
    assert ctx.counters()["stolen"] > 0
