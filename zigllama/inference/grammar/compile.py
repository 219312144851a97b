"""Rules to the program of a pushdown machine: automata that call each other, as arrays (see zl_pushdown_rules).

    names checked -> which rules derive anything -> automata -> groups of rules that call each other first -> arrays

Left recursion and rules that can be empty need no rewriting by whoever writes a grammar: a call of a rule that can be
empty is also an edge that reads nothing, so that what is called always reads; and a rule that calls itself before it
has read anything is in the same group as itself, which the machine knows how to enter (pushdown.py).

Parts that no text can use are left out here, so that the machine never goes where it cannot come back from. What it is
not: it reads no notation, and runs nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zigllama.errors import EmptyLanguage, GrammarBudget, GrammarError

from .automata import MAX_NODES, Builder, Nodes, Room, determinised
from .ir import Alt, Automaton, Bytes, Chars, Expr, Literal, Ref, Repeat, Rules, Seq, children, place_of, walk

MAX_ALL_EDGES = 200_000  # of all rules; of one automata.py allows for fewer
MAX_DEPTH = 200  # of expressions within one another
INLINE = 24  # a rule of so many parts, or used once, is written where it is called
I32 = npt.NDArray[np.int32]
U8 = npt.NDArray[np.uint8]


@dataclass
class Program:
    """What zl_pushdown_rules describes; the field names are the same. `names`: of the rules, for messages."""

    edge_first: I32
    edge_low: U8
    edge_high: U8
    edge_next: I32
    call_first: I32
    call_rule: I32
    call_next: I32
    final: U8
    rule_node: I32
    rule_group: I32
    start: int
    class_of: U8
    n_classes: int
    names: tuple[str, ...]
    what: str


def compile_rules(rules: Rules) -> Program:
    """The program of these rules. Raises GrammarError for a name that is not defined, EmptyLanguage where no text is
    accepted, GrammarBudget for what is too large or too deeply nested."""
    table = rules.rules
    _check(rules)
    productive = _least(table, _can_be_any)
    if not productive[rules.start]:
        raise EmptyLanguage(rules.what)
    nullable = _least(table, _can_be_empty)
    kept = {name: e for name, it in table.items() if (e := _pruned(it, productive)) is not None}
    filled = _least(kept, _can_be_filled)
    inline = _inlined(kept, rules.start)
    made: dict[str, Nodes] = {}
    used, edges, room = 0, 0, Room()
    todo = [""]  # the text itself, which calls the start rule
    while todo:
        name = todo.pop()
        if name in made:
            continue
        e = kept[name] if name else Ref(rules.start)
        builder = Builder(nullable.__getitem__, filled.__getitem__, inline.get, used)
        made[name] = determinised(builder.rule(e), room)
        edges += sum(map(len, made[name].edges)) + sum(map(len, made[name].calls))
        if edges > MAX_ALL_EDGES:
            raise GrammarBudget("edges of all automata", edges, MAX_ALL_EDGES)
        used += max(len(builder.nodes.edges), len(made[name].edges))
        todo += {called for calls in made[name].calls for called, _ in calls}
    return _assembled(made, rules.what)


# --- names, sizes -----------------------------------------------------------------------------------------------------


def _check(rules: Rules) -> None:
    if rules.start not in rules.rules:
        raise GrammarError(f"the rule to begin with, {rules.start!r}, is not defined")
    parts = 0
    for name, e in rules.rules.items():
        for part in walk(e):
            parts += 1
            if isinstance(part, Ref) and part.name not in rules.rules:
                raise GrammarError(
                    f"rule {name!r} uses {part.name!r}, which is not defined", *place_of(rules.source, part.span)
                )
            if isinstance(part, Repeat) and (part.lo < 0 or (part.hi is not None and part.hi < part.lo)):
                raise GrammarError(
                    f"rule {name!r} repeats from {part.lo} to {part.hi} times", *place_of(rules.source, part.span)
                )
        if parts > 5 * MAX_NODES:
            raise GrammarBudget("parts of rules", parts, 5 * MAX_NODES)
        depth, level = 0, [e]
        while level:
            depth += 1
            if depth > MAX_DEPTH:
                raise GrammarBudget("levels of nesting", depth, MAX_DEPTH)
            level = [c for part in level for c in children(part)]


def _size(e: Expr) -> int:
    return sum(
        len(p.text) if isinstance(p, Literal) else len(p.edges) if isinstance(p, Automaton) else 1 for p in walk(e)
    )


# --- what rules can derive: least fixed points ------------------------------------------------------------------------

Known = Mapping[str, bool]


def _least(table: Mapping[str, Expr], holds: Callable[[Expr, Known], bool]) -> dict[str, bool]:
    """For each rule whether `holds`, which is monotone in what is known of others: the least solution."""
    known = dict.fromkeys(table, False)
    users: dict[str, set[str]] = {name: set() for name in table}
    for name, e in table.items():
        for part in walk(e):
            if isinstance(part, Ref):
                users[part.name].add(name)
    todo = deque(table)  # a rule that waits is looked at once, however many that it uses become known till then
    waiting = set(table)
    while todo:
        name = todo.popleft()
        waiting.discard(name)
        if holds(table[name], known):
            known[name] = True
            more = [u for u in users[name] if not known[u] and u not in waiting]
            todo += more
            waiting.update(more)
    return known


def _can_be_any(e: Expr, known: Known) -> bool:
    if isinstance(e, Seq):
        return all(_can_be_any(i, known) for i in e.items)
    if isinstance(e, Alt):
        return any(_can_be_any(i, known) for i in e.items)
    if isinstance(e, Repeat):
        return e.lo == 0 or _can_be_any(e.item, known)
    if isinstance(e, Ref):
        return known[e.name]
    if isinstance(e, Automaton):
        return _accepted(e)[0]
    if isinstance(e, Chars):
        return any(lo < 0xD800 or hi > 0xDFFF for lo, hi in e.ranges)  # not surrogates alone
    return not isinstance(e, Bytes) or bool(e.ranges)


def _can_be_empty(e: Expr, known: Known) -> bool:
    if isinstance(e, Seq):
        return all(_can_be_empty(i, known) for i in e.items)
    if isinstance(e, Alt):
        return any(_can_be_empty(i, known) for i in e.items)
    if isinstance(e, Repeat):
        return e.lo == 0 or _can_be_empty(e.item, known)
    if isinstance(e, Ref):
        return known[e.name]
    return (isinstance(e, Literal) and not e.text) or (isinstance(e, Automaton) and 0 in e.finals)


def _can_be_filled(e: Expr, known: Known) -> bool:
    """Whether it, of which every part derives something (`_pruned`), derives anything but the empty text."""
    if isinstance(e, Seq | Alt):
        return any(_can_be_filled(i, known) for i in e.items)
    if isinstance(e, Repeat):
        return _can_be_filled(e.item, known)
    if isinstance(e, Ref):
        return known[e.name]
    if isinstance(e, Literal):
        return bool(e.text)
    return _accepted(e)[1] if isinstance(e, Automaton) else True


def _accepted(e: Automaton) -> tuple[bool, bool]:
    """Whether an automaton accepts any text; any but the empty one."""
    found, todo = set[int](), [0] if e.edges else []
    while todo:
        for _, _, to in e.edges[todo.pop()]:
            if to not in found:
                found.add(to)
                todo.append(to)
    return bool(e.edges) and (0 in e.finals or bool(found & e.finals)), bool(found & e.finals)


def _pruned(e: Expr, productive: Known) -> Expr | None:
    """Without alternatives that derive nothing; so what is left can be built part by part. None: it derives nothing."""
    if isinstance(e, Seq):
        items = []
        for i in e.items:
            kept = _pruned(i, productive)
            if kept is None:
                return None
            items.append(kept)
        return Seq(tuple(items), e.span)
    if isinstance(e, Alt):
        ways = tuple(kept for i in e.items if (kept := _pruned(i, productive)) is not None)
        return Alt(ways, e.span) if ways else None
    if isinstance(e, Repeat):
        kept = None if e.hi == 0 else _pruned(e.item, productive)
        if kept is None:
            return Seq(()) if e.lo == 0 else None
        return Repeat(kept, e.lo, e.hi, e.span)
    return e if _can_be_any(e, productive) else None


# --- calls ------------------------------------------------------------------------------------------------------------


def _refs(e: Expr) -> list[str]:
    return [p.name for p in walk(e) if isinstance(p, Ref)]


def _inlined(table: Mapping[str, Expr], start: str) -> dict[str, Expr]:
    """Rules to be written where they are called: those that never call themselves, by whatever way, and are small or
    used once."""
    calls = {name: _refs(e) for name, e in table.items()}
    uses: dict[str, int] = {start: 1}
    for called in calls.values():
        for name in called:
            uses[name] = uses.get(name, 0) + 1
    recursive = {name for group in groups(calls) if len(group) > 1 or group[0] in calls[group[0]] for name in group}
    return {
        name: e
        for name, e in table.items()
        if name not in recursive and (uses.get(name) == 1 or _size(e) + 8 * len(calls[name]) <= INLINE)
    }


def groups(after: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Strongly connected components, each after all that lead to it (Tarjan, 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack, out = list[str](), list[list[str]]()
    on_stack = set[str]()
    for root in after:
        if root in index:
            continue
        path = [(root, iter(after[root]))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while path:
            name, rest = path[-1]
            for to in rest:
                if to not in index:
                    index[to] = low[to] = len(index)
                    stack.append(to)
                    on_stack.add(to)
                    path.append((to, iter(after[to])))
                    break
                if to in on_stack:
                    low[name] = min(low[name], index[to])
            else:
                path.pop()
                if path:
                    low[path[-1][0]] = min(low[path[-1][0]], low[name])
                if low[name] == index[name]:
                    group = [stack.pop()]
                    while group[-1] != name:
                        group.append(stack.pop())
                    on_stack.difference_update(group)
                    out.append(group)
    return out[::-1]


# --- arrays -----------------------------------------------------------------------------------------------------------


def _assembled(made: Mapping[str, Nodes], what: str) -> Program:
    """The automata one after the other; a rule whose first node is final gets another one to begin at, which is not."""
    first: dict[str, list[str]] = {
        name: [called for called, _ in nodes.calls[0]] for name, nodes in made.items() if name
    }
    order = groups(first)
    names = [name for group in order for name in group]
    number = {name: i for i, name in enumerate(names)}
    edges: list[list[tuple[int, int, int]]] = []
    calls: list[list[tuple[int, int]]] = []
    final: list[bool] = []
    begin: dict[str, int] = {}
    for name in ["", *names]:
        nodes, base = made[name], len(edges)
        for i in range(len(nodes.edges)):
            edges.append([(lo, hi, to + base) for lo, hi, to in nodes.edges[i]])
            calls.append([(number[called], to + base) for called, to in nodes.calls[i]])
            final.append(i in nodes.finals)
        begin[name] = base
        if name and final[base]:
            begin[name] = len(edges)
            edges.append(edges[base])
            calls.append(calls[base])
            final.append(False)
    class_of, n_classes = byte_classes(edges)
    flat = [e for some in edges for e in some]
    called_ = [c for some in calls for c in some]
    return Program(
        edge_first=np.cumsum([0, *map(len, edges)], dtype=np.int32),
        edge_low=np.array([lo for lo, _, _ in flat], np.uint8),
        edge_high=np.array([hi for _, hi, _ in flat], np.uint8),
        edge_next=np.array([to for _, _, to in flat], np.int32),
        call_first=np.cumsum([0, *map(len, calls)], dtype=np.int32),
        call_rule=np.array([rule for rule, _ in called_], np.int32),
        call_next=np.array([to for _, to in called_], np.int32),
        final=np.array(final, np.uint8),
        rule_node=np.array([begin[name] for name in names], np.int32),
        rule_group=np.array([g for g, group in enumerate(order) for _ in group], np.int32),
        start=begin[""],
        class_of=class_of,
        n_classes=n_classes,
        names=tuple(names),
        what=what,
    )


def byte_classes(edges: Iterable[Iterable[tuple[int, int, int]]]) -> tuple[U8, int]:
    """Bytes that all edges treat alike: the class of each, uint8 (256,), and how many there are."""
    labels = {(lo, hi) for some in edges for lo, hi, _ in some}
    cuts = sorted({0, 256} | {lo for lo, _ in labels} | {hi + 1 for _, hi in labels})
    place = {cut: k for k, cut in enumerate(cuts)}
    marks = [0] * len(cuts)
    for bit, (lo, hi) in enumerate(labels):
        for k in range(place[lo], place[hi + 1]):
            marks[k] |= 1 << bit
    number: dict[int, int] = {}
    class_of = np.empty(256, np.uint8)
    for k in range(len(cuts) - 1):
        class_of[cuts[k] : cuts[k + 1]] = number.setdefault(marks[k], len(number))
    return class_of, len(number)
