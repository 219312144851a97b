"""Rules: the form that all front ends give their grammars, and that compile.py makes a machine of.

    list = Seq((Literal(b"["), Repeat(Ref("item"), 0, None), Literal(b"]")))
    Rules({"list": list, "item": Chars(((97, 122),))}, "list")

An expression stands for a set of byte strings. The forms are few: whatever a notation has besides (optional parts,
exceptions, case) its front end writes with these.

What it is not: a parser, and no check of meaning: undefined names, empty languages and budgets are compile.py's matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

Span = tuple[int, int] | None  # the first character in the source text, and the one after the last
Ranges = tuple[tuple[int, int], ...]  # (lowest, highest), both included

MAX_CODE_POINT = 0x10FFFF


@dataclass(frozen=True, slots=True)
class Literal:
    """Exactly these bytes. Literal(b"") is the empty string."""

    text: bytes
    span: Span = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Chars:
    """One character, in UTF-8, of these ranges of code points; surrogates (U+D800 to U+DFFF) are in no range, whatever
    is written. `Chars(())` is nothing."""

    ranges: Ranges
    span: Span = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Bytes:
    """One byte of these ranges."""

    ranges: Ranges
    span: Span = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Seq:
    """One after the other. `Seq(())` is the empty string."""

    items: tuple[Expr, ...]
    span: Span = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Alt:
    """One of them. `Alt(())` is nothing: no string at all."""

    items: tuple[Expr, ...]
    span: Span = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Repeat:
    """`item` at least `lo` and at most `hi` times; hi None: without end."""

    item: Expr
    lo: int
    hi: int | None
    span: Span = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Ref:
    """What the rule of this name stands for."""

    name: str
    span: Span = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Automaton:
    """What a deterministic automaton over bytes accepts: `edges[state]` are (lowest byte, highest byte, next state) and
    do not overlap; state 0 is the start. For intersections and complements of regular expressions (dfa.py)."""

    edges: tuple[tuple[tuple[int, int, int], ...], ...]
    finals: frozenset[int]
    span: Span = field(default=None, compare=False, repr=False)


Expr = Literal | Chars | Bytes | Seq | Alt | Repeat | Ref | Automaton

OF_SEVERAL = (Seq, Alt)  # `Seq | Alt` would be made anew at each part of a large grammar
EMPTY = Seq(())
NOTHING = Alt(())
ANY_CHAR = Chars(((0, MAX_CODE_POINT),))


@dataclass(frozen=True)
class Rules:
    """Named expressions, and the name of the one that a whole text must match.

    what     what errors call it: "the grammar", "the regular expression"
    source   the text that spans point into, "" where there is none
    """

    rules: Mapping[str, Expr]
    start: str
    what: str = "the grammar"
    source: str = field(default="", repr=False)


def children(e: Expr) -> tuple[Expr, ...]:
    """The expressions that it is made of."""
    if isinstance(e, OF_SEVERAL):
        return e.items
    return (e.item,) if isinstance(e, Repeat) else ()


def walk(e: Expr) -> Iterator[Expr]:
    """It and everything in it, in no order that matters; without recursion, so that depth is no matter."""
    todo = [e]
    while todo:
        e = todo.pop()
        yield e
        todo.extend(children(e))


def optional(e: Expr) -> Alt:
    """It or nothing."""
    return Alt((e, EMPTY))


def place_of(source: str, span: Span) -> tuple[int, int]:
    """Line and column, from 1, of a span's beginning; (0, 0) for none."""
    if span is None or not source:
        return 0, 0
    before = source[: span[0]]
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
