"""What the command line shows: notes and a progress bar on stderr, tables and sizes as text, the nearest of some names.

What it is not: it decides nothing and knows no verb. Only the answer of a verb goes to stdout, and the verb itself
prints it.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self, TextIO


class UsageError(Exception):
    """The command line is wrong; the message is one line that says how."""


def note(text: str, stream: TextIO | None = None) -> None:
    """One line for the user beside the answer: to stderr, so that stdout can be piped."""
    print(text, file=stream or sys.stderr, flush=True)


def printable(text: str) -> str:
    r"""`text` with everything that could steer a terminal written as Python escapes.

    >>> printable("red \x1b[31m")
    'red \\x1b[31m'
    """
    return text if text.isprintable() else repr(text)[1:-1]


def shown(text: str, stream: TextIO) -> str:
    """A text of lines as it goes to a stream: to a terminal without what could steer it, elsewhere as it is."""
    if not stream.isatty():
        return text
    return "".join(piece if piece in ("\n", "\t") else printable(piece) for piece in re.split(r"([\n\t])", text))


def coloured(stream: TextIO) -> bool:
    """Whether colours may go to a stream: it is a terminal that has them, and NO_COLOR is not set (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that begins with `name`, else the one that looks most like it, or None when none comes near.

    >>> nearest("--tmp", ["--temp", "--top-k"])
    '--temp'
    >>> nearest("--top", ["--stop", "--top-k"])
    '--top-k'
    """
    names = list(known)
    if len(name.strip("-")) > 1 and (begun := [n for n in names if n.startswith(name)]):
        return min(begun, key=len)
    found = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return found[0] if found else None


def size(n_bytes: float) -> str:
    """Bytes for a reader, in decimal units (1 MB = 1e6), three digits or so.

    >>> size(98362432), size(2304), size(12)
    ('98.4 MB', '2.3 kB', '12 B')
    """
    if n_bytes < 1000:
        return f"{n_bytes:.0f} B"
    for unit in ("kB", "MB", "GB"):
        n_bytes /= 1000
        if n_bytes < 999.95 or unit == "GB":
            break
    return f"{n_bytes:.1f} {unit}"


def table(rows: Sequence[Sequence[object]], header: Sequence[str] = (), right: Iterable[int] = ()) -> str:
    """Rows as aligned text; columns in `right` are flush right. No trailing spaces.

    >>> print(table([("a", 1), ("bcd", 23)], right=[1]))
    a     1
    bcd  23
    """
    cells = [[str(c) for c in row] for row in ([header, *rows] if header else rows)]
    if not cells:
        return ""
    flush_right = set(right)
    width = [max(len(row[i]) for row in cells if i < len(row)) for i in range(max(map(len, cells)))]
    lines = [
        "  ".join(c.rjust(width[i]) if i in flush_right else c.ljust(width[i]) for i, c in enumerate(row))
        for row in cells
    ]
    return "\n".join(line.rstrip() for line in lines)


class Progress:
    """A progress bar on stderr. On a terminal it is redrawn in place; elsewhere it is one line per quarter, so a log
    stays short.

    >>> with Progress("smollm2", total=1000, shown=False) as bar:
    ...     bar.update(500)
    """

    WIDTH = 28

    def __init__(
        self, label: str, total: int, stream: TextIO | None = None, shown: bool = True, begin: int = 0
    ) -> None:
        """`begin`: bytes that were there before, which say nothing of the rate."""
        self.label, self.total, self.shown, self.begin = label, max(total, 1), shown, begin
        self.stream = stream or sys.stderr
        self.live = shown and self.stream.isatty()
        self.start = time.monotonic()
        self.quarter = 0
        self.open = False  # a redrawn line stands without its line break

    def line(self, done: int) -> str:
        """The bar at `done` bytes: label, bar, sizes, rate, and the time that is left."""
        share = min(done / self.total, 1.0)
        full = int(share * self.WIDTH)
        rate = (done - self.begin) / max(time.monotonic() - self.start, 1e-3)
        left = f"{(self.total - done) / rate:4.0f} s left" if self.begin < done < self.total else ""
        bar = "#" * full + "." * (self.WIDTH - full)
        return f"{self.label} [{bar}] {share:4.0%}  {size(done)} of {size(self.total)}  {size(rate)}/s  {left}".rstrip()

    def update(self, done: int) -> None:
        """Show that `done` bytes are there."""
        if self.live:
            self.stream.write("\r" + self.line(done) + "\x1b[K")
            self.stream.flush()
            self.open = True
        elif self.shown and 4 * done // self.total > self.quarter:
            self.quarter = 4 * done // self.total
            note(self.line(done), self.stream)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.update(self.total)
        if self.open:
            self.stream.write("\n")
            self.stream.flush()


class Windows(Progress):
    """A bar that counts windows of a text; `says` is what has been found so far."""

    says = ""

    def line(self, done: int) -> str:
        """The bar after `done` windows: label, bar, numbers, `says`, and the time that is left."""
        full = self.WIDTH * done // self.total
        bar = "#" * full + "." * (self.WIDTH - full)
        left = (time.monotonic() - self.start) * (self.total - done) / max(done, 1)
        rest = f", {left:.0f} s left" if 0 < done < self.total else ""
        return f"{self.label} [{bar}] {done} of {self.total} windows{self.says}{rest}"
