"""The door to the C library: memory, and mapped files that shrink."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from native_calls import add_records

from zigllama.errors import (
    DTypeError,
    InvalidArgument,
    MappingFault,
    ShapeError,
)
from zigllama.foundation import native_context
from zigllama.foundation import native_structs as structs
from zigllama.foundation.memory_mapping import MemoryMap
from zigllama.foundation.native import ffi
from zigllama.foundation.native_cache import NativeCache
from zigllama.foundation.native_context import NativeContext, NativeProgram
from zigllama.foundation.runtime import Step

F32, F16 = 0, 1


# --- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 63, 4096, (1 << 20) - 1, 1 << 20, 3 << 20])
def test_memory_is_aligned_and_zeroed(n: int) -> None:
    a = native_context.alloc_array(n)
    assert a.dtype == np.uint8
    assert a.shape == (n,)
    assert not a.any()
    if n:
        assert native_context.address_of(a) % 64 == 0
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
        native_context.alloc_array(32 << 20)[:] = 1
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
        NativeCache(2, 0, 1, 1, 32, 32, 1)
    with pytest.raises(ShapeError, match="heads have 8 and 32"):
        NativeCache(8, 0, 1, 1, 8, 32, 1)
    with pytest.raises(ShapeError):
        NativeCache(F32, 0, 1, 1, 8, 0, 1)


# --- mapped files that shrink -----------------------------------------------------------------------------------------

PAGE = os.sysconf("SC_PAGESIZE")


@pytest.fixture
def mapped(tmp_path: Path) -> Any:
    path = tmp_path / "weights"
    path.write_bytes(b"\x07" * (8 * PAGE))
    view: Any = np.memmap(path, np.uint8, "r")
    with native_context.guarded(view):
        yield path, view


def test_copy_from_a_file_that_shrank(mapped: Any) -> None:
    path, view = mapped
    copy = np.zeros(view.nbytes, np.uint8)
    native_context.copy_guarded(copy, view)
    assert (copy == 7).all()
    assert native_context.guard_faults(view) == 0
    os.truncate(path, PAGE)
    with pytest.raises(MappingFault, match="changed while it was in use"):
        native_context.copy_guarded(copy, view)
    assert native_context.guard_faults(view) == 7
    with pytest.raises(MappingFault):  # and it stays so, although nothing faults any more
        native_context.copy_guarded(copy[:PAGE], view[:PAGE])


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
        native_context.guard_add(view)
    with pytest.raises(InvalidArgument, match="overlap"):
        native_context.guard_add(view[PAGE:])
    with pytest.raises(InvalidArgument):
        native_context.guard_remove(view[PAGE:])
    with pytest.raises(ShapeError):
        native_context.copy_guarded(np.zeros(3, np.uint8), view)
    empty = np.empty(0, np.uint8)
    native_context.guard_add(empty)
    native_context.guard_remove(empty)
    assert native_context.guard_faults(empty) == native_context.guard_faults(np.zeros(5, np.uint8)) == 0


def test_only_read_only_mappings_are_guarded(tmp_path: Path) -> None:
    """Pages of a guarded range may be let go: what was written into them would be lost."""
    path = tmp_path / "f"
    path.write_bytes(b"x" * PAGE)
    own: Any = np.zeros(PAGE, np.uint8)
    for view in (np.memmap(path, np.uint8, "c"), np.memmap(path, np.uint8, "r+"), own):
        with pytest.raises(InvalidArgument, match=f"a writable view of {PAGE} bytes"):
            native_context.guard_add(view)
        with pytest.raises(InvalidArgument):
            native_context.guard_remove(view)  # nothing was left behind
    with MemoryMap(path) as mapping, native_context.guarded(mapping.view):
        assert native_context.guard_faults(mapping.view) == 0


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=False
    )


def test_a_fault_elsewhere_is_left_to_others(tmp_path: Path) -> None:
    """A mapping that is not ours still ends the process by SIGBUS, after faulthandler had its say."""
    path, mine = tmp_path / "other", tmp_path / "mine"
    path.write_bytes(b"x" * PAGE)
    mine.write_bytes(b"y" * PAGE)
    done = python(f"""
        import faulthandler, os, resource, sys
        import numpy as np
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        faulthandler.enable()
        from zigllama.foundation import native, native_context
        ours = np.memmap({str(mine)!r}, np.uint8, "r")
        native_context.guard_add(ours)
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
