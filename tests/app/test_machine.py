"""Facts about the machine, read from small trees that stand for other machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from zigllama.app import machine

MEMINFO = "MemTotal:       16384000 kB\nMemFree:          100000 kB\nMemAvailable:    8192000 kB\n"
CPUINFO = "processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\nflags\t\t: fpu\n"


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_a_plain_machine(tmp_path: Path) -> None:
    huge = "always [madvise] never\n"
    root = tree(
        tmp_path, {"proc/meminfo": MEMINFO, "proc/cpuinfo": CPUINFO, "sys/kernel/mm/transparent_hugepage/enabled": huge}
    )
    assert machine.total_memory(root) == 16_384_000 * 1024
    assert machine.available_memory(root) == 8_192_000 * 1024
    assert machine.memory_limit(root) is None
    assert machine.huge_pages(root) == "madvise"
    assert machine.cpu_name(root) == "Some CPU @ 3 GHz"


@pytest.mark.parametrize(
    ("limit_file", "used_file"),
    [
        ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory.current"),
        ("sys/fs/cgroup/memory/memory.limit_in_bytes", "sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ],
)
def test_a_control_group_limits(tmp_path: Path, limit_file: str, used_file: str) -> None:
    root = tree(tmp_path, {"proc/meminfo": MEMINFO, limit_file: "1000000000\n", used_file: "400000000\n"})
    assert machine.memory_limit(root) == 1_000_000_000
    assert machine.available_memory(root) == 600_000_000
    (root / used_file).write_text("1100000000\n")
    assert machine.available_memory(root) == 0


@pytest.mark.parametrize("none", ["max\n", "9223372036854771712\n"])
def test_no_limit_is_written_in_two_ways(tmp_path: Path, none: str) -> None:
    root = tree(tmp_path, {"proc/meminfo": MEMINFO, "sys/fs/cgroup/memory.max": none})
    assert machine.memory_limit(root) is None


def test_the_narrowest_group_counts(tmp_path: Path) -> None:
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "0::/user.slice/job\n",
        "sys/fs/cgroup/user.slice/memory.max": "3000000000\n",
        "sys/fs/cgroup/user.slice/memory.current": "2900000000\n",
        "sys/fs/cgroup/user.slice/job/memory.max": "2000000000\n",
        "sys/fs/cgroup/user.slice/job/memory.current": "500000000\n",
    }
    root = tree(tmp_path, files)
    assert machine.memory_limit(root) == 2_000_000_000
    assert machine.available_memory(root) == 100_000_000


def test_a_machine_that_says_nothing(tmp_path: Path) -> None:
    facts = (machine.total_memory, machine.available_memory, machine.memory_limit, machine.huge_pages, machine.cpu_name)
    assert [fact(tmp_path) for fact in facts] == [None] * 5


def test_this_machine() -> None:
    available, total = machine.available_memory(), machine.total_memory()
    assert available is not None
    assert total is not None
    assert 0 < available <= total
