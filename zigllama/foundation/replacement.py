"""Files that are written whole or not at all: temporary files beside the targets, flushed to the disk, then renamed.

What it is not: it knows no format. A process that is killed leaves its targets as they were; a temporary file may then
stay, with a dot before its name and `.tmp` behind it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import BinaryIO, Self

from zigllama.foundation.byte_source import StrPath

BUFFER = 1 << 20  # bytes gathered before they are written


class Replacement:
    """New contents for some files of a folder: temporary files beside them, renamed together by `commit`, else removed.

    The first target is renamed last: a split model is opened through its first part, so nothing half there can be
    opened.
    """

    def __init__(self, targets: Sequence[str]) -> None:
        self._targets = list(targets)
        token = os.urandom(4).hex()
        self._temporary = [
            os.path.join(os.path.dirname(t), f".{os.path.basename(t)}.{token}.tmp") for t in self._targets
        ]

    @contextmanager
    def open(self, i: int, mode: int = 0o666) -> Iterator[BinaryIO]:
        """The i-th temporary file, which is on the disk when the `with` ends; `mode`: its permissions, as far as the
        umask leaves them."""
        fd = os.open(self._temporary[i], os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with open(fd, "wb", BUFFER) as f:
            yield f
            f.flush()
            os.fsync(fd)

    def commit(self) -> None:
        """All take their places. Raises OSError."""
        for temporary, target in reversed(list(zip(self._temporary, self._targets, strict=True))):
            os.replace(temporary, target)
        folder = os.open(os.path.dirname(self._targets[0]) or ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)  # the names too
        finally:
            os.close(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for temporary in self._temporary:
            with suppress(FileNotFoundError):
                os.unlink(temporary)


@contextmanager
def replacing(path: StrPath, mode: int = 0o600) -> Iterator[BinaryIO]:
    """A temporary file beside `path` that takes its place when the block ends, and is gone when it fails.

    What is no regular file (a device, a pipe, a folder) must not get here: renaming would replace it. Raises OSError.
    """
    with Replacement([os.path.abspath(os.fspath(path))]) as new:
        with new.open(0, mode) as f:
            yield f
        new.commit()
