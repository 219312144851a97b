"""Who is measured: `zigllama bench`, and llama-bench and llama-batched-bench of llama.cpp and ik_llama.cpp.

Each measurement is a process of its own that loads the model, warms up and repeats; its figure is the median of the
repetitions. Everyone gets the same numbers of prompt, decoded and cached tokens, threads and f16 keys and values; the
logits of a prompt's last token; nothing is sampled. Sequences of a batch share their prompt (`-pps`): with a prompt of
each its own ik_llama.cpp's flash attention ends in a failed assertion.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Protocol

from bench.rows import Row


@dataclass(frozen=True)
class Job:
    """A row on a file."""

    row: Row
    path: Path


class Contestant(Protocol):
    """Somebody who can be measured."""

    name: str

    def run(self, job: Job) -> float:
        """Tokens per second. Raises SystemExit where the program fails."""

    def describe(self) -> dict[str, Any]:
        """What ran: version, system, flags. Complete after a run."""


def execute(
    command: list[str], env: dict[str, str] | None = None, cwd: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program; where it fails its error is ours."""
    everything = {**os.environ, **(env or {})}
    out = subprocess.run(command, text=True, capture_output=True, check=False, env=everything, cwd=cwd)
    if out.returncode:
        raise SystemExit(f"{' '.join(command)}: exit {out.returncode}\n{out.stdout[-500:]}{out.stderr[-2000:]}")
    return out


def shown(command: list[str]) -> str:
    """A command without the folders of this machine."""
    return " ".join(word.rsplit("/", 1)[-1] for word in command)


def tests(row: Row) -> list[str]:
    """A row as flags that all know."""
    return ["-t", str(row.n_threads), "-r", str(row.repetitions), "-p", str(row.n_prompt), "-n", str(row.n_gen)]


class Ours:
    """zigllama, as installed for the interpreter that runs this."""

    name = "zigllama"

    def __init__(self, isa: str | None = None) -> None:
        self.env = {"ZIGLLAMA_ISA": isa} if isa else {}
        self.about: dict[str, Any] = {"name": self.name, "version": "not run yet"}

    def describe(self) -> dict[str, Any]:
        return self.about

    def run(self, job: Job) -> float:
        row = job.row
        batch = ["-npl", str(row.n_seq), "-pps"] if row.n_seq else ["-d", str(row.n_depth)]
        words = ["bench", str(job.path), *tests(row), *batch, *row.flags, "--json"]
        command = [sys.executable, "-P", "-m", "zigllama", *words]  # -P: what is installed, not a checkout we stand in
        (result,) = json.loads(execute(command, self.env).stdout)
        self.about = {
            "name": self.name,
            "version": result["build_commit"],
            "system_info": f"{result['cpu_info']}: {result['fingerprint']}, {result['execution']}",
            "flags": list(row.flags),
            "command": shown(["zigllama", *words]),
        }
        if row.n_seq:
            return float(median(1e9 * row.n_seq * row.n_gen / t for t in result["samples_tg_ns"]))
        return float(median(result["samples_ts"]))


class LlamaCpp:
    """The programs of llama.cpp in a folder (build/bin), with further flags for each of them."""

    def __init__(self, name: str, folder: Path, flags: tuple[str, ...] = (), batch_flags: tuple[str, ...] = ()) -> None:
        self.name, self.folder, self.flags, self.batch_flags = name, folder.resolve(), flags, batch_flags
        self.version = self.command = ""
        if not (self.folder / "llama-bench").exists():
            raise SystemExit(f"{self.folder}: no llama-bench here")

    def describe(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "version": self.version,
            "system_info": system_info(self.folder),
            "flags": list(self.flags),
            "command": self.command,
        }

    def depth(self, row: Row) -> list[str]:
        """Decoding after tokens that are read before the clock starts."""
        return [*tests(row), "-d", str(row.n_depth)]

    def run(self, job: Job) -> float:
        row = job.row
        if row.n_seq:
            return self._run_batch(job)
        result = self._bench(job.path, self.depth(row) if row.n_depth else tests(row))
        found = result["n_prompt"], result["n_gen"], result.get("n_depth", row.n_depth)
        if found not in ((row.n_prompt, row.n_gen, row.n_depth), (row.n_depth, row.n_gen, row.n_depth)):
            raise SystemExit(f"{self.name}: asked for {row.test}, it measured {found}")
        return float(median(result["samples_ts"]))

    def _bench(self, path: Path, what: list[str]) -> dict[str, Any]:
        """One test of llama-bench; who ran is learnt from it."""
        command = [str(self.folder / "llama-bench"), "-m", str(path.resolve()), *what, "-o", "json", *self.flags]
        out = execute(command).stdout
        result: dict[str, Any]
        (result,) = json.loads(out[out.index("[") :])
        self.command = shown(command)
        cpu = result.get("cpu_info", "")
        self.version = f"build {result.get('build_number')} ({result.get('build_commit')}), {cpu}"
        return result

    def _run_batch(self, job: Job) -> float:
        """The batch twice in one process: the first is its warm-up."""
        row = job.row
        if not self.version:  # llama-batched-bench does not say
            self._bench(job.path, ["-p", "1", "-n", "0", "-r", "1"])
        n_ctx = str(row.n_seq * (row.n_prompt + row.n_gen))
        sizes = ["-npp", str(row.n_prompt), "-ntg", str(row.n_gen), "-npl", f"{row.n_seq},{row.n_seq}", "-pps"]
        program = [str(self.folder / "llama-batched-bench"), "-m", str(job.path.resolve()), "-c", n_ctx]
        command = [*program, "-t", str(row.n_threads), *sizes, *self.batch_flags]
        with tempfile.TemporaryDirectory() as folder:  # ik_llama.cpp's leaves a log where it runs
            out = execute(command, cwd=folder)
        self.command = shown(command)
        return batch_speed(out.stdout + "\n" + out.stderr, row)


class IkLlamaCpp(LlamaCpp):
    """ik_llama.cpp: llama.cpp's programs as they were, and another way to ask for depth."""

    def depth(self, row: Row) -> list[str]:
        head = ["-t", str(row.n_threads), "-r", str(row.repetitions), "-p", "0", "-n", "0"]
        return [*head, "-gp", f"{row.n_depth},{row.n_gen}"]


def batch_speed(text: str, row: Row) -> float:
    """S_TG t/s of the last line of llama-batched-bench's table that is this row's batch."""
    speeds = []
    for line in text.splitlines():
        values = line.strip().strip("|").split("|") if line.lstrip().startswith("|") else []
        if len(values) == 10 and re.fullmatch(r"\s*\d+\s*", values[0]):
            pp, tg, b = (int(v) for v in values[:3])
            if (pp, tg, b) == (row.n_prompt, row.n_gen, row.n_seq):
                speeds.append(float(values[7]))
    if len(speeds) != 2:
        raise SystemExit(f"llama-batched-bench printed {len(speeds)} lines for {row.name}, expected 2:\n{text[-2000:]}")
    return speeds[-1]


def system_info(folder: Path) -> str:
    """The library's own line about the instruction sets it was built for, from a libllama near the programs.

    Asked in a process of its own: two builds of one library cannot live in one.
    """
    for place in (folder, folder.parent / "lib", folder.parent / "src"):
        library = place / "libllama.so"
        if library.exists():
            code = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r}); " + (
                f"from bench.contestants import ask_library; print(ask_library({str(library)!r}))"
            )
            out = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=False)
            if out.returncode == 0:
                return out.stdout.strip()
    return "no libllama.so near the programs to ask"


def ask_library(path: str) -> str:
    """`llama_print_system_info()` of a shared library."""
    library = ctypes.CDLL(path)
    library.llama_print_system_info.restype = ctypes.c_char_p
    return str(library.llama_print_system_info().decode())
