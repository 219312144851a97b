"""GB/s that all threads together read from memory: read_probe.c, compiled on the spot into a folder that goes away."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

SOURCE = Path(__file__).with_name("read_probe.c")


class ReadProbe:
    """Compile once, measure often."""

    def __init__(self, n_threads: int, megabytes: int = 512, seconds: float = 0.5) -> None:
        self.arguments = [str(n_threads), str(megabytes), str(seconds)]
        self.folder = tempfile.TemporaryDirectory(prefix="read_probe")
        self.binary = Path(self.folder.name) / "read_probe"
        subprocess.run(
            ["cc", "-O3", "-march=native", "-pthread", str(SOURCE), "-o", str(self.binary)], check=True, text=True
        )

    def measure(self) -> float:
        """GB/s (1e9 bytes) of the best pass."""
        out = subprocess.run([str(self.binary), *self.arguments], check=True, text=True, capture_output=True)
        return float(out.stdout)

    def __enter__(self) -> ReadProbe:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.folder.cleanup()
