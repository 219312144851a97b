"""Memory for a model's panels, made ready while Python still imports what loads the model.

Memory that a process asks for is not there yet: the system finds a page and fills it with zeros when it is first
written, a tenth of a second for a small model's 100 MB where a virtual machine's host has to find it too. Packing would
wait for that with all its threads, while one of them idles during the imports before it. So it begins as soon as it is
known which file will be loaded (core/mapping.c).

    with ReadyMemory("model.gguf"):
        ...                         # import, open, pack: what packing takes of it is the model's own
"""

from __future__ import annotations

import os
from typing import Self

from .native import check, lib

SHARE = 0.75  # of a file: what is not packed (vectors, an embedding that is only looked up in) is not to be asked for
MOST = 256 << 20  # a large model takes seconds in any case
SECOND_NODE = "/sys/devices/system/node/node1"  # where there is one, each node's threads take memory of their own


class ReadyMemory:
    """Asks for memory for the panels of a file (None: for none) in a thread of C's own; what was not taken by the end
    of the block is given back. A file that cannot be read is for whoever opens it to tell of. Never an error: memory
    that cannot be had now is asked for again when it is needed."""

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self.n_bytes = 0
        if path is not None and not os.path.exists(SECOND_NODE):
            try:
                self.n_bytes = min(int(SHARE * os.stat(path).st_size), MOST)
            except (OSError, TypeError, ValueError):
                return
            check(lib.zl_memory_ready(self.n_bytes))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.n_bytes:
            lib.zl_memory_drop()
