"""A file that is written whole or not at all: beside its place, under another name, and then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from zigllama.foundation.byte_source import StrPath

BUFFER = 1 << 20


@contextmanager
def replacing(path: StrPath, mode: int = 0o600) -> Iterator[BinaryIO]:
    """A temporary file beside `path` that takes its place when the block ends, and is gone when it fails.

    `mode`: its permissions, as far as the umask leaves them. What is no regular file (a device, a pipe, a folder) must
    not get here: renaming would replace it. Raises OSError.
    """
    folder, name = os.path.split(os.path.abspath(os.fspath(path)))
    temporary = os.path.join(folder, f".{name}.{os.urandom(4).hex()}.tmp")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with open(fd, "wb", BUFFER) as f:
            yield f
            f.flush()
            os.fsync(fd)
        os.replace(temporary, os.path.join(folder, name))
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(opened)  # the name too
        finally:
            os.close(opened)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
