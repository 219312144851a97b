"""Two things that whoever fills the cache needs: a lock that goes with its process, and a file's sha256."""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def sum_of_file(path: Path) -> str:
    """sha256 of the whole file, in hexadecimal."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


@contextmanager
def locked(path: Path, waiting: str, tell: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock file `path`, saying so when another process has it.

    The lock goes with its process, however that ends.
    """
    with open(path, "a") as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell(waiting)
            fcntl.flock(f, fcntl.LOCK_EX)
        yield
