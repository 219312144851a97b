"""The bytes of a GGUF header while it is being parsed: a moving position, and the fast scan over arrays of strings.

`Cursor` reads the source piece by piece and compares every length with what the file has before it allocates.
`scan_strings` finds the strings of a vocabulary many at a time. What the bytes mean is gguf_header.py's business.
"""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

from zigllama.errors import BadMetadata, Truncated

from .byte_source import ByteSource

MAX_HEADER_BYTES = 1 << 28  # the largest header seen has 16 MB
READ_AHEAD = 1 << 20  # at most so many bytes are read beyond what was asked for
_WINDOW = 1 << 18  # bytes that the scan for strings looks at together: its temporaries fit the L2 cache
_HOPS = 64  # strings it walks one by one before it looks again; twice as many where runs are short
_MAX_HOPS = 1 << 13

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


class Cursor:
    """A position in the header, and the bytes of the file up to at least there."""

    def __init__(self, source: ByteSource) -> None:
        self.source, self.size = source, source.size
        self.pos = 0
        self.buf = bytearray()

    def need(self, n: int, what: str) -> None:
        """Make sure that `n` bytes from `pos` are in `buf`."""
        end = self.pos + n
        if end <= len(self.buf):
            return
        if end > self.size:
            raise Truncated(what, end, self.size)
        if end > MAX_HEADER_BYTES:
            raise BadMetadata(what, f"the header is larger than {MAX_HEADER_BYTES} bytes", self.pos)
        self.fill(end)
        if end > len(self.buf):  # the file is shorter now than it was when opened
            raise Truncated(what, end, len(self.buf))

    def fill(self, end: int) -> None:
        """Read on to `end` or further, as far as the file goes. Read-ahead doubles: short headers take one read."""
        have = len(self.buf)
        ahead = min(max(1 << 16, have), READ_AHEAD)
        self.buf += self.source.read_at(have, min(max(end - have, ahead), self.size - have))

    def u32(self, what: str) -> int:
        self.need(4, what)
        self.pos += 4
        return int(_U32.unpack_from(self.buf, self.pos - 4)[0])

    def u64(self, what: str) -> int:
        self.need(8, what)
        self.pos += 8
        return int(_U64.unpack_from(self.buf, self.pos - 8)[0])

    def finish(self) -> memoryview:
        """The header's bytes, read-only, without what was read ahead."""
        del self.buf[self.pos :]
        return memoryview(self.buf).toreadonly()


def scan_strings(cursor: Cursor, key: str, count: int) -> npt.NDArray[np.int64]:
    """Where each of `count` strings begins, counted from the first, and the end of the last: int64 (count + 1,).

    Leaves the cursor behind the last string.

    Only a string's length tells where the next one is: a chain, and to walk 262,144 links a Python loop takes 25 ms and
    more. But most strings are short and hold no zero bytes, so that a length word stands out: a byte with seven zeros
    behind it. NumPy finds all of these in a window at once, and a run of them in which each one's length leads exactly
    to the next is the chain itself, proved link by link: as exact as walking, several times as fast. Where a run breaks
    (an empty string, one of 256 bytes or more) a loop walks a few links and looks again.

    Raises `Truncated` where a string passes the end of the file.
    """
    begin = cursor.pos
    offsets = np.empty(count + 1, np.int64)
    done, hops = 0, _HOPS
    window: _Window | None = None
    while done < count:
        if count - done > hops:
            if window is None or cursor.pos >= window.end:
                end = min(cursor.pos + _WINDOW, cursor.size)
                if end > len(cursor.buf):
                    cursor.fill(end)
                window = _Window(cursor.buf, cursor.pos, end)
            run, after = window.run(cursor.pos, count - done)
            offsets[done : done + len(run)] = run
            done += len(run)
            cursor.pos = after
            hops = _HOPS if len(run) >= hops else min(2 * hops, _MAX_HOPS)
        done = _walk(cursor, key, offsets, done, min(count, done + hops))
    cursor.need(0, key)  # the last run may have led past the end
    offsets[count] = cursor.pos
    return offsets - begin


def _walk(cursor: Cursor, key: str, offsets: npt.NDArray[np.int64], done: int, stop: int) -> int:
    """Strings `done` to `stop`, one by one; returns `stop`."""
    buf, pos, found = cursor.buf, cursor.pos, []
    for i in range(done, stop):
        if pos + 8 > len(buf):
            cursor.pos = pos
            cursor.need(8, key)
        found.append(pos)
        pos += 8 + _U64.unpack_from(buf, pos)[0]
        if pos > cursor.size:
            raise Truncated(f"string {i} of {key!r}", pos, cursor.size)
    offsets[done:stop] = found
    cursor.pos = pos
    return stop


class _Window:
    """The places in `buf[begin:end]` that look like the length of a string of 1 to 255 bytes, and where each leads."""

    def __init__(self, buf: bytearray, begin: int, end: int) -> None:
        # No view of `buf` may outlive this function: a bytearray that is being looked at cannot grow.
        self.end = end
        a = (
            np.frombuffer(buf, np.uint8, max(0, min(end, len(buf)) - begin), begin)
            if begin < len(buf)
            else np.empty(0, np.uint8)
        )
        zero1 = a[1:] == 0  # [p]: byte p + 1 is zero
        zero2 = zero1[:-1] & zero1[1:]  # bytes p + 1 and p + 2 are
        zero4 = zero2[:-2] & zero2[2:]
        zero7 = zero4[:-3] & zero4[3:]  # bytes p + 1 to p + 7
        at = np.flatnonzero(zero7 & (a[: len(zero7)] != 0))
        self.places = at + begin
        self.leads_to = self.places + 8 + a[at]
        # Candidates whose successor is not the next candidate; the last one always is such.
        self.breaks = np.append(np.flatnonzero(self.leads_to[:-1] != self.places[1:]), len(at) - 1)

    def run(self, pos: int, limit: int) -> tuple[npt.NDArray[np.int64], int]:
        """The strings from `pos` on whose places are certain, 0 to `limit` of them, and the position after them."""
        first = int(np.searchsorted(self.places, pos))
        if first == len(self.places) or self.places[first] != pos:
            return self.places[:0], pos
        last = int(self.breaks[np.searchsorted(self.breaks, first)])
        last = min(last, first + limit - 1)
        return self.places[first : last + 1], int(self.leads_to[last])
