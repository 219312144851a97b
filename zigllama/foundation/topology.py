"""What the machine looks like to this process: physical cores, SMT siblings, NUMA nodes, affinity, cgroup quota.

Read from /sys and /proc under a root that a test can replace, so that a tree of files presents any machine. Nothing is
decided here (see threading.py) and a file that is missing or malformed never raises: without sysfs every CPU is a core
of its own on one node.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple


class Topology(NamedTuple):
    """CPUs are numbered as the kernel does; only CPUs that are online and that this process may use are listed.

    cores   physical cores: each the SMT siblings among the allowed CPUs, ascending; ordered by their first CPU
    nodes   NUMA nodes: the allowed CPUs of each; nodes without any are left out
    online  CPUs of the machine, whether this process may use them or not
    quota   CPUs' worth of time that the control group grants, None without a limit
    numbers the system's number of each of `nodes`; () where they are unknown, and then they count from 0
    """

    cores: tuple[tuple[int, ...], ...]
    nodes: tuple[tuple[int, ...], ...]
    online: int
    quota: float | None
    numbers: tuple[int, ...] = ()

    @property
    def cpus(self) -> tuple[int, ...]:
        """The allowed CPUs, ascending."""
        return tuple(sorted(cpu for core in self.cores for cpu in core))

    def node_of(self, cpu: int) -> int:
        """Index into `nodes`; 0 where nothing is known."""
        return next((i for i, node in enumerate(self.nodes) if cpu in node), 0)

    def number_of(self, cpu: int) -> int:
        """The system's number of the CPU's node."""
        index = self.node_of(cpu)
        return self.numbers[index] if self.numbers else index


def parse_cpu_list(text: str) -> list[int]:
    """The kernel's list format: "0-3,8,10-11" -> [0, 1, 2, 3, 8, 10, 11]. Malformed or absurd parts are left out."""
    found: set[int] = set()
    for part in text.strip().split(","):
        match = re.fullmatch(r"\s*([0-9]{1,7})(?:-([0-9]{1,7}))?\s*", part)
        if match:
            first, last = int(match[1]), int(match[2] or match[1])
            if first <= last and last - first < 1 << 16:
                found.update(range(first, last + 1))
    return sorted(found)


def topology(root: Path | str = "/", affinity: Iterable[int] | None = None) -> Topology:
    """The machine under `root` (which holds `sys` and `proc`), for a process that may use the CPUs of `affinity`; by
    default what the kernel says of this one.
    """
    base = Path(root)
    devices = base / "sys/devices/system"
    allowed = set(affinity) if affinity is not None else _own_affinity()
    online = parse_cpu_list(_text(devices / "cpu/online")) or sorted(allowed)
    usable = [cpu for cpu in online if cpu in allowed] or sorted(allowed)
    cores: dict[tuple[int, ...], list[int]] = {}
    for cpu in usable:
        folder = devices / f"cpu/cpu{cpu}/topology"
        siblings = parse_cpu_list(_text(folder / "core_cpus_list") or _text(folder / "thread_siblings_list"))
        cores.setdefault(tuple(siblings) if cpu in siblings else (cpu,), []).append(cpu)
    nodes = _nodes(devices / "node", usable)
    return Topology(
        cores=tuple(tuple(core) for core in sorted(cores.values())),
        nodes=tuple(cpus for _, cpus in nodes),
        online=len(online),
        quota=cgroup_quota(base),
        numbers=tuple(number for number, _ in nodes),
    )


def _own_affinity() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def _nodes(folder: Path, usable: list[int]) -> list[tuple[int, tuple[int, ...]]]:
    """NUMA nodes with usable CPUs: number and CPUs, ascending. CPUs that no node names go to the first."""
    numbers = sorted(int(p.name[4:]) for p in _children(folder) if re.fullmatch(r"node[0-9]{1,6}", p.name))
    rest = set(usable)
    nodes: list[tuple[int, list[int]]] = []
    for number in numbers:
        here = [cpu for cpu in parse_cpu_list(_text(folder / f"node{number}/cpulist")) if cpu in rest]
        rest.difference_update(here)
        if here:
            nodes.append((number, here))
    if rest:
        number, here = nodes[0] if nodes else (0, [])
        nodes[:1] = [(number, sorted([*rest, *here]))]
    return [(number, tuple(cpus)) for number, cpus in nodes]


# --- control groups ---------------------------------------------------------------------------------------------------


def cgroup_quota(root: Path | str = "/") -> float | None:
    """CPUs' worth of time per second that the control group grants, None without a limit.

    A group is limited by its ancestors too, so the least of all counts. Version 2 writes `cpu.max` ("50000 100000" or
    "max 100000"), version 1 `cpu.cfs_quota_us` (-1: none) and `cpu.cfs_period_us`. Inside a container the path in
    /proc/self/cgroup may be the host's; then only the mount's own top is there to read.
    """
    base = Path(root)
    limits: list[float] = []
    for line in _text(base / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            tops = [base / "sys/fs/cgroup", base / "sys/fs/cgroup/unified"]
        elif "cpu" in controllers.split(","):
            tops = [base / "sys/fs/cgroup" / name for name in dict.fromkeys((controllers, "cpu,cpuacct", "cpu"))]
        else:
            continue
        parts = [p for p in path.split("/") if p and p != ".."]
        folders = [top.joinpath(*parts[:n]) for top in tops for n in range(len(parts) + 1)]
        limits += [limit for folder in folders if (limit := _limit(folder)) is not None]
    return min(limits, default=None)


def _limit(folder: Path) -> float | None:
    fields = _text(folder / "cpu.max").split()
    if not fields:
        fields = [_text(folder / "cpu.cfs_quota_us").strip(), _text(folder / "cpu.cfs_period_us").strip()]
    if len(fields) != 2 or not all(re.fullmatch(r"[0-9]{1,18}", f) for f in fields):
        return None  # "max", "-1", or no such file
    quota, period = (int(f) for f in fields)
    return quota / period if quota > 0 and period > 0 else None


# --- files ------------------------------------------------------------------------------------------------------------


def _text(path: Path) -> str:
    """The file's text, "" where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(1 << 16).decode("ascii", "replace")
    except (OSError, ValueError):
        return ""


def _children(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
