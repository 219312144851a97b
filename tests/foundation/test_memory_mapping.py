"""`MemoryMap` and `FileSource`: protection, pages that come and go, files that are none or change."""

from __future__ import annotations

import gc
import mmap
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from zigllama.errors import ClosedError, InvalidArgument, MappingFault, NotGGUF, OutOfMemory
from zigllama.foundation.byte_source import FileSource, is_open_input
from zigllama.foundation.memory_mapping import MemoryMap

PAGE = mmap.PAGESIZE
CONTENT = np.random.default_rng(1).integers(0, 256, 100 * PAGE + 123, dtype=np.uint8).tobytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    p = tmp_path / "file"
    p.write_bytes(CONTENT)
    return p


def smaps(path: Path) -> dict[str, int]:
    """What the kernel says of this process's mappings of a file, in bytes, summed: Size, Rss, Locked, ..."""
    found: dict[str, int] = {}
    ours = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        words = line.split()
        if "-" in words[0] and not words[0].endswith(":"):
            ours = words[-1] == str(path)
        elif ours and words[-1] == "kB":
            found[words[0][:-1]] = found.get(words[0][:-1], 0) + int(words[1]) * 1024
    return found


def unprivileged(code: str) -> str:
    """Run code in a process that has given up every capability, so that root too is bound by modes and limits."""
    head = """
import ctypes, resource
from zigllama.errors import OutOfMemory
from zigllama.foundation.memory_mapping import MemoryMap
header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
assert ctypes.CDLL(None).capset(header, (ctypes.c_uint32 * 6)()) == 0
"""
    done = subprocess.run([sys.executable, "-P", "-c", head + code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- protection -------------------------------------------------------------------------------------------------------


def test_read_only(path: Path) -> None:
    with MemoryMap(path) as m:
        assert m.view.dtype == np.uint8
        assert m.view.tobytes() == CONTENT
        assert len(m) == m.size == len(CONTENT)
        assert m.view.ctypes.data % PAGE == 0
        assert not m.view.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            m.view[0] = 1
        with pytest.raises(InvalidArgument, match="nothing to flush"):
            m.flush()


def test_copy_on_write_never_reaches_the_file(path: Path) -> None:
    with MemoryMap(path, "copy_on_write") as m, MemoryMap(path) as other:
        m.view[:10] = 7
        assert m.view[:10].tolist() == [7] * 10
        assert other.view.tobytes() == CONTENT
        with pytest.raises(InvalidArgument, match="copy-on-write"):
            m.release()
    assert path.read_bytes() == CONTENT


def test_read_write_reaches_the_file(path: Path) -> None:
    with MemoryMap(path, "read_write") as m:
        m.view[5] = CONTENT[5] ^ 0xFF
        m.flush()
        assert path.read_bytes() == CONTENT[:5] + bytes([CONTENT[5] ^ 0xFF]) + CONTENT[6:]


def test_read_write_needs_the_permission(path: Path) -> None:
    path.chmod(0o400)
    said = unprivileged(f"""
try:
    MemoryMap({str(path)!r}, "read_write")
except PermissionError:
    print("refused")
with MemoryMap({str(path)!r}, "copy_on_write") as m:
    m.view[0] = 1
    print("changed")
""")
    assert said.split() == ["refused", "changed"]
    assert path.read_bytes() == CONTENT


def test_unknown_names(path: Path) -> None:
    with pytest.raises(InvalidArgument, match="'rw' is none of read, copy_on_write, read_write"):
        MemoryMap(path, "rw")  # type: ignore[arg-type]
    with MemoryMap(path) as m, pytest.raises(InvalidArgument, match="'soon' is none of normal"):
        m.advise("soon")  # type: ignore[arg-type]


# --- pages ------------------------------------------------------------------------------------------------------------


def test_released_pages_leave_memory_and_come_back(path: Path) -> None:
    with MemoryMap(path) as m:
        _ = m.view.sum()
        full = smaps(path)["Rss"]
        assert full >= len(CONTENT)
        assert m.release(10 * PAGE + 5, 50 * PAGE)
        assert smaps(path)["Rss"] <= full - 50 * PAGE
        assert m.view.tobytes() == CONTENT
        assert smaps(path)["Rss"] == full
        assert m.release()
        assert smaps(path)["Rss"] == 0
        assert m.view.tobytes() == CONTENT


def test_release_keeps_what_was_written(path: Path) -> None:
    with MemoryMap(path, "read_write") as m:
        m.view[PAGE] = 1
        m.release()
        assert m.view[PAGE] == 1


def test_advice(path: Path) -> None:
    with MemoryMap(path) as m:
        for advice in ("sequential", "random", "willneed", "normal"):
            assert m.advise(advice)
        assert m.advise("willneed", 3, 2 * PAGE)
        assert not m.advise("willneed", 3, 0)  # no page to advise
        assert m.view.tobytes() == CONTENT


def vm_flags(path: Path) -> set[str]:
    """The kernel's flags of this process's mapping of a file; "hg" is huge-page advice taken."""
    mapping = Path("/proc/self/smaps").read_text().split(f"{path}\n")[1]
    return set(mapping.split("VmFlags:")[1].split("\n")[0].split())


def test_huge_pages_are_asked_for_and_reported(path: Path) -> None:
    with MemoryMap(path, huge_pages=True) as m:
        assert m.huge_pages == ("hg" in vm_flags(path))
        assert m.view.tobytes() == CONTENT
    with MemoryMap(path) as m:
        assert not m.huge_pages
        assert "hg" not in vm_flags(path)


def test_locked_pages(path: Path) -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if soft != resource.RLIM_INFINITY and soft < len(CONTENT) + PAGE:
        with pytest.raises(OutOfMemory, match="locking"):
            MemoryMap(path, lock=True)
        return
    with MemoryMap(path, lock=True) as m:
        assert smaps(path)["Locked"] >= len(CONTENT)
        m.unlock()
        assert smaps(path)["Locked"] == 0
        m.lock(PAGE, 3 * PAGE)
        assert smaps(path)["Locked"] == 3 * PAGE
        m.unlock()
        assert m.view.tobytes() == CONTENT


def test_a_limit_on_locked_memory_is_an_error_that_says_so(path: Path) -> None:
    said = unprivileged(f"""
resource.setrlimit(resource.RLIMIT_MEMLOCK, ({PAGE}, {PAGE}))
try:
    MemoryMap({str(path)!r}, lock=True)
except OutOfMemory as e:
    print(e.need, e)
""")
    assert said.startswith(f"{len(CONTENT)} out of memory: locking")


@pytest.mark.parametrize(
    ("offset", "n"),
    [(-1, 1), (0, -1), (0, len(CONTENT) + 1), (len(CONTENT) + 1, 0), (len(CONTENT), 1), (1 << 64, None)],
)
def test_ranges_outside_the_file(path: Path, offset: int, n: int | None) -> None:
    with MemoryMap(path) as m:
        for method in (m.release, m.lock, m.unlock, lambda o, k: m.advise("normal", o, k)):
            with pytest.raises(InvalidArgument, match="outside"):
                method(offset, n)


# --- lifetime ---------------------------------------------------------------------------------------------------------


def test_arrays_outlive_the_mapping(path: Path) -> None:
    m = MemoryMap(path)
    part = m.view[PAGE : 2 * PAGE]
    m.close()
    m.close()
    assert part.tobytes() == CONTENT[PAGE : 2 * PAGE]
    assert smaps(path)["Size"] > 0
    for use in (lambda: m.view, m.check_size, m.release, m.lock, m.flush):
        with pytest.raises(ClosedError):
            use()
    del part
    gc.collect()
    assert smaps(path) == {}  # the last array took the mapping with it


def test_close_unmaps_and_leaves_no_descriptor(path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with MemoryMap(path) as m:
            _ = m.view[0]
    assert smaps(path) == {}
    MemoryMap(path)  # dropped without close
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before
    assert smaps(path) == {}


def test_a_source_lends_its_file(path: Path) -> None:
    with FileSource(path) as source:
        m = MemoryMap(source)
    assert m.view.tobytes() == CONTENT  # the source is closed, the mapping has a descriptor of its own
    m.check_size()
    m.close()
    with pytest.raises(ClosedError):
        MemoryMap(source)


# --- files that are none, or change -----------------------------------------------------------------------------------


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for protection in ("read", "copy_on_write", "read_write"):
        with MemoryMap(tmp_path / "empty", protection, huge_pages=True, lock=True) as m:
            assert m.view.shape == (0,)
            assert not m.huge_pages
            assert not m.advise("normal")
            m.check_size()


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    start = time.perf_counter()
    for protection in ("read", "read_write"):
        for p, kind in (
            (tmp_path, "folder|regular file"),
            (tmp_path / "fifo", "fifo"),
            ("/dev/zero", "character device"),
        ):
            with pytest.raises(NotGGUF, match=kind):
                MemoryMap(p, protection)
        with pytest.raises(FileNotFoundError):
            MemoryMap(tmp_path / "nothing", protection)
    assert time.perf_counter() - start < 30.0  # none of them waits for a writer


def test_a_file_that_shrinks_is_noticed(path: Path) -> None:
    with MemoryMap(path) as m:
        m.check_size()
        os.truncate(path, len(CONTENT) + 1)
        m.check_size()
        os.truncate(path, PAGE)
        with pytest.raises(MappingFault, match=f"from {len(CONTENT)} bytes to {PAGE}"):
            m.check_size()
        assert m.view[:PAGE].tobytes() == CONTENT[:PAGE]  # what is left may still be read


def test_a_source_reads_what_is_there(path: Path) -> None:
    with FileSource(path) as source:
        assert source.size == len(CONTENT)
        assert source.read_at(10, 20) == CONTENT[10:30]
        assert source.read_at(0, 1 << 62) == CONTENT
        assert source.read_at(len(CONTENT) - 3, 10) == CONTENT[-3:]
        assert source.read_at(len(CONTENT), 10) == b""
        assert source.read_at(1 << 62, 10) == b""
        assert source.read_at(0, 0) == b""
        os.truncate(path, 50)
        assert source.read_at(40, 20) == CONTENT[40:50]
        assert source.size_now() == 50
    with pytest.raises(ClosedError):
        source.read_at(0, 1)


def test_open_inputs_are_known_by_their_file_not_their_name(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(path)
    assert not is_open_input(path)
    with FileSource(path), FileSource(link):
        assert is_open_input(link)
        assert is_open_input(path)
    assert not is_open_input(path)
    assert not is_open_input(tmp_path / "nothing")
    sources = [FileSource(path) for _ in range(20)]
    threads = [threading.Thread(target=s.close) for s in sources]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not is_open_input(path)
