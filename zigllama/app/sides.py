"""The two sides of a comparison of builds: an interpreter with zigllama in it, and environment settings; and baselines.

A side is measured by processes of its own, `python -m zigllama bench`, a new one for each figure: what differs from one
process to the next (where memory landed, which pages are huge) is then part of the spread, and is not taken for a
difference between the builds. It is also why any build that has `bench` can be a side.

A baseline is a side's figures as a file, with what ran: build, model, machine, settings. Where the build that made it
is still there it can be run in turn with today's. Where it is not, today's figures are compared with the file's, each
by what a probe of the machine gave beside it: that takes out the neighbours as far as one probe stands for them.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from zigllama.app import machine
from zigllama.app.bench import Test
from zigllama.app.comparison import Figure, Say, Turns, Verdict, judge_apart, judge_pairs
from zigllama.app.console import UsageError
from zigllama.errors import BadMetadata, NativeError
from zigllama.foundation.byte_source import StrPath

FORMAT = 1  # of a baseline's file

# What a build is: every source of the package and the extension, whatever the folder it lies in.
_DIGEST = """
import hashlib, importlib.util, json, os, sys
import zigllama
folder = os.path.dirname(zigllama.__file__)  # of an editable install its search path is no folder
h = hashlib.sha256()
for top, folders, names in os.walk(folder):
    folders.sort()
    for name in sorted(n for n in names if n.endswith(".py")):
        path = os.path.join(top, name)
        h.update(os.path.relpath(path, folder).encode() + open(path, "rb").read())
h.update(open(importlib.util.find_spec("zigllama._ckernels").origin, "rb").read())
print(json.dumps({"version": zigllama.__version__, "digest": h.hexdigest(), "python": sys.executable}))
"""


def is_setting(name: str) -> bool:
    """Whether a variable of the environment changes how zigllama runs: all of its own but where files are kept."""
    return name.startswith("ZIGLLAMA_") and name != "ZIGLLAMA_CACHE"


@dataclass(frozen=True)
class Side:
    """An interpreter that has zigllama, and settings of the environment beside ours."""

    python: str = sys.executable
    settings: tuple[tuple[str, str], ...] = ()
    alone: bool = False  # these settings and none of today's: a baseline's side

    @classmethod
    def parse(cls, words: Sequence[str]) -> Side:
        """From words: `NAME=VALUE` is a setting, anything else an interpreter or the folder of a virtual environment.

        Raises UsageError for two interpreters, and for one that is not there.
        """
        python, settings = None, []
        for word in words:
            name, equals, value = word.partition("=")
            if equals and name.isidentifier():
                settings.append((name, value))
                continue
            if python is not None:
                raise UsageError(f"two interpreters for one side: {python} and {word}")
            path = Path(word)
            python = str(path / "bin" / "python") if path.is_dir() else word
            if not os.access(python, os.X_OK) or Path(python).is_dir():
                raise UsageError(f"{word!r}: neither NAME=VALUE nor an interpreter nor a virtual environment's folder")
        return cls(python or sys.executable, tuple(settings))

    def __str__(self) -> str:
        here = [] if self.python == sys.executable else [self.python]
        return " ".join([*here, *(f"{n}={v}" for n, v in self.settings)]) or "this build"

    def _environment(self) -> dict[str, str]:
        kept = {n: v for n, v in os.environ.items() if not self.alone or not is_setting(n)}
        return kept | dict(self.settings)

    def _execute(self, words: Sequence[str]) -> str:
        out = subprocess.run(
            [self.python, "-P", *words],  # -P: what is installed, not a checkout we stand in
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if out.returncode:
            last = (out.stderr.strip() or "no error text").splitlines()[-1]
            raise NativeError(f"{self}: exit code {out.returncode} of {' '.join(words[:3])}: {last}")
        return out.stdout

    def build(self) -> dict[str, str]:
        """version, digest (of the sources and the extension), python. Raises NativeError where it cannot run."""
        found: dict[str, str] = json.loads(self._execute(["-c", _DIGEST]))
        return found

    def runner(self, path: Path, test: Test, repetitions: int, flags: Sequence[str]) -> Callable[[], float]:
        """A function that runs the test in a new process: the median of its repetitions, in tokens per second."""
        sizes = ["-p", str(test.n_prompt), "-n", str(test.n_gen), "-d", str(test.n_depth), "-r", str(repetitions)]
        words = ["-m", "zigllama", "bench", str(path), *sizes, *flags, "--json"]

        def run() -> float:
            (result,) = json.loads(self._execute(words))
            return float(median(result["samples_ts"]))

        return run


@dataclass
class Baseline:
    """Figures of a build, by test, and what ran. `probes` says what stood for the machine in each test."""

    build: dict[str, str]
    model: dict[str, Any]
    machine: dict[str, Any]
    settings: dict[str, str]
    flags: list[str]
    figures: dict[str, list[Figure]] = field(default_factory=dict)
    probes: dict[str, str] = field(default_factory=dict)

    def save(self, path: StrPath) -> None:
        """As JSON, whole or not at all."""
        plain = {"format": FORMAT, **asdict(self)}
        to = Path(path)
        partial = to.with_name(f".{to.name}.{os.getpid()}")
        partial.write_text(json.dumps(plain, indent=1) + "\n", "utf-8")
        partial.replace(to)

    @classmethod
    def load(cls, path: StrPath) -> Baseline:
        """Raises OSError, BadMetadata for a file that is no baseline."""
        try:
            plain = json.loads(Path(path).read_text("utf-8"))
            if plain.pop("format") != FORMAT:
                raise ValueError(f"its format is not {FORMAT}")
            figures = {name: [Figure(**f) for f in some] for name, some in plain.pop("figures").items()}
            return cls(**plain, figures=figures)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise BadMetadata(str(path), f"not a baseline of `zigllama profile`: {error!r}") from error

    @property
    def side(self) -> Side:
        """The side that made it, if it is still there."""
        return Side(self.build["python"], tuple(self.settings.items()), alone=True)

    def still_there(self) -> bool:
        """Whether the interpreter it was made with exists and has the same build."""
        if not os.access(self.build["python"], os.X_OK):
            return False
        try:
            return self.side.build()["digest"] == self.build["digest"]
        except NativeError:
            return False

    def differences(self, model: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
        """What makes a comparison with it meaningless: another model, another machine."""
        both = [("model", self.model, model), ("machine", self.machine, here)]
        return [
            f"{what} {key}: {old.get(key)!r} then, {value!r} now"
            for what, old, new in both
            for key, value in new.items()
            if old.get(key) != value
        ]


def about_machine(n_threads: int) -> dict[str, Any]:
    """What must be the same for figures to be compared."""
    return {"cpu": machine.cpu_name() or platform.machine(), "system": platform.system(), "n_threads": n_threads}


@dataclass(frozen=True)
class Comparison:
    """How tests are run: on which model, how often, with which flags, beside which probes (by test: name, function)."""

    path: Path
    tests: Sequence[Test]
    rounds: int
    repetitions: int
    flags: Sequence[str]
    probes: Mapping[str, tuple[str, Callable[[], float]]]
    say: Say

    @property
    def conditions(self) -> list[str]:
        """What must be the same for figures to be compared: a mean of three runs swings less than one alone."""
        return [*self.flags, "-r", str(self.repetitions)]

    def _turns(self, test: Test) -> Turns:
        return Turns(self.probes[test.name][1], self.say)

    def in_turn(self, a: Side, b: Side, threshold: float) -> dict[str, Verdict]:
        """A and B in turn, test by test. Each runs once before, which does not count."""
        found = {}
        for test in self.tests:
            runs = [side.runner(self.path, test, self.repetitions, self.flags) for side in (a, b)]
            for run in runs:
                run()
            turns = self._turns(test)
            turns.begin()
            kept, _ = turns.in_turn(runs[0], runs[1], self.rounds, drop=True, name=test.name)
            found[test.name] = judge_pairs(kept, threshold)
        return found

    def figures(self, side: Side) -> dict[str, list[Figure]]:
        """One side alone, for a baseline or to be compared with one."""
        found: dict[str, list[Figure]] = {}
        for test in self.tests:
            run = side.runner(self.path, test, self.repetitions, self.flags)
            run()
            turns = self._turns(test)
            turns.begin()
            found[test.name] = []
            for _ in range(self.rounds):
                found[test.name].append(f := turns.take(run))
                self.say(f"{f.speed:8.1f} ({test.name}) beside {f.probe:.1f}")
        return found

    def apart(self, baseline: Baseline, side: Side, threshold: float) -> dict[str, Verdict]:
        """A side, now, with a baseline's figures: per probe. Raises BadMetadata for tests that the baseline lacks."""
        lacking = [t.name for t in self.tests if t.name not in baseline.figures]
        if lacking:
            raise BadMetadata("baseline", f"has no {' and no '.join(lacking)}; it has {', '.join(baseline.figures)}")
        figures = self.figures(side)
        return {name: judge_apart(baseline.figures[name], figures[name], threshold) for name in figures}
