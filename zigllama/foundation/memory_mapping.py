"""A file in memory without reading it: `MemoryMap`, a thin, checked face on mmap(2). Not a parser of what it holds.

Weights are used where the file's pages lie in the page cache: nothing is copied, two processes share them, and the
kernel may drop and reread them. The price is that an access can fail: if somebody truncates the file, touching a page
past its new end raises SIGBUS. So small things that are read once (headers) go through `FileSource.read_at` instead;
`check_size` finds a shrunken file before a long run; and while native code reads a mapping, the C library's guard turns
the signal into an error.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from contextlib import suppress
from typing import Any, Final, Literal, Self, get_args

import numpy as np
import numpy.typing as npt

from zigllama.errors import ClosedError, InvalidArgument, MappingFault, OutOfMemory

from .byte_source import FileSource, StrPath

Protection = Literal["read", "copy_on_write", "read_write"]
Advice = Literal["normal", "sequential", "random", "willneed"]

_ACCESS: Final = {"read": mmap.ACCESS_READ, "copy_on_write": mmap.ACCESS_COPY, "read_write": mmap.ACCESS_WRITE}
_ADVICE: Final = {
    "normal": mmap.MADV_NORMAL,
    "sequential": mmap.MADV_SEQUENTIAL,
    "random": mmap.MADV_RANDOM,
    "willneed": mmap.MADV_WILLNEED,
}


class MemoryMap:
    """The whole of a regular file, mapped: `view` is a uint8 array of its bytes.

    protection   "read": the view is read-only. "copy_on_write": it may be written, the file never changes.
                 "read_write": writes reach the file (`flush` waits until they have).
    huge_pages   ask for huge pages. Most kernels grant them to a process's own memory but not to files:
                 `self.huge_pages` tells.
    lock         keep the pages in memory (mlock). Raises `OutOfMemory` where RLIMIT_MEMLOCK or the memory is too small.

    `path` may be an open `FileSource`, which stays the caller's to close: the mapping takes a descriptor of its own.
    Raises `NotGGUF`-style typed errors for what is no regular file (see `FileSource`), `OSError` as open and mmap do.
    An empty file is an empty view: mmap refuses length 0, so nothing is mapped.

    `close` (or `with`) drops the mapping's own view. Arrays that others took from `view` keep the pages mapped until
    they are gone too: an array never dangles.
    """

    def __init__(
        self,
        path: StrPath | FileSource,
        protection: Protection = "read",
        *,
        huge_pages: bool = False,
        lock: bool = False,
    ) -> None:
        if protection not in get_args(Protection):
            raise InvalidArgument(f"protection {protection!r} is none of {', '.join(get_args(Protection))}")
        self.protection: Protection = protection
        self.huge_pages = False
        self._map: mmap.mmap | None = None
        self._view: npt.NDArray[np.uint8] | None = None
        self._fd = -1
        source = path if isinstance(path, FileSource) else FileSource(path, writable=protection == "read_write")
        self.path = source.path
        try:
            self._fd = os.dup(source.fileno())
            self.size = source.size_now()
        finally:
            if source is not path:
                source.close()
        try:
            if self.size:
                self._map = mmap.mmap(self._fd, self.size, access=_ACCESS[protection])
            self._view = np.frombuffer(self._map if self._map is not None else b"", np.uint8)
            if huge_pages:
                self.huge_pages = self._madvise(getattr(mmap, "MADV_HUGEPAGE", None), 0, self.size)
            if lock:
                self.lock()
        except BaseException:
            self.close()
            raise

    @property
    def view(self) -> npt.NDArray[np.uint8]:
        """The file's bytes, uint8 (size,). Raises `ClosedError` after `close`."""
        if self._view is None:
            raise ClosedError(f"the mapping of {self.path} is closed")
        return self._view

    def check_size(self) -> None:
        """Raise `MappingFault` if the file is shorter now than when it was mapped, so that pages of the view are
        gone.
        """
        _ = self.view
        now = os.fstat(self._fd).st_size
        if now < self.size:
            raise MappingFault(f"{self.path} shrank while it was mapped: from {self.size} bytes to {now}")

    def advise(self, advice: Advice, offset: int = 0, n: int | None = None) -> bool:
        """Tell the kernel how `n` bytes from `offset` will be read; all by default. Returns whether the kernel took the
        advice.
        """
        if advice not in _ADVICE:
            raise InvalidArgument(f"advice {advice!r} is none of {', '.join(_ADVICE)}")
        return self._madvise(_ADVICE[advice], *self._range(offset, n))

    def release(self, offset: int = 0, n: int | None = None) -> bool:
        """Let go of the pages of `n` bytes from `offset`: they leave this process's resident memory, and are read again
        if touched again.

        For weights that were copied into a form of their own. Pages at the borders that neighbours share go too: that
        costs a neighbour a page fault, never a byte. Raises `InvalidArgument` for a copy-on-write mapping, whose
        changes would be lost.
        """
        if self.protection == "copy_on_write":
            raise InvalidArgument(
                "pages of a copy-on-write mapping hold changes that no file has; they cannot be released"
            )
        return self._madvise(mmap.MADV_DONTNEED, *self._range(offset, n))

    def lock(self, offset: int = 0, n: int | None = None) -> None:
        """Read the pages of `n` bytes from `offset` and keep them in memory. Raises `OutOfMemory` where the system does
        not allow it.
        """
        offset, n = self._range(offset, n)
        if (code := self._call_libc("mlock", offset, n)) in (errno.ENOMEM, errno.EPERM, errno.EAGAIN):
            raise OutOfMemory(f"locking {self.path} ({os.strerror(code)}; see ulimit -l)", n)
        if code:
            raise OSError(code, os.strerror(code), self.path)

    def unlock(self, offset: int = 0, n: int | None = None) -> None:
        """Undo `lock`; pages that were not locked are no error."""
        if code := self._call_libc("munlock", *self._range(offset, n)):
            raise OSError(code, os.strerror(code), self.path)

    def flush(self) -> None:
        """Wait until writes have reached the file. Raises `InvalidArgument` unless the protection is "read_write"."""
        _ = self.view
        if self.protection != "read_write":
            raise InvalidArgument(f"a mapping with protection {self.protection!r} has nothing to flush")
        if self._map is not None:
            self._map.flush()

    def close(self) -> None:
        """Give up the mapping; closing twice is allowed."""
        self._view = None
        if self._map is not None:
            with suppress(BufferError):  # somebody still holds an array: the last one to go unmaps
                self._map.close()
            self._map = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __len__(self) -> int:
        return self.size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_fd"):  # absent where __init__ refused its arguments
            self.close()

    def _range(self, offset: int, n: int | None) -> tuple[int, int]:
        """(offset, n) checked against the file: nothing outside of it is ever advised, locked or released."""
        _ = self.view
        n = self.size - offset if n is None else n
        if not (0 <= offset <= self.size and 0 <= n <= self.size - offset):
            raise InvalidArgument(f"range of {n} bytes from {offset} lies outside a file of {self.size} bytes")
        return offset, n

    def _madvise(self, advice: int | None, offset: int, n: int) -> bool:
        """madvise over the pages that hold the range; False where the kernel refuses the advice."""
        start = offset - offset % mmap.PAGESIZE
        if self._map is None or n == 0 or advice is None:
            return False
        try:
            self._map.madvise(advice, start, offset + n - start)
        except OSError as e:
            if e.errno in (errno.EINVAL, errno.ENOSYS, errno.EPERM):
                return False
            raise
        return True

    def _call_libc(self, name: str, offset: int, n: int) -> int:
        """mlock or munlock over the range, which Python's mmap does not offer; returns errno, 0 if all went well."""
        if n == 0:
            return 0
        libc: Any = ctypes.CDLL(None, use_errno=True)
        address = self.view.__array_interface__["data"][0] + offset
        failed = getattr(libc, name)(ctypes.c_void_p(address), ctypes.c_size_t(n))
        return ctypes.get_errno() if failed else 0
