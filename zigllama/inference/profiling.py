"""The profiler: what each op and each layer takes, and how near that is to what the machine gives.

    with zl.profile(m) as p:
        m.generate("Once upon a time", max_tokens=64)
    print(p)

Time comes from the C library, which reads the clock between two ops of the tape (`zl_program_times`); bytes and
operations follow from shapes (profile_costs.py); ceilings are measured when the block ends, by all threads of the model
with the machine's best instruction set. The least time that the machine could take for an op is

    limit = max(streamed bytes / memory, activation bytes / cache, operations / peak),         share = limit / time

where `memory` is the speed of reading as much as a step streams in all, and `cache` that of reading as much as its
activations take. A share beyond 1 says that the op's bytes lay nearer than that, or that the machine was slower when it
was probed. Ops that compute without a product (norms, exp) are limited by their bytes alone: their share reads low.

A step in which every sequence has one row is decode, any other prefill. What this file is not: a judge. Two builds are
compared by `zigllama profile` (app/comparison.py), since a time taken alone says little on a shared machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from zigllama.errors import InvalidArgument
from zigllama.foundation.runtime import Step
from zigllama.foundation.tape import TapeProgram
from zigllama.inference.model import Model
from zigllama.inference.profile_costs import Cost, Counts, Place, cost, places, windows_of

PREFILL, DECODE = "prefill", "decode"
MOST_PROBED = 256 << 20  # bytes that the memory's probe reads at most: beyond any cache
LEAST_PROBED = 16 << 10


@dataclass(frozen=True)
class Ceilings:
    """What the machine gives: bytes per second from memory and, by phase, from the cache that holds the activations;
    operations per second of int8 products and of float32 multiply-adds. Products in bf16 have twice float32's: what
    CPUs that have the instruction give."""

    memory: float
    cache: dict[str, float]
    int8: float
    f32: float

    def peak(self, unit: str) -> float:
        """Operations per second of "int8", "f32" or "bf16"."""
        return {"int8": self.int8, "f32": self.f32, "bf16": 2 * self.f32}[unit]

    @classmethod
    def measure(cls, n_threads: int, streamed: int, activations: dict[str, int], seconds: float = 0.2) -> Self:
        """On so many threads, now: takes about (3 + phases) times `seconds`.

        streamed: bytes that a step reads in all; activations: by phase, bytes of the values between its ops.
        """
        from zigllama.foundation import native_probe
        from zigllama.foundation.native import isa_variants
        from zigllama.foundation.native_context import NativeContext

        best = next(name for name, usable in isa_variants() if usable)
        with NativeContext(n_threads, best) as context:
            return cls(
                native_probe.read(context, min(max(streamed, LEAST_PROBED), MOST_PROBED), seconds),
                {
                    name: native_probe.read(context, min(max(n, LEAST_PROBED), MOST_PROBED), seconds)
                    for name, n in activations.items()
                },
                native_probe.peak(context, "int8", seconds),
                native_probe.peak(context, "f32", seconds),
            )


@dataclass(frozen=True)
class Line:
    """A row of the table: ops of one kind, or of one layer. Seconds, bytes and operations in all steps together.

    `limit` is the least time (see above), `bound` the ceiling that most of it comes from.
    """

    name: str
    calls: int
    seconds: float
    streamed: float
    activations: float
    operations: float
    limit: float
    bound: str

    @property
    def share(self) -> float:
        """limit / time."""
        return self.limit / self.seconds if self.seconds else 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain values; gb_s in 1e9 bytes, gop_s in 1e9 operations per second."""
        per_second = 1e-9 / self.seconds if self.seconds else 0.0
        return {
            "name": self.name,
            "calls": self.calls,
            "ms": 1e3 * self.seconds,
            "bytes": self.streamed + self.activations,
            "streamed_bytes": self.streamed,
            "operations": self.operations,
            "gb_s": (self.streamed + self.activations) * per_second,
            "gop_s": self.operations * per_second,
            "share": self.share,
            "bound": self.bound,
        }


@dataclass
class Phase:
    """Prefill or decode: the steps it had, the seconds they took, and each op's calls and nanoseconds."""

    name: str
    times: npt.NDArray[np.int64]
    counts: Counts = field(default_factory=Counts)
    seconds: float = 0.0
    samples: list[int] = field(default_factory=list)  # nanoseconds of each step

    @property
    def tokens_per_second(self) -> float:
        """Rows by the time of their steps: without sampling, and without whatever else is between two steps."""
        return self.counts.rows / self.seconds if self.seconds else 0.0


class Profiler:
    """Profiles what a model does between `start` and `stop`, or in a `with` block; `phases`, `ops()`, `layers()`,
    `to_json()`, or print it.

    ceilings    None: measured when it stops (about a second)

    One profiler at a time. Raises InvalidArgument for a second one, and for a model that does not run the tape
    (ZIGLLAMA_TAPE=0, backend="reference"): only the tape has rows to count.
    """

    def __init__(self, model: Model, ceilings: Ceilings | None = None) -> None:
        if model.engine.mode != "tape":
            raise InvalidArgument(f"a profile needs the tape; this model's execution is {model.engine.mode!r}")
        self.model, self.ceilings = model, ceilings
        self._context: Any = model.engine.context
        self.phases: dict[str, Phase] = {}
        self.places: list[Place] = []
        self.memory: dict[str, int] = {}
        self._cache_bytes = 0
        self._program: TapeProgram | None = None
        self._windows: tuple[int, ...] = ()
        self._before: npt.NDArray[np.int64] = np.zeros((0, 2), np.int64)

    def start(self) -> None:
        """Begin to count."""
        engine = self.model.engine
        with engine.lock:
            engine.check()
            if engine.watch is not None:
                raise InvalidArgument("this model is being profiled already")
            engine.watch = self._step
            self._context.time_ops(True)
            if engine.program is not None:
                self._before = engine.program.times()

    def stop(self) -> None:
        """Count no longer, and measure the ceilings. Stopping twice is allowed."""
        engine = self.model.engine
        with engine.lock:
            if engine.watch != self._step:
                return
            engine.watch = None
            self._context.time_ops(False)
            self.memory = _memory(self.model, self._cache_bytes, self._arena_bytes().values())
            if self.ceilings is None and self.phases:
                self.ceilings = Ceilings.measure(self._context.n_threads, self._streamed(), self._arena_bytes())

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _step(self, step: Step, program: TapeProgram, nanoseconds: int) -> None:
        """After each step: what the program's ops took in it goes to the phase that the step belongs to."""
        now = program.times()
        if self._program is None:
            self._program, self._windows = program, windows_of(program.tape)
            self.places = places(program.tape, self.model.weights)
            if len(self._before) != len(now):  # recorded just now: it had counted nothing
                self._before = np.zeros_like(now)
        name = DECODE if step.n_rows == len(np.unique(step.seq)) else PREFILL
        phase = self.phases.setdefault(name, Phase(name, np.zeros_like(now)))
        phase.times += now - self._before
        phase.counts.add(step, self._windows)
        phase.seconds += nanoseconds / 1e9
        phase.samples.append(nanoseconds)
        cache = self.model.engine.cache
        self._cache_bytes = max(self._cache_bytes, cache.used_bytes + cache.kept_bytes)
        self._before = now

    # --- results ---

    def _arena_bytes(self) -> dict[str, int]:
        """By phase, bytes of the values between ops in a step of its mean size."""
        if self._program is None:
            return {}
        cols = self._program.tape.arena_cols
        return {n: 4 * cols * p.counts.rows // max(p.counts.steps, 1) for n, p in self.phases.items()}

    def _costs(self, phase: Phase) -> list[Cost]:
        return [cost(row, phase.counts) for row in self._program.tape.ops] if self._program else []

    def _streamed(self) -> int:
        """Bytes of weights, keys and values that a step reads, of the phase that reads most."""
        sums = {n: sum(c.streamed for c in self._costs(p)) / max(p.counts.steps, 1) for n, p in self.phases.items()}
        return int(max(sums.values(), default=0))

    def _line(self, name: str, phase: Phase, rows: Sequence[int], costs: Sequence[Cost]) -> Line:
        """The ops `rows` of the tape as one line: their limits are added, each op having its own."""
        limit = 0.0
        by: dict[str, float] = {}
        for i in rows:
            seconds, bound = self._limit(costs[i], phase.name)
            limit += seconds
            by[bound] = by.get(bound, 0.0) + seconds
        calls, nanoseconds = (int(n) for n in phase.times[list(rows)].sum(axis=0))
        mine = [costs[i] for i in rows]
        return Line(
            name,
            calls,
            nanoseconds / 1e9,
            sum(c.streamed for c in mine),
            sum(c.activations for c in mine),
            sum(c.operations for c in mine),
            limit,
            max(by, key=lambda k: by[k]),
        )

    def _limit(self, c: Cost, phase: str) -> tuple[float, str]:
        """The least seconds that the machine could take, and the ceiling that says so."""
        top = self.ceilings
        if top is None:
            raise InvalidArgument("the profile is still running, or nothing was run in it: there are no ceilings")
        return max(
            (c.streamed / top.memory, "memory"),
            (c.activations / top.cache.get(phase, top.memory), "cache"),
            (c.operations / top.peak(c.unit), c.unit),
        )

    def _lines(self, phase: str, key: Callable[[Place], str]) -> list[Line]:
        """The ops of a phase, grouped by `key`, in the order in which groups first run. Raises InvalidArgument."""
        if phase not in self.phases:
            raise InvalidArgument(f"no {phase} was profiled; there is {' and '.join(self.phases) or 'nothing'}")
        groups: dict[str, list[int]] = {}
        for i, place in enumerate(self.places):
            groups.setdefault(key(place), []).append(i)
        p = self.phases[phase]
        costs = self._costs(p)
        return [self._line(name, p, rows, costs) for name, rows in groups.items()]

    def ops(self, phase: str) -> list[Line]:
        """One line per kind of op with its tensors, layers together, the slowest first. phase: "prefill", "decode"."""
        return sorted(self._lines(phase, lambda place: place.label), key=lambda line: -line.seconds)

    def layers(self, phase: str) -> list[Line]:
        """One line per layer, and one for what belongs to none (embedding, output), in the order of the model."""
        return self._lines(phase, lambda place: "outside" if place.layer is None else f"layer {place.layer}")

    def total(self, phase: str) -> Line:
        """All ops of a phase as one line."""
        return self._lines(phase, lambda place: "all ops")[0]

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values, for json.dumps."""
        top = self.ceilings
        found: dict[str, Any] = {
            "fingerprint": self.model.fingerprint,
            "n_threads": self._context.n_threads,
            "memory": self.memory,
            "ceilings": None
            if top is None
            else {
                "memory_gb_s": top.memory / 1e9,
                "cache_gb_s": {name: value / 1e9 for name, value in top.cache.items()},
                "int8_gop_s": top.int8 / 1e9,
                "f32_gop_s": top.f32 / 1e9,
            },
        }
        for name, phase in self.phases.items():
            found[name] = {
                "steps": phase.counts.steps,
                "tokens": phase.counts.rows,
                "seconds": phase.seconds,
                "tokens_per_second": phase.tokens_per_second,
                "total": self.total(name).to_json(),
                "ops": [line.to_json() for line in self.ops(name)],
                "layers": [line.to_json() for line in self.layers(name)],
                "samples_ns": phase.samples,
            }
        return found

    def __str__(self) -> str:
        """Tables as text: per phase the ops and the layers."""
        if not self.phases or self.ceilings is None:
            return "nothing was profiled"
        top = self.ceilings
        parts = [
            f"ceilings: memory {top.memory / 1e9:.1f} GB/s, "
            f"int8 {top.int8 / 1e9:.0f} and f32 {top.f32 / 1e9:.0f} GOP/s, "
            + ", ".join(f"cache in {name} {value / 1e9:.0f} GB/s" for name, value in top.cache.items())
        ]
        if self.memory:
            parts.append("memory: " + ", ".join(f"{name} {n / 1e6:.1f} MB" for name, n in self.memory.items()))
        for name, phase in self.phases.items():
            whole = self.total(name)
            parts.append(
                f"\n{name}: {phase.counts.rows} tokens in {phase.counts.steps} steps, {phase.tokens_per_second:.1f} "
                f"tokens/s, {whole.share:.0%} of the machine's limit; between ops "
                f"{1 - whole.seconds / phase.seconds:.1%} of the time"
            )
            parts.append(_table(self.ops(name), phase, whole.seconds))
            parts.append(_table(self.layers(name), phase, whole.seconds))
        return "\n".join(parts)


def _table(lines: Sequence[Line], phase: Phase, seconds: float) -> str:
    """Aligned columns; times are per step."""
    head = ("", "calls", "ms/step", "of time", "GB/s", "GOP/s", "share", "bound")
    rows = [head]
    for line in lines:
        v = line.to_json()
        rows.append(
            (
                line.name,
                str(line.calls),
                f"{v['ms'] / phase.counts.steps:.3f}",
                f"{line.seconds / seconds:.1%}" if seconds else "",
                f"{v['gb_s']:.1f}",
                f"{v['gop_s']:.0f}",
                f"{line.share:.0%}",
                line.bound,
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            c.ljust(w) if i in (0, len(head) - 1) else c.rjust(w)
            for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _memory(model: Model, cache: int, arenas: Iterable[int]) -> dict[str, int]:
    """Bytes: of the process at most so far and now (Linux only), of the weights, of cache pages at most, of the arena
    in a step of the larger phase."""
    found: dict[str, int] = {}
    try:
        status = Path("/proc/self/status").read_text("ascii", "replace")
    except OSError:
        status = ""
    for name, key in (("high-water mark", "VmHWM"), ("resident", "VmRSS")):
        line = next((line for line in status.splitlines() if line.startswith(f"{key}:")), None)
        if line is not None:
            found[name] = int(line.split()[1]) * 1024
    seen = {id(w): w.data.nbytes for w in model.weights.values() if hasattr(w, "data") and hasattr(w, "type")}
    return found | {
        "weights": sum(seen.values()),
        "cache": cache,
        "activations": max(arenas, default=0),
    }


def profile(model: Model) -> Profiler:
    """`with zl.profile(m) as p: ...` and then `print(p)`: see Profiler."""
    return Profiler(model)
