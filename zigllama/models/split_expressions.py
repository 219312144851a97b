"""The regular expressions of pre-tokenizers, read into a tree: what `tokenizer.json` writes, and nothing more.

    parse(r" ?\\p{L}+|\\s+(?!\\S)")
    Either(Sequence(Repeat(Chars(space), 0, 1), Repeat(Chars(letters), 1)),
           Sequence(Repeat(Chars(blanks), 1), Ahead(blanks, at_end=True)))

Of alternatives the first that matches is taken, and a repetition takes as much as it can: what every such library says.
The syntax: literals, `\\r \\n \\t \\uXXXX`, `\\s \\S \\d \\p{X}`, classes with ranges, `^`, `&&[...]`, groups `(?:...)`
and `(?i:...)`, `|`, `? * + {n} {m,n}`, and a look at the next character alone: `(?!x)`, `(?=x)`.

The tree has two executions. `to_re` writes it for Python's `re`, which knows no `\\p`: every class as ranges. That is
the textbook and the twin. split_automaton.py makes a table of it, which C walks.
"""

from __future__ import annotations

from typing import NamedTuple

from zigllama.errors import InvalidArgument

from .code_point_sets import WHITE_SPACE, Set, complement, intersection, prop, single, union


class Chars(NamedTuple):
    """One character of a set."""

    chars: Set


class Sequence(NamedTuple):
    """One after the other; of none, the empty text."""

    parts: tuple[Node, ...]


class Either(NamedTuple):
    """The first of these that matches."""

    parts: tuple[Node, ...]


class Repeat(NamedTuple):
    """As many times as it goes, within bounds; `most` None: no bound."""

    part: Node
    least: int
    most: int | None


class Ahead(NamedTuple):
    """The next character, which is not taken, is in the set, or the text ends where `at_end` allows it."""

    chars: Set
    at_end: bool


Node = Chars | Sequence | Either | Repeat | Ahead

ESCAPES = {
    "s": WHITE_SPACE,
    "S": complement(WHITE_SPACE),
    "r": single("\r"),
    "n": single("\n"),
    "t": single("\t"),
}
FOLDED = {"s": "\u017f", "k": "\u212a"}  # further characters that a letter equals when case does not count


class _Reader:
    """Recursive descent over the text of an expression."""

    def __init__(self, text: str) -> None:
        self.text, self.at, self.fold = text, 0, False

    def fail(self, what: str) -> InvalidArgument:
        return InvalidArgument(f"expression {self.text!r}, character {self.at}: {what}")

    def take(self, literal: str) -> bool:
        """Go past this text, if it stands here."""
        found = self.text.startswith(literal, self.at)
        self.at += len(literal) if found else 0
        return found

    def next(self) -> str:
        if self.at >= len(self.text):
            raise self.fail("ends too early")
        self.at += 1
        return self.text[self.at - 1]

    def need(self, literal: str) -> None:
        if not self.take(literal):
            raise self.fail(f"{literal} is expected")

    def either(self) -> Node:
        parts = [self.sequence()]
        while self.take("|"):
            parts.append(self.sequence())
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def sequence(self) -> Node:
        parts: list[Node] = []
        while self.at < len(self.text) and self.text[self.at] not in "|)":
            parts.append(self.quantified(self.item()))
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def item(self) -> Node:
        if self.take("(?:"):
            return self.group(self.fold)
        if self.take("(?i:"):
            return self.group(True)
        if self.take("(?!"):
            chars = complement(self.set())
            self.need(")")
            return Ahead(chars, True)
        if self.take("(?="):
            chars = self.set()
            self.need(")")
            return Ahead(chars, False)
        return Chars(self.set())

    def group(self, fold: bool) -> Node:
        outer, self.fold = self.fold, fold
        node = self.either()
        self.fold = outer
        self.need(")")
        return node

    def quantified(self, node: Node) -> Node:
        for sign, least, most in (("?", 0, 1), ("*", 0, None), ("+", 1, None)):
            if self.take(sign):
                return Repeat(node, least, most)
        if not self.take("{"):
            return node
        numbers = self.upto("}").split(",")
        if not all(n.isdecimal() for n in numbers) or len(numbers) > 2:
            raise self.fail("{n} or {m,n} is expected")
        return Repeat(node, int(numbers[0]), int(numbers[-1]))

    def upto(self, end: str) -> str:
        begin = self.at
        while self.next() != end:
            pass
        return self.text[begin : self.at - 1]

    def set(self) -> Set:
        """The set that one item of the expression stands for."""
        if self.take("["):
            return self.members()
        if self.at < len(self.text) and self.text[self.at] in "?*+{()$^.":
            raise self.fail(f"{self.text[self.at]!r} is not of the syntax that is read here")
        return self.one()

    def one(self) -> Set:
        """A literal or an escape."""
        c = self.next()
        if c == "\\":
            c = self.next()
            if c in ESCAPES:
                return ESCAPES[c]
            if c == "d":
                return prop("Nd")
            if c == "p":
                self.need("{")
                return prop(self.upto("}"))
            if c == "u":
                return single(chr(int("".join(self.next() for _ in range(4)), 16)))
            if c.isalnum():
                raise self.fail(f"\\{c} is not of the syntax that is read here")
        if self.fold and c.isalpha():
            return union(*map(single, {c.lower(), c.upper(), FOLDED.get(c.lower(), c)}))
        return single(c)

    def members(self) -> Set:
        """The inside of a class, up to its bracket."""
        negated = self.take("^")
        sets: list[Set] = []
        while not self.take("]"):
            if self.take("&&["):
                sets = [intersection(union(*sets), self.members())]
                continue
            first = self.one()
            if self.text.startswith("-", self.at) and not self.text.startswith("-]", self.at):
                self.at += 1
                last = self.one()
                if len(first) > 1 or len(last) > 1 or first[0][0] > last[0][1]:
                    raise self.fail("a range goes from one character to a later one")
                first = ((first[0][0], last[0][1]),)
            sets.append(first)
        return complement(union(*sets)) if negated else union(*sets)


def parse(text: str) -> Node:
    """The tree of an expression. Raises InvalidArgument for what is not of the syntax, UnknownName for a property."""
    reader = _Reader(text)
    node = reader.either()
    if reader.at < len(text):
        raise reader.fail("what closes here was not opened")
    return node


def _class(chars: Set) -> str:
    return "[" + "".join(f"\\U{a:08x}-\\U{b:08x}" for a, b in chars) + "]" if chars else "(?!)"


def to_re(node: Node) -> str:
    """The same expression for Python's `re`."""
    match node:
        case Chars(chars):
            return _class(chars)
        case Sequence(parts):
            return "".join(map(to_re, parts))
        case Either(parts):
            return "(?:" + "|".join(map(to_re, parts)) + ")"
        case Repeat(part, least, most):
            return f"(?:{to_re(part)}){{{least},{'' if most is None else most}}}"
        case Ahead(chars, at_end):
            return f"(?!{_class(complement(chars))})" if at_end else f"(?={_class(chars)})"
