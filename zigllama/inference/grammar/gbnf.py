"""GBNF, the notation of llama.cpp's grammar files, read as that program reads it.

    root  ::= (expr "=" ws term "\\n")+        # a rule ends with its line, but inside brackets and after | and ::= a
    line may end expr  ::= term ([-+*/] term)* num   ::= [0-9]{1,8} | "0x" [^g-z\\n]

Names are letters, digits and dashes. Escapes: \\n \\r \\t \\\\ \\" \\[ \\] \\- \\xXX \\uXXXX \\UXXXXXXXX, each a code
point. `.` is any character. Counts `* + ? {m} {m,} {m,n}` may follow one another. Left recursion, which llama.cpp
refuses, is no matter here. Refused: tokens by number or text (`<[10]>`, `<think>`, `!<[10]>`), by name, since a
grammar here is one of bytes, independent of a vocabulary; an empty class, which llama.cpp reads as the empty text; a
rule that is defined twice, of which llama.cpp keeps the last.
"""

from __future__ import annotations

from zigllama.models.code_point_sets import complement, union

from .ir import ANY_CHAR, Chars, Expr, Rules
from .notation import Builder, Definitions, Scanner

ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"', "[": "[", "]": "]", "-": "-"}
DIGITS = {"x": 2, "u": 4, "U": 8}
BLANKS = " \t"


def _name_character(c: str) -> bool:
    return c.isascii() and (c.isalnum() or c == "-")


class _Reader:
    """Goes through a file once."""

    def __init__(self, text: str) -> None:
        self.s = Scanner(text.replace("\r\n", "\n").replace("\r", "\n"))
        self.found = Definitions(self.s)

    def space(self, lines: bool) -> None:
        """Past blanks and comments; past ends of lines too, where they are nothing."""
        while not self.s.ended:
            c = self.s.peek()
            if c == "#":
                self.s.run(lambda x: x != "\n")
            elif c in BLANKS or (lines and c == "\n"):
                self.s.at += 1
            else:
                return

    def name(self) -> str:
        name = self.s.run(_name_character)
        if not name:
            raise self.s.error("the name of a rule (letters, digits, dashes) is expected")
        return name

    def rule(self) -> None:
        begin = self.s.at
        name = self.name()
        self.space(False)
        self.s.need("::=")
        self.space(True)
        self.found.define(name, self.alternatives(), begin)
        if not self.s.ended and not self.s.take("\n"):
            raise self.s.error(f"{self.s.peek()!r} is not expected here: a rule ends with its line")
        self.space(True)

    def alternatives(self) -> Expr:
        """What a rule stands for."""
        build = Builder(self.s)
        while not self.s.ended:
            begin = self.s.at
            c = self.s.peek()
            if c == '"':
                self.s.at += 1
                build.item(self.s.encode(self.quoted(begin), begin))
            elif c == "[":
                self.s.at += 1
                build.item(self.char_class(begin))
            elif c in "<!":
                self.token(begin)
            elif _name_character(c):
                build.item(self.found.refer(self.name(), begin))
            elif c == "(":
                self.s.at += 1
                build.open(")", begin)
            elif c == ")" and build.groups:
                self.s.at += 1
                build.close(")")
            elif c == ".":
                self.s.at += 1
                build.item(Chars(ANY_CHAR.ranges, (begin, self.s.at)))
            elif c in "*+?":
                self.s.at += 1
                build.repeat(int(c == "+"), 1 if c == "?" else None, begin)
            elif c == "{":
                build.repeat(*self.braces(bool(build.groups)), begin)
            elif c == "|":
                self.s.at += 1
                build.bar()
            else:
                break
            self.space(bool(build.groups) or c in "(|")
        return build.done()  # type: ignore[no-any-return]

    def braces(self, lines: bool) -> tuple[int, int | None]:
        """`{m}`, `{m,}` or `{m,n}`."""
        self.s.at += 1
        self.space(lines)
        lo = self.s.number()
        hi: int | None = lo
        self.space(lines)
        if self.s.take(","):
            self.space(lines)
            hi = self.s.number() if self.s.peek().isdigit() else None
            self.space(lines)
        self.s.need("}")
        return lo, hi

    def character(self) -> str:
        """One character of a literal or a class."""
        begin = self.s.at
        c = self.s.next()
        if c != "\\":
            return c
        c = self.s.next()
        if c in DIGITS:
            return self.s.character(self.s.hexadecimal(DIGITS[c]), begin)
        if c not in ESCAPES:
            raise self.s.error(f"\\{c} is no escape", begin)
        return ESCAPES[c]

    def quoted(self, begin: int) -> str:
        """The inside of a literal."""
        out = []
        while not self.s.take('"'):
            if self.s.ended:
                raise self.s.error("a literal is not closed", begin)
            out.append(self.character())
        return "".join(out)

    def char_class(self, begin: int) -> Expr:
        """The inside of a class."""
        negated = self.s.take("^")
        ranges = []
        while not self.s.take("]"):
            if self.s.ended:
                raise self.s.error("a class is not closed", begin)
            at = self.s.at
            first = last = self.character()
            if self.s.peek() == "-" and self.s.peek(2) != "-]":
                self.s.at += 1
                last = self.character()
            if last < first:
                raise self.s.error(f"the range from {first!r} to {last!r} is backwards", at)
            ranges.append((ord(first), ord(last)))
        if not ranges:
            raise self.s.error("a class without characters", begin)
        chars = union(ranges)
        return Chars(complement(chars) if negated else chars, (begin, self.s.at))

    def token(self, begin: int) -> None:
        """`<[10]>`, `<text>` or one of them after `!`: known, and refused."""
        self.s.take("!")
        self.s.need("<")
        text = self.s.upto(">", "a token")
        why = "a grammar is one of bytes; write the token's text as a literal"
        raise self.s.unsupported(f"the token {self.s.text[begin : self.s.at]!r:.60}" if text else "a token", why, begin)


def rules(text: str, start: str = "root") -> Rules:
    """The rules of a grammar file. Raises GrammarError with line and column, UnsupportedSyntax for tokens,
    GrammarBudget.
    """
    reader = _Reader(text)
    reader.space(True)
    while not reader.s.ended:
        reader.rule()
    return reader.found.rules(start)
