"""Native contexts for functions that are called on their own, without a model: one per thread and choice, kept.

Starting threads costs more than a small product, so a context is made on first use and stays. Each Python thread has
its own (a context serves one caller at a time), and a forked child makes new ones (threads do not survive a fork).
"""

from __future__ import annotations

import os
import threading

from .blas_integration import GENERIC, BlasInterface
from .native_context import NativeContext
from .threading import default_threads


class _Contexts(threading.local):
    def __init__(self) -> None:
        self.kept: dict[tuple[int, str, int, str], NativeContext] = {}


_contexts = _Contexts()


def shared_context(
    isa: str | None = None, n_threads: int | None = None, blas: BlasInterface | None = None
) -> NativeContext:
    """This thread's context for an ISA variant (None: ZIGLLAMA_ISA, else the best), a number of threads, and a BLAS
    library (None: our own kernels).

    Raises what NativeContext and default_threads raise.
    """
    name = isa if isa is not None and isa != "auto" else os.environ.get("ZIGLLAMA_ISA") or "auto"
    count = default_threads().n_threads if n_threads is None else n_threads
    key = os.getpid(), name, count, GENERIC if blas is None or blas.file is None else blas.file
    context = _contexts.kept.get(key)
    if context is None or context.closed:
        context = _contexts.kept[key] = NativeContext(count, name)
        if blas is not None:
            blas.attach(context)
    return context
