"""Expressions as automata: the nodes of one rule, whose edges read a byte or call another rule.

    Seq((Literal(b"a"), Ref("x")))        0 -a-> 1 -x-> 2*        * the rule may end

`Builder` writes them with edges that read nothing (Thompson, 1968); `determinised` makes an automaton without such
edges, in which no two edges of a node read the same byte or call the same rule, and from whose every node the end can
be reached.

What it is not: it knows of other rules only what it is told: whether they can be empty, and whether anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from zigllama.errors import GrammarBudget

from .ir import MAX_CODE_POINT, Alt, Automaton, Bytes, Chars, Expr, Literal, Ranges, Ref, Repeat, Seq
from .utf8 import remembered

MAX_NODES = 40_000  # of all automata of a grammar; what is made of them fits 64 MB, and takes less than a second
MAX_MEMBERS = 1_000_000  # of all sets of nodes that are looked at on the way, likewise
MAX_EDGES = 150_000  # of one automaton that is merely without eps, likewise

ByteEdges = list[tuple[int, int, int]]  # lowest byte, highest byte, node
Calls = list[tuple[str, int]]  # rule, node


@dataclass
class Nodes:
    """An automaton: node 0 is the start. `eps` are edges that read nothing."""

    edges: list[ByteEdges] = field(default_factory=list)
    calls: list[Calls] = field(default_factory=list)
    eps: list[list[int]] = field(default_factory=list)
    finals: set[int] = field(default_factory=set)

    def new(self) -> int:
        """A node more."""
        self.edges.append([])
        self.calls.append([])
        self.eps.append([])
        return len(self.edges) - 1


# --- characters as bytes ----------------------------------------------------------------------------------------------


def without_surrogates(ranges: Ranges) -> Ranges:
    """The same code points in ascending ranges that do not touch, as far as UTF-8 has them."""
    out: list[tuple[int, int]] = []
    for lo, hi in sorted(ranges):
        for a, b in ((lo, min(hi, 0xD7FF)), (max(lo, 0xE000), min(hi, MAX_CODE_POINT))):
            if a > b:
                continue
            if out and a <= out[-1][1] + 1:
                out[-1] = out[-1][0], max(out[-1][1], b)
            else:
                out.append((a, b))
    return tuple(out)


@remembered
def utf8_sequences(ranges: Ranges) -> tuple[tuple[tuple[int, int], ...], ...]:
    """Ranges of code points as sequences of ranges of bytes: each character is in exactly one of them."""
    out: list[tuple[tuple[int, int], ...]] = []
    todo = list(reversed(without_surrogates(ranges)))
    while todo:
        lo, hi = todo.pop()
        for limit in (0x7F, 0x7FF, 0xFFFF):  # characters of equally many bytes
            if lo <= limit < hi:
                todo += [(limit + 1, hi), (lo, limit)]
                break
        else:
            for bits in (6, 12, 18):  # ranges whose last bytes are free
                block = (1 << bits) - 1
                if hi <= 0x7F or lo & ~block == hi & ~block:
                    continue
                if lo & block:
                    todo += [((lo | block) + 1, hi), (lo, lo | block)]
                    break
                if hi & block != block:
                    todo += [(hi & ~block, hi), (lo, (hi & ~block) - 1)]
                    break
            else:
                out.append(tuple(zip(chr(lo).encode(), chr(hi).encode(), strict=True)))
    return tuple(out)


# --- building ---------------------------------------------------------------------------------------------------------


class Builder:
    """Writes expressions into `nodes`.

    nullable, filled   whether a rule can be empty; whether it can be anything else
    inline             the expression to write in place of a call, None for a call
    used               nodes of other rules, which count too

    Raises GrammarBudget for more than MAX_NODES.
    """

    def __init__(
        self,
        nullable: Callable[[str], bool],
        filled: Callable[[str], bool],
        inline: Callable[[str], Expr | None],
        used: int = 0,
    ) -> None:
        self.nodes, self._nullable, self._filled, self._inline, self._used = Nodes(), nullable, filled, inline, used
        self._depth = 0

    def rule(self, e: Expr) -> Nodes:
        """The automaton of an expression."""
        start, end = self._new(), self._new()
        self._build(e, start, end)
        self.nodes.finals.add(end)
        return self.nodes

    def _new(self) -> int:
        self._want(1)
        return self.nodes.new()

    def _want(self, more: int) -> None:
        n = len(self.nodes.edges) + self._used + more
        if n > MAX_NODES:
            raise GrammarBudget("nodes", n, MAX_NODES)

    def _build(self, e: Expr, a: int, b: int) -> None:
        """From node a to node b by what `e` stands for. Nothing leads into a, and nothing out of b, but what others
        have put there: an expression that repeats has a node of its own for that."""
        nodes = self.nodes
        if isinstance(e, Literal):
            self._chain([(c, c) for c in e.text], a, b)
        elif isinstance(e, Bytes):
            nodes.edges[a] += [(lo, hi, b) for lo, hi in e.ranges]
        elif isinstance(e, Chars):
            self._chars(e.ranges, a, b)
        elif isinstance(e, Seq):
            for item in e.items[:-1]:
                middle = self._new()
                self._build(item, a, middle)
                a = middle
            if e.items:
                self._build(e.items[-1], a, b)
            else:
                nodes.eps[a].append(b)
        elif isinstance(e, Alt):
            for item in e.items:
                self._build(item, a, b)
        elif isinstance(e, Repeat):
            self._repeat(e, a, b)
        elif isinstance(e, Ref):
            self._call(e.name, a, b)
        else:
            self._automaton(e, a, b)

    def _chain(self, ranges: Iterable[tuple[int, int]], a: int, b: int) -> None:
        listed = list(ranges)
        if not listed:
            self.nodes.eps[a].append(b)
        for i, (lo, hi) in enumerate(listed):
            to = b if i == len(listed) - 1 else self._new()
            self.nodes.edges[a].append((lo, hi, to))
            a = to

    def _chars(self, ranges: Ranges, a: int, b: int) -> None:
        """Endings that sequences have in common are shared."""
        known: dict[tuple[tuple[int, int], ...], int] = {(): b}
        for sequence in utf8_sequences(ranges):
            to = b
            for i in range(len(sequence) - 1, 0, -1):
                rest = sequence[i:]
                if rest not in known:
                    known[rest] = self._new()
                    self.nodes.edges[known[rest]].append((*rest[0], to))
                to = known[rest]
            self.nodes.edges[a].append((*sequence[0], to))

    def _repeat(self, e: Repeat, a: int, b: int) -> None:
        eps = self.nodes.eps
        self._want(max(e.lo, e.hi or 0))  # a node each, at least: before a long loop is begun
        for _ in range(e.lo):
            middle = self._new()
            self._build(e.item, a, middle)
            a = middle
        if e.hi is None:
            loop = self._new()
            eps[a].append(loop)
            self._build(e.item, loop, loop)
            a = loop
        for _ in range(0 if e.hi is None else e.hi - e.lo):
            eps[a].append(b)
            middle = self._new()
            self._build(e.item, a, middle)
            a = middle
        eps[a].append(b)

    def _call(self, name: str, a: int, b: int) -> None:
        e = self._inline(name) if self._depth < 4 else None
        if e is not None:
            self._depth += 1
            self._build(e, a, b)
            self._depth -= 1
            return
        if self._filled(name):
            self.nodes.calls[a].append((name, b))
        if self._nullable(name):
            self.nodes.eps[a].append(b)

    def _automaton(self, e: Automaton, a: int, b: int) -> None:
        own = [self._new() for _ in e.edges]
        if own:
            self.nodes.eps[a].append(own[0])
        for node, edges in zip(own, e.edges, strict=True):
            self.nodes.edges[node] += [(lo, hi, own[to]) for lo, hi, to in edges]
        for final in e.finals:
            self.nodes.eps[own[final]].append(b)


# --- without edges that read nothing ----------------------------------------------------------------------------------


@dataclass
class Room:
    """How many members of sets the rules of a grammar may still look at, together."""

    left: int = MAX_MEMBERS


def determinised(nodes: Nodes, room: Room) -> Nodes:
    """An automaton of the same language without eps: deterministic (Rabin & Scott, 1959), unless that would take more
    than four times the nodes, or more than there is room for; then merely without eps. Nodes from which no end is
    reached are left out; 0 stays. Raises GrammarBudget where even that has too many edges."""
    n = len(nodes.edges)
    return trimmed(_subsets(nodes, 4 * n + 64, room) or _without_eps(nodes))


def closures(nodes: Nodes) -> Callable[[Iterable[int]], tuple[int, ...]]:
    """The function that adds to nodes what eps reaches from them, less those that read, call and end nothing."""
    eps = nodes.eps
    plain = [bool(e or c) or i in nodes.finals for i, (e, c) in enumerate(zip(nodes.edges, nodes.calls, strict=True))]

    def closure(start: Iterable[int]) -> tuple[int, ...]:
        found = set(start)
        todo = list(found)
        kept = []
        for at in todo:  # which grows on the way
            if plain[at]:
                kept.append(at)
            for to in eps[at]:
                if to not in found:
                    found.add(to)
                    todo.append(to)
        return tuple(sorted(kept))

    return closure


def _subsets(nodes: Nodes, most: int, room: Room) -> Nodes | None:
    closure = closures(nodes)
    out = Nodes()
    start = closure([0])
    number = {start: out.new()}
    order = [start]
    once: dict[int, tuple[int, ...]] = {}

    def node_of(targets: set[int]) -> int:
        if len(targets) == 1:
            (only,) = targets
            found = once.get(only)
            if found is None:
                found = once[only] = closure(targets)
        else:
            found = closure(targets)
        room.left -= len(found)
        if found not in number:
            number[found] = out.new()
            order.append(found)
        return number[found]

    for i, members in enumerate(order):  # which grows on the way
        if len(order) > most or room.left < 0:
            return None
        if not nodes.finals.isdisjoint(members):
            out.finals.add(i)
        called: dict[str, set[int]] = {}
        for m in members:
            for name, to in nodes.calls[m]:
                called.setdefault(name, set()).add(to)
        out.calls[i] = [(name, node_of(to)) for name, to in called.items()]
        out.edges[i] = _merged([(lo, hi, node_of(to)) for lo, hi, to in disjoint(nodes.edges[m] for m in members)])
    return out


def disjoint(edges: Iterable[ByteEdges]) -> list[tuple[int, int, set[int]]]:
    """Edges of several nodes as ranges that do not overlap, ascending, each with all nodes it leads to."""
    listed = [e for some in edges for e in some]
    if len(listed) == 1:
        lo, hi, to = listed[0]
        return [(lo, hi, {to})]
    if all(one[1] < other[0] for one, other in pairwise(listed)):
        return [(lo, hi, {to}) for lo, hi, to in listed]
    cuts = sorted({lo for lo, _, _ in listed} | {hi + 1 for _, hi, _ in listed})
    place = {cut: k for k, cut in enumerate(cuts)}
    targets: list[set[int]] = [set() for _ in cuts]
    for lo, hi, to in listed:
        for k in range(place[lo], place[hi + 1]):
            targets[k].add(to)
    return [(cuts[k], cuts[k + 1] - 1, to) for k, to in enumerate(targets) if to]


def _merged(edges: ByteEdges) -> ByteEdges:
    out: ByteEdges = []
    for lo, hi, to in edges:
        if out and out[-1][2] == to and out[-1][1] + 1 == lo:
            out[-1] = out[-1][0], hi, to
        else:
            out.append((lo, hi, to))
    return out


def _without_eps(nodes: Nodes) -> Nodes:
    closure = closures(nodes)
    out = Nodes()
    edges = 0
    for i in range(len(nodes.edges)):
        members = closure([i])
        edges += sum(len(nodes.edges[m]) + len(nodes.calls[m]) for m in members)
        if edges > MAX_EDGES:
            raise GrammarBudget("edges of an automaton", edges, MAX_EDGES)
        out.new()
        out.edges[i] = sorted({e for m in members for e in nodes.edges[m]})
        out.calls[i] = sorted({c for m in members for c in nodes.calls[m]})
        if not nodes.finals.isdisjoint(members):
            out.finals.add(i)
    return out


def trimmed(nodes: Nodes) -> Nodes:
    """Without nodes that are not reached from node 0, or from which no end is. Node 0 stays in any case."""
    n = len(nodes.edges)
    after: list[set[int]] = [{to for _, _, to in nodes.edges[i]} | {to for _, to in nodes.calls[i]} for i in range(n)]
    before: list[list[int]] = [[] for _ in range(n)]
    for i, targets in enumerate(after):
        for to in targets:
            before[to].append(i)

    def reach(start: Iterable[int], edges: list[list[int]] | list[set[int]]) -> set[int]:
        found = set(start)
        todo = list(found)
        while todo:
            for to in edges[todo.pop()]:
                if to not in found:
                    found.add(to)
                    todo.append(to)
        return found

    kept = reach([0], after) & reach(nodes.finals, before)
    if len(kept) == n:
        return nodes
    number = {old: new for new, old in enumerate(sorted(kept | {0}))}
    out = Nodes(finals={number[i] for i in nodes.finals if i in number})
    for old in number:
        i = out.new()
        out.edges[i] = [(lo, hi, number[to]) for lo, hi, to in nodes.edges[old] if to in kept]
        out.calls[i] = [(name, number[to]) for name, to in nodes.calls[old] if to in kept]
    return out
