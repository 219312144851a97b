"""What /proc and /sys say about memory and the processor, for `doctor` and `estimate`. Threads are
foundation/threading.py's business.

Every function takes the root of the tree, so that a test can present another machine, and returns None where a file is
missing or says nothing: these are facts to show, nothing is decided by them.
"""

from __future__ import annotations

import re
from pathlib import Path

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
    here = _meminfo(root, "MemAvailable")
    limit = memory_limit(root)
    if limit is None:
        return here
    used = (
        _text(root, "sys/fs/cgroup/memory.current") or _text(root, "sys/fs/cgroup/memory/memory.usage_in_bytes") or "0"
    )
    left = max(limit - int(used), 0)
    return left if here is None else min(here, left)


def memory_limit(root: Path = ROOT) -> int | None:
    """Bytes that the control group allows (version 2 or 1), None without a limit."""
    text = _text(root, "sys/fs/cgroup/memory.max") or _text(root, "sys/fs/cgroup/memory/memory.limit_in_bytes") or "max"
    total = total_memory(root)
    # version 1 writes a huge number for "none"
    if not text.strip().isdigit() or (total is not None and int(text) >= total):
        return None
    return int(text)


def huge_pages(root: Path = ROOT) -> str | None:
    """The kernel's policy for transparent huge pages: "always", "madvise" or "never"."""
    found = re.search(r"\[(\w+)\]", _text(root, "sys/kernel/mm/transparent_hugepage/enabled") or "")
    return found[1] if found else None


def cpu_name(root: Path = ROOT) -> str | None:
    """The processor's name as its maker writes it; ARM kernels give none."""
    found = re.search(r"^model name\s*:\s*(.+)$", _text(root, "proc/cpuinfo") or "", re.MULTILINE)
    return found[1].strip() if found else None
