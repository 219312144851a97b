"""The machine's ceilings: read_probe.c (GB/s from memory) and peak_probe.c (1e9 operations per second), compiled on the
spot into a folder that goes away."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

HERE = Path(__file__).parent


class Probes:
    """Compile once, measure often."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="probes")

    def _run(self, name: str, *arguments: str) -> float:
        binary = Path(self.folder.name) / name
        if not binary.exists():
            source = str(HERE / f"{name}.c")
            command = ["cc", "-O3", "-march=native", "-pthread", source, "-o", str(binary)]
            subprocess.run(command, check=True, text=True)
        out = subprocess.run([str(binary), *arguments], check=True, text=True, capture_output=True)
        return float(out.stdout)

    def read(self, n_threads: int, megabytes: int = 512, seconds: float = 0.5) -> float:
        """GB/s (1e9 bytes) that all threads read together, the best pass."""
        return self._run("read_probe", str(n_threads), str(megabytes), str(seconds))

    def peak(self, kind: str, n_threads: int, seconds: float = 0.5) -> float:
        """GOP/s of int8 products ("int8") or GFLOP/s ("f32"), in registers, the best pass."""
        return self._run("peak_probe", kind, str(n_threads), str(seconds))

    def __enter__(self) -> Probes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.folder.cleanup()
