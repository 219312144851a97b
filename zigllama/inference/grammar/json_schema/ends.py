"""Whether what has been begun can be brought to an end: a search, where there is no simpler way to know.

A text that must differ from others is near to ends that may all be barred (prints.py); the items of an array may have
to satisfy this and not that, so many times. `reaches` looks from where one stands for a place where it may end, and
remembers what it found on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Protocol, Self, TypeVar

from .languages import UTF8

N = TypeVar("N", bound=Hashable)
PATIENCE = 2_000  # places that one search comes to; then an end is taken for granted
# of each state of UTF-8 the bytes that may come and the states after them, letters first: most texts may go on so
EDGES = {
    state: sorted(((b, to) for lo, hi, to in edges for b in range(lo, hi + 1)), key=lambda e: not 0x61 <= e[0] <= 0x7A)
    for state, edges in UTF8.items()
}


def reaches(
    start: N,
    ends: Callable[[N], bool],
    after: Callable[[N], Iterable[N]],
    known: dict[N, bool],
    patience: int = PATIENCE,
) -> bool:
    """Whether a place where `ends` is true is reached from `start`; `known`: what was found before and is found now."""
    if start in known:
        return known[start]
    seen = {start}
    path: list[tuple[N, Iterator[N] | None]] = [(start, None)]
    while path:
        at, rest = path[-1]
        if rest is None:
            found = known.get(at)
            if found or (found is None and ends(at)):
                known.update((each, True) for each, _ in path)
                return True
            rest = iter(()) if found is False else iter(after(at))
            path[-1] = at, rest
        following = next((each for each in rest if each not in seen), None)
        if following is None:
            path.pop()
            continue
        seen.add(following)
        path.append((following, None))
        patience -= 1
        if not patience:
            return True
    known.update((each, False) for each in seen)
    return False


class Searched(Protocol):
    """What takes a text in byte by byte, where it can come to one that may not come."""

    def feed(self, byte: int) -> Self | None:
        """After one more byte, whether it can end or not."""

    def close(self) -> object | None:
        """The result, if it may end here."""


def can_end(listener: Searched, known: dict[tuple[Searched, int], bool], within: int = 0) -> bool:
    """Whether the text can be brought to an end that is allowed. `within`: the state of UTF-8 (languages.py), 0 between
    characters.
    """

    def after(node: tuple[Searched, int]) -> Iterator[tuple[Searched, int]]:
        for byte, to in EDGES[node[1]]:
            following = node[0].feed(byte)
            if following is not None:
                yield following, to

    return reaches((listener, within), lambda node: not node[1] and node[0].close() is not None, after, known)
