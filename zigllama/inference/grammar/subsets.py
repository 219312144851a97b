"""Determinising: which nodes of an Nfa a text may have led to, as one state (Rabin and Scott, 1959), with looks as
further conditions.

A state is a key that can be hashed, and a source says of a key which classes of symbols lead to which keys:

    source.initial        the key before the first symbol
    source.row(key)       {class: key}; what is not there leads nowhere
    source.final(key)     whether the text may end here

Without looks a key is the set of nodes that are about to read (`Subsets`). With looks (`Looks`) it is a set of
threads: a node, and what must yet come true of the rest of the text for the thread to count (what looks ahead still
look for), each of them a set of threads again; and beside them, for each look behind, the nodes of an automaton that
reads along from the beginning. That is an alternating automaton (Chandra, Kozen and Stockmeyer, 1981) made
deterministic. What it is not: lazy or interned; dfa.py is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from zigllama.errors import GrammarBudget

from .nfa import ACCEPT, AHEAD, BEHIND, END, FORK, READ, START, TAIL, Nfa

MAX_WORK = 800_000  # nodes looked at while states are made: in Python most of a second, and at most 60 MB


class Source(Protocol):
    """See above."""

    initial: Any

    def row(self, key: Any) -> dict[int, Any]:
        """Where which classes lead."""

    def final(self, key: Any) -> bool:
        """Whether the text may end here."""


class Work:
    """Counts what has been done. Raises GrammarBudget when it is too much."""

    def __init__(self, limit: int = MAX_WORK, what: str = "steps to determinise a regular expression") -> None:
        self.done, self.limit, self.what = 0, limit, what

    def add(self, n: int) -> None:
        """So much more."""
        self.done += n
        if self.done > self.limit:
            raise GrammarBudget(self.what, self.done, self.limit)


class Subsets:
    """Of an automaton without looks (the edges START and END may be there). Key: (nodes that read, ascending; whether
    the text may end). A tuple has an eighth of what a set of the same nodes takes.
    """

    def __init__(self, nfa: Nfa, work: Work) -> None:
        self.nfa, self.work = nfa, work
        self.known: dict[int, tuple[tuple[int, ...], bool]] = {}
        self.joined: dict[tuple[int, ...], tuple[tuple[int, ...], bool]] = {}
        self.initial = self._closure(nfa.first, True)

    def final(self, key: Any) -> bool:
        """Whether the text may end here."""
        return bool(key[1])

    def row(self, key: Any) -> dict[int, Any]:
        """Where which classes lead."""
        everywhere: set[int] = set()  # nodes that any symbol leads to: a search has one, and thousands of classes
        group: dict[int, int] = {}  # of a class: classes that lead to the same nodes are one group
        added: list[tuple[int, int]] = [(0, 0)]  # of a group: the group that it has one node more than, and that node
        for node in key[0]:
            classes, after = self.nfa.data[node]
            self.work.add(1 + len(classes))
            if len(classes) == self.nfa.symbols:
                everywhere.add(after)
                continue
            moved: dict[int, int] = {}
            for c in classes:
                before = group.get(c, 0)
                if before not in moved:
                    moved[before] = len(added)
                    added.append((before, after))
                group[c] = moved[before]
        row: dict[int, Any] = {}
        if everywhere and any(reached := self._join(everywhere)):
            row = dict.fromkeys(range(self.nfa.symbols), reached)
        leads = {}
        for g in set(group.values()):
            nodes, at = set(everywhere), g
            while at:
                at, node = added[at]
                nodes.add(node)
            leads[g] = self._join(nodes)
        row.update((c, leads[g]) for c, g in group.items() if any(leads[g]))
        return row

    def _join(self, nodes: set[int]) -> tuple[tuple[int, ...], bool]:
        """What several nodes lead to."""
        if len(nodes) == 1:
            (only,) = nodes
            return self._closure(only)
        key = tuple(sorted(nodes))
        if key not in self.joined:
            closures = [self._closure(node) for node in key]
            self.work.add(sum(len(reads) for reads, _ in closures))
            reads = set[int]().union(*(reads for reads, _ in closures))
            self.joined[key] = tuple(sorted(reads)), any(ends for _, ends in closures)
        return self.joined[key]

    def _closure(self, node: int, at_start: bool = False) -> tuple[tuple[int, ...], bool]:
        """The reading nodes that a node leads to without a symbol, and whether it leads to acceptance."""
        if not at_start and node in self.known:
            return self.known[node]
        seen = {node}
        ends = set[int]()  # what is reached at the end of the text, where nothing can be read any more
        reads, may_end = self._walk(seen, at_start, ends)
        if ends:
            may_end |= self._walk(ends, at_start, ends)[1]
        self.work.add(len(seen) + len(ends))
        found = (tuple(sorted(reads)), may_end)
        if not at_start:
            self.known[node] = found
        return found

    def _walk(self, seen: set[int], at_start: bool, ends: set[int]) -> tuple[list[int], bool]:
        """Adds to nodes what they lead to without a symbol; to `ends` what they lead to if the text ends.
        -> the reading ones, and whether there is acceptance"""
        kinds, data = self.nfa.kinds, self.nfa.data
        reads: list[int] = []
        may_end = False
        todo = list(seen)
        for at in todo:  # which grows on the way
            kind = kinds[at]
            if kind == READ:
                reads.append(at)
            elif kind == FORK:
                for way in data[at]:
                    if way not in seen:
                        seen.add(way)
                        todo.append(way)
            elif kind == ACCEPT:
                may_end = True
            elif kind == END or at_start:
                into = ends if kind == END else seen
                if data[at] not in into:
                    into.add(data[at])
                    if into is seen:
                        todo.append(data[at])
        return reads, may_end


_Threads = frozenset[
    Any
]  # of (node that reads, or that is a TAIL; conditions); a condition: (negated, threads, may end)
_NONE: frozenset[Any] = frozenset()
_FOUND = (-1, _NONE)  # the thread of what was found, whatever follows


class Looks:
    """Of any automaton. Key: (reading nodes of each look behind, threads, whether the text may end)."""

    def __init__(self, nfa: Nfa, work: Work) -> None:
        self.nfa, self.work = nfa, work
        behinds, truth = self._behinds([{first} for first in nfa.behinds], True)
        self.initial = (behinds, *self._closure([(nfa.first, _NONE)], truth, True))

    def final(self, key: Any) -> bool:
        """Whether the text may end here."""
        return bool(key[2])

    def row(self, key: Any) -> dict[int, Any]:
        """Where which classes lead."""
        behinds, threads, _ = key
        out: dict[int, Any] = {}
        for c in range(self.nfa.symbols):
            after, truth = self._behinds([self._read(reads, c) for reads in behinds], False)
            moved, may_end = self._move(threads, c, truth, {})
            if moved or may_end:
                out[c] = (after, moved, may_end)
        return out

    def _read(self, reads: frozenset[int], symbol: int) -> set[int]:
        self.work.add(len(reads))
        return {self.nfa.data[node][1] for node in reads if symbol in self.nfa.data[node][0]}

    def _behinds(self, begins: Any, at_start: bool) -> tuple[tuple[frozenset[int], ...], tuple[bool, ...]]:
        """The closures of all looks behind, in their order, and of each whether it holds here."""
        sets: list[frozenset[int]] = []
        truth: list[bool] = []
        for begin in begins:
            seen = set(begin)
            todo = list(seen)
            reads: set[int] = set()
            holds = False
            while todo:
                at = todo.pop()
                kind, data = self.nfa.kinds[at], self.nfa.data[at]
                if kind == READ:
                    reads.add(at)
                holds |= kind == ACCEPT
                for way in self._ways(kind, data, truth, at_start):
                    if way not in seen:
                        seen.add(way)
                        todo.append(way)
            self.work.add(len(seen))
            sets.append(frozenset(reads))
            truth.append(holds)
        return tuple(sets), tuple(truth)

    @staticmethod
    def _ways(kind: int, data: Any, truth: Any, at_start: bool) -> tuple[int, ...]:
        """Where a node leads without a symbol; looks ahead and the end of the text apart."""
        if kind == FORK:
            return tuple(data)
        if kind == START:
            return (data,) if at_start else ()
        if kind == BEHIND:
            return (data[2],) if truth[data[1]] != data[0] else ()
        return ()

    def _move(self, threads: _Threads, symbol: int, truth: Any, known: dict[Any, Any]) -> tuple[_Threads, bool]:
        """The threads after a symbol, and whether the text may end then."""
        if threads in known:
            return known[threads]  # type: ignore[no-any-return]
        self.work.add(2 * len(threads))
        begins: list[tuple[int, Any]] = []
        found: set[Any] = set()
        for node, conditions in threads:
            if node >= 0 and symbol not in self.nfa.data[node][0]:
                continue
            moved = ((negated, *self._move(inner, symbol, truth, known)) for negated, inner, _ in conditions)
            kept = self._settle(moved)
            if kept is None:
                continue
            if node < 0:
                found.add((node, kept))
            else:
                begins.append((self.nfa.data[node][1], kept))
        after, may_end = self._closure(begins, truth, False)
        may_end |= any(_hold(kept) for _, kept in found)
        known[threads] = reached = (after | found, may_end)
        return reached

    @staticmethod
    def _settle(conditions: Iterable[tuple[bool, _Threads, bool]]) -> frozenset[Any] | None:
        """The conditions that are still open; None when one has failed."""
        kept = []
        for negated, threads, may_end in conditions:
            if _FOUND in threads:
                if negated:
                    return None
            elif threads or may_end:
                kept.append((negated, threads, may_end))
            elif not negated:  # it can no longer be found
                return None
        return frozenset(kept)

    def _closure(self, begins: Any, truth: Any, at_start: bool) -> tuple[_Threads, bool]:
        """The threads that (node, conditions) lead to without a symbol, and whether the text may end here."""
        threads: set[Any] = set()
        may_end = False
        seen = set(begins)
        todo = list(seen)
        while todo:
            at, conditions = todo.pop()
            self.work.add(3 + len(conditions))  # sets to be joined and hashed
            kind, data = self.nfa.kinds[at], self.nfa.data[at]
            ways = [(way, conditions) for way in self._ways(kind, data, truth, at_start)]
            if kind == READ:
                threads.add((at, conditions))
            elif kind in (ACCEPT, TAIL):
                may_end |= _hold(conditions)
                if kind == TAIL:
                    threads.add((-1, conditions))
            elif kind == END:
                may_end |= _hold(conditions) and self._ends(data, truth, at_start)
            elif kind == AHEAD:
                more = self._settle([(data[0], *self._closure([(data[1], _NONE)], truth, at_start))])
                if more is not None:
                    ways.append((data[2], conditions | more))
            for way in ways:
                if way not in seen:
                    seen.add(way)
                    todo.append(way)
        return (frozenset([_FOUND]) if _FOUND in threads else frozenset(threads)), may_end

    def _ends(self, node: int, truth: Any, at_start: bool) -> bool:
        """Whether a node leads to acceptance without a symbol, at the end of the text."""
        seen = {node}
        todo = [node]
        while todo:
            self.work.add(1)
            at = todo.pop()
            kind, data = self.nfa.kinds[at], self.nfa.data[at]
            if kind in (ACCEPT, TAIL):
                return True
            ways = self._ways(kind, data, truth, at_start)
            if kind == END:
                ways = (data,)
            elif kind == AHEAD and self._ends(data[1], truth, at_start) != data[0]:
                ways = (data[2],)
            for way in ways:
                if way not in seen:
                    seen.add(way)
                    todo.append(way)
        return False


def _hold(conditions: frozenset[Any]) -> bool:
    """Whether all conditions hold where the text ends here."""
    return all(may_end != negated for negated, _, may_end in conditions)


def source_of(nfa: Nfa, work: Work) -> Source:
    """Subsets where there are no looks, Looks where there are."""
    return Looks(nfa, work) if AHEAD in nfa.kinds or BEHIND in nfa.kinds else Subsets(nfa, work)
