"""How many threads, on which CPUs, and the pool that has them.

The number is the least of what is there (physical cores), what is allowed (the affinity mask) and what is paid for (the
control group's quota): more threads than any of them makes parallel stages wait for a thread that is not running. Where
the number comes from is always said, for `doctor` and for error messages.

The loops that these threads run are in C (ckernels/core/threadpool.c): shares, claiming, stealing. What this module is
not: a way to run Python in parallel.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from zigllama.errors import InvalidArgument

from .topology import Topology, topology

if TYPE_CHECKING:
    from .native_context import NativeContext

MAX_THREADS: Final = 512  # ZL_MAX_THREADS in ckernels/core/ctx.h


class ThreadChoice(NamedTuple):
    """A number of threads and where it comes from, in words."""

    n_threads: int
    reason: str


def default_threads(machine: Topology | None = None, env: Mapping[str, str] | None = None) -> ThreadChoice:
    """The number of threads when nobody asks for one: ZIGLLAMA_THREADS, else min(physical cores, affinity, quota).

    Raises InvalidArgument when ZIGLLAMA_THREADS is no number from 1 to 512.
    """
    asked = (os.environ if env is None else env).get("ZIGLLAMA_THREADS", "").strip()
    if asked and asked != "auto":
        if not asked.isascii() or not asked.isdigit() or not 1 <= int(asked) <= MAX_THREADS:
            raise InvalidArgument(f"ZIGLLAMA_THREADS is {asked!r}, expected a number from 1 to {MAX_THREADS}")
        return ThreadChoice(int(asked), f"ZIGLLAMA_THREADS={int(asked)}")
    m = machine or topology()
    n_cores, n_cpus = len(m.cores), len(m.cpus)
    allowed = f"{n_cpus} of {m.online} CPUs allowed" if n_cpus < m.online else f"{n_cpus} CPUs"
    reason = f"{_count(n_cores, 'physical core')} ({allowed})"
    n = max(n_cores, 1)
    if m.quota is not None:
        whole = max(int(m.quota), 1)
        reason += f", control group quota of {m.quota:g} CPUs"
        n = min(n, whole)
    else:
        reason += ", no control group quota"
    return ThreadChoice(min(n, MAX_THREADS), reason)


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def placement(machine: Topology, n_threads: int) -> tuple[int, ...]:
    """A CPU for each thread: every core gets one before any gets a second, nodes share evenly, and the threads of a
    node are neighbours (so that neighbouring shares of a matrix lie in one node's memory).

    More threads than CPUs start over. Raises InvalidArgument for n_threads < 1 or a machine without CPUs.
    """
    if n_threads < 1 or not machine.cpus:
        raise InvalidArgument(f"no placement for {n_threads} threads on {len(machine.cpus)} CPUs")
    # Per node: the first CPU of each core, then the second ones, ...
    order: list[list[int]] = [[] for _ in machine.nodes]
    for depth in range(max(len(core) for core in machine.cores)):
        for core in machine.cores:
            if depth < len(core):
                order[machine.node_of(core[depth])].append(core[depth])
    # Deal threads to nodes one by one, always to the node with the smallest share of its cores taken.
    first = [len({core for core in machine.cores if core[0] in node}) for node in machine.nodes]
    taken = [0] * len(order)
    for _ in range(n_threads):
        node = min(range(len(order)), key=lambda i: (taken[i] / max(first[i], 1), i))
        taken[node] += 1
    return tuple(cpus[i % len(cpus)] for cpus, n in zip(order, taken, strict=True) for i in range(n))


def placed_context(
    n_threads: int | None = None, isa: str | None = None, machine: Topology | None = None
) -> NativeContext:
    """A context of so many threads (None: `default_threads`); threads and weights keep to their NUMA nodes: workers
    are pinned as `placement` says, and weights are laid out for where threads run (ckernels/core/numa.c). On one node
    it is a plain context: nothing is pinned.

    The first thread is whoever calls, and is not pinned: it is taken to run on the node of its place. Raises what
    NativeContext raises.
    """
    from .native_context import NativeContext
    from .native_numa import set_nodes

    m = machine or topology()
    n_threads = default_threads().n_threads if n_threads is None else n_threads
    if len(m.nodes) < 2 or n_threads < 2:
        return NativeContext(n_threads, isa)
    cpus = placement(m, n_threads)
    context = NativeContext(n_threads, isa, cpus)
    set_nodes(context, [m.number_of(cpu) for cpu in cpus])
    return context


@dataclass(frozen=True)
class ThreadPoolConfig:
    """How a pool is made.

    n_threads   None: `default_threads`
    isa         ISA variant; None: ZIGLLAMA_ISA, else the best that the CPU runs
    affinity    None: threads go where the system puts them. "auto": one CPU per thread as `placement` says. Or a CPU
                number per thread.
    """

    n_threads: int | None = None
    isa: str | None = None
    affinity: str | Sequence[int] | None = None


class ThreadPool:
    """The threads that native code runs on, with where they came from: `n_threads`, `reason`, `cpus`, `isa`.

    >>> with ThreadPool(ThreadPoolConfig(n_threads=2)) as pool:
    ...     pool.context.counters()

    The first thread is the caller's own: it works too, and is not pinned unless `pin_caller` is called in it. Raises
    InvalidArgument, UnknownName, ISAUnavailable or NativeError as NativeContext does.
    """

    def __init__(self, config: ThreadPoolConfig | None = None, machine: Topology | None = None) -> None:
        from .native_context import NativeContext  # here, so that topology and placement work in an unbuilt checkout

        config = config or ThreadPoolConfig()
        asked = config.n_threads
        choice = default_threads(machine) if asked is None else ThreadChoice(asked, "as asked")
        self.config, self.n_threads, self.reason = config, choice.n_threads, choice.reason
        self.cpus = self._cpus(config.affinity, machine)
        self.context = NativeContext(self.n_threads, config.isa, self.cpus)
        self.isa = self.context.isa

    def _cpus(self, affinity: str | Sequence[int] | None, machine: Topology | None) -> tuple[int, ...] | None:
        if affinity is None:
            return None
        if affinity == "auto":
            return placement(machine or topology(), self.n_threads)
        if isinstance(affinity, str):
            raise InvalidArgument(f"affinity {affinity!r}: expected None, 'auto' or a CPU number per thread")
        if len(affinity) != self.n_threads:
            raise InvalidArgument(f"affinity has {len(affinity)} CPU numbers for {self.n_threads} threads")
        return tuple(affinity)

    def set_affinity(self, affinity: str | Sequence[int]) -> None:
        """Move the workers: "auto", or a CPU number per thread (the first, the caller's, is only remembered)."""
        cpus = self._cpus(affinity, None)
        assert cpus is not None
        for thread in range(1, self.n_threads):
            self.context.pin(thread, cpus[thread])
        self.cpus = cpus

    def pin_caller(self) -> None:
        """Pin the calling thread to the CPU that thread 0 has. Raises InvalidArgument when the pool has no CPUs."""
        if self.cpus is None:
            raise InvalidArgument("the pool has no affinity to pin the caller to")
        os.sched_setaffinity(0, {self.cpus[0]})

    def close(self) -> None:
        """End the threads; see NativeContext.close."""
        self.context.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<ThreadPool of {_count(self.n_threads, 'thread')} ({self.reason}), {self.isa}>"
