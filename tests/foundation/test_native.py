"""The door to the C library: structs, statuses, lifetimes; forks, threads, and mapped files that shrink."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zigllama import errors
from zigllama.errors import (
    ClosedError,
    ContextBusy,
    DTypeError,
    ForkedContext,
    InvalidArgument,
    MappingFault,
    OutOfMemory,
    ShapeError,
    UnknownName,
)
from zigllama.foundation import native
from zigllama.foundation import native_structs as structs
from zigllama.foundation.native import NativeCache, NativeContext, NativeProgram, NativeStep, NativeWeight, ffi, lib
from zigllama.foundation.opcodes import Opcode
from zigllama.foundation.runtime import Step

F32, F16 = 0, 1
HEADER = Path(__file__).parents[2] / "ckernels/include/zl_api.h"


@pytest.fixture
def ctx() -> Any:
    with NativeContext(2) as made:
        yield made


def add_records(x: Any, y: Any, out: Any, n_rows: int | None = None) -> tuple[Any, Any]:
    """Ops and tensors of out = x + y."""
    tensors = np.zeros(3, structs.TENSOR)
    for i, a in enumerate((x, y, out)):
        rows = a.shape[0] if n_rows is None else n_rows
        tensors[i] = structs.tensor_row(structs.EXTERNAL, rows=rows, cols=a.shape[1], address=native.address_of(a))
    ops = np.zeros(1, structs.OP)
    ops[0] = structs.op_row(Opcode.ADD, ins=(0, 1), outs=(2,))
    return ops, tensors


def arrays(rows: int = 3, cols: int = 5) -> tuple[Any, Any, Any]:
    x = np.arange(rows * cols, dtype=np.float32).reshape(rows, cols)
    return x, np.float32(100) - x * x, np.zeros_like(x)


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
        NativeWeight(ctx, 29, 4, 32, np.zeros(1000, np.uint8))
    with pytest.raises(OutOfMemory) as caught:
        native.alloc_array(1 << 60)
    assert caught.value.need == 1 << 60
    with pytest.raises(InvalidArgument):
        native.alloc_array(-1)


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
            assert set(native.kernel_variants(made)) == set(native.kernel_names())
            assert set(native.kernel_variants(made).values()) == {want}
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
    assert ctx.counters() == {"runs": 1, "program_runs": 0, "ops": 1, "stages": 0, "chunks": 1, "stolen": 0}


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
        lambda: native.kernel_variants(ctx),
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
    answer = b""
    while chunk := os.read(read, 4096):
        answer += chunk
    os.close(read)
    os.waitpid(child, 0)
    assert answer.startswith(b"refused: ")
    assert str(os.getpid()).encode() in answer
    assert answer.endswith(b"own context works")
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
        assert int(ffi.cast("uintptr_t", getattr(c, name))) == native.address_of(getattr(s, name))
    assert [int(ffi.cast("uintptr_t", c.mask[i])) for i in range(4)] == [0, native.address_of(s.masks[1]), 0, 0]
    assert list(c.table_width) == [3, 5, 0, 0, 0, 0, 0, 0]
    assert int(ffi.cast("uintptr_t", c.tables[1])) == native.address_of(s.tables[1])


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
        tensors[i] = structs.tensor_row(structs.EXTERNAL, rows=3, cols=5, address=native.address_of(a))
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


# --- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 63, 4096, (1 << 20) - 1, 1 << 20, 3 << 20])
def test_memory_is_aligned_and_zeroed(n: int) -> None:
    a = native.alloc_array(n)
    assert (a.dtype, a.shape) == (np.uint8, (n,))
    assert not a.any()
    if n:
        assert native.address_of(a) % 64 == 0
        a[:] = 7
        view = a[n // 2 :].view()
        del a
        gc.collect()
        assert (view == 7).all()  # a view keeps the memory


def test_memory_comes_back() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    before = resident()
    for _ in range(20):
        native.alloc_array(32 << 20)[:] = 1
    assert resident() - before < 64 << 20


def test_reserving_costs_nothing() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    before = resident()
    cache = NativeCache(F16, 0, n_layer=32, n_kv=8, dk=128, dv=128, n_pages=1024)  # 8 GiB
    assert cache.n_bytes == 2 * 1024 * 32 * 8 * 64 * 128 * 2
    cache.k[5, 3] = 1
    assert resident() - before < 16 << 20


def test_cache_layout() -> None:
    cache = NativeCache(F32, 2, n_layer=3, n_kv=2, dk=8, dv=4, n_pages=5)
    assert cache.k.shape == (5, 3, 2, 4, 8, 16)
    assert cache.v.shape == (5, 3, 2, 64, 4)
    c = ffi.cast("zl_cache *", cache.address)
    assert (c.type, c.cls, c.n_layer, c.n_kv, c.dk, c.dv, c.n_pages) == (F32, 2, 3, 2, 8, 4, 5)
    cache.k[4, 2, 1, 3, 7, 15] = 1.5
    cache.v[4, 2, 1, 63, 3] = 2.5
    assert ffi.cast("float *", c.k)[cache.k.size - 1] == 1.5
    assert ffi.cast("float *", c.v)[cache.v.size - 1] == 2.5
    assert cache.native_operand(None) == (structs.CACHE_KIND, 0, 0, cache.address)
    with pytest.raises(DTypeError):
        NativeCache(8, 0, 1, 1, 8, 8, 1)
    with pytest.raises(ShapeError):
        NativeCache(F32, 0, 1, 1, 8, 0, 1)


# --- mapped files that shrink -----------------------------------------------------------------------------------------

PAGE = os.sysconf("SC_PAGESIZE")


@pytest.fixture
def mapped(tmp_path: Path) -> Any:
    path = tmp_path / "weights"
    path.write_bytes(b"\x07" * (8 * PAGE))
    view: Any = np.memmap(path, np.uint8, "r")
    with native.guarded(view):
        yield path, view


def test_copy_from_a_file_that_shrank(mapped: Any) -> None:
    path, view = mapped
    copy = np.zeros(view.nbytes, np.uint8)
    native.copy_guarded(copy, view)
    assert (copy == 7).all()
    assert native.guard_faults(view) == 0
    os.truncate(path, PAGE)
    with pytest.raises(MappingFault, match="changed while it was in use"):
        native.copy_guarded(copy, view)
    assert native.guard_faults(view) == 7
    with pytest.raises(MappingFault):  # and it stays so, although nothing faults any more
        native.copy_guarded(copy[:PAGE], view[:PAGE])


def test_run_on_a_file_that_shrank(mapped: Any, ctx: NativeContext) -> None:
    path, view = mapped
    x = view.view(np.float32).reshape(8, -1)
    out = np.zeros_like(x)
    ops, tensors = add_records(x, x, out)
    step = ctx.make_step(Step.of_rows(8))
    program = NativeProgram(ctx, ops, tensors, 0, 8, keep=(view, out))
    ctx.run(ops, tensors, step)
    program.run(step)
    os.truncate(path, 0)
    with pytest.raises(MappingFault):
        program.run(step)
    with pytest.raises(MappingFault):
        ctx.run(ops, tensors, step)
    other = np.ones((8, 4), np.float32)  # what does not touch the file still works
    ctx.run(*add_records(other, other, other), step)
    assert (other == 2).all()


def test_guard_refuses(mapped: Any) -> None:
    _, view = mapped
    with pytest.raises(InvalidArgument, match="overlap"):
        native.guard_add(view)
    with pytest.raises(InvalidArgument, match="overlap"):
        native.guard_add(view[PAGE:])
    with pytest.raises(InvalidArgument):
        native.guard_remove(view[PAGE:])
    with pytest.raises(ShapeError):
        native.copy_guarded(np.zeros(3, np.uint8), view)
    empty = np.empty(0, np.uint8)
    native.guard_add(empty)
    native.guard_remove(empty)
    assert native.guard_faults(empty) == native.guard_faults(np.zeros(5, np.uint8)) == 0


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=False
    )


def test_a_fault_elsewhere_is_left_to_others(tmp_path: Path) -> None:
    """A mapping that is not ours still ends the process by SIGBUS, after faulthandler had its say."""
    path = tmp_path / "other"
    path.write_bytes(b"x" * PAGE)
    done = python(f"""
        import faulthandler, os, resource, sys
        import numpy as np
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        faulthandler.enable()
        from zigllama.foundation import native
        ours = np.zeros(10, np.uint8)
        native.guard_add(ours)
        view = np.memmap({str(path)!r}, np.uint8, "r")
        os.truncate({str(path)!r}, 0)
        print(view[5])
    """)
    assert done.returncode == -7, done
    assert "Bus error" in done.stderr


def test_unbuilt_checkout_says_what_to_do() -> None:
    done = python("""
        import sys
        sys.modules["zigllama._ckernels"] = None
        try:
            import zigllama.foundation.native
        except ImportError as e:
            print(e)
    """)
    assert len(done.stdout.splitlines()) == 1
    assert "pip install" in done.stdout


def test_importing_prints_nothing_and_starts_nothing() -> None:
    done = python("""
        import os
        import numpy  # may start threads of its own
        before = len(os.listdir("/proc/self/task"))
        import zigllama.foundation.native
        print(len(os.listdir("/proc/self/task")) - before)
    """)
    assert (done.stdout, done.stderr) == ("0\n", "")
