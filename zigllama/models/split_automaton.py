"""An expression (split_expressions.py) as a table that reads a text once: a deterministic automaton over classes.

    | state | letter   | space  | other  | end   |      of  \\p{L}+|\\s+(?!\\S)|\\s+
    |-------|----------|--------|--------|-------|
    | 1     | 2        | 3      | 0      | 0     |      1: the start; 0: no further
    | 2     | 2 match  | 0 m.   | 0 m.   | 0 m.  |      `match`: what was read before this character is one
    | 3     | 0 match  | 4      | ...

Code points that no set of the expression tells apart share a class. A state is the list of places in the expression
where reading may go on, in order of preference; once a place is the end of the expression, what stands behind it in
the list is given up: so the first alternative that matches wins and repetitions take what they can, as `re` does it
by trying. (R. Cox, "Regular Expression Matching in the Wild", 2010.) A look ahead is answered by the class that comes.

What it is not: it reads no text. C does (ckernels/core/words.c), `re` is the twin.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zigllama.errors import InvalidArgument
from zigllama.foundation.native_words import Cut, CutKind, WordCutter

from .code_point_sets import LAST, Set
from .pretokenizers import PreTokenizer, Stage, Tail, Threes
from .split_expressions import Ahead, Chars, Either, Node, Repeat, Sequence, parse

MATCH = 0x8000


class Step(NamedTuple):
    """One instruction: read a character of the classes `mask`, or (`look`) see it without reading; or go to `to`."""

    mask: int = 0
    look: bool = False
    to: tuple[int, ...] = ()


END = Step()


def classes_of(sets: list[Set]) -> tuple[npt.NDArray[np.uint8], list[int]]:
    """The class of each code point, uint8 (0x110000,), and of each set the classes in it as bits."""
    edges = sorted({0, LAST + 1, *(e for s in sets for first, last in s for e in (first, last + 1))})
    place = {edge: i for i, edge in enumerate(edges)}
    inside = np.zeros((len(edges) - 1, len(sets)), np.bool_)
    for j, s in enumerate(sets):
        for first, last in s:
            inside[place[first] : place[last + 1], j] = True
    rows, numbers = np.unique(inside, axis=0, return_inverse=True)
    if len(rows) > 256:
        raise InvalidArgument(f"{len(rows)} classes of characters: at most 256 are possible")
    table = np.repeat(numbers.reshape(-1).astype(np.uint8), [b - a for a, b in pairwise(edges)])
    return table, [sum(1 << i for i, row in enumerate(rows) if row[j]) for j in range(len(sets))]


def _sets(node: Node) -> list[Set]:
    if isinstance(node, (Chars, Ahead)):
        return [node.chars]
    parts = (node.part,) if isinstance(node, Repeat) else node.parts
    return [s for part in parts for s in _sets(part)]


class _Program:
    """The expression as instructions; those with `to` try their goals in that order."""

    def __init__(self, masks: dict[Set, int], n_classes: int) -> None:
        self.masks, self.at_end = masks, 1 << n_classes
        self.steps: list[Step] = []

    def add(self, node: Node) -> None:
        steps = self.steps
        match node:
            case Chars(chars):
                steps.append(Step(self.masks[chars]))
            case Ahead(chars, at_end):
                steps.append(Step(self.masks[chars] | (self.at_end if at_end else 0), look=True))
            case Sequence(parts):
                for part in parts:
                    self.add(part)
            case Either(parts):
                jumps = []
                for part in parts[:-1]:
                    fork = len(steps)
                    steps.append(END)
                    self.add(part)
                    jumps.append(len(steps))
                    steps.append(END)
                    steps[fork] = Step(to=(fork + 1, len(steps)))
                self.add(parts[-1])
                for jump in jumps:
                    steps[jump] = Step(to=(len(steps),))
            case Repeat(part, least, most):
                for _ in range(least):
                    self.add(part)
                forks = []
                for _ in range(1 if most is None else most - least):
                    forks.append(len(steps))
                    steps.append(END)
                    self.add(part)
                if most is None:
                    steps.append(Step(to=(forks[0],)))
                for fork in forks:
                    steps[fork] = Step(to=(fork + 1, len(steps)))


def _advance(steps: list[Step], places: tuple[int, ...], symbol: int) -> tuple[bool, tuple[int, ...]]:
    """Whether the end was reached before this class of character, and the places after it."""
    todo, seen, after = list(reversed(places)), set[int](), dict[int, None]()
    while todo:
        place = todo.pop()
        if place in seen:
            continue
        seen.add(place)
        step = steps[place]
        if step.to:
            todo += reversed(step.to)
        elif step is END:
            return True, tuple(after)
        elif step.mask & symbol:
            if step.look:
                todo.append(place + 1)
            else:
                after[place + 1] = None
    return False, tuple(after)


@cache
def _expression(text: str) -> Cut:
    tree = parse(text)
    sets = list(dict.fromkeys(_sets(tree)))
    table, masks = classes_of(sets)
    n_classes = int(table.max()) + 1
    program = _Program(dict(zip(sets, masks, strict=True)), n_classes)
    program.add(tree)
    program.steps.append(END)
    states: dict[tuple[int, ...], int] = {(): 0, (0,): 1}
    rows: list[list[int]] = [[0] * (n_classes + 1)]
    waiting: list[tuple[int, ...]] = [(0,)]
    for places in waiting:
        row = []
        for symbol in range(n_classes + 1):
            found, after = _advance(program.steps, places, 1 << symbol)
            if found and places == (0,):
                raise InvalidArgument(f"expression {text!r} matches the empty text")
            if after not in states:
                states[after] = len(states)
                waiting.append(after)
            row.append(states[after] | (MATCH if found else 0))
        rows.append(row)
    if len(rows) >= MATCH:
        raise InvalidArgument(f"expression {text!r} has {len(rows)} states: at most {MATCH - 1} are possible")
    return Cut(CutKind.EXPRESSION, table, np.array(rows, np.uint16))


def cut_of(stage: Stage) -> Cut:
    """The tables of a stage."""
    if isinstance(stage, str):
        return _expression(stage)
    if isinstance(stage, Tail):
        return Cut(CutKind.TAIL, _membership(stage.chars, ()))
    assert isinstance(stage, Threes)
    kind = CutKind.THREES if stage.isolated else CutKind.THREES_JOINED
    return Cut(kind, _membership(stage.digits, stage.unless))


@cache
def cutter(rule: PreTokenizer) -> WordCutter:
    """The rule's tables, ready to cut; shared by all tokenizers that have it."""
    return WordCutter([cut_of(stage) for stage in rule.stages])


def _membership(ones: Set, twos: Set) -> npt.NDArray[np.uint8]:
    """1 for the code points of the first set, 2 for the others of the second, uint8 (0x110000,)."""
    table = np.zeros(LAST + 1, np.uint8)
    for value, s in ((2, twos), (1, ones)):
        for first, last in s:
            table[first : last + 1] = value
    return table
