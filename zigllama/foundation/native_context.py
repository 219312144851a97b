"""What C allocates, and who owns it: contexts, programs, memory as arrays. A part of native.py's door.

    NativeContext   threads and an ISA variant
    NativeStep      a step as C reads it
    NativeProgram   ops that were validated once, replayed with one call per step
    guard_add ...   mapped files whose faults end in an error
    alloc_array     aligned memory

An owner keeps alive whatever its pointers point to; `close()` and `with` are the normal way to let go, garbage
collection the net.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from zigllama import errors

from . import native_structs as structs
from .native import check, ffi, kernel_names, lib, name_of, raise_for
from .native_step import StepRecord, want_array

__all__ = [
    "F32", "U8", "NativeContext", "NativeProgram", "NativeStep", "Records", "address_of", "alloc_array", "copy_guarded",
    "guard_add", "guard_faults", "guard_remove", "guarded", "kernel_variants", "matmul",
]  # fmt: skip

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]
Records = npt.NDArray[Any]


# --- memory and addresses --------------------------------------------------------------------------------------------


def address_of(array: npt.NDArray[Any]) -> int:
    """Where a C-contiguous array's bytes begin. The caller keeps the array alive for as long as the number is used."""
    return int(ffi.cast("uintptr_t", ffi.from_buffer(array)))


def alloc_array(n_bytes: int) -> U8:
    """Zeroed memory as a uint8 array: 64-byte aligned, with huge pages where it is large; untouched pages cost nothing.

    It is given back when the last view of it is gone. Raises OutOfMemory.
    """
    out = ffi.new("void **")
    check(lib.zl_alloc(n_bytes, out))
    owner = ffi.gc(out[0], lambda p: lib.zl_release(p, n_bytes), n_bytes)
    return np.frombuffer(ffi.buffer(owner, n_bytes), np.uint8) if n_bytes else np.empty(0, np.uint8)


def guard_add(view: npt.NDArray[Any]) -> None:
    """From now on a lost page of this mapping (its file shrank) is an error of the native call that reads it, and no
    SIGBUS. Pair it with `guard_remove` before the mapping goes.

    Only for read-only mappings of files: native code may let pages of a guarded range go (`release` of NativeWeight,
    lookups in a mapped weight), and what is read after that is what the file says. Raises InvalidArgument for a
    writable view, whose changes could be lost so, and where ranges overlap.
    """
    if view.nbytes:
        if view.flags.writeable:
            raise errors.InvalidArgument(
                f"guard_add: a writable view of {view.nbytes} bytes; pages of a guarded range may be let go and read "
                "again from the file, so it has to be a read-only mapping"
            )
        check(lib.zl_guard_add(ffi.from_buffer(view), view.nbytes))


def guard_remove(view: npt.NDArray[Any]) -> None:
    """Undo `guard_add` of the same view. Raises InvalidArgument when it is not guarded."""
    if view.nbytes:
        check(lib.zl_guard_remove(ffi.from_buffer(view)))


def guard_faults(view: npt.NDArray[Any]) -> int:
    """Pages that could not be read in the guarded mapping where the view begins: for code that reads it with NumPy."""
    return int(lib.zl_guard_faults(ffi.from_buffer(view))) if view.nbytes else 0


@contextmanager
def guarded(view: npt.NDArray[Any]) -> Iterator[None]:
    """`guard_add` and `guard_remove` around a block."""
    guard_add(view)
    try:
        yield
    finally:
        guard_remove(view)


def copy_guarded(dst: npt.NDArray[Any], src: npt.NDArray[Any]) -> None:
    """Copy bytes out of a guarded mapping. Raises MappingFault when pages are gone, ShapeError when sizes differ."""
    if dst.nbytes != src.nbytes:
        raise errors.ShapeError(f"copy of {src.nbytes} bytes into {dst.nbytes}")
    check(lib.zl_copy(ffi.from_buffer(dst, require_writable=True), ffi.from_buffer(src), src.nbytes))


# --- contexts --------------------------------------------------------------------------------------------------------


class NativeContext:
    """Threads and an ISA variant: what native calls run on. One thread at a time may use it.

    n_threads   the calling thread and n_threads - 1 workers
    isa         a variant's name; None or "auto": ZIGLLAMA_ISA, else the best that the CPU runs
    cpus        None, or a CPU number per thread to pin the workers to (the first, the caller's, is not used)

    Raises UnknownName and ISAUnavailable for `isa`, InvalidArgument for a number out of range, NativeError when a
    thread cannot be started or pinned. Use after `close` raises ClosedError, in a forked child ForkedContext, while
    another thread is inside ContextBusy.
    """

    def __init__(self, n_threads: int, isa: str | None = None, cpus: Sequence[int] | None = None) -> None:
        if isa is None or isa == "auto":
            isa = os.environ.get("ZIGLLAMA_ISA") or "auto"
        if cpus is not None and len(cpus) != n_threads:
            raise errors.InvalidArgument(f"{len(cpus)} CPU numbers for {n_threads} threads")
        out = ffi.new("zl_ctx **")
        numbers = ffi.NULL if cpus is None else ffi.new("int[]", list(cpus))
        check(lib.zl_ctx_new(n_threads, isa.encode(), numbers, out))
        self._pointer: Any = ffi.gc(out[0], lib.zl_ctx_free)
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self.isa = name_of(lib.zl_ctx_isa(self._pointer))
        self.n_threads = n_threads

    def _enter(self) -> Any:
        """The pointer, with the lock held: `close` in another thread cannot free it meanwhile."""
        if not self._lock.acquire(blocking=False):
            if os.getpid() != self._pid:  # the lock was held by a thread that does not exist in this process
                raise errors.ForkedContext(f"the context belongs to process {self._pid}; make a new one after fork()")
            raise errors.ContextBusy("another thread is inside this context")
        if self._pointer is None:
            self._lock.release()
            raise errors.ClosedError("the native context is closed")
        return self._pointer

    @contextmanager
    def using(self) -> Iterator[Any]:
        """The C pointer for the length of a block, in which nobody else can use or close the context."""
        pointer = self._enter()
        try:
            yield pointer
        finally:
            self._lock.release()

    def close(self) -> None:
        """End the threads. Waits up to 10 s for a call that another thread is in, then raises ContextBusy."""
        if os.getpid() != self._pid:
            return  # a child has no threads to end
        if not self._lock.acquire(timeout=10):
            raise errors.ContextBusy("the context cannot be closed: another thread is inside it")
        try:
            if self._pointer is not None:
                ffi.release(self._pointer)
                self._pointer = None
        finally:
            self._lock.release()

    @property
    def closed(self) -> bool:
        return self._pointer is None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def counters(self) -> dict[str, int]:
        """What it has done: runs, program_runs, ops, stages, chunks, stolen (see zl_counters)."""
        with self.using() as pointer:
            out = ffi.new("zl_counters *")
            check(lib.zl_ctx_counters(pointer, out))
        return {name: int(getattr(out, name)) for name, _ in ffi.typeof("zl_counters").fields}

    def time_ops(self, on: bool) -> None:
        """From the next run on programs add up what each of their ops takes, or do not: see `NativeProgram.times`."""
        with self.using() as pointer:
            check(lib.zl_ctx_time_ops(pointer, on))

    def spare_memory(self) -> None:
        """What was made ready for weights and is not used goes back to the system."""
        with self.using() as pointer:
            check(lib.zl_ctx_spare_memory(pointer))

    def pin(self, thread: int, cpu: int) -> None:
        """Pin a worker (1 .. n_threads - 1) to a CPU. Raises InvalidArgument; NativeError when the system refuses."""
        with self.using() as pointer:
            check(lib.zl_ctx_pin(pointer, thread, cpu))

    def stall(self, thread: int, microseconds: int) -> None:
        """For tests: this thread sleeps so long before each chunk it would take; 0 ends it."""
        with self.using() as pointer:
            check(lib.zl_ctx_stall(pointer, thread, microseconds))

    # --- running ---

    def run(self, ops: Records, tensors: Records, step: NativeStep) -> None:
        """Run ops (record array OP) over tensors (record array TENSOR) now. All memory they name must be alive."""
        op_pointer, tensor_pointer = ffi.from_buffer("zl_op[]", ops), ffi.from_buffer("zl_tensor[]", tensors)
        self._run(op_pointer, len(ops), tensor_pointer, len(tensors), step)

    def _run(self, ops: Any, n_ops: int, tensors: Any, n_tensors: int, step: NativeStep) -> None:
        pointer = self._enter()
        try:
            status = lib.zl_run(pointer, ops, n_ops, tensors, n_tensors, step.pointer)
        finally:
            self._lock.release()
        if status:
            raise_for(status)

    @staticmethod
    def address(data: Any) -> int:
        """The number of an operand's pointer: of a C pointer, or the number itself."""
        return data if isinstance(data, int) else int(ffi.cast("uintptr_t", data))

    def make_step(self, step: Any) -> NativeStep:
        """The step as C reads it."""
        return NativeStep(step)

    def run_op(
        self,
        code: int,
        ins: Sequence[Any],
        outs: Sequence[Any],
        ints: Sequence[int],
        floats: Sequence[float],
        step: NativeStep,
    ) -> None:
        """Run one op now, results into the arrays of `outs`. An operand is None (absent), an object with `array` and
        `rows_kind` (rows), one with `native_operand` (weight, cache), or an array (constant, float32).
        """
        fields: list[tuple[int, ...]] = []
        numbers: list[int] = []
        kept: list[Any] = []  # constants that had to be copied, until the call is over
        for x in (*ins, *outs):
            numbers.append(-1 if x is None else len(fields))
            if x is not None:
                fields.append(self._operand(x, kept))
        op = structs.PACK_OP.pack(*structs.op_fields(code, numbers[: len(ins)], numbers[len(ins) :], ints, floats))
        tensors = b"".join([structs.PACK_TENSOR.pack(*f) for f in fields])
        self._run(ffi.from_buffer("zl_op[]", op), 1, ffi.from_buffer("zl_tensor[]", tensors), len(fields), step)

    def _operand(self, x: Any, kept: list[Any]) -> tuple[int, ...]:
        """The fields of a zl_tensor for one operand of `run_op`."""
        array = getattr(x, "array", None)
        if array is not None:
            want_array(array, np.float32, 2)
            return (structs.EXTERNAL, x.rows_kind, *array.shape, 0, address_of(array))
        native = getattr(x, "native_operand", None)
        if native is not None:
            kind, rows, cols, data = native(self)
            return (kind, 0, rows, cols, 0, self.address(data))
        constant = np.ascontiguousarray(x, np.float32)
        kept.append(constant)
        rows = constant.shape[0] if constant.ndim > 1 else 1
        return (structs.CONST, 0, rows, constant.size // max(rows, 1), 0, address_of(constant))


class NativeStep(StepRecord):
    """A step as C reads it, with the pointer that every run takes. See StepRecord for `update`."""

    def __init__(self, step: Any) -> None:
        super().__init__(step, address_of)
        self.pointer = ffi.from_buffer("zl_step *", self.record)


# --- programs -----------------------------------------------------------------------------------------------


class NativeProgram:
    """Ops that were validated once and are replayed with one call per step.

    `ops` and `tensors` are record arrays (OP, TENSOR), `arena_cols` floats per row of scratch for ARENA tensors,
    `max_rows` the most rows a step may have. `keep` holds whatever the tensors' addresses belong to. Raises as C's
    validator finds.
    """

    def __init__(
        self, ctx: NativeContext, ops: Records, tensors: Records, arena_cols: int, max_rows: int, keep: Any = ()
    ) -> None:
        out = ffi.new("zl_program **")
        op_pointer, tensor_pointer = ffi.from_buffer("zl_op[]", ops), ffi.from_buffer("zl_tensor[]", tensors)
        with ctx.using() as pointer:
            status = lib.zl_program_new(
                pointer, op_pointer, len(ops), tensor_pointer, len(tensors), arena_cols, max_rows, out
            )
        check(status)
        self._pointer: Any = ffi.gc(out[0], lib.zl_program_free)
        self.ctx, self.max_rows, self._tensors, self._keep = ctx, max_rows, tensors.copy(), keep
        self._arrays: dict[int, tuple[Any, F32]] = {}  # what `tensor` made, and of which address
        self.n_ops = len(ops)

    def run(self, step: NativeStep) -> None:
        """Replay it for one step."""
        self.ctx._enter()
        try:
            if self._pointer is None:
                raise errors.ClosedError("the program is closed")
            status = lib.zl_program_run(self._pointer, step.pointer)
        finally:
            self.ctx._lock.release()
        if status:
            raise_for(status)

    def run_ahead(self, step: NativeStep, n: int, ends: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """Up to n runs that write greedily (zl_program_run_ahead): the best tokens of each, (runs, rows)."""
        ids = np.empty((n, int(step.record["n_rows"][0])), np.int32)
        ran = ffi.new("int *")
        with self.ctx.using():
            if self._pointer is None:
                raise errors.ClosedError("the program is closed")
            to, stop = ffi.from_buffer("int32_t[]", ids), ffi.from_buffer("int32_t[]", ends)
            check(lib.zl_program_run_ahead(self._pointer, step.pointer, n, stop, len(ends), to, ran))
        return ids[: ran[0]]

    def times(self) -> npt.NDArray[np.int64]:
        """(n_ops, 2): how often each op ran while the context timed ops, and how many nanoseconds that took."""
        out = np.zeros((self.n_ops, 2), np.int64)
        with self.ctx.using():
            if self._pointer is None:
                raise errors.ClosedError("the program is closed")
            check(lib.zl_program_times(self._pointer, ffi.from_buffer("zl_op_time[]", out), self.n_ops))
        return out

    def tensor(self, i: int, rows: int | None = None) -> F32:
        """Tensor i as an array (rows, cols) in place; by default all rows it has room for, of which an arena tensor has
        those of the last run. Valid until the next run."""
        if self._pointer is None:
            raise errors.ClosedError("the program is closed")
        pointer = lib.zl_program_tensor(self._pointer, i)
        before, whole = self._arrays.get(i, (None, None))
        if whole is None or pointer != before:  # an arena tensor's place depends on the rows of the run
            whole = self._whole(i, pointer)
            self._arrays[i] = pointer, whole
        rows = len(whole) if rows is None else rows
        if not 0 <= rows <= len(whole):
            raise errors.InvalidArgument(f"{rows} rows of tensor {i}, which has room for {len(whole)}")
        return whole[:rows]

    def _whole(self, i: int, pointer: Any) -> F32:
        """All rows that tensor i, which begins there, has room for."""
        if pointer == ffi.NULL:
            raise errors.InvalidArgument(f"tensor {i} of {len(self._tensors)} has no rows to look at")
        record = self._tensors[i]
        capacity = self.max_rows if record["kind"] == structs.ARENA else int(record["rows"])
        cols = int(record["cols"])
        memory: F32 = np.frombuffer(ffi.buffer(pointer, capacity * cols * 4), np.float32)
        return memory.reshape(capacity, cols)

    def close(self) -> None:
        """Give its memory back. Arrays from `tensor` must not be used any more."""
        with self.ctx._lock:
            if self._pointer is not None:
                ffi.release(self._pointer)
                self._pointer, self._keep = None, ()
                self._arrays.clear()


def matmul(ctx: NativeContext | None, a: F32, b: F32) -> F32:
    """a (M, K) @ b (K, N) in float32 by tiles and vectors; without a context by the scalar loop. Raises ShapeError."""
    a, b = np.ascontiguousarray(a, np.float32), np.ascontiguousarray(b, np.float32)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        raise errors.ShapeError(f"matmul: shapes {a.shape} and {b.shape}, want (M, K) and (K, N)")
    out = np.empty((a.shape[0], b.shape[1]), np.float32)
    call = (*a.shape, b.shape[1], *(ffi.from_buffer("float[]", m) for m in (a, b, out)))
    if ctx is None:
        check(lib.zl_matmul_scalar(*call))
        return out
    with ctx.using() as pointer:
        check(lib.zl_matmul(pointer, *call))
    return out


def kernel_variants(ctx: NativeContext) -> dict[str, str]:
    """Kernel name -> the ISA variant whose body this context runs."""
    with ctx.using() as pointer:
        return {name: name_of(lib.zl_kernel_variant(pointer, i)) for i, name in enumerate(kernel_names())}
