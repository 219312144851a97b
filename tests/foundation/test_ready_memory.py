"""Memory made ready ahead: it comes while nobody waits for it, and goes when nobody has taken it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from zigllama.foundation.native_context import NativeContext
from zigllama.foundation.ready_memory import MOST, SECOND_NODE, SHARE, ReadyMemory
from zigllama.foundation.runtime import F32, EagerRuntime, Step
from zigllama.linear_algebra.linear import Weight, linear

MB = 1 << 20


def anonymous() -> int:
    """Bytes of this process's memory that are no file's."""
    status = Path("/proc/self/status").read_text("utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1]) * 1024


def a_model(folder: Path) -> Path:
    """A file of 64 MB that begins as a model does."""
    path = folder / "large"
    with path.open("wb") as file:
        file.write(b"GGUF")
        file.truncate(64 * MB)
    return path


def wait_for(n_bytes: int) -> None:
    """Until so much memory is there, or a minute is over."""
    end = time.monotonic() + 60
    while anonymous() < n_bytes and time.monotonic() < end:
        time.sleep(0.01)


@pytest.mark.skipif(os.path.exists(SECOND_NODE), reason="several nodes: each thread takes memory of its own")
def test_it_comes_by_itself_and_goes_with_the_block(tmp_path: Path) -> None:
    path = a_model(tmp_path)
    before = anonymous()
    with ReadyMemory(path) as ready:
        assert ready.n_bytes == SHARE * 64 * MB
        wait_for(before + 40 * MB)
        assert anonymous() >= before + 40 * MB
    assert anonymous() < before + 16 * MB


def test_what_cannot_be_looked_at_asks_for_nothing(tmp_path: Path) -> None:
    for path in (None, tmp_path / "missing", "no\0path", object()):
        with ReadyMemory(path) as ready:  # type: ignore[arg-type]
            assert ready.n_bytes == 0


def test_what_is_no_model_asks_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(64 * MB)
    with ReadyMemory(path) as ready:
        assert ready.n_bytes == 0


def test_no_more_is_asked_for_than_a_start_is_worth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.write(b"GGUF")
        file.truncate(1 << 40)
    module = "zigllama.foundation.ready_memory"
    monkeypatch.setattr(f"{module}.SECOND_NODE", str(tmp_path / "none"))
    with ReadyMemory(path) as ready:
        assert ready.n_bytes == MOST
    monkeypatch.setattr(f"{module}.SECOND_NODE", str(tmp_path))
    with ReadyMemory(path) as ready:
        assert ready.n_bytes == 0
    monkeypatch.setattr(f"{module}.SECOND_NODE", str(tmp_path / "none"))
    monkeypatch.setattr(f"{module}._rationed", lambda: True)
    with ReadyMemory(path) as ready:
        assert ready.n_bytes == 0


@pytest.mark.skipif(os.path.exists(SECOND_NODE), reason="several nodes: each thread takes memory of their own")
def test_what_was_given_and_is_not_used_goes_back(tmp_path: Path) -> None:
    path = a_model(tmp_path)
    before = anonymous()
    with NativeContext(1) as context:
        with ReadyMemory(path) as ready:
            wait_for(before + 40 * MB)
            ready.give(context)
        assert anonymous() >= before + 40 * MB
        weight = Weight.from_array(np.ones((1024, 1024), np.float32))
        weight.prepare(context, together=True)
        context.spare_memory()
        assert anonymous() < before + 24 * MB
        np.testing.assert_array_equal(product(context, weight), np.full((1, 1024), 1024, np.float32))
        weight.close()


def product(context: NativeContext, weight: Weight) -> F32:
    """Of a row of ones."""
    runtime = EagerRuntime(context, Step.of_rows(1))
    made: F32 = linear(runtime.rows(np.ones((1, weight.cols), np.float32)), weight).array
    return made


def test_a_child_of_a_process_that_had_asked_can_ask_too(tmp_path: Path) -> None:
    """The thread is not in the child; whoever takes or drops must not wait for it."""
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.write(b"GGUF")
        file.truncate(256 * MB)
    script = f"""
import os
from zigllama.foundation.ready_memory import ReadyMemory
def virtual():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize")) >> 10
with ReadyMemory({str(path)!r}) as ready:
    child = os.fork()
    if not child:
        with ReadyMemory({str(path)!r}):
            pass
        before = virtual()
        ready.__exit__()  # its own copy goes too
        os._exit(before - virtual() < 1000)
    assert os.waitpid(child, 0)[1] == 0
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], timeout=120, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_model_needs_no_module_before_it_is_made() -> None:
    script = "import sys, zigllama as zl; zl.Model; assert 'numpy' not in sys.modules, 'NumPy came with the name'"
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], timeout=120, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
