"""The machine's ceilings as zigllama's own probes measure them (zigllama/foundation/native_probe.py): GB/s from memory,
1e9 operations per second. Threads are kept from one measurement to the next."""

from __future__ import annotations

from types import TracebackType

from zigllama.foundation import native_probe
from zigllama.foundation.native import isa_variants
from zigllama.foundation.native_context import NativeContext


class Probes:
    """Start threads once, measure often; always with the best instruction set that this CPU has."""

    def __init__(self) -> None:
        self.isa = next(name for name, usable in isa_variants() if usable)
        self.contexts: dict[int, NativeContext] = {}

    def _context(self, n_threads: int) -> NativeContext:
        if n_threads not in self.contexts:
            self.contexts[n_threads] = NativeContext(n_threads, self.isa)
        return self.contexts[n_threads]

    def read(self, n_threads: int, megabytes: int = 512, seconds: float = 2.0) -> float:
        """GB/s (1e9 bytes) that all threads read together, the best pass. Two seconds: on a shared machine two probes
        of half a second, two seconds apart, differed by over a tenth in 32 of 100 cases, of two seconds in 9; the
        median pass is no steadier than the best."""
        return native_probe.read(self._context(n_threads), megabytes << 20, seconds) / 1e9

    def peak(self, kind: str, n_threads: int, seconds: float = 0.5) -> float:
        """GOP/s of int8 products ("int8") or GFLOP/s ("f32"), in registers, the best pass."""
        return native_probe.peak(self._context(n_threads), kind, seconds) / 1e9

    def __enter__(self) -> Probes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for context in self.contexts.values():
            context.close()
