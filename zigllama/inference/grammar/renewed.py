"""A machine in Python that any number of threads and texts may use: one at a time, and made anew before it has grown
large. What it costs does not depend on how many texts were read before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from zigllama.errors import GrammarBudget

from .machine import Machine, run

WORN = 100_000  # bytes that one machine reads: each may have made a state


class Renewed:
    """Reads whole texts with machines that `make` makes. Raises GrammarBudget for a text that is too much for a new
    one."""

    def __init__(self, make: Callable[[], Machine]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._machine: Machine | None = None
        self._n_read = 0

    def read(self, text: bytes) -> tuple[int, bool]:
        """How many bytes of a text are read, and whether it may end there."""
        with self._lock:
            new = self._machine is None or self._n_read > WORN
            if not new:
                try:
                    return self._read(text)
                except GrammarBudget:  # which others may have used up
                    pass
            self._machine, self._n_read = None, 0
            self._machine = self._make()
            return self._read(text)

    def accepts(self, text: bytes) -> bool:
        """Whether the whole text is accepted."""
        n, finished = self.read(text)
        return finished and n == len(text)

    def _read(self, text: bytes) -> tuple[int, bool]:
        assert self._machine is not None
        self._n_read += len(text)
        n, state = run(self._machine, text)
        return n, self._machine.finished(state)
