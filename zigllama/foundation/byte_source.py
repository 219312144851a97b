"""Where a parser's bytes come from: a file read by `pread`, or memory. Not a mapping: see memory_mapping.py for that.

Headers are read through `ByteSource.read_at`, never through a mapping, for a reason: a file that shrinks while it is
being parsed then gives a short read, which is an ordinary error, where a mapping would give SIGBUS. And a parser over
this small protocol can be fuzzed in memory, a hundred thousand inputs a minute, without a file.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections import Counter
from typing import Protocol, Self

from zigllama.errors import ClosedError, NotGGUF

StrPath = str | os.PathLike[str]


class ByteSource(Protocol):
    """A readable range of `size` bytes."""

    @property
    def size(self) -> int:
        """Bytes in total, as known when the source was opened."""
        ...

    def read_at(self, offset: int, n: int) -> bytes:
        """Up to `n` bytes from `offset`; fewer only where the source ends."""
        ...


class BytesSource:
    """A `ByteSource` over bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read_at(self, offset: int, n: int) -> bytes:
        return self._data[offset : offset + n]


_open_files: Counter[tuple[int, int]] = Counter()  # (device, inode) of every FileSource that is open, see is_open_input
_open_files_lock = threading.Lock()


def is_open_input(path: StrPath) -> bool:
    """True where `path` is a file that a `FileSource` of this process has open, under this or any other name."""
    try:
        st = os.stat(path)
    except OSError:
        return False
    with _open_files_lock:
        return _open_files[st.st_dev, st.st_ino] > 0


class FileSource:
    """A `ByteSource` over a regular file, read with `pread`, so that threads may share it.

    Folders, fifos, sockets and devices (/dev/zero is endless) are refused with `NotGGUF`, without waiting for a fifo's
    writer: the file is opened with O_NONBLOCK and looked at before a byte is read. Raises `OSError` as `open` does.
    """

    def __init__(self, path: StrPath, *, writable: bool = False) -> None:
        self._fd = -1  # first, since __del__ looks at it whatever happens below
        self.path = os.fspath(path)
        try:
            self._fd = os.open(self.path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as e:
            if e.errno in (errno.EISDIR, errno.ENXIO):  # a folder opened for writing; a socket
                raise NotGGUF(f"{self.path} is not a regular file: {e.strerror}") from None
            raise
        st = os.fstat(self._fd)
        if not stat.S_ISREG(st.st_mode):
            os.close(self._fd)
            self._fd = -1
            raise NotGGUF(f"{self.path} is not a regular file but a {_kind(st.st_mode)}")
        self.size = st.st_size
        self._inode = (st.st_dev, st.st_ino)
        with _open_files_lock:
            _open_files[self._inode] += 1

    def fileno(self) -> int:
        """The open file descriptor. Raises `ClosedError` after `close`."""
        if self._fd < 0:
            raise ClosedError(f"{self.path} is closed")
        return self._fd

    def size_now(self) -> int:
        """The file's size at this moment, which differs from `size` if somebody changed the file since."""
        return os.fstat(self.fileno()).st_size

    def read_at(self, offset: int, n: int) -> bytes:
        # One pread may return less than asked (a signal, a file system's limit of 2 GiB), so only an empty read means
        # the end. n is cut to the known size first: pread allocates n bytes before it reads, and n may come from a
        # hostile file.
        n = min(n, self.size - offset)
        fd = self.fileno()
        data = os.pread(fd, n, offset) if n > 0 else b""
        while 0 < len(data) < n:
            more = os.pread(fd, n - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def close(self) -> None:
        """Close the file; closing twice is allowed."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            with _open_files_lock:
                _open_files[self._inode] -= 1
                if not _open_files[self._inode]:
                    del _open_files[self._inode]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "folder",
        stat.S_IFIFO: "fifo",
        stat.S_IFCHR: "character device",
        stat.S_IFBLK: "block device",
    }
    return kinds.get(stat.S_IFMT(mode), "special file")
