"""What places say, as numbers: the rows that core/json_schema.c asks for, one at a time, and keeps.

A place tells where, among the 256 bytes, what it does may change (`cuts`), so that each run of bytes is asked about
once.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Protocol

from .transducer import Go, Over, Place, Pop, Push

GO, PUSH, POP, OVER = range(4)
NONE = -1
BYTES = 256


class Cut(Place, Protocol):
    """A place that tells where its bytes change."""

    def cuts(self) -> Iterable[int]:
        """Bytes that may do something else than the one before them."""


class Book(Protocol):
    """Places by their numbers."""

    places: list[Cut]


class Tables:
    """Rows and ends of the places of a schema; results are numbered in the order in which they are come across."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.results: list[object] = []
        self._numbers: dict[object, int] = {}

    def _result(self, result: object) -> int:
        found = self._numbers.get(result)
        if found is None:
            found = self._numbers[result] = len(self.results)
            self.results.append(result)
        return found

    def row(self, place: int) -> tuple[list[int], list[int]]:
        """257 entries, and the pairs (child, frame) that those of kind PUSH are indices of, one after the other."""
        at = self.book.places[place]
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
