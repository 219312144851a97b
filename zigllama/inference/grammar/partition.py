"""Which states of a deterministic automaton have the same language: a partition that is refined until each of its sets
behaves as one state (Valmari and Lehtinen, 2008).

    blocks(3, [(0, 97, 1), (0, 98, 2)], [1, 2])     [1, 0, 0]: after a and after b the same may follow, which is nothing

Automata themselves, and what else is done with them, are dfa.py's matter.
"""

from __future__ import annotations

from collections.abc import Iterable


class Partition:
    """A partition of 0..n-1 whose sets are split by marking some of their members."""

    def __init__(self, n: int) -> None:
        self.elements, self.location, self.set = list(range(n)), list(range(n)), [0] * n
        self.first, self.past, self.marked = [0], [n], [0]
        self.touched: list[int] = []

    def mark(self, e: int) -> None:
        """e goes to its set's front, among the marked."""
        s, i = self.set[e], self.location[e]
        j = self.first[s] + self.marked[s]
        if i < j:
            return
        other = self.elements[j]
        self.elements[i], self.location[other] = other, i
        self.elements[j], self.location[e] = e, j
        if not self.marked[s]:
            self.touched.append(s)
        self.marked[s] += 1

    def split(self) -> None:
        """Every set with marked and unmarked members becomes two; the smaller gets the new number."""
        while self.touched:
            s = self.touched.pop()
            j = self.first[s] + self.marked[s]
            if j < self.past[s]:
                new = len(self.first)
                if self.marked[s] <= self.past[s] - j:
                    self.first.append(self.first[s])
                    self.past.append(j)
                    self.first[s] = j
                else:
                    self.first.append(j)
                    self.past.append(self.past[s])
                    self.past[s] = j
                self.marked.append(0)
                for i in range(self.first[new], self.past[new]):
                    self.set[self.elements[i]] = new
            self.marked[s] = 0

    def members(self, s: int) -> list[int]:
        """The members of a set, as they are now."""
        return self.elements[self.first[s] : self.past[s]]


def blocks(n: int, triples: list[tuple[int, int, int]], finals: Iterable[int]) -> list[int]:
    """Of each of n states, the number of its class of states that have the same language; `triples`: (state, symbol,
    next state), trimmed. O(m log n) for m of them (Valmari and Lehtinen, 2008).
    """
    into: list[list[int]] = [[] for _ in range(n)]
    by_symbol: dict[int, list[int]] = {}
    for t, (_, symbol, to) in enumerate(triples):
        into[to].append(t)
        by_symbol.setdefault(symbol, []).append(t)
    states, cords = Partition(n), Partition(len(triples))
    for state in finals:
        states.mark(state)
    states.split()
    for group in list(by_symbol.values())[1:]:
        for t in group:
            cords.mark(t)
        cords.split()
    block, cord = 1, 0
    while cord < len(cords.first) and triples:
        for t in cords.members(cord):
            states.mark(triples[t][0])
        states.split()
        cord += 1
        while block < len(states.first):
            for state in states.members(block):
                for t in into[state]:
                    cords.mark(t)
            cords.split()
            block += 1
    return states.set
