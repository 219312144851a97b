"""llama-bench as a contestant: what it is, and what it measures."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def system_info(binary: Path) -> str:
    """The library's own line about the instruction sets it was built for, from a libllama near the binary.

    Asked in a process of its own: two builds of one library cannot live in one.
    """
    for folder in (binary.parent, binary.parent.parent / "lib", binary.parent.parent / "src"):
        library = folder / "libllama.so"
        if library.exists():
            code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent.parent)!r}); " + (
                f"from bench.peers import ask_library; print(ask_library({str(library)!r}))"
            )
            out = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=False)
            if out.returncode == 0:
                return out.stdout.strip()
    return "no libllama.so near the binary to ask"


def ask_library(path: str) -> str:
    """`llama_print_system_info()` of a shared library."""
    library = ctypes.CDLL(path)
    library.llama_print_system_info.restype = ctypes.c_char_p
    return str(library.llama_print_system_info().decode())


class LlamaBench:
    """One llama-bench binary with its flags, as `NAME=PATH[ FLAGS..]` on a command line."""

    def __init__(self, text: str) -> None:
        name, _, command = text.partition("=")
        if not command:
            name, command = "llama.cpp", text
        path, *self.flags = command.split()
        self.name, self.binary = name, Path(path).resolve()
        if not self.binary.exists():
            raise SystemExit(f"{self.binary}: no such llama-bench")
        self.version = "not run yet"

    def describe(self) -> dict[str, Any]:
        """Version, system-info line, flags."""
        return {
            "name": self.name,
            "version": self.version,
            "system_info": system_info(self.binary),
            "flags": self.flags,
            "binary": self.binary.name,
        }

    def run(self, model: Path, n_threads: int, n_prompt: int, n_gen: int) -> dict[str, float]:
        """Tokens per second of one repetition (after the binary's own warm-up): {"pp": .., "tg": ..}."""
        command = [str(self.binary), "-m", str(model), "-t", str(n_threads), "-p", str(n_prompt), "-n", str(n_gen)]
        out = subprocess.run(
            [*command, "-r", "1", "-o", "json", *self.flags], text=True, capture_output=True, check=False
        )
        if out.returncode:
            raise SystemExit(f"{self.name}: exit {out.returncode}\n{out.stderr[-2000:]}")
        rows = json.loads(out.stdout[out.stdout.index("[") :])
        self.version = f"build {rows[0].get('build_number')} ({rows[0].get('build_commit')}), {rows[0].get('cpu_info')}"
        return {"pp" if row["n_prompt"] else "tg": float(row["avg_ts"]) for row in rows}
