"""EBNF in its two notations: that of ISO/IEC 14977:1996, and that of the W3C's XML recommendation (section 6).

    ISO     list = "[", [ item, { ",", item } ], "]" ;        item = digit - "0" | 2 * letter ;        (* a comment *)
    W3C     list ::= '[' (item (',' item)*)? ']'              item ::= [1-9] | [#x61-#x7A] [^;]?       /* a comment */

A text that defines with `=` is ISO's, with `::=` W3C's; `notation` names it where one wants to be sure.

ISO: names are letters and digits with blanks between them (the standard gives blanks no meaning: `end of file` is one
name) or underscores; a rule ends with `;` or `.`; alternatives stand between `|`, `/` or `!`, and `[ ]` `{ }` may
be written `(/ /)` `(: :)`. A literal has no escapes. W3C: a rule ends where the next begins; its number,
`[1]`, may stand before it. In both, `a - b` is what a matches and b does not: both must be regular (no rule that needs
itself), and become one automaton. Refused by name: ISO's special sequences `? ... ?`, and W3C's constraints `[ wfc:
... ]`, which only people can read.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from zigllama.errors import UnknownName
from zigllama.models.code_point_sets import complement, union

from .dfa import determinise, difference, is_empty
from .ir import Alt, Chars, Expr, Ref, Repeat, Rules, Seq
from .notation import Builder, Definitions, Scanner, alt, repeat, seq
from .subsets import Work

NOTATIONS = ("iso", "w3c")
NAME = re.compile(r"[^\W\d][\w.-]*")
MAX_EDGES = 40_000  # of the automata of all exceptions
MAX_EXPANDED = 20_000  # nodes of an exception, its rules put in the place of their names


def _end_of_comment(text: str, at: int) -> int:
    """Where the comment that begins here ends, -1 where it does not; those of ISO may hold others."""
    if text.startswith("/*", at):
        end = text.find("*/", at + 2)
        return end + 2 if end >= 0 else -1
    depth = 0
    for mark in re.compile(r"\(\*|\*\)").finditer(text, at):
        depth += 1 if mark[0] == "(*" else -1
        if depth == 0:
            return mark.end()
    return -1


def _past_comments(text: str, at: int) -> int:
    """Where blanks and comments of either notation end; a comment that is not closed is not past."""
    while at < len(text):
        end = _end_of_comment(text, at) if text[at : at + 2] in ("(*", "/*") else -1
        if end >= 0:
            at = end
        elif text[at].isspace():
            at += 1
        else:
            break
    return at


class _Minus:
    """Stands between what is matched and what is excepted, until the sequence is whole."""

    def __init__(self, begin: int) -> None:
        self.begin = begin


class _Except:
    """What `of` matches and `without` does not: until all rules are known."""

    def __init__(self, of: Any, without: Any, begin: int) -> None:
        self.of, self.without, self.begin = of, without, begin


class _Reader:
    """What the two notations share: exceptions, and what they come to."""

    def __init__(self, text: str) -> None:
        self.s = Scanner(text)
        self.found = Definitions(self.s)
        self.build = Builder(self.s, arrange=self.excepted)
        self.exceptions = 0
        self.steps = Work(what="steps to determinise exceptions")  # of all of them together
        self.edges = Work(MAX_EDGES, "edges of exceptions")

    def excepted(self, items: list[Any]) -> list[Any]:
        """A sequence in which `a - b` is one item."""
        out: list[Any] = []
        i = 0
        while i < len(items):
            if not isinstance(items[i], _Minus):
                out.append(items[i])
                i += 1
                continue
            if not out or isinstance(items[i - 1], _Minus) or i + 1 == len(items) or isinstance(items[i + 1], _Minus):
                raise self.s.error("an exception is written a - b", items[i].begin)
            self.exceptions += 1
            out.append(_Except(out.pop(), items[i + 1], items[i].begin))
            i += 2
        return out

    def finish(self, start: str | None) -> Rules:
        """The rules, with automata for exceptions."""
        made = self.found.rules(start)
        if not self.exceptions:
            return made
        return Rules({name: self.resolved(e) for name, e in made.rules.items()}, made.start, made.what, made.source)

    def resolved(self, e: Any) -> Expr:
        """An expression without exceptions."""
        if isinstance(e, _Except):
            return self.automaton(e)
        if isinstance(e, Seq | Alt):
            made = [self.resolved(item) for item in e.items]
            return (alt if isinstance(e, Alt) else seq)(made, e.span)  # type: ignore[no-any-return]
        return Repeat(self.resolved(e.item), e.lo, e.hi, e.span) if isinstance(e, Repeat) else e

    def automaton(self, e: _Except, within: tuple[str, ...] = (), budget: list[int] | None = None) -> Expr:
        """The automaton of an exception; the rest as `expanded` has it."""
        left = [MAX_EXPANDED] if budget is None else budget
        sides = [self.expanded(side, within, left, e.begin) for side in (e.of, e.without)]
        if isinstance(sides[0], Chars) and isinstance(sides[1], Chars):
            return Chars(complement(union(complement(union(sides[0].ranges)), sides[1].ranges)), (e.begin, e.begin + 1))
        of, without = (determinise(side, self.steps) for side in sides)
        found = difference(of, without, self.edges)
        if is_empty(found):
            raise self.s.error("nothing is left of this exception", e.begin)
        return found

    def expanded(self, e: Any, within: tuple[str, ...], budget: list[int], begin: int) -> Any:
        """An expression with rules in the place of their names; `within`: the rules that we are in."""
        budget[0] -= 1
        if budget[0] < 0:
            why = f"its rules, written out, are more than {MAX_EXPANDED} expressions"
            raise self.s.unsupported("this exception", why, begin)
        if isinstance(e, _Except):
            return self.automaton(e, within, budget)
        if isinstance(e, Ref):
            if e.name in within or len(within) > 100:
                why = f"the rule {e.name!r:.60} needs itself, and what would be left of it no rules can say"
                raise self.s.unsupported("this exception", why, begin)
            return self.expanded(self.found.found[e.name], (*within, e.name), budget, begin)
        if isinstance(e, Seq | Alt):
            made = [self.expanded(item, within, budget, begin) for item in e.items]
            return (alt if isinstance(e, Alt) else seq)(made, e.span)
        return Repeat(self.expanded(e.item, within, budget, begin), e.lo, e.hi, e.span) if isinstance(e, Repeat) else e


def _repeated(e: Any, lo: int, hi: int | None, times: int) -> Any:
    """What a group stands for, with the number before it."""
    return repeat(repeat(e, lo, hi), times, times)


class _Iso(_Reader):
    """ISO/IEC 14977. Items and commas alternate: `after` says that an item was last."""

    GROUPS = (("(/", "/)", 0, 1), ("(:", ":)", 0, None), ("(", ")", 1, 1), ("[", "]", 0, 1), ("{", "}", 0, None))

    def space(self) -> None:
        """Past blanks and comments, which may hold comments."""
        while True:
            self.s.run(str.isspace)
            if self.s.peek(2) != "(*" or self.s.peek(3) == "(*)":
                return
            end = _end_of_comment(self.s.text, self.s.at)
            if end < 0:
                raise self.s.error("a comment is not closed")
            self.s.at = end

    def name(self) -> str:
        """A name; its blanks are one each."""
        name = self.s.run(lambda c: c.isalnum() or c in "_ \t\n")
        if not name[:1].isalpha():
            raise self.s.error("the name of a rule begins with a letter", self.s.at - len(name))
        self.s.at -= len(name) - len(name.rstrip())
        return " ".join(name.split())

    def read(self) -> None:
        self.space()
        while not self.s.ended:
            begin = self.s.at
            name = self.name()
            self.space()
            self.s.need("=")
            self.body()
            self.found.define(name, self.build.done(), begin)
            self.space()

    def body(self) -> None:
        """What a rule stands for, with its end."""
        build, after, times = self.build, False, 1
        while True:
            self.space()
            begin = self.s.at
            if self.s.ended:
                raise self.s.error("a rule ends with ; or .")
            if not build.groups and (self.s.take(";") or self.s.take(".")):
                return
            if build.groups and self.s.take(build.groups[-1].closer):
                build.close(build.groups[-1].closer)
                after = True
                continue
            if self.s.take("|") or self.s.take("/") or self.s.take("!"):
                build.bar()
                after = False
                continue
            if self.s.take(","):
                after = False
                continue
            if self.s.take("-"):
                if not after:
                    raise self.s.error("an exception is written a - b", begin)
                build.item(_Minus(begin))
                after = False
                continue
            if after:
                raise self.s.error(f"a comma or the end of the rule is expected, here is {self.s.peek()!r}")
            if self.s.peek().isdigit():
                times = self.s.number()
                self.space()
                self.s.need("*")
                self.space()
            if self.opened(times, begin):
                times = 1
                continue
            self.item(times)
            times, after = 1, True

    def opened(self, times: int, begin: int) -> bool:
        """Whether a group begins here."""
        for opener, closer, lo, hi in self.GROUPS:
            if self.s.take(opener):
                self.build.open(closer, begin, partial(_repeated, lo=lo, hi=hi, times=times))
                return True
        return False

    def item(self, times: int) -> None:
        """A literal or a name."""
        begin = self.s.at
        c = self.s.peek()
        if c in "\"'":
            self.s.at += 1
            text = self.s.upto(c, "a literal")
            if not text:
                raise self.s.error("a literal is not empty; what is empty is written as nothing", begin)
            item: Any = self.s.encode(text, begin)
        elif c == "?":
            raise self.s.unsupported("a special sequence ? ... ?", "what it means is for people to read")
        else:
            item = self.found.refer(self.name(), begin)
        self.build.item(repeat(item, times, times))


class _W3c(_Reader):
    """The notation of the XML recommendation."""

    def space(self) -> None:
        """Past blanks, comments, and numbers of rules."""
        while True:
            self.s.run(str.isspace)
            begin = self.s.at
            if self.s.take("/*"):
                self.s.upto("*/", "a comment")
                continue
            if number := re.compile(r"\[\d+[a-z]?\]\s*(?=[^\W\d][\w.:-]*\s*::=)").match(self.s.text, begin):
                self.s.at = number.end()
                continue
            return

    def read(self) -> None:
        self.space()
        while not self.s.ended:
            begin = self.s.at
            name = self.name()
            self.space()
            self.s.need("::=")
            self.body()
            self.found.define(name, self.build.done(), begin)

    def name(self) -> str:
        name = self.s.run(lambda c: c.isalnum() or c in "_.-")
        if not name or not (name[0].isalpha() or name[0] == "_"):
            raise self.s.error("the name of a rule is expected", self.s.at - len(name))
        return name

    def begins_rule(self) -> bool:
        """Whether a name and `::=` stand here."""
        name = NAME.match(self.s.text, self.s.at)
        return name is not None and self.s.text.startswith("::=", _past_comments(self.s.text, name.end()))

    def body(self) -> None:
        """What a rule stands for, up to the next."""
        build = self.build
        while True:
            self.space()
            begin = self.s.at
            c = self.s.peek()
            if not c or (not build.groups and (c.isalpha() or c == "_") and self.begins_rule()):
                return
            if c in "\"'":
                self.s.at += 1
                build.item(self.s.encode(self.s.upto(c, "a literal"), begin))
            elif c == "#":
                code = self.code()
                build.item(Chars(((code, code),), (begin, self.s.at)))
            elif c == "[":
                self.constraint()
                self.s.at += 1
                build.item(self.char_class(begin))
            elif c == "(":
                self.s.at += 1
                build.open(")", begin)
            elif c == ")":
                self.s.at += 1
                build.close(")")
            elif c == "|":
                self.s.at += 1
                build.bar()
            elif c == "-":
                self.s.at += 1
                build.item(_Minus(begin))
            elif c in "*+?":
                self.s.at += 1
                if build.items and isinstance(build.items[-1], _Minus):
                    raise self.s.error("there is nothing to repeat", begin)
                build.repeat(int(c == "+"), 1 if c == "?" else None, begin)
            else:
                build.item(self.found.refer(self.name(), begin))

    def constraint(self) -> None:
        """`[ wfc: ... ]`, which no engine can enforce."""
        if found := re.compile(r"\[\s*(wfc|vc|ns[cC]|gc)\s*:").match(self.s.text, self.s.at):
            raise self.s.unsupported(f"the constraint {found[0]} .. ]", "what it means is for people to read")

    def code(self) -> int:
        """`#x` and a number."""
        begin = self.s.at
        self.s.need("#x")
        digits = self.s.run(lambda c: c in "0123456789abcdefABCDEF")
        if not digits:
            raise self.s.error("#x is followed by hexadecimal digits", begin)
        return ord(self.s.character(int(digits.lstrip("0")[:9] or "0", 16), begin))

    def one(self) -> int:
        """A character of a class."""
        if self.s.peek(2) == "#x":
            return self.code()
        return ord(self.s.next())

    def char_class(self, begin: int) -> Expr:
        """The inside of a class, which has no escapes."""
        negated = self.s.take("^")
        ranges = []
        while not self.s.take("]"):
            if self.s.ended:
                raise self.s.error("a class is not closed", begin)
            at = self.s.at
            first = last = self.one()
            if self.s.peek() == "-" and self.s.peek(2) != "-]":
                self.s.at += 1
                last = self.one()
            if last < first:
                raise self.s.error(f"the range from {chr(first)!r} to {chr(last)!r} is backwards", at)
            ranges.append((first, last))
        if not ranges:
            raise self.s.error("a class without characters", begin)
        chars = union(ranges)
        return Chars(complement(chars) if negated else chars, (begin, self.s.at))


def notation_of(text: str) -> str:
    """`iso` or `w3c`, by what stands behind the first name. Raises GrammarError where neither does."""
    at = _past_comments(text, 0)
    found = re.compile(r"(?:\[\d+[a-z]?\]\s*)?[^\W\d][\w \t\n.-]*(::=|=)").match(text, at)
    if not found:
        why = "it begins with no rule: `name = ... ;` (ISO 14977) or `name ::= ...` (W3C) is expected"
        raise Scanner(text, at=at).error(why)
    return "w3c" if found[1] == "::=" else "iso"


def rules(text: str, start: str | None = None, notation: str | None = None) -> Rules:
    """The rules of a grammar in EBNF; the first is where to start, unless `start` names another.

    notation   "iso" or "w3c"; None: which it is, is seen from the first rule

    Raises GrammarError with line and column, UnsupportedSyntax for what cannot be enforced, GrammarBudget, UnknownName.
    """
    if notation is not None and notation not in NOTATIONS:
        raise UnknownName("notation of EBNF", notation, NOTATIONS)
    reader = (_Iso if (notation or notation_of(text)) == "iso" else _W3c)(text)
    reader.read()
    return reader.finish(start)
