"""Languages of which all is known: minimal automata, from every state of which the string can end.

    a = Whole(dfa.determinise(regex.expression("^a+$")))
    a.shortest                   # of each state: how many characters more a string has at least
    a.at_least(3)                # its strings of 3 characters and more

Most expressions are soon made whole (`soon`), and then nothing has to be searched for any more: a string of at most so
many characters can be finished where the shortest end is near enough. It is what C reads strings with, too (`table`).
What is too large to be made whole at once is languages.py's to make as it is needed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zigllama.errors import GrammarBudget
from zigllama.inference.grammar import dfa
from zigllama.inference.grammar.ir import Automaton
from zigllama.inference.grammar.nfa import Nfa
from zigllama.inference.grammar.subsets import Work

DEAD = -1
SOON_WORK, SOON_STATES = 3_000, 300  # what `soon` spends: a few milliseconds, a few hundred kilobytes
PURSE = 40_000  # and on all expressions of a schema: a tenth of a second
COUNTED = 2_000  # states of an automaton that counts characters, or follows several others
MULTIPLIED = 4_000  # of two automata side by side
Row = tuple[tuple[int, int, int], ...]


class Table(NamedTuple):
    """An automaton as C has it."""

    class_of: bytes  # of each of the 256 bytes its class
    next: npt.NDArray[np.int32]  # [state][class] the state after it, or DEAD
    shortest: npt.NDArray[np.int32]  # [state] characters that must follow
    finals: frozenset[int]  # states where a string may end

    def packed(self) -> bytes:
        """As bytes: the numbers of states and of classes, the classes, the states after each, and of each state its
        shortest end, twice, and whether it is one."""
        n, k = self.next.shape
        ends = 2 * self.shortest + np.array([state in self.finals for state in range(n)])
        return np.array([n, k], "<i2").tobytes() + self.class_of + np.append(self.next, ends).astype("<i2").tobytes()

    @classmethod
    def unpacked(cls, data: bytes) -> Table:
        """Of such bytes."""
        n, k = np.frombuffer(data, "<i2", 2).tolist()
        numbers = np.frombuffer(data, "<i2", n * (k + 1), 260).astype(np.int32)
        ends = numbers[n * k :]
        return cls(data[4:260], numbers[: n * k].reshape(n, k), ends >> 1, frozenset(np.flatnonzero(ends & 1).tolist()))


class Whole:
    """See above; `a` is minimal and not empty. Compared as an object: whoever makes it keeps it."""

    def __init__(self, a: Automaton | Table) -> None:
        self._a = a
        self.finals = a.finals

    @cached_property
    def automaton(self) -> Automaton:
        """The same as dfa.py has it."""
        return Automaton(self.edges, self.finals)

    @cached_property
    def edges(self) -> tuple[Row, ...]:
        """Of each state where which bytes lead."""
        if isinstance(self._a, Automaton):
            return self._a.edges
        of, found = np.frombuffer(self._a.class_of, np.uint8), []
        for after in self._a.next:
            whole = after[of]
            cuts = [0, *(np.flatnonzero(np.diff(whole)) + 1).tolist(), 256]
            found.append(tuple((lo, end - 1, int(whole[lo])) for lo, end in pairwise(cuts) if whole[lo] != DEAD))
        return tuple(found)

    def row(self, state: int) -> Row:
        """Where which bytes lead."""
        return self.edges[state]

    def step(self, state: int, byte: int) -> int:
        """The state after a byte, or DEAD."""
        row = self.edges[state]
        i = bisect_right(row, (byte, 256, 0)) - 1
        return row[i][2] if i >= 0 and byte <= row[i][1] else DEAD

    def finished(self, state: int) -> bool:
        """Whether the string may end here."""
        return state in self.finals

    @cached_property
    def shortest(self) -> list[int]:
        """Of each state: the fewest characters after which a string may end; those of which a part has come not
        counted."""
        if isinstance(self._a, Table):
            return list(map(int, self._a.shortest))
        back: list[list[tuple[int, int]]] = [[] for _ in self.edges]
        for state, row in enumerate(self.edges):
            for low, _, to in row:
                back[to].append((state, 0 if 0x80 <= low <= 0xBF else 1))
        far = [-1] * len(self.edges)
        todo = deque((state, 0) for state in self.finals)
        while todo:  # in the order of their distance (Dial, 1969: what costs nothing goes to the front)
            state, n = todo.popleft()
            if far[state] >= 0:
                continue
            far[state] = n
            for before, more in back[state]:
                if far[before] < 0:
                    (todo.append if more else todo.appendleft)((before, n + more))
        return far

    @lru_cache(maxsize=256)  # noqa: B019  (a few hundred automata at most)
    def at_least(self, n: int) -> Whole | None:
        """Its strings of so many characters and more; None: too many states, or there are none."""
        if n <= self.shortest[0]:
            return self
        if n * len(self.edges) > COUNTED:
            return None
        made = dfa.Lazy(_Counted(self, n), COUNTED).whole()
        return None if dfa.is_empty(made) else Whole(made)

    @cached_property
    def table(self) -> Table:
        """The same for C."""
        if isinstance(self._a, Table):
            return self._a
        whole = np.full((len(self.edges), 256), DEAD, np.int32)
        for state, row in enumerate(self.edges):
            for lo, hi, to in row:
                whole[state, lo : hi + 1] = to
        columns: dict[bytes, int] = {}
        of = [columns.setdefault(column.tobytes(), len(columns)) for column in np.ascontiguousarray(whole.T)]
        first = [of.index(c) for c in range(len(columns))]
        shortest = np.array(self.shortest, np.int32)
        return Table(bytes(of), np.ascontiguousarray(whole[:, first]), shortest, self.finals)


class _Counted:
    """A source for dfa.Lazy: an automaton beside a count of characters up to n. Key: (state, count)."""

    def __init__(self, whole: Whole, n: int) -> None:
        self.whole, self.n = whole, n
        self.initial = (0, 0)

    def final(self, key: Any) -> bool:
        """Whether the string may end here."""
        return key[1] >= self.n and self.whole.finished(key[0])

    def row(self, key: Any) -> list[tuple[int, int, Any]]:
        """Where which bytes lead."""
        state, n = key
        return [(lo, hi, (to, n if 0x80 <= lo <= 0xBF else min(n + 1, self.n))) for lo, hi, to in self.whole.row(state)]


@lru_cache(maxsize=64)
def either(members: frozenset[Whole]) -> Whole | None:
    """The strings of any of some automata; None: too many states."""
    found, *others = sorted((w.automaton for w in members), key=lambda a: len(a.edges))
    for other in others:
        if len(found.edges) * len(other.edges) > MULTIPLIED:
            return None
        found = dfa.union(found, other)
    return Whole(found)


@lru_cache(maxsize=64)
def within(a: Whole, b: Whole) -> bool:
    """Whether all strings of the first are of the second, as far as that is soon said."""
    few = len(a.edges) * len(b.edges) <= MULTIPLIED
    return few and dfa.is_empty(dfa.difference(a.automaton, b.automaton))


def one_of(ways: Sequence[tuple[Whole | None, int | None]]) -> tuple[Whole, int | None] | None:
    """The strings of any of some automata, each of so many characters at most (None: any number), as one automaton and
    its bound; None: it is not known."""
    known = [(whole, most) for whole, most in ways if whole is not None]
    if len(known) < len(ways):
        return None
    if len(known) == 1:
        return known[0]
    free = frozenset(whole for whole, most in known if most is None)
    joined = either(free) if free else None
    inside = joined is not None and all(most is None or within(whole, joined) for whole, most in known)
    return (joined, None) if joined is not None and inside else None


class Labelled(NamedTuple):
    """An automaton, and of each state which members' strings end there; None: none that is wanted."""

    whole: Whole
    labels: tuple[tuple[bool, ...] | None, ...]


@lru_cache(maxsize=64)
def labelled(members: tuple[Whole, ...], wanted: frozenset[tuple[bool, ...]]) -> Labelled | None:
    """All strings in UTF-8 that are of just such members as one of `wanted` says; None: too many states, or none."""
    followed = (*members, Whole(dfa.all_text()))
    keys: list[tuple[int, ...]] = [(0,) * len(followed)]
    known = {keys[0]: 0}
    rows: list[Row] = []
    labels: list[tuple[bool, ...] | None] = []
    for key in keys:
        so = tuple(q != DEAD and w.finished(q) for w, q in zip(followed, key, strict=True))
        labels.append(so[:-1] if so[-1] and so[:-1] in wanted else None)
        cells = [w.row(q) if q != DEAD else () for w, q in zip(followed, key, strict=True)]
        cuts = sorted({cut for row in cells for lo, hi, _ in row for cut in (lo, hi + 1)})
        row: list[tuple[int, int, int]] = []
        for lo, end in pairwise(cuts):
            to = tuple(w.step(q, lo) if q != DEAD else DEAD for w, q in zip(followed, key, strict=True))
            if to[-1] == DEAD:
                continue
            if to not in known:
                known[to] = len(keys)
                keys.append(to)
            row.append((lo, end - 1, known[to]))
        rows.append(tuple(row))
        if len(keys) > COUNTED:
            return None
    finals = frozenset(i for i, label in enumerate(labels) if label is not None)
    order, made = dfa.trimmed(Automaton(tuple(rows), finals))
    return None if dfa.is_empty(made) else Labelled(Whole(made), tuple(labels[i] for i in order))


def soon(e: Any, purse: Work) -> Whole | dfa.Lazy | None:
    """The language of a regular expression, whole where that is soon done, else made as it is needed; None: it has no
    strings. `purse`: what may be spent on many, of which each takes what it needs."""
    nfa = Nfa(e)
    made, work = None, Work(min(SOON_WORK, purse.limit - purse.done))
    with suppress(GrammarBudget):
        made = e if isinstance(e, Automaton) else dfa.determinise(nfa, work)
    purse.done = min(purse.limit, purse.done + work.done)
    if made is None or len(made.edges) > SOON_STATES:
        return dfa.Lazy(dfa.InBytes(nfa, Work()))
    return None if dfa.is_empty(made) else Whole(made)
