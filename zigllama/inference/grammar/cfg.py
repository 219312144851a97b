"""Context-free grammars as textbooks and nltk write them: `A -> b C | d`, a rule to a line.

    plain     S -> a S b | ε           what is defined, or begins with a capital, is a rule's name; all else is itself
    quoted    S -> NP VP               as soon as anything is quoted, only what is quoted stands for itself, and
              NP -> 'the ' N | "a "    a name that has no rule is an error

Symbols are separated by blanks, which stand for nothing: the texts of the symbols follow one another without a blank
between them. (nltk's grammars are of lists of words; where words should be separated, write the blank: 'the '.) `→`
and `::=` are as good as `->`. Nothing, or ε, is the empty text. Several rules of one name are alternatives. A line
that ends with a backslash goes on in the next; `#` begins a comment at the beginning of a line. Refused by name:
weights of productions (`[0.5]`), which a mask cannot enforce, and features (`NP[NUM=sg]`). In plain grammars `|` and
`#` cannot stand for themselves; quote everything then.
"""

from __future__ import annotations

import re
from typing import Any

from .ir import Expr, Rules
from .notation import Builder, Definitions, Scanner, alt

ARROWS = ("->", "→", "::=")
EMPTY_SIGNS = ("ε", "ϵ", "''", '""')
_WEIGHT = re.compile(r"\[\s*\d*\.?\d+\s*\]")
_ARROW = re.compile(r"->|→|::=")


class _Reader:
    """Goes through the lines: first for the names, then for what they stand for."""

    def __init__(self, text: str) -> None:
        # A continued line becomes one line.
        joined = re.sub(r"\\[ \t]*\r?\n", lambda m: " " * len(m[0]), text)
        self.s = Scanner(joined, shown=text)
        self.found = Definitions(self.s)
        self.heads: dict[str, list[Any]] = {}
        self.first: dict[str, int] = {}
        self.quoted = False

    def lines(self) -> list[tuple[int, int]]:
        """Where each line with a rule begins and ends."""
        found, at = [], 0
        for line in self.s.text.split("\n"):
            if line.strip() and not line.lstrip().startswith("#"):
                found.append((at, at + len(line.rstrip())))
            at += len(line) + 1
        return found

    def blanks(self) -> None:
        self.s.run(lambda c: c in " \t\r\f\v\u00a0")

    def head(self) -> tuple[str, int]:
        """A rule's name, with its arrow."""
        self.blanks()
        begin = self.s.at
        name = self.symbol(begin)
        if name[0] in "\"'":
            raise self.s.error("a rule's name is not quoted", begin)
        self.blanks()
        if not any(self.s.take(arrow) for arrow in ARROWS):
            raise self.s.error(f"an arrow (->) is expected behind the name {name!r:.60}")
        return name, begin

    def symbol(self, begin: int) -> str:
        """A name, or a literal with its quotes."""
        quote = self.s.peek()
        if quote and quote in "\"'":
            self.s.at += 1
            end = self.s.text.find(quote, self.s.at)
            line = self.s.text.find("\n", self.s.at)
            if end < 0 or 0 <= line < end:
                raise self.s.error("a literal is not closed", begin)
            self.s.at = end + 1
            return self.s.text[begin : end + 1]
        text, at = self.s.text, begin
        while at < len(text) and not text[at].isspace() and text[at] not in "|\"'" and not _ARROW.match(text, at):
            at += 1
        self.s.at = at
        if at == begin:
            raise self.s.error("a symbol is expected")
        return text[begin:at]

    def read(self) -> None:
        lines = self.lines()
        for begin, _ in lines:
            self.s.at = begin
            name, at = self.head()
            self.heads.setdefault(name, [])
            self.first.setdefault(name, at)
        self.quoted = any(self.has_quotes(*line) for line in lines)
        for begin, end in lines:
            self.s.at = begin
            name, _ = self.head()
            self.heads[name].append(self.body(end))
        for name, bodies in self.heads.items():
            self.found.define(name, alt(bodies), self.first[name])

    def has_quotes(self, begin: int, end: int) -> bool:
        """Whether a line has a literal."""
        return '"' in (line := self.s.text[begin:end]) or "'" in line

    def body(self, end: int) -> Expr:
        """The alternatives of one line."""
        build = Builder(self.s)
        while True:
            self.blanks()
            begin = self.s.at
            if begin >= end:
                return build.done()  # type: ignore[no-any-return]
            if self.s.take("|"):
                build.bar()
                continue
            if self.quoted and (weight := _WEIGHT.match(self.s.text, begin)):
                raise self.s.unsupported(
                    f"the weight {weight[0]}", "how often something is written is the model's choice"
                )
            symbol = self.symbol(begin)
            if symbol in EMPTY_SIGNS:
                continue
            if symbol[0] in "\"'":
                build.item(self.s.encode(symbol[1:-1], begin))
            elif self.quoted and "[" in symbol:
                raise self.s.unsupported(f"the features of {symbol!r:.60}", "a symbol here is only a name", begin)
            elif symbol in self.heads or self.quoted or symbol[0].isupper():
                build.item(self.found.refer(symbol, begin))
            else:
                build.item(self.s.encode(symbol, begin))


def rules(text: str, start: str | None = None) -> Rules:
    """The rules of a grammar; the first is where to start, unless `start` names another.

    Raises GrammarError with line and column, UnsupportedSyntax for weights and features, GrammarBudget.
    """
    reader = _Reader(text)
    reader.read()
    return reader.found.rules(start)
