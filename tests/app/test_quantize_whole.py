"""A quantised file is whole or not there: killed anywhere, on a full disk, with any call of the writer failing."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import random_weights

import zigllama as zl
from zigllama import gguf
from zigllama.app.main import main
from zigllama.errors import NoSpace
from zigllama.foundation import replacement


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of a few matrices."""
    rng = random_weights.Stream("whole")
    tensors = {f"blk.{i}.ffn_up.weight": rng.uniform(-1, 1, 64, 256).astype(np.float32) for i in range(4)}
    path = tmp_path_factory.mktemp("whole") / "m.gguf"
    gguf.write(path, {"general.architecture": "llama"}, tensors)
    return path


@pytest.fixture(scope="module")
def expected(source: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("expected") / "q.gguf"
    zl.quantize(source, path, "Q8_0")
    return path.read_bytes()


# --- killed -----------------------------------------------------------------------------------------------------------

# Counts the calls and returns of all functions, Python's and C's; at a number drawn for it a child kills itself, as
# `kill -9` would. One child per number; modules are imported before, so that a child is quick.
KILLER = """
import os, random, signal, sys
from zigllama.app.quantize import quantize
source, folder, n_kills = sys.argv[1], sys.argv[2], int(sys.argv[3])
target = os.path.join(folder, "q.gguf")

def run(limit):
    seen = 0
    def count(frame, event, argument):
        nonlocal seen
        seen += 1
        if seen == limit:
            os.kill(os.getpid(), signal.SIGKILL)
    sys.setprofile(count)
    quantize(source, target, "Q8_0", n_threads=1)
    sys.setprofile(None)
    return seen

def child(limit):
    pid = os.fork()
    if pid == 0:
        try:
            seen = run(limit)
        except BaseException as e:
            print("child:", repr(e), flush=True)
            os._exit(3)
        if limit < 0:
            print(seen, flush=True)
        os._exit(0)
    return os.waitpid(pid, 0)[1]

read, write = os.pipe()
if (pid := os.fork()) == 0:
    os.write(write, str(run(-1)).encode())
    os._exit(0)
os.waitpid(pid, 0)
total = int(os.read(read, 100))
whole = open(target, "rb").read()
os.unlink(target)
random.seed(1)
last = n_kills // 5
points = sorted(random.sample(range(1, total), n_kills - last)) + list(range(total - last + 1, total + 1))
found = {"none": 0, "whole": 0}
for point in points:
    status = child(point)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (point, total, status)
    if os.path.exists(target):
        assert open(target, "rb").read() == whole, point
        found["whole"] += 1
    else:
        found["none"] += 1
    for name in os.listdir(folder):
        assert name == "q.gguf" or (name.startswith(".q.gguf.") and name.endswith(".tmp")), name
        os.unlink(os.path.join(folder, name))
print(len(points), found["none"], found["whole"], len(whole))
"""


def test_a_kill_leaves_nothing_or_all(source: Path, expected: bytes, tmp_path: Path) -> None:
    """At 200 points: 40 at the very end, the others at random."""
    n_kills = 200
    words = [sys.executable, "-P", "-c", KILLER, str(source), str(tmp_path), str(n_kills)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    points, none, whole, size = map(int, done.stdout.split())
    assert points == n_kills == none + whole
    assert none > n_kills // 2
    assert whole > 0
    assert size == len(expected)


# --- no room ----------------------------------------------------------------------------------------------------------


@contextmanager
def largest_file(n: int) -> Iterator[None]:
    """No file of this process may be longer than n bytes meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_limit_of_the_file_size_leaves_nothing(
    source: Path, expected: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replacement, "BUFFER", 2)  # each piece is a write of its own
    target = tmp_path / "q.gguf"
    for limit in [*range(0, len(expected), len(expected) // 40), len(expected) - 1]:
        with largest_file(limit):
            code = main(["quantize", str(source), str(target), "Q8_0", "-q"])
        out, err = capsys.readouterr()
        assert (code, out) == (4, ""), limit
        assert "File too large; nothing half is left" in err
        assert err.count("\n") == 1
        assert os.listdir(tmp_path) == []
    with largest_file(len(expected)):
        assert main(["quantize", str(source), str(target), "Q8_0", "-q"]) == 0
    assert target.read_bytes() == expected


class Failing:
    """Calls counted over everything that is given to it; the n-th fails as a full disk does."""

    def __init__(self, fail_at: int) -> None:
        self.fail_at, self.calls = fail_at, 0

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*words: Any, **options: Any) -> Any:
            self.calls += 1
            if self.calls == self.fail_at:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return function(*words, **options)

        return counted


class CountedFile:
    """A file whose writing calls are counted."""

    def __init__(self, file: Any, failing: Failing) -> None:
        self.file = file
        self.write, self.writelines, self.flush = map(failing, (file.write, file.writelines, file.flush))

    def __enter__(self) -> CountedFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self.file.close()


@pytest.mark.parametrize("old", [None, b"old"])
def test_each_failing_call_leaves_what_was_there(
    source: Path, expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bytes | None
) -> None:
    target = tmp_path / "q.gguf"
    real_open, real_os = open, os
    n, outcomes, needs = 0, list[str](), list[int]()
    while True:
        n += 1
        failing = Failing(n)
        if old is not None:
            target.write_bytes(old)

        class Os:
            """The functions of `os` that a replacement uses, those that touch the disk counted."""

            def __getattr__(self, name: str) -> Any:
                found = getattr(real_os, name)
                return failing(found) if name in ("open", "fsync", "replace") else found  # noqa: B023

        def counted_open(fd: int, mode: str, buffering: int) -> CountedFile:
            return CountedFile(real_open(fd, mode, buffering), failing)  # noqa: B023

        with monkeypatch.context() as patch:
            patch.setattr(replacement, "open", counted_open, raising=False)
            patch.setattr(replacement, "os", Os())
            try:
                zl.quantize(source, target, "Q8_0", force=True)
                assert failing.calls < n
                break
            except NoSpace as e:
                needs.append(e.need)
        if target.exists() and target.read_bytes() == expected:  # only the folder could not be flushed
            outcomes.append("whole")
            target.unlink()
        else:
            outcomes.append("none")
            assert (target.read_bytes() if target.exists() else None) == old
        assert os.listdir(tmp_path) == ([] if old is None or outcomes[-1] == "whole" else ["q.gguf"])
    assert target.read_bytes() == expected
    assert outcomes.count("none") > 10 and min(needs) > 0
    assert outcomes[-2:] == ["whole", "whole"] and outcomes.count("whole") == 2  # opening and flushing the folder


def test_other_errors_are_not_called_no_room(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*words: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="Input/output error") as caught:
        zl.quantize(source, tmp_path / "q.gguf", "Q8_0")
    assert not isinstance(caught.value, NoSpace)
    assert os.listdir(tmp_path) == []
