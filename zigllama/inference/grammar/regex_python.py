"""Regular expressions as Python's `re` has them for text (str), with the flags a, i, m, s, x.

Refused by name: backreferences and conditions on groups, for what they match is no regular language; possessive counts
and atomic groups, which match less than the same without; the flag L, which asks the machine's locale. What `\\w`,
`\\d` and the flag i take in is Unicode 15.1's, whichever Python runs; `\\B` is nowhere in the empty text, as before
3.14; a look behind may be of any width.
"""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from typing import Any

from zigllama.models.code_point_sets import Set, complement, union

from .ir import Alt, Literal, Seq
from .nfa import End, Look, Start
from .regex_properties import ASCII_SPACE, DIGIT, PYTHON_SPACE, WORD, category, fold
from .regex_reader import LETTERS, Member, Reader

CONTROLS = {"a": 0x7, "b": 0x8, "f": 0xC, "n": 0xA, "r": 0xD, "t": 0x9, "v": 0xB}
NEWLINE: Set = ((0xA, 0xA),)
# `$`: the end of the text, or the place before a newline that ends it.
PYTHON_END = Alt((End(), Look(Seq((Literal(b"\n"), End())), True, False)))  # type: ignore[arg-type]
NOT_REGULAR = "what it matches is no regular language"


class PythonReader(Reader):
    """The syntax, over what all have in common."""

    modifiers = "aiLmsux"
    line_ends = NEWLINE
    bracket_is_member = True

    def folded(self, s: Set) -> Set:
        return fold(s, self.flags.ascii, python=True)

    def end(self, span: tuple[int, int]) -> Any:
        return replace(PYTHON_END, span=span)

    def counted(self, begin: int) -> None:
        if self.s.peek() == "+":
            raise self.s.unsupported("a possessive count", "it matches less than the same count without +", begin)
        self.s.take("?")

    def group(self, begin: int) -> None:
        if self.s.take(":"):
            self.enter(begin)
        elif self.looks(begin):
            pass
        elif self.s.take("P<"):
            name = self.name(">", begin)
            if name in self.names:
                raise self.s.error(f"there are two groups of the name {name!r:.60}", begin)
            self.names.add(name)
            self.enter(begin)
        elif self.s.take("P="):
            raise self.s.unsupported("the backreference (?P=..)", NOT_REGULAR, begin)
        elif self.s.take("#"):
            self.s.upto(")", "a comment")
        elif self.s.take(">"):
            raise self.s.unsupported("an atomic group", "it matches less than the same group without it", begin)
        elif self.s.take("("):
            raise self.s.unsupported("a condition on a group", NOT_REGULAR, begin)
        else:
            self.flag_group(begin)

    def switched(self, begin: int) -> Any:
        if "L" in self.s.text[self.s.at : self.s.at + 8].partition(":")[0].partition(")")[0]:
            raise self.s.unsupported("the flag L", "it asks the locale of the machine", begin)
        on = self.s.run(lambda c: c in "aimsux")
        minus = self.s.take("-")
        off = self.s.run(lambda c: c in "imsx") if minus else ""
        if minus and not off:
            raise self.s.error("flags that are switched off are expected after -", begin)
        if not on and not off:
            raise self.s.error("flags or one of : = ! < P # are expected after (?", begin)
        if set(on) & set(off) or ("a" in on and "u" in on):
            raise self.s.error("flags contradict each other", begin)
        flags = self.flags
        for letters, value in ((on, True), (off, False)):
            for letter in letters:
                flags = replace(flags, ascii=False) if letter == "u" else replace(flags, **{LETTERS[letter]: value})
        return flags

    def flag_group(self, begin: int) -> None:
        """`(?i:...)`, or `(?i)` at the very beginning, for all that follows."""
        flags = self.switched(begin)
        if self.s.take(":"):
            self.enter(begin, flags)
            return
        if self.s.peek() == ")" and begin == 0 and "-" not in self.s.text[: self.s.at]:
            self.s.at += 1
            self.flags = flags
            return
        raise self.s.error("flags for the whole pattern stand at its beginning; for a part of it, (?i:...)", begin)

    def braces(self, begin: int) -> tuple[int, int | None] | None:
        at = self.s.at
        digits = "0123456789"
        low = self.s.run(lambda c: c in digits)
        comma = self.s.take(",")
        high = self.s.run(lambda c: c in digits) if comma else low
        if not self.s.take("}") or (not comma and not low):
            self.s.at = at
            return None
        self.s.at = at  # once more, with the bounds on numbers
        lo = self.s.number() if low else 0
        hi: int | None = lo
        if self.s.take(","):
            hi = self.s.number() if high else None
        self.s.need("}")
        return lo, hi

    def escape(self, begin: int, in_class: bool) -> Member | Any:
        c = self.s.next()
        if c in "dDsSwW":
            chars = self.kind(c.lower())
            return Member(self.sets.of(complement, chars) if c.isupper() else chars)
        if c in "bB" and not in_class:
            return self.boundary(self.kind("w"), c == "B", needs_text=True)
        if c in "AZ" and not in_class:
            span = (begin, self.s.at)
            return Start(span) if c == "A" else End(span)
        if c in CONTROLS:
            return self.single(CONTROLS[c])
        if c in "xuU":
            code = self.s.hexadecimal({"x": 2, "u": 4, "U": 8}[c])
            return self.single(ord(self.s.character(code, begin)))
        if c == "N":
            self.s.need("{")
            name = self.s.upto("}", "\\N{")
            try:
                return self.single(ord(unicodedata.lookup(name)))
            except (KeyError, TypeError) as e:
                raise self.s.error(f"{name!r:.60} is the name of no character", begin) from e
        if c in "01234567" and (octal := self.octal(c, in_class)) is not None:
            if octal > 0o377:
                raise self.s.error("an octal escape goes up to \\377", begin)
            return self.single(octal)
        if c in "0123456789":
            if in_class:
                raise self.s.error(f"\\{c} is no escape", begin)
            raise self.s.unsupported(f"the backreference \\{c}", NOT_REGULAR, begin)
        if c.isascii() and c.isalpha():
            raise self.s.error(f"\\{c} is no escape", begin)
        return self.single(ord(c))

    def octal(self, c: str, in_class: bool) -> int | None:
        """\\0, \\01, \\012; \\123; in a class also \\1 and \\12. None: a backreference."""
        more = self.s.peek(2)
        n = 0
        while n < len(more) and more[n] in "01234567":
            n += 1
        if c == "0" or in_class or n == 2:
            self.s.at += n
            return int(c + more[:n], 8)
        return None

    def kind(self, c: str) -> Set:
        """What \\d, \\s and \\w stand for."""
        if self.flags.ascii:
            return {"d": DIGIT, "s": ASCII_SPACE, "w": WORD}[c]
        if c == "w":
            return self.sets.of(union, category("L"), category("N"), ((0x5F, 0x5F),))
        return category("Nd") if c == "d" else PYTHON_SPACE
