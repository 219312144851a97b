"""What places say, as numbers: the rows that core/json_schema.c asks for, one at a time, and keeps.

A place tells where, among the 256 bytes, what it does may change (`cuts`), so that each run of bytes is asked about
once.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Protocol

from .transducer import SPACE, Go, Over, Place, Pop, Push

GO, PUSH, POP, OVER = range(4)
NONE = -1
BYTES = 256


class Cut(Place, Protocol):
    """A place that tells where its bytes change."""

    def cuts(self) -> Iterable[int]:
        """Bytes that may do something else than the one before them."""

    def like(self) -> Cut | None:
        """Another place, where all but whitespace does the same; None: no other is known."""


class Book(Protocol):
    """Places by their numbers."""

    places: list[Cut]


class Tables:
    """Rows and ends of the places of a schema; results are numbered in the order in which they are come across."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.results: list[object] = []
        self._numbers: dict[object, int] = {}
        self._kept: dict[int, tuple[list[int], list[int]]] = {}  # rows of places that others are like

    def _result(self, result: object) -> int:
        found = self._numbers.get(result)
        if found is None:
            found = self._numbers[result] = len(self.results)
            self.results.append(result)
        return found

    def row(self, place: int) -> tuple[list[int], list[int]]:
        """257 entries, and the pairs (child, frame) that those of kind PUSH are indices of, one after the other."""
        at = self.book.places[place]
        other = at.like()
        if other is None:
            return self._row(at)
        if other.number not in self._kept:
            self._kept[other.number] = self._row(other)
        row, pairs = self._kept[other.number]
        if other is not at:
            row = row.copy()
            for byte in SPACE:
                match at.act(byte):
                    case Go(to):
                        row[byte] = to.number << 2 | GO
                    case action:
                        assert action is None, "whitespace only leads on"
                        row[byte] = NONE
        return row, pairs

    def _row(self, at: Cut) -> tuple[list[int], list[int]]:
        row: list[int] = []
        pairs: dict[tuple[int, int], int] = {}
        bounds = sorted({0, BYTES, *at.cuts()})
        for low, end in itertools.pairwise(bounds):
            match at.act(low):
                case None:
                    entry = NONE
                case Go(to):
                    entry = to.number << 2 | GO
                case Push(child, frame):
                    entry = pairs.setdefault((child.number, frame.number), len(pairs)) << 2 | PUSH
                case Pop(result):
                    entry = self._result(result) << 2 | POP
                case Over(result):
                    entry = self._result(result) << 2 | OVER
            row += [entry] * (end - low)
        ended = at.ended()
        row.append(NONE if ended is None else self._result(ended))
        return row, [n for pair in pairs for n in pair]

    def after(self, frame: int, result: int) -> int:
        """The place after a value with this result, or NONE."""
        place = self.book.places[frame].after(self.results[result])
        return NONE if place is None else place.number
