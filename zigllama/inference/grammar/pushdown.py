"""The machine of a context-free grammar, in Python: what core/grammar_pushdown.c does, to be read.

A rule is an automaton whose edges read a byte or call a rule (compile.py). While a text is read there may be many ways
to understand it, and the machine follows all of them. One way is an *item*: a node, and on a stack the nodes to go on
at when the rule ends. Stacks share what they have in common (Tomita, 1986): a stack is a number, and stands for a set
of pairs (node to go on at, stack below).

    list: n0 -'['-> n1 -item-> n2 -']'-> n3*       text "[["       items {(n1, 2)}
    item: n4 -list-> n5*                           stack 1 = {(n2, 0)}, stack 2 = {(n2, 1)}

A step reads a byte on every edge that takes it, then

    leave   an item whose rule may end goes on where its stack says
    enter   a rule that is called gets one stack of all who call it, made once per byte

Rules read something whenever they are called (compile.py has made calls of empty rules edges that read nothing), so
what is entered ends at a later byte: all leaving comes before all entering. A rule that calls itself before it has read
anything stands in its own stack. Its number is known only when its pairs are, so such pairs are written relative to the
stack itself; rules that call each other so (a *group*) get their stacks together.

A call that is the last thing in a rule hands its own stack's pairs on, so that lists which end in themselves do not
grow. A state is the set of items, and whether the text may end here; equal ones are one number.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from zigllama.errors import GrammarBudget

from .compile import Program
from .machine import DEAD, LIMIT_STEPS

Item = tuple[int, int]  # node, stack
Pairs = tuple[Item, ...]
BOTTOM = 0  # the stack below which there is nothing


def _relative(place: int) -> int:
    """A member of a group, by its place in it, where a stack is expected; its own inverse."""
    return -2 - place


class Pushdown:
    """The machine of a program; see machine.py. Raises GrammarBudget from `step`."""

    def __init__(self, program: Program) -> None:
        p = self.program = program
        n = len(p.final)
        cut = [*map(int, p.edge_first)]
        edges = list(zip(p.edge_low.tolist(), p.edge_high.tolist(), p.edge_next.tolist(), strict=True))
        self._edges = [edges[cut[i] : cut[i + 1]] for i in range(n)]
        cut = [*map(int, p.call_first)]
        calls = list(zip(p.call_rule.tolist(), p.call_next.tolist(), strict=True))
        self._calls = [calls[cut[i] : cut[i + 1]] for i in range(n)]
        self._final = p.final.tolist()
        self._only_ends = [
            bool(f) and not e and not c for f, e, c in zip(self._final, self._edges, self._calls, strict=True)
        ]
        self._node, self._group = p.rule_node.tolist(), p.rule_group.tolist()
        # stacks: the pairs of each, its place in its group, and groups by what they hold
        self._pairs: list[Pairs] = [()]
        self._place = [0]
        self._stacks: dict[tuple[Pairs, ...], int] = {((),): BOTTOM}
        # states: the items of each, whether the text may end there; states by both; steps that were made
        self._states: list[tuple[Pairs, bool]] = []
        self._numbers: dict[tuple[Pairs, bool], int] = {}
        self._steps: dict[tuple[int, int], int] = {}
        self.work = 0
        self._start = self._close([(p.start, BOTTOM)])

    @property
    def start(self) -> int:
        """As Machine."""
        return self._start

    def finished(self, state: int) -> bool:
        """As Machine."""
        return state != DEAD and self._states[state][1]

    def step(self, state: int, byte: int) -> int:
        """As Machine."""
        if state == DEAD:
            return DEAD
        key = state, int(self.program.class_of[byte])
        if key not in self._steps:
            self.work = 0
            items, _ = self._states[state]
            moved = [(to, stack) for node, stack in items for lo, hi, to in self._edges[node] if lo <= byte <= hi]
            self._steps[key] = self._close(moved)
        return self._steps[key]

    def _close(self, moved: Iterable[Item]) -> int:
        """The state of these items and all that follows from them without reading."""
        items = dict.fromkeys(moved)
        finished = False
        for item in (todo := list(items)):  # leave; `todo` grows on the way
            self._count()
            node, stack = item
            if not self._final[node]:
                continue
            finished |= stack == BOTTOM
            for to, parent in self._pairs[stack]:
                after = to, self._below(stack, parent)
                if after not in items:
                    items[after] = None
                    todo.append(after)
        called: dict[int, set[Item]] = {}
        for node, stack in todo:
            for rule, back in self._calls[node]:
                called.setdefault(rule, set()).add((back, stack))
        heap = list(called)
        heapq.heapify(heap)
        while heap:
            items |= dict.fromkeys(self._enter(heap, called))
        reading = tuple(sorted(i for i in items if self._edges[i[0]]))
        if not reading and not finished:
            return DEAD
        key = reading, finished
        if key not in self._numbers:
            self._numbers[key] = len(self._states)
            self._states.append(key)
        return self._numbers[key]

    def _enter(self, heap: list[int], called: dict[int, set[Item]]) -> list[Item]:
        """Enter the first rule that is called, and all of its group that are called with it: their first items."""
        group = self._group[heap[0]]
        members: list[int] = []
        inside: dict[int, set[Item]] = {}  # pairs whose stack is that of a member: (node, rule)
        while heap and self._group[heap[0]] == group:
            rule = heapq.heappop(heap)
            members.append(rule)
            for other, back in self._calls[self._node[rule]]:
                self._count()
                if self._group[other] != group:
                    continue
                if other not in called:
                    called[other] = set()
                    heapq.heappush(heap, other)
                inside.setdefault(other, set()).add((back, rule))
        members.sort()
        place = {rule: i for i, rule in enumerate(members)}
        key = tuple(
            tuple(
                sorted(
                    {pair for caller in called[rule] for pair in self._handed_on(caller)}
                    | {(back, _relative(place[other])) for back, other in inside.get(rule, ())}
                )
            )
            for rule in members
        )
        if key not in self._stacks:
            self._stacks[key] = len(self._pairs)
            self._pairs += key
            self._place += range(len(key))
        first = self._stacks[key]
        for i, rule in enumerate(members):
            for other, back in self._calls[self._node[rule]]:
                if self._group[other] == group:
                    continue
                if other not in called:
                    called[other] = set()
                    heapq.heappush(heap, other)
                called[other].add((back, first + i))
        return [(self._node[rule], first + i) for i, rule in enumerate(members)]

    def _handed_on(self, caller: Item) -> Iterable[Item]:
        """A caller as pairs of the stack of what it calls: itself, or, where nothing but the end follows, its own."""
        back, stack = caller
        if stack == BOTTOM or not self._only_ends[back]:
            return (caller,)
        return [(to, self._below(stack, parent)) for to, parent in self._pairs[stack]]

    def _below(self, stack: int, parent: int) -> int:
        """The number of a parent that may be written relative to its stack."""
        return parent if parent >= 0 else stack - self._place[stack] + _relative(parent)

    def _count(self) -> None:
        self.work += 1
        if self.work > LIMIT_STEPS:
            raise GrammarBudget("steps", self.work, LIMIT_STEPS)
