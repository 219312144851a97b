"""What zigllama found on this machine and what it chose, with the reasons: the facts behind `zigllama doctor`.

A choice that cannot be made (a variable that names what does not exist) is a finding, not an exception: a doctor looks
at the patient as he comes.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, Any

from zigllama import __version__
from zigllama.app import machine
from zigllama.app.catalogue import CATALOGUE, cache_dir
from zigllama.app.console import size, table
from zigllama.errors import ZigllamaError

if TYPE_CHECKING:
    from zigllama.foundation.topology import Topology

VARIABLES = ("ZIGLLAMA_BACKEND", "ZIGLLAMA_ISA", "ZIGLLAMA_BLAS", "ZIGLLAMA_THREADS", "ZIGLLAMA_TAPE", "ZIGLLAMA_CACHE")


@dataclass
class Report:
    """Facts by section, as (name, value to show, value for JSON), and what is wrong."""

    facts: dict[str, list[tuple[str, str, Any]]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def add(self, section: str, name: str, shown: str, value: Any = ...) -> None:
        """A fact; `value` is for JSON, the shown text where it is left out."""
        self.facts.setdefault(section, []).append((name, shown, shown if value is ... else value))

    def to_json(self) -> dict[str, Any]:
        """Plain values, for json.dumps."""
        sections = {section: {name: value for name, _, value in facts} for section, facts in self.facts.items()}
        return {**sections, "problems": self.problems}

    def __str__(self) -> str:
        rows = [
            (section if i == 0 else "", name, shown)
            for section, facts in self.facts.items()
            for i, (name, shown, _) in enumerate(facts)
        ]
        lines = [table(rows)]
        lines += [f"problem: {p}" for p in self.problems] or ["no problems found"]
        return "\n".join(lines)


def examine() -> Report:
    """Look at everything. Takes some milliseconds; starts no thread but the caller's, loads no model."""
    report = Report()
    _versions(report)
    _processor(report)
    _blas(report)
    _threads(report)
    _memory(report)
    _cache(report)
    for name in VARIABLES:
        if name in os.environ:
            report.add("environment", name, os.environ[name])
    return report


def _versions(report: Report) -> None:
    report.add("version", "zigllama", __version__)
    report.add("version", "python", f"{platform.python_version()} ({platform.python_implementation()})")
    for package in ("numpy", "cffi", "jinja2"):
        report.add("version", package, metadata.version(package))
    report.add("version", "system", f"{platform.system()} {platform.release()}, {platform.machine()}")


def _processor(report: Report) -> None:
    """ISA variants: which are built, which this CPU runs, which is taken and why."""
    report.add("processor", "name", machine.cpu_name() or platform.processor() or "unknown")
    try:
        from zigllama.foundation.native import isa_variants
        from zigllama.foundation.native_context import NativeContext, kernel_variants
    except ImportError as error:
        report.problems.append(str(error))
        return
    for name, usable in isa_variants():
        report.add("processor", f"variant {name}", "usable" if usable else "built, not usable on this CPU", usable)
    try:
        with NativeContext(1) as context:
            asked = os.environ.get("ZIGLLAMA_ISA") or "auto"
            why = "the best of the usable" if asked == "auto" else f"ZIGLLAMA_ISA={asked}"
            bodies = kernel_variants(context)
            report.add("processor", "chosen", f"{context.isa}: {why}", {"isa": context.isa, "reason": why})
    except ZigllamaError as error:
        report.problems.append(str(error))
        return
    lower = {name: isa for name, isa in bodies.items() if isa != context.isa}
    shown = (
        f"{len(bodies)}, all in {context.isa}"
        if not lower
        else f"{len(bodies)}, of these not in {context.isa}: {lower}"
    )
    report.add("processor", "kernels", shown, bodies)


def _blas(report: Report) -> None:
    """BLAS libraries: the linked one, those that were found (and not loaded), and which is taken and why."""
    try:
        from zigllama.foundation.blas_integration import BlasInterface
    except ImportError:
        return  # without the C library, which was reported already
    linked = BlasInterface.linked()
    report.add("blas", "linked", linked or "none: built with blas=none", linked)
    for name, found in BlasInterface.detect().items():
        more = f" (and {len(found) - 1} more)" if found[1:] else ""
        report.add("blas", name, f"{found[0].path}{more}" if found else "not found", [f.path for f in found])
    try:
        chosen = BlasInterface()
    except ZigllamaError as error:
        report.problems.append(str(error))
        return
    report.add("blas", "chosen", f"{chosen.name}: {chosen.config.reason}", chosen.facts())
    if chosen.is_library:
        report.add("blas", "library", f"{chosen.file}, {chosen.symbol}, integers of {chosen.int_bits} bits")
        report.add("blas", "its version", chosen.version or "it does not say")
        held = f"1 while ours run, by {' and '.join(chosen.held)}"
        report.add("blas", "its threads", held if chosen.held else "as it has them, it has no function to set them")


def _threads(report: Report) -> None:
    """How many threads, and why; where they may run."""
    from zigllama.foundation.threading import default_threads
    from zigllama.foundation.topology import topology

    here = topology()
    report.add(
        "threads",
        "cores",
        f"{len(here.cores)} physical, {len(here.cpus)} of {here.online} CPUs allowed",
        len(here.cores),
    )
    _nodes(report, here)
    report.add("threads", "quota", "none" if here.quota is None else f"{here.quota:g} CPUs", here.quota)
    try:
        choice = default_threads(here)
    except ZigllamaError as error:
        report.problems.append(str(error))
    else:
        value = {"n_threads": choice.n_threads, "reason": choice.reason}
        report.add("threads", "chosen", f"{choice.n_threads}: {choice.reason}", value)


def _nodes(report: Report, here: Topology) -> None:
    """Which CPUs are on which NUMA node; with several, whether the system lets memory be bound to them: a weight is
    laid out for them, and what came of it is told. A container may refuse."""
    from zigllama.foundation.threading import default_threads, placed_context

    names = [f"node {here.number_of(cpus[0])}: CPUs {cpu_ranges(cpus)}" for cpus in here.nodes]
    shown = [str(len(here.nodes)), *(names if names[1:] else [])]
    report.add("threads", "NUMA nodes", "; ".join(shown), len(here.nodes))
    if len(here.nodes) < 2:
        return
    try:
        from zigllama.foundation.native_context import alloc_array
        from zigllama.foundation.native_weights import NativeWeight

        with placed_context(max(default_threads(here).n_threads, 2), machine=here) as context:
            size = 1 << 20  # values of 4 bytes: a mapping of its own, with pages for every node
            NativeWeight(context, 0, 1024, size // 1024, alloc_array(4 * size)).close()
            counted = context.counters()
    except (ImportError, ZigllamaError) as error:
        report.problems.append(f"threads and memory cannot be placed on {len(here.nodes)} nodes: {error}")
        return
    bound, failed = counted["bound_ranges"], counted["bind_failures"]
    told = f"{bound} of {bound + failed} ranges could be bound to their nodes"
    report.add("threads", "memory", told, {"bound": bound, "failed": failed})
    if failed:
        report.problems.append(f"the system refuses to bind memory to NUMA nodes (mbind): {told}; models run, slower")


def cpu_ranges(cpus: Sequence[int]) -> str:
    """The kernel's way to write a list.

    >>> cpu_ranges([0, 1, 2, 8])
    '0-2,8'
    """
    parts: list[list[int]] = []
    for cpu in cpus:
        if parts and parts[-1][-1] == cpu - 1:
            parts[-1].append(cpu)
        else:
            parts.append([cpu])
    return ",".join(f"{p[0]}-{p[-1]}" if p[1:] else str(p[0]) for p in parts)


def _memory(report: Report) -> None:
    total, available, limit = machine.total_memory(), machine.available_memory(), machine.memory_limit()
    for name, n_bytes in (("total", total), ("available", available), ("control group limit", limit)):
        if n_bytes is not None:
            report.add("memory", name, size(n_bytes), n_bytes)
    pages = machine.huge_pages()
    if pages is not None:
        effect = {"never": "none will be used", "madvise": "used where asked for", "always": "used"}.get(pages, "")
        report.add("memory", "huge pages", f"{pages}: {effect}", pages)


def _cache(report: Report) -> None:
    """Where models are kept, whether it can be written, and which are there."""
    folder = cache_dir()
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    report.add("cache", "folder", str(folder))
    report.add("cache", "free", size(free := shutil.disk_usage(existing).free), free)
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        report.problems.append(f"{existing} cannot be written; ZIGLLAMA_CACHE names another cache folder")
    for entry in CATALOGUE.values():
        state = "in the cache" if entry.present else f"not in the cache; `zigllama pull {entry.name}` fetches it"
        report.add("cache", entry.name, state, entry.present)
