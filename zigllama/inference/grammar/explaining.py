"""What became of a text that a machine read: how far, what could have followed, and why it did not, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from .machine import DEAD


class NextStates(Protocol):
    """A machine that tells all that may follow at once, as NativeMachine does."""

    def next_states(self, state: int) -> Any: ...

    def finished(self, state: int) -> bool: ...


@dataclass(frozen=True)
class Explanation:
    """What became of a text.

    accepted   whether it is a whole text of the grammar
    complete   whether all of it was read: it is one, or the beginning of one
    offset     bytes that were read; the next one is refused
    found      that byte, None at the end of the text
    expected   what might have followed, in words
    finished   whether the text might have ended at `offset`
    """

    accepted: bool
    complete: bool
    offset: int
    found: int | None
    expected: str
    finished: bool
    what: str

    def __bool__(self) -> bool:
        return self.accepted

    def __str__(self) -> str:
        may = "the end, or " if self.finished else ""
        if self.accepted:
            return f"accepted by {self.what}" + (f"; {self.expected} might follow" if self.expected else "")
        if self.found is None:
            return f"the text ends after {self.offset} bytes, where {self.what} expects {self.expected}"
        expected = f"{may}{self.expected}" if self.expected else "the end"
        return f"at byte {self.offset} {named(self.found)} is refused: {self.what} expects {expected}"


def said_of(text: bytes, n: int, machine: NextStates, state: int, what: str) -> Explanation:
    """The Explanation of a text of which n bytes were read, up to `state`."""
    following = [b for b, to in enumerate(machine.next_states(state).tolist()) if to != DEAD]
    finished = machine.finished(state)
    complete = n == len(text)
    return Explanation(
        complete and finished, complete, n, None if complete else text[n], ranges(following), finished, what
    )


def ranges(listed: list[int]) -> str:
    """Bytes in words, ascending: `"a" to "f", "x" or byte 0x0a`."""
    runs: list[tuple[int, int]] = []
    for b in listed:
        if runs and runs[-1][1] == b - 1 and (b < 0x80) == (runs[-1][0] < 0x80):
            runs[-1] = runs[-1][0], b
        else:
            runs.append((b, b))
    if sum(1 for lo, hi in runs if lo >= 0x80) and listed and min(listed) < 0x80:
        runs = [r for r in runs if r[0] < 0x80]
        words = [_run(lo, hi) for lo, hi in runs] + ["a character beyond ASCII"]
    else:
        words = [_run(lo, hi) for lo, hi in runs]
    return " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def _run(lo: int, hi: int) -> str:
    if lo == hi:
        return named(lo)
    return f"{named(lo)}, {named(hi)}" if hi == lo + 1 else f"{named(lo)} to {named(hi)}"


def named(byte: int) -> str:
    """A byte as it is written in a message."""
    return f'"{chr(byte)}"' if 0x20 < byte < 0x7F else "a space" if byte == 0x20 else f"byte 0x{byte:02x}"
