"""What /proc and /sys say about memory and the processor, for `doctor` and `estimate`. Threads are
foundation/threading.py's business.

Every function takes the root of the tree, so that a test can present another machine, and returns None where a file is
missing or says nothing: these are facts to show, nothing is decided by them.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

ROOT = Path("/")


def _text(root: Path, path: str) -> str | None:
    try:
        return (root / path).read_text("utf-8", "replace")
    except OSError:
        return None


def _meminfo(root: Path, key: str) -> int | None:
    """Bytes of a line of /proc/meminfo, which counts in kB of 1,024."""
    found = re.search(rf"^{key}:\s*(\d+) kB", _text(root, "proc/meminfo") or "", re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def total_memory(root: Path = ROOT) -> int | None:
    """Bytes of physical memory."""
    return _meminfo(root, "MemTotal")


def available_memory(root: Path = ROOT) -> int | None:
    """Bytes that a new process can have: what the kernel calls available, or less where a control group limits us."""
    left = [max(limit - used, 0) for limit, used in _memory_groups(root)]
    here = _meminfo(root, "MemAvailable")
    return min(left if here is None else [here, *left], default=None)


def memory_limit(root: Path = ROOT) -> int | None:
    """Bytes that the control group and the groups around it allow, None without a limit."""
    return min((limit for limit, _ in _memory_groups(root)), default=None)


def _memory_groups(root: Path) -> list[tuple[int, int]]:
    """(limit, used) of each control group above this process that has a limit, in version 2 and version 1.

    Inside a container the path in /proc/self/cgroup may be the host's; then only the mount's own top is there to read.
    """
    total = _meminfo(root, "MemTotal")
    found = []
    paths = {line.split(":", 2)[-1] for line in (_text(root, "proc/self/cgroup") or "").splitlines()} | {"/"}
    folders = {parent for path in paths for parent in [PurePosixPath(path), *PurePosixPath(path).parents]}
    for mount, limit_file, used_file in (
        ("sys/fs/cgroup", "memory.max", "memory.current"),
        ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        for folder in folders:
            base = f"{mount}{folder}"
            limit, used = ((_text(root, f"{base}/{name}") or "").strip() for name in (limit_file, used_file))
            if limit.isdigit() and (total is None or int(limit) < total):  # version 1 writes a huge number for "none"
                found.append((int(limit), int(used) if used.isdigit() else 0))
    return found


def huge_pages(root: Path = ROOT) -> str | None:
    """The kernel's policy for transparent huge pages: "always", "madvise" or "never"."""
    found = re.search(r"\[(\w+)\]", _text(root, "sys/kernel/mm/transparent_hugepage/enabled") or "")
    return found[1] if found else None


def cpu_name(root: Path = ROOT) -> str | None:
    """The processor's name as its maker writes it; ARM kernels give none."""
    found = re.search(r"^model name\s*:\s*(.+)$", _text(root, "proc/cpuinfo") or "", re.MULTILINE)
    return found[1].strip() if found else None
