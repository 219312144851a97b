"""Memory for a model's panels, made ready while Python still imports what loads the model.

Memory that a process asks for is not there yet: the system finds a page and fills it with zeros when it is first
written, a tenth of a second for a small model's 100 MB where a virtual machine's host has to find it too. Packing would
wait for that with all its threads, while one of them idles during the imports before it. So it begins as soon as it is
known which file will be loaded (core/mapping.c).

    with ReadyMemory("model.gguf") as ready:
        ...                         # import, open
        ready.give(context)         # which packs into it
"""

from __future__ import annotations

import os
from typing import Any, Self

from .native import check, ffi, lib

SHARE = 0.75  # of a file: not all of it is packed (vectors, an embedding that is only looked up in)
MOST = 256 << 20  # a large model takes seconds in any case
SECOND_NODE = "/sys/devices/system/node/node1"  # where there is one, each node's threads take memory of their own


class ReadyMemory:
    """Asks for memory for the panels of a model's file (None: for none) in a thread of C's own; what was not given to a
    context by the end of the block goes back. A file that cannot be read, or is no GGUF, is for whoever opens it to
    tell of. Never an error: memory that cannot be had now is asked for again when it is needed."""

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self.n_bytes, self._pointer = 0, ffi.NULL
        if path is None or os.path.exists(SECOND_NODE) or _rationed():
            return
        try:
            with open(path, "rb") as file:
                if file.read(4) == b"GGUF":
                    self.n_bytes = min(int(SHARE * os.fstat(file.fileno()).st_size), MOST)
        except (OSError, TypeError, ValueError):
            return
        if self.n_bytes:
            out = ffi.new("zl_mapping **")
            check(lib.zl_memory_ready(self.n_bytes, out))
            self._pointer = out[0]

    def give(self, context: Any) -> None:
        """To the context that will pack: a `NativeContext`, which owns it then."""
        if self._pointer:
            with context.using() as pointer:
                check(lib.zl_ctx_give_memory(pointer, self._pointer))
            self._pointer = ffi.NULL

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        lib.zl_memory_drop(self._pointer)
        self._pointer = ffi.NULL


def _rationed() -> bool:
    """Whether address space is (ulimit -v): then each mapping is made when it is needed, no larger than it must be."""
    try:
        import resource
    except ImportError:  # no Unix
        return False
    return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY
