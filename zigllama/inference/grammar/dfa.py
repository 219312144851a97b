"""Deterministic automata over bytes, and their algebra: a regular expression's language as a table that can be
reckoned with.

    a = determinise(regex.parse("[a-z]+"))             # an ir.Automaton: usable wherever an expression is
    b = difference(a, determinise(Literal(b"no")))     # all such words but "no"
    accepts(b, b"now"), shortest(b), count(b, 2)       # True, b"a", 26 + 26 * 26 - 1

An Automaton's state 0 is the start; a byte that is in none of a state's ranges leads nowhere. All that this module
returns is trimmed: every state can be reached and, from it, one where the text may end. The empty language is one
state with neither (`is_empty`). `Lazy` makes states only as a text needs them.

Budgets: MAX_STATES, MAX_EDGES and subsets.MAX_WORK bound every construction to about a second and 64 MB; past them
GrammarBudget is raised.
"""

from __future__ import annotations

import itertools
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from zigllama.errors import GrammarBudget

from .ir import ANY_CHAR, Automaton, Repeat
from .machine import DEAD
from .nfa import Nfa
from .subsets import MAX_WORK, Work, source_of
from .utf8 import labelled

MAX_STATES = 50_000
MAX_EDGES = 400_000  # a row's ranges of bytes, all rows together; at about 100 bytes each
MAX_MINIMISED = 300_000  # transitions, per class of bytes, up to which an automaton is made minimal unasked

Row = tuple[tuple[int, int, int], ...]

NOTHING = Automaton(((),), frozenset())


class Lazy:
    """A machine (machine.py) that makes its states as they are asked for, by any number of threads. It does not promise
    that each can still be finished: `determinise` does.

    A source gives for a key [(lowest byte, highest byte, key), ...] (`row`) and whether the text may end there
    (`final`).
    """

    def __init__(self, source: Any, max_states: int = MAX_STATES, max_edges: int = MAX_EDGES) -> None:
        self.source, self.max_states, self.max_edges = source, max_states, max_edges
        self.start = 0
        self.keys: list[Any] = [source.initial]
        self.known: dict[Any, int] = {source.initial: 0}
        self.rows: list[Row | None] = [None]
        self.edges = 0
        self._lock = threading.Lock()

    def row(self, state: int) -> Row:
        """Where which bytes lead from a state: (lowest, highest, next state), ascending."""
        if (row := self.rows[state]) is None:
            with self._lock:
                row = self.rows[state] or self._make(state)
        return row

    @property
    def worn(self) -> bool:
        """Whether it has made so many states that texts to come may be too much for it."""
        work = getattr(self.source, "work", Work())
        had = (work.done, work.limit), (len(self.keys), self.max_states), (self.edges, self.max_edges)
        return any(2 * n > most for n, most in had)

    def _make(self, state: int) -> Row:
        made = []
        for lo, hi, key in self.source.row(self.keys[state]):
            to = self.known.setdefault(key, len(self.keys))
            if to >= self.max_states:
                raise GrammarBudget("states of an automaton", to + 1, self.max_states)
            if to == len(self.keys):
                self.rows.append(None)
                self.keys.append(key)
            made.append((lo, hi, to))
        self.edges += len(made)
        if self.edges > self.max_edges:
            raise GrammarBudget("transitions of an automaton", self.edges, self.max_edges)
        self.rows[state] = tuple(made)
        return tuple(made)

    def step(self, state: int, byte: int) -> int:
        """The state after one more byte, or DEAD."""
        return DEAD if state == DEAD else _find(self.row(state), byte)

    def finished(self, state: int) -> bool:
        """Whether the text may end here."""
        return state != DEAD and bool(self.source.final(self.keys[state]))

    def whole(self) -> Automaton:
        """All of it, trimmed, and minimal where that is soon done."""
        at = 0
        while at < len(self.keys):
            self.row(at)
            at += 1
        finals = frozenset(i for i, key in enumerate(self.keys) if self.source.final(key))
        return _tidy(Automaton(tuple(row or () for row in self.rows), finals))


def _find(row: Row, byte: int) -> int:
    i = bisect_right(row, (byte, 256, 0)) - 1
    return row[i][2] if i >= 0 and byte <= row[i][1] else DEAD


class InBytes:
    """A source (for Lazy) of bytes, over one of classes of characters (subsets.py). Key: that one's key; or, in the
    middle of a character, (the tree of bytes that may follow, the keys that its labels stand for).
    """

    def __init__(self, nfa: Nfa, work: Work) -> None:
        self.nfa, self.work = nfa, work
        self.inner = source_of(nfa, work)
        self.initial: Any = (None, self.inner.initial)

    def final(self, key: Any) -> bool:
        """Whether the text may end here."""
        return key[0] is None and self.inner.final(key[1])

    def row(self, key: Any) -> list[tuple[int, int, Any]]:
        """Where which bytes lead."""
        tree, keys = key
        if tree is None:
            row = self.inner.row(keys)
            keys, tree = layout(row, self.nfa)
            self.work.add(len(tree))
        return [(lo, hi, (child, keys) if isinstance(child, tuple) else (None, keys[child])) for lo, hi, child in tree]


def layout(row: dict[int, Any], nfa: Nfa) -> tuple[tuple[Any, ...], Any]:
    """A row {class: target} as targets, and a tree of bytes whose labels are numbers of targets."""
    number: dict[Any, int] = {}
    of = tuple(number.setdefault(row[c], len(number)) if c in row else DEAD for c in range(len(nfa.symbols)))
    if of not in nfa.trees:
        pieces = sorted((lo, hi, n) for c, n in enumerate(of) if n != DEAD for lo, hi in nfa.symbols[c])
        joined: list[tuple[int, int, int]] = []
        for lo, hi, n in pieces:
            if joined and joined[-1][1] == lo - 1 and joined[-1][2] == n:
                joined[-1] = (joined[-1][0], hi, n)
            else:
                joined.append((lo, hi, n))
        nfa.trees[of] = tuple(joined) if nfa.of_bytes else labelled(tuple(joined))
    return tuple(number), nfa.trees[of]


def lazy(e: Any) -> Lazy:
    """The machine of a regular expression: one of ir.py's without Ref, and with nfa.py's assertions."""
    return Lazy(InBytes(Nfa(e), Work()))


def determinise(e: Any, limit: int | Work = MAX_WORK) -> Automaton:
    """The automaton of a regular expression or of its Nfa, whole: first over classes of characters, which are few, and
    made minimal as such; then the bytes of each character. An Automaton is itself."""
    if isinstance(e, Automaton):
        return e
    work, nfa = Work(limit) if isinstance(limit, int) else limit, e if isinstance(e, Nfa) else Nfa(e)
    source = source_of(nfa, work)
    known: dict[Any, int] = {source.initial: 0}
    keys = [source.initial]
    rows: list[dict[int, int]] = []
    for key in keys:
        row: dict[int, int] = {}
        for c, to in source.row(key).items():
            if to not in known:
                known[to] = len(keys)
                keys.append(to)
                if len(keys) > MAX_STATES:
                    raise GrammarBudget("states of an automaton", len(keys), MAX_STATES)
            row[c] = known[to]
        rows.append(row)
    finals = {i for i, key in enumerate(keys) if source.final(key)}
    useful = _useful([list(row.values()) for row in rows], finals)
    if 0 not in useful:
        return NOTHING
    triples = [(s, c, to) for s in useful for c, to in rows[s].items() if to in useful]
    work.add(len(triples))
    block = _blocks(len(rows), triples, finals)
    merged: dict[int, dict[int, int]] = {}
    for s, c, to in triples:
        merged.setdefault(block[s], {})[c] = block[to]
    return _spelt(block[0], merged, {block[s] for s in finals}, nfa, work)


def _spelt(start: int, rows: dict[int, dict[int, int]], finals: set[int], nfa: Nfa, work: Work) -> Automaton:
    """An automaton over classes as one over bytes: states in the middle of a character are shared where they are
    equal.
    """
    number: dict[Any, int] = {start: 0}
    order: list[Any] = [start]
    made: list[Row] = []
    edges = 0

    def of(key: Any) -> int:
        if key not in number:
            number[key] = len(order)
            order.append(key)
            if len(order) > MAX_STATES:
                raise GrammarBudget("states of an automaton", len(order), MAX_STATES)
        return number[key]

    def inner(tree: Any, targets: tuple[int, ...]) -> tuple[tuple[int, int, Any], ...]:
        """A tree with its labels replaced: equal ones are equal keys, whatever state they came from."""
        return tuple((lo, hi, inner(c, targets) if isinstance(c, tuple) else targets[c]) for lo, hi, c in tree)

    for key in order:
        if isinstance(key, int):
            targets, tree = layout(rows.get(key, {}), nfa)
            key = inner(tree, targets)
        row = tuple((lo, hi, of(to)) for lo, hi, to in key)
        made.append(row)
        edges += len(row)
        work.add(len(row))
        if edges > MAX_EDGES:
            raise GrammarBudget("transitions of an automaton", edges, MAX_EDGES)
    return Automaton(tuple(made), frozenset(number[f] for f in finals if f in number))


def _tidy(a: Automaton) -> Automaton:
    a = trim(a)
    return minimise(a) if _transitions(a) <= MAX_MINIMISED else a


def step(a: Automaton, state: int, byte: int) -> int:
    """The state after one more byte, or DEAD."""
    return DEAD if state == DEAD else _find(a.edges[state], byte)


def accepts(a: Automaton, text: bytes) -> bool:
    """Whether a text belongs to the language."""
    state = 0
    for byte in text:
        state = step(a, state, byte)
        if state == DEAD:
            return False
    return state in a.finals


def is_empty(a: Automaton) -> bool:
    """Whether no text belongs to the language."""
    return not a.finals


def _useful(ways: list[list[int]], finals: Iterable[int]) -> set[int]:
    """The states from which one of `finals` can be reached; `ways`: where each state leads."""
    back: list[list[int]] = [[] for _ in ways]
    for state, targets in enumerate(ways):
        for to in targets:
            back[to].append(state)
    useful = set(finals)
    todo = list(useful)
    while todo:
        for state in back[todo.pop()]:
            if state not in useful:
                useful.add(state)
                todo.append(state)
    return useful


def trim(a: Automaton) -> Automaton:
    """Without the states that cannot be reached, and those from which the text can never end, in breadth."""
    return trimmed(a)[1]


def trimmed(a: Automaton) -> tuple[list[int], Automaton]:
    """The same, and of each state that is left which it was."""
    useful = _useful([[to for _, _, to in row] for row in a.edges], a.finals)
    if 0 not in useful:
        return [0], NOTHING
    number = {0: 0}
    order = [0]
    rows: list[Row] = []
    for state in order:
        kept: list[tuple[int, int, int]] = []
        for lo, hi, to in a.edges[state]:
            if to not in useful:
                continue
            if to not in number:
                number[to] = len(order)
                order.append(to)
            if kept and kept[-1][1] == lo - 1 and kept[-1][2] == number[to]:
                kept[-1] = (kept[-1][0], hi, number[to])
            else:
                kept.append((lo, hi, number[to]))
        rows.append(tuple(kept))
    return order, Automaton(tuple(rows), frozenset(number[s] for s in a.finals if s in number))


class _Product:
    """Two automata side by side. Key: a state of each, DEAD where one has no way on."""

    def __init__(self, a: Automaton, b: Automaton, final: Callable[[bool, bool], bool]) -> None:
        self.a, self.b, self.of = a, b, final
        self.initial = (0, 0)

    def final(self, key: Any) -> bool:
        """Whether the text may end here."""
        return self.of(key[0] in self.a.finals, key[1] in self.b.finals)

    def row(self, key: Any) -> list[tuple[int, int, Any]]:
        """Where which bytes lead, as far as the product of the two can ever be finished there."""
        rows = [side.edges[s] if s != DEAD else () for side, s in zip((self.a, self.b), key, strict=True)]
        cuts = sorted({c for row in rows for lo, hi, _ in row for c in (lo, hi + 1)})
        out = []
        for lo, end in itertools.pairwise(cuts):
            pair = (_find(rows[0], lo), _find(rows[1], lo))
            one, other = pair[0] != DEAD, pair[1] != DEAD
            if (one and other) or (one and self.of(True, False)) or (other and self.of(False, True)):
                out.append((lo, end - 1, pair))
        return out


def intersect(a: Automaton, b: Automaton) -> Automaton:
    """What both accept."""
    return Lazy(_Product(a, b, lambda x, y: x and y)).whole()


def union(a: Automaton, b: Automaton) -> Automaton:
    """What either accepts."""
    return Lazy(_Product(a, b, lambda x, y: x or y)).whole()


def difference(a: Automaton, b: Automaton) -> Automaton:
    """What the first accepts and the second does not."""
    return Lazy(_Product(a, b, lambda x, y: x and not y)).whole()


def complement(a: Automaton, within: Automaton | None = None) -> Automaton:
    """What it does not accept: of all texts in UTF-8, or of those `within` accepts."""
    return difference(all_text() if within is None else within, a)


def all_text() -> Automaton:
    """Every text in UTF-8."""
    return determinise(Repeat(ANY_CHAR, 0, None))


def shortest(a: Automaton) -> bytes | None:
    """The shortest text of the language, of several the first in the order of bytes; None for the empty language."""
    if not a.finals:
        return None
    came: dict[int, tuple[int, int]] = {0: (DEAD, 0)}
    order = [0]
    for state in order:
        if state in a.finals:
            text = bytearray()
            while state:
                state, byte = came[state]
                text.append(byte)
            return bytes(reversed(text))
        for lo, _, to in a.edges[state]:
            if to not in came:
                came[to] = (state, lo)
                order.append(to)
    return None


def count(a: Automaton, most: int) -> int:
    """How many texts of at most so many bytes belong to the language. O(most * transitions)."""
    ways = {0: 1}
    total = int(0 in a.finals)
    for _ in range(most):
        after: dict[int, int] = {}
        for state, n in ways.items():
            for lo, hi, to in a.edges[state]:
                after[to] = after.get(to, 0) + n * (hi - lo + 1)
        ways = after
        total += sum(n for state, n in ways.items() if state in a.finals)
    return total


def classes(a: Automaton) -> bytes:
    """Of each of the 256 bytes, the class that it belongs to: bytes of one class lead to the same state everywhere."""
    cuts = sorted({0, 256, *(c for row in a.edges for lo, hi, _ in row for c in (lo, hi + 1))})
    few = len(a.edges) * len(cuts) <= 200_000
    signature = [tuple(_find(row, lo) for row in a.edges) for lo in cuts[:-1]] if few else None
    known: dict[Any, int] = {}
    columns: dict[int, int] = {}
    for i, lo in enumerate(cuts[:-1]):
        columns[lo] = known.setdefault(signature[i] if signature else i, len(known))
    of = bytearray(256)
    for lo, end in itertools.pairwise(cuts):
        of[lo:end] = bytes([columns[lo]]) * (end - lo)
    return bytes(of)


def table(a: Automaton) -> tuple[bytes, npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
    """The automaton as arrays for C: the classes of bytes (256); the next state, or DEAD, [state][class]; whether a
    state is final.
    """
    of = classes(a)
    first = {c: b for b, c in reversed(list(enumerate(of)))}
    rows = [[_find(row, first[c]) for c in range(len(first))] for row in a.edges]
    return of, np.array(rows, np.int32), np.array([s in a.finals for s in range(len(a.edges))], np.bool_)


def _transitions(a: Automaton) -> int:
    of = classes(a)
    return sum(len(set(of[lo : hi + 1])) for row in a.edges for lo, hi, _ in row)


class _Partition:
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


def _blocks(n: int, triples: list[tuple[int, int, int]], finals: Iterable[int]) -> list[int]:
    """Of each of n states, the number of its class of states that have the same language; `triples`: (state, symbol,
    next state), trimmed. O(m log n) for m of them (Valmari and Lehtinen, 2008).
    """
    into: list[list[int]] = [[] for _ in range(n)]
    by_symbol: dict[int, list[int]] = {}
    for t, (_, symbol, to) in enumerate(triples):
        into[to].append(t)
        by_symbol.setdefault(symbol, []).append(t)
    blocks, cords = _Partition(n), _Partition(len(triples))
    for state in finals:
        blocks.mark(state)
    blocks.split()
    for group in list(by_symbol.values())[1:]:
        for t in group:
            cords.mark(t)
        cords.split()
    block, cord = 1, 0
    while cord < len(cords.first) and triples:
        for t in cords.members(cord):
            blocks.mark(triples[t][0])
        blocks.split()
        cord += 1
        while block < len(blocks.first):
            for state in blocks.members(block):
                for t in into[state]:
                    cords.mark(t)
            cords.split()
            block += 1
    return blocks.set


def minimise(a: Automaton) -> Automaton:
    """The automaton of the same language with the fewest states."""
    a = trim(a)
    of = classes(a)
    triples = [(s, c, to) for s, row in enumerate(a.edges) for lo, hi, to in row for c in set(of[lo : hi + 1])]
    block = _blocks(len(a.edges), triples, a.finals)
    number = {block[0]: 0}  # the start's is 0; trim() numbers the others anew
    for b in block:
        number.setdefault(b, len(number))
    first = [0] * len(number)
    for state in reversed(range(len(block))):
        first[number[block[state]]] = state
    rows = [tuple((lo, hi, number[block[to]]) for lo, hi, to in a.edges[s]) for s in first]
    return trim(Automaton(tuple(rows), frozenset(number[block[s]] for s in a.finals)))
