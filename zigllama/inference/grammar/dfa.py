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
from .partition import blocks
from .subsets import MAX_WORK, Work, source_of
from .utf8 import labelled

MAX_STATES = 50_000
MAX_EDGES = 400_000  # a row's ranges of bytes, all rows together; at about 100 bytes each
BEGUN = 300  # steps that the smallest automaton takes as long as
FEW_PIECES = 64  # ranges of symbols, which a loop joins sooner than operations of arrays do
MAX_CELLS = 1_000_000  # of a table in which bytes are compared
MAX_MINIMISED = 300_000  # transitions, per class of bytes, up to which an automaton is made minimal unasked

Row = tuple[tuple[int, int, int], ...]

NOTHING = Automaton(((),), frozenset())
AFTER = (256, 256, DEAD)  # a range behind all bytes


class Lazy:
    """A machine (machine.py) that makes its states as they are asked for, by any number of threads. It does not promise
    that each can still be finished: `determinise` does.

    A source gives for a key [(lowest byte, highest byte, key), ...] (`row`) and whether the text may end there
    (`final`).
    """

    def __init__(
        self, source: Any, max_states: int = MAX_STATES, max_edges: int = MAX_EDGES, tally: Work | None = None
    ) -> None:
        self.source, self.max_states, self.max_edges, self.tally = source, max_states, max_edges, tally
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
        if self.tally is not None:
            self.tally.add(len(made))
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
    targets = [number.setdefault(row[c], len(number)) if c in row else DEAD for c in range(nfa.symbols)]
    if nfa.pieces.shape[1] <= FEW_PIECES:
        joined = _joined_few(targets, nfa)
    else:
        joined = _joined_many(np.array(targets, np.int64), nfa)
    if joined not in nfa.trees:
        nfa.trees[joined] = joined if nfa.of_bytes else labelled(joined)
    return tuple(number), nfa.trees[joined]


def _joined_few(targets: list[int], nfa: Nfa) -> tuple[tuple[int, int, int], ...]:
    """The symbols as (first, last, number of the target): neighbours that lead to the same are one."""
    found: list[tuple[int, int, int]] = []
    for first, last, c in nfa.listed:
        to = targets[c]
        if found and found[-1][2] == to and found[-1][1] == first - 1:
            found[-1] = found[-1][0], last, to
        elif to != DEAD:
            found.append((first, last, to))
    return tuple(found)


def _joined_many(of: npt.NDArray[np.int64], nfa: Nfa) -> tuple[tuple[int, int, int], ...]:
    """The same, all at once: an array's operation costs as much as a dozen turns of a loop."""
    first, last, classes = nfa.pieces
    to = of[classes]
    alive = to != DEAD
    first, last, to = first[alive], last[alive], to[alive]
    begins = np.ones(len(to), bool)
    begins[1:] = (first[1:] != last[:-1] + 1) | (to[1:] != to[:-1])
    ends = np.roll(begins, -1)
    return tuple(zip(first[begins].tolist(), last[ends].tolist(), to[begins].tolist(), strict=True))


def lazy(e: Any) -> Lazy:
    """The machine of a regular expression: one of ir.py's without Ref, and with nfa.py's assertions."""
    return Lazy(InBytes(Nfa(e), Work()))


def determinise(e: Any, limit: int | Work = MAX_WORK) -> Automaton:
    """The automaton of a regular expression or of its Nfa, whole: first over classes of characters, which are few, and
    made minimal as such; then the bytes of each character. An Automaton is itself."""
    if isinstance(e, Automaton):
        return e
    work, nfa = Work(limit) if isinstance(limit, int) else limit, e if isinstance(e, Nfa) else Nfa(e)
    work.add(BEGUN)
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
    del source, known, keys  # half of what is held
    useful = _useful([list(row.values()) for row in rows], finals)
    if 0 not in useful:
        return NOTHING
    triples = [(s, c, to) for s in useful for c, to in rows[s].items() if to in useful]
    work.add(len(triples))
    block = blocks(len(rows), triples, finals)
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
    of = classes(a)
    return _minimised(a, of) if _transitions(a, of) <= MAX_MINIMISED else a


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
        self.alone, self.other_alone = final(True, False), final(False, True)  # whether one of them is enough
        self.initial = (0, 0)

    def final(self, key: Any) -> bool:
        """Whether the text may end here."""
        return self.of(key[0] in self.a.finals, key[1] in self.b.finals)

    def row(self, key: Any) -> list[tuple[int, int, Any]]:
        """Where which bytes lead, as far as the product of the two can ever be finished there."""
        first = self.a.edges[key[0]] if key[0] != DEAD else ()
        second = self.b.edges[key[1]] if key[1] != DEAD else ()
        out: list[tuple[int, int, Any]] = []
        at = i = j = 0
        while i < len(first) or j < len(second):  # from `at` on, and as far as the next range begins or ends
            lo, hi, to = first[i] if i < len(first) else AFTER
            begin, last, other = second[j] if j < len(second) else AFTER
            at = max(at, min(lo, begin))
            one, two = lo <= at, begin <= at
            end = min(hi if one else lo - 1, last if two else begin - 1)
            if (one and two) or (one and self.alone) or (two and self.other_alone):
                out.append((at, end, (to if one else DEAD, other if two else DEAD)))
            at = end + 1
            i += hi < at
            j += last < at
        return out


def intersect(a: Automaton, b: Automaton, work: Work | None = None) -> Automaton:
    """What both accept. `work` counts ranges of bytes while they are found."""
    return Lazy(_Product(a, b, lambda x, y: x and y), tally=work).whole()


def union(a: Automaton, b: Automaton) -> Automaton:
    """What either accepts."""
    return Lazy(_Product(a, b, lambda x, y: x or y)).whole()


def difference(a: Automaton, b: Automaton, work: Work | None = None) -> Automaton:
    """What the first accepts and the second does not. `work` as `intersect` has it."""
    return Lazy(_Product(a, b, lambda x, y: x and not y), tally=work).whole()


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
    columns: list[Any] = list(range(len(cuts) - 1))
    if len(a.edges) * len(cuts) <= MAX_CELLS:
        place = {cut: i for i, cut in enumerate(cuts)}
        to = np.full((len(a.edges), len(cuts) - 1), DEAD, np.int32)
        for cells, row in zip(to, a.edges, strict=True):
            for lo, hi, target in row:
                cells[place[lo] : place[hi + 1]] = target
        columns = [column.tobytes() for column in to.T]
    known: dict[Any, int] = {}
    of = bytearray(256)
    for (lo, end), column in zip(itertools.pairwise(cuts), columns, strict=True):
        of[lo:end] = bytes([known.setdefault(column, len(known))]) * (end - lo)
    return bytes(of)


def table(a: Automaton) -> tuple[bytes, npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
    """The automaton as arrays for C: the classes of bytes (256); the next state, or DEAD, [state][class]; whether a
    state is final.
    """
    of = classes(a)
    first = {c: b for b, c in reversed(list(enumerate(of)))}
    rows = [[_find(row, first[c]) for c in range(len(first))] for row in a.edges]
    return of, np.array(rows, np.int32), np.array([s in a.finals for s in range(len(a.edges))], np.bool_)


def _transitions(a: Automaton, of: bytes) -> int:
    return sum(len(set(of[lo : hi + 1])) for row in a.edges for lo, hi, _ in row)


def minimise(a: Automaton) -> Automaton:
    """The automaton of the same language with the fewest states."""
    a = trim(a)
    return _minimised(a, classes(a))


def _minimised(a: Automaton, of: bytes) -> Automaton:
    """The same, of one that is trimmed and has these classes."""
    triples = [(s, c, to) for s, row in enumerate(a.edges) for lo, hi, to in row for c in set(of[lo : hi + 1])]
    block = blocks(len(a.edges), triples, a.finals)
    number = {block[0]: 0}  # the start's is 0; trim() numbers the others anew
    for b in block:
        number.setdefault(b, len(number))
    first = [0] * len(number)
    for state in reversed(range(len(block))):
        first[number[block[state]]] = state
    rows = [tuple((lo, hi, number[block[to]]) for lo, hi, to in a.edges[s]) for s in first]
    return trim(Automaton(tuple(rows), frozenset(number[block[s]] for s in a.finals)))
