"""Memory made ready ahead: it comes while nobody waits for it, and goes when nobody has taken it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from zigllama.foundation.ready_memory import MOST, SECOND_NODE, SHARE, ReadyMemory

MB = 1 << 20


def anonymous() -> int:
    """Bytes of this process's memory that are no file's."""
    status = Path("/proc/self/status").read_text("utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1]) * 1024


@pytest.mark.skipif(os.path.exists(SECOND_NODE), reason="several nodes: each thread takes memory of its own")
def test_it_comes_by_itself_and_goes_with_the_block(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(64 * MB)
    before = anonymous()
    with ReadyMemory(path) as ready:
        assert ready.n_bytes == SHARE * 64 * MB
        end = time.monotonic() + 60
        while anonymous() < before + 40 * MB and time.monotonic() < end:
            time.sleep(0.01)
        assert anonymous() >= before + 40 * MB
    assert anonymous() < before + 16 * MB


def test_what_cannot_be_looked_at_asks_for_nothing(tmp_path: Path) -> None:
    for path in (None, tmp_path / "missing", "no\0path", object()):
        with ReadyMemory(path) as ready:  # type: ignore[arg-type]
            assert ready.n_bytes == 0


def test_no_more_is_asked_for_than_a_start_is_worth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    asked: list[int] = []
    monkeypatch.setattr("zigllama.foundation.ready_memory.lib", _Library(asked))
    monkeypatch.setattr("zigllama.foundation.ready_memory.SECOND_NODE", str(tmp_path / "none"))
    with ReadyMemory(path):
        pass
    monkeypatch.setattr("zigllama.foundation.ready_memory.SECOND_NODE", str(tmp_path))
    with ReadyMemory(path):
        pass
    assert asked == [MOST, -1]


class _Library:
    """In the C library's place: what was asked for, -1 for a drop."""

    def __init__(self, asked: list[int]) -> None:
        self.asked = asked

    def zl_memory_ready(self, n_bytes: int) -> int:
        self.asked.append(n_bytes)
        return 0

    def zl_memory_drop(self) -> None:
        self.asked.append(-1)


def test_a_child_of_a_process_that_had_asked_can_ask_too(tmp_path: Path) -> None:
    """The thread is not in the child; whoever takes or drops must not wait for it."""
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(256 * MB)
    script = f"""
import os
from zigllama.foundation.ready_memory import ReadyMemory
with ReadyMemory({str(path)!r}):
    child = os.fork()
    if not child:
        with ReadyMemory({str(path)!r}):
            pass
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""
    done = subprocess.run([sys.executable, "-c", script], timeout=120, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_model_needs_no_module_before_it_is_made() -> None:
    script = "import sys, zigllama as zl; zl.Model; assert 'numpy' not in sys.modules, 'NumPy came with the name'"
    done = subprocess.run([sys.executable, "-c", script], timeout=120, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
