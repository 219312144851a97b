"""A regular expression as a nondeterministic automaton (Thompson, 1968), with assertions on its edges.

Nodes are numbers. A node either reads a symbol or leads on without one:

    READ    a symbol of a set, then to `next`
    FORK    to any of these nodes
    ACCEPT  the text matches, if it ends here
    TAIL    the text matches, whatever follows (only in what a look ahead looks for)
    START   to `next`, if this is the beginning of the text; END: if it is its end
    AHEAD   to `next`, if what follows matches another expression, or if it does not
    BEHIND  to `next`, if what came before does, or does not

Symbols are characters where the expression is made of characters, else bytes. What is told apart is few: `symbols` are
classes of them, such that two of one class are in the same sets. An expression is one of ir.py's (without Ref) with
three more forms in it, which only regular expressions have: Start, End and Look. What the assertions come to is
subsets.py's matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zigllama.errors import GrammarBudget, GrammarError, UnsupportedSyntax
from zigllama.models.code_point_sets import Set, complement, intersection, union

from .ir import Alt, Automaton, Bytes, Chars, Literal, Repeat, Seq, Span
from .utf8 import tree

MAX_NODES = 200_000  # at 100 to 200 bytes each
MAX_CLASSES = 20_000  # of symbols; at about a kilobyte each, while they are found
MAX_MEMBERS = 400_000  # sets that ranges of symbols are in, for all ranges together: n sets have up to n in each


@dataclass(frozen=True, slots=True)
class Start:
    """The beginning of the text."""

    span: Span = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class End:
    """The end of the text."""

    span: Span = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Look:
    """Nothing is read, but what follows (`ahead`), or what came before, matches `item`; `negated`: does not."""

    item: Any
    ahead: bool
    negated: bool
    span: Span = field(default=None, compare=False, repr=False)


READ, FORK, ACCEPT, TAIL, START, END, AHEAD, BEHIND = range(8)

TEXT: Set = ((0, 0xD7FF), (0xE000, 0x10FFFF))  # all characters that UTF-8 has
NEED = "positions of a regular expression"


def parts(e: Any) -> list[Any]:
    """Everything in an expression, itself among it."""
    found = [e]
    for part in found:
        if isinstance(part, Seq | Alt):
            found.extend(part.items)
        elif isinstance(part, Repeat | Look):
            found.append(part.item)
    return found


def asserts(e: Any) -> bool:
    """Whether there is an assertion anywhere in the expression."""
    return any(isinstance(part, Start | End | Look) for part in parts(e))


def _of_bytes(e: Any) -> bool:
    """Whether something in the expression is no character."""
    for part in parts(e):
        if isinstance(part, Bytes | Automaton):
            return True
        if isinstance(part, Literal):
            try:
                part.text.decode()
            except UnicodeDecodeError:
                return True
    return False


class Nfa:
    """The automaton of an expression, and of the looks in it.

    kinds, data   of node i: its kind, and what belongs to it
                      READ classes, next          FORK (node, ...)                START, END next
                      AHEAD negated, first node of its own, next                  BEHIND negated, number, next
    behinds       the first nodes of what looks behind look for, each with any text before it; one of a lower number
                  does not depend on one of a higher
    first         where the expression itself begins
    symbols       how many classes of symbols there are; what a READ reads is a set of their numbers
    listed        the symbols: (first, last, class), ascending; pieces: the same as three rows
    trees         dfa.py's: the bytes of the symbols, by where they lead
    of_bytes      whether a symbol is a byte, and not a character
    """

    def __init__(self, e: Any, limit: int = MAX_NODES) -> None:
        self.kinds: list[int] = []
        self.data: list[Any] = []
        self.behinds: list[int] = []
        self.limit = limit
        self.of_bytes = _of_bytes(e)
        self.looks: dict[tuple[Any, bool], int] = {}  # what was looked for before: not to be built twice
        self.sets: dict[Set, int] = {}  # numbers, which a READ has until the classes are known
        self.by_identity: dict[Any, tuple[Any, int]] = {}  # both, of what was met before: not to be hashed again
        self.first = self.build(e, self.add(ACCEPT))
        self.trees: dict[Any, Any] = {}
        self.symbols, self.listed = self.classify()
        self.pieces = np.array(self.listed, np.int64).reshape(-1, 3).T

    def add(self, kind: int, data: Any = None) -> int:
        """One more node; its number."""
        if len(self.kinds) >= self.limit:
            raise GrammarBudget(NEED, len(self.kinds) + 1, self.limit)
        self.kinds.append(kind)
        self.data.append(data)
        return len(self.kinds) - 1

    def number(self, of: Set) -> int:
        """The number of a set."""
        return self.sets.setdefault(of, len(self.sets))

    def read(self, of: Set, after: int) -> int:
        """One more node, which reads a symbol of a set."""
        return self.add(READ, (self.number(of), after))

    def build(self, e: Any, after: int, behind: bool = False) -> int:
        """The node from which `e` leads to `after`. `behind`: within a look behind."""
        match e:
            case Literal(text):
                for symbol in reversed(text if self.of_bytes else [ord(c) for c in text.decode()]):
                    after = self.read(((symbol, symbol),), after)
                return after
            case Chars(ranges):
                return self.characters(ranges, after)
            case Bytes(ranges):
                return self.read(union(ranges), after)
            case Seq(items):
                for item in reversed(items):
                    after = self.build(item, after, behind)
                return after
            case Alt(items):
                return self.add(FORK, tuple(self.build(item, after, behind) for item in items))
            case Repeat():
                return self.repeat(e, after, behind)
            case Automaton(edges, finals):
                return self.automaton(edges, finals, after)
            case Start() | End():
                return self.add(START if isinstance(e, Start) else END, after)
            case Look():
                return self.look(e, after, behind)
        raise GrammarError(f"{type(e).__name__} is no part of a regular expression")

    def characters(self, ranges: Set, after: int) -> int:
        """One character of a set."""
        if not self.of_bytes:
            known = self.by_identity.get(id(ranges))
            if known is None:
                known = ranges, self.number(intersection(union(ranges), TEXT))
                self.by_identity[id(ranges)] = known
            return self.add(READ, (known[1], after))
        made: dict[int, int] = {}

        def node(of: Any) -> int:
            if of is None:
                return after
            if id(of) not in made:
                made[id(of)] = self.add(FORK, tuple(self.read(((lo, hi),), node(child)) for lo, hi, child in of))
            return made[id(of)]

        return node(tree(ranges))

    def repeat(self, e: Repeat, after: int, behind: bool) -> int:
        """As often as must be, one after the other; before a loop, or as often as may be: (x (x (x)?)?)?"""
        at, before = after, len(self.kinds)
        if e.hi is None:
            at = self.add(FORK)
            inner = self.build(e.item, at, behind)
            self.data[at] = (inner, after)
        else:
            for done in range(e.hi - e.lo):
                inner = self.build(e.item, at, behind)
                if before == len(self.kinds):
                    return after  # what is repeated is the empty text
                at = self.add(FORK, (inner, after))
                if done == 0:
                    self.afford(len(self.kinds) - before, e.hi - e.lo)
        before = len(self.kinds)
        for done in range(e.lo):
            at = self.build(e.item, at, behind)
            if before == len(self.kinds):
                break
            if done == 0:
                self.afford(len(self.kinds) - before, e.lo)
        return at

    def afford(self, nodes: int, times: int) -> None:
        """Raises GrammarBudget before the work is done, when so many nodes cannot be had so many times."""
        if len(self.kinds) + nodes * (times - 1) > self.limit:
            raise GrammarBudget(NEED, len(self.kinds) + nodes * (times - 1), self.limit)

    def automaton(self, edges: Any, finals: frozenset[int], after: int) -> int:
        """A deterministic automaton's states as nodes."""
        first = len(self.kinds)
        for state in range(len(edges)):
            self.add(FORK, (after,) if state in finals else ())
        for state, row in enumerate(edges):
            reads = tuple(self.read(((lo, hi),), first + to) for lo, hi, to in row)
            self.data[first + state] += reads
        return first

    def look(self, e: Look, after: int, behind: bool) -> int:
        """What is looked for gets nodes of its own, from which no way leads back."""
        if e.ahead and behind:
            raise UnsupportedSyntax("a look ahead inside a look behind", "what follows the place is not yet known")
        same = self.by_identity.get((id(e.item), e.ahead))
        known = same[1] if same is not None else self.looks.get((e.item, e.ahead))
        if known is None:
            if e.ahead:
                known = self.build(e.item, self.add(TAIL))
            else:
                loop = self.add(FORK)
                first = self.build(e.item, self.add(ACCEPT), True)
                self.data[loop] = (self.characters(TEXT, loop), first)
                known = len(self.behinds)
                self.behinds.append(loop)
            self.looks[e.item, e.ahead] = known
        self.by_identity[id(e.item), e.ahead] = e.item, known
        return self.add(AHEAD if e.ahead else BEHIND, (e.negated, known, after))

    def classify(self) -> tuple[int, list[tuple[int, int, int]]]:
        """Finds the classes of symbols, and writes them into the nodes that read: `symbols` and `listed`."""
        number: dict[frozenset[int], int] = {}
        pieces: list[tuple[int, int, int]] = []
        looked_at = 0
        for lo, hi, over in sweep((lo, hi, i) for s, i in self.sets.items() for lo, hi in s):
            looked_at += len(over)
            if looked_at > MAX_MEMBERS:
                raise GrammarBudget("members of classes of characters", looked_at, MAX_MEMBERS)
            pieces.append((lo, hi, number.setdefault(over, len(number))))
            if len(number) > MAX_CLASSES:
                raise GrammarBudget("classes of characters", len(number), MAX_CLASSES)
        members: list[list[int]] = [[] for _ in self.sets]
        for over, n in number.items():
            for i in over:
                members[i].append(n)
        of = [frozenset(m) for m in members]
        for i, kind in enumerate(self.kinds):
            if kind == READ:
                self.data[i] = (of[self.data[i][0]], self.data[i][1])
        self.sets, self.by_identity = {}, {}
        return len(number), pieces


def sweep(pieces: Iterable[tuple[int, int, int]]) -> Iterator[tuple[int, int, frozenset[int]]]:
    """Overlapping ranges, each with a number, as ranges that do not overlap, each with the numbers that lie there."""
    opening: dict[int, list[int]] = {}
    closing: dict[int, list[int]] = {}
    for lo, hi, what in pieces:
        opening.setdefault(lo, []).append(what)
        closing.setdefault(hi + 1, []).append(what)
    active: dict[int, int] = {}
    begin = 0
    for at in sorted(opening.keys() | closing.keys()):
        if active and at > begin:
            yield begin, at - 1, frozenset(active)
        for what in closing.get(at, ()):
            active[what] -= 1
            if not active[what]:
                del active[what]
        for what in opening.get(at, ()):
            active[what] = active.get(what, 0) + 1
        begin = at


__all__ = [
    "ACCEPT",
    "AHEAD",
    "BEHIND",
    "END",
    "FORK",
    "READ",
    "START",
    "TAIL",
    "End",
    "Look",
    "Nfa",
    "Start",
    "asserts",
    "complement",
]
