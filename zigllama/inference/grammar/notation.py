"""What the readers of notations share: a text with a place in it, and a builder of expressions that needs no recursion.

    build = Builder(scanner) build.item(Literal(b"a")); build.bar(); build.open(")"); build.item(Ref("b"));
    build.close(")"); build.repeat(1, None) build.done()                                     # Alt((Literal(b"a"),
    Repeat(Ref("b"), 1, None)))

GBNF, both EBNFs, context-free grammars and regular expressions are all alternatives of sequences of items with groups
around them and counts behind them: each front end only says what comes next. What the expressions mean is ir.py's
matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from zigllama.errors import GrammarBudget, GrammarError, UnsupportedSyntax

from .ir import EMPTY, NOTHING, Alt, Expr, Literal, Ref, Repeat, Rules, Seq, Span

MAX_NESTING = 200  # groups inside groups: whoever walks an expression by recursion stays far from Python's limit
MAX_TEXT = 300_000  # characters of a grammar: about a second, at what takes longest
MAX_COUNT_DIGITS = 10  # of a number that says how often


def alt(items: Iterable[Any], span: Span = None) -> Any:
    """One of them, without needless layers: alternatives of alternatives are alternatives, one alone is itself."""
    flat: list[Any] = []
    for item in items:
        flat.extend(item.items if isinstance(item, Alt) else (item,))
    return flat[0] if len(flat) == 1 else Alt(tuple(flat), span) if flat else NOTHING


def seq(items: Iterable[Any], span: Span = None) -> Any:
    """One after the other, without needless layers; neighbouring literals are one."""
    flat: list[Any] = []
    texts: list[bytes] = []  # literals not yet put into `flat`; joined once, for a long text has many
    spans: list[Span] = []

    def flush() -> None:
        if texts:
            first, last = spans[0], spans[-1]
            text = b"".join(texts)
            if text:
                flat.append(Literal(text, (first[0], last[1]) if first and last else None))
            texts.clear()
            spans.clear()

    for item in items:
        for part in item.items if isinstance(item, Seq) else (item,):
            if isinstance(part, Literal):
                texts.append(part.text)
                spans.append(part.span)
            else:
                flush()
                flat.append(part)
    flush()
    return flat[0] if len(flat) == 1 else Seq(tuple(flat), span) if flat else EMPTY


def repeat(item: Any, lo: int, hi: int | None, span: Span = None) -> Any:
    """`item` lo to hi times; nested counts are one where they can be: (a*)* is a*, (a+){2,} is a{2,}, (a?)+ is a*."""
    if item == EMPTY or hi == 0:
        return EMPTY
    if (lo, hi) == (1, 1):
        return item
    if isinstance(item, Repeat) and item.lo <= 1 and item.hi is None:
        return Repeat(item.item, item.lo * lo, None, span)
    if isinstance(item, Repeat) and (item.lo, item.hi) == (0, 1):
        return repeat(item.item, 0, hi, span)
    return Repeat(item, lo, hi, span)


@dataclass
class Scanner:
    """A text and how far it has been read.

    what    what errors call the text: "the grammar"
    shown   the text as its author has it, in which places are counted, where it is another (of the same length)
    """

    text: str
    what: str = "the grammar"
    at: int = 0
    shown: str | None = None

    def __post_init__(self) -> None:
        if len(self.text) > MAX_TEXT:
            raise GrammarBudget("characters", len(self.text), MAX_TEXT)

    def place(self, at: int | None = None) -> tuple[int, int]:
        """Line and column, from 1, of a character."""
        text = self.text if self.shown is None else self.shown
        before = text[: self.at if at is None else at]
        return before.count("\n") + 1, len(before) - before.rfind("\n")

    def error(self, reason: str, at: int | None = None) -> GrammarError:
        """The error to raise: why, and where (by default: here)."""
        return GrammarError(f"{self.what}: {reason}", *self.place(at))

    def unsupported(self, feature: str, why: str, at: int | None = None) -> UnsupportedSyntax:
        """The error to raise for what is understood and cannot be enforced."""
        return UnsupportedSyntax(feature, why, *self.place(at))

    @property
    def ended(self) -> bool:
        """Whether all has been read."""
        return self.at >= len(self.text)

    def peek(self, n: int = 1) -> str:
        """The next characters; fewer at the end."""
        return self.text[self.at : self.at + n]

    def take(self, literal: str) -> bool:
        """Go past this text, if it stands here."""
        found = self.text.startswith(literal, self.at)
        self.at += len(literal) if found else 0
        return found

    def next(self) -> str:
        """The next character, which is read."""
        if self.ended:
            raise self.error("ends too early")
        self.at += 1
        return self.text[self.at - 1]

    def need(self, literal: str) -> None:
        """Go past this text, which must stand here."""
        if not self.take(literal):
            found = repr(self.peek()) if not self.ended else "the end"
            raise self.error(f"{literal!r} is expected, here is {found}")

    def run(self, belongs: Callable[[str], bool]) -> str:
        """The longest run of characters that belong, which is read; maybe none."""
        begin, text, n = self.at, self.text, len(self.text)
        at = begin
        while at < n and belongs(text[at]):
            at += 1
        self.at = at
        return text[begin:at]

    def upto(self, end: str, what: str) -> str:
        """What stands before `end`; both are read. `what` is what the error says is not closed."""
        found = self.text.find(end, self.at)
        if found < 0:
            raise self.error(f"{what} is not closed")
        begin, self.at = self.at, found + len(end)
        return self.text[begin:found]

    def number(self) -> int:
        """A decimal number. Raises GrammarBudget for one that is longer than any count can be."""
        digits = self.run(lambda c: c in "0123456789")
        if not digits:
            raise self.error("a number is expected")
        if len(digits.lstrip("0")) > MAX_COUNT_DIGITS:
            raise GrammarBudget("repetitions", int(digits.lstrip("0")[: MAX_COUNT_DIGITS + 1]), 10**MAX_COUNT_DIGITS)
        return int(digits)

    def hexadecimal(self, digits: int) -> int:
        """So many hexadecimal digits."""
        text = self.peek(digits)
        if len(text) < digits or any(c not in "0123456789abcdefABCDEF" for c in text):
            raise self.error(f"{digits} hexadecimal digits are expected")
        self.at += digits
        return int(text, 16)

    def encode(self, text: str, begin: int) -> Literal:
        """A literal of the text; `begin` is where it began. A surrogate has no UTF-8, and is an error."""
        try:
            return Literal(text.encode(), (begin, self.at))
        except UnicodeEncodeError as e:
            raise self.error(f"U+{ord(text[e.start]):04X} is a surrogate, which no UTF-8 text has", begin) from e

    def character(self, code: int, begin: int) -> str:
        """The character of a number that was written at `begin`."""
        if code > 0x10FFFF:
            raise self.error(f"0x{code:x} is beyond the last code point, 0x10ffff", begin)
        return chr(code)


@dataclass
class _Group:
    """A group that is open: what closes it, where it began, what is made of its inside, and what it interrupted."""

    closer: str
    begin: int
    wrap: Callable[[Any], Any]
    alternatives: list[Any]
    items: list[Any]


@dataclass
class Builder:
    """Makes an expression of what comes, one thing after the other. Groups may be nested MAX_NESTING deep."""

    source: Scanner
    alternatives: list[Any] = field(default_factory=list)
    items: list[Any] = field(default_factory=list)
    groups: list[_Group] = field(default_factory=list)
    arrange: Callable[[list[Any]], list[Any]] = lambda items: items  # a last look at a sequence before it is one

    def item(self, item: Any) -> None:
        """One more in the sequence."""
        self.items.append(item)

    def bar(self) -> None:
        """What follows is another alternative."""
        self.alternatives.append(seq(self.arrange(self.items)))
        self.items = []

    def open(self, closer: str, begin: int, wrap: Callable[[Any], Any] = lambda e: e) -> None:
        """A group begins, which `closer` ends; wrap(what is in it) becomes the item."""
        if len(self.groups) >= MAX_NESTING:
            raise GrammarBudget("groups inside groups", len(self.groups) + 1, MAX_NESTING)
        self.groups.append(_Group(closer, begin, wrap, self.alternatives, self.items))
        self.alternatives, self.items = [], []

    def close(self, closer: str) -> None:
        """The group ends, whose end this is; `source` stands behind it."""
        at = self.source.at - len(closer)
        if not self.groups or self.groups[-1].closer != closer:
            wanted = f"; {self.groups[-1].closer!r} is expected" if self.groups else ""
            raise self.source.error(f"{closer!r} closes what was not opened{wanted}", at)
        inner, group = self._whole(), self.groups.pop()
        self.alternatives, self.items = group.alternatives, group.items
        self.items.append(group.wrap(inner))

    def last(self, why: str) -> Any:
        """Takes the last item away, to put another in its place; `why` is the error where there is none."""
        if not self.items:
            raise self.source.error(why)
        return self.items.pop()

    def repeat(self, lo: int, hi: int | None, begin: int) -> None:
        """The last item, so many times; the count was written at `begin`."""
        if hi is not None and hi < lo:
            raise self.source.error(f"at least {lo} and at most {hi} times is never", begin)
        item = self.last("there is nothing to repeat")
        self.items.append(repeat(item, lo, hi, (begin, self.source.at)))

    def done(self) -> Any:
        """The expression. All groups must be closed."""
        if self.groups:
            raise self.source.error(
                f"a group is not closed: {self.groups[-1].closer!r} is missing", self.groups[-1].begin
            )
        whole = self._whole()
        self.alternatives, self.items = [], []
        return whole

    def _whole(self) -> Any:
        last = seq(self.arrange(self.items))
        return alt([*self.alternatives, last]) if self.alternatives else last


class Definitions:
    """The rules of a text as they are found: a name once, and every name that is used defined."""

    def __init__(self, source: Scanner) -> None:
        self.source = source
        self.found: dict[str, Expr] = {}
        self.places: dict[str, int] = {}
        self.used: dict[str, int] = {}

    def define(self, name: str, e: Expr, begin: int) -> None:
        """A rule, whose name stands at `begin`."""
        if name in self.found:
            line = self.source.place(self.places[name])[0]
            raise self.source.error(f"the rule {name!r:.60} is there already, in line {line}", begin)
        self.found[name] = e
        self.places[name] = begin

    def refer(self, name: str, begin: int) -> Ref:
        """A name in a rule."""
        self.used.setdefault(name, begin)
        return Ref(name, (begin, self.source.at))

    def rules(self, start: str | None = None) -> Rules:
        """All of them; the first is where to start, unless another is named. Raises GrammarError for a name without a
        rule.
        """
        if not self.found:
            raise self.source.error("there is no rule")
        for name, begin in self.used.items():
            if name not in self.found:
                raise self.source.error(f"there is no rule {name!r:.60}", begin)
        first = next(iter(self.found)) if start is None else start
        if first not in self.found:
            raise self.source.error(f"there is no rule {first!r:.60} to start with", 0)
        return Rules(self.found, first, self.source.what, self.source.text)
