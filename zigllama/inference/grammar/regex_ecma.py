"""Regular expressions as ECMA-262 has them with the flag u, which is what JSON Schema's `pattern` means.

Read beside that: an escaped punctuation mark is itself (`\\-`, `\\_`, `\\"`: Annex B allows it without u, and nothing
else could be meant), and so are `]` and `}` on their own. Refused by name: backreferences, for what they match is no
regular language, and what the flag v adds. What a `{` that begins no count means differs between engines, so it is an
error here as it is with u.
"""

from __future__ import annotations

import re
from typing import Any

from zigllama.models.code_point_sets import Set, complement

from .nfa import Look
from .regex_properties import DIGIT, LINE_ENDS, SPACE, WORD, fold
from .regex_reader import Member, Reader

CONTROLS = {"t": 0x9, "n": 0xA, "v": 0xB, "f": 0xC, "r": 0xD}
LOW_SURROGATE = re.compile(r"\\u([dD][c-fC-F][0-9a-fA-F]{2})")
PUNCTUATION = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")


class EcmaReader(Reader):
    """The syntax, over what all have in common."""

    line_ends = LINE_ENDS

    def folded(self, s: Set) -> Set:
        return fold(s)

    def repeatable(self) -> bool:
        return not isinstance(self.build.items[-1], Look)

    def group(self, begin: int) -> None:
        if self.s.take(":"):
            self.enter(begin)
        elif self.looks(begin):
            pass
        elif self.s.take("<"):
            self.name(">", begin)
            self.enter(begin)
        else:
            flags = self.switched(begin)
            self.s.need(":")
            self.enter(begin, flags)

    def escape(self, begin: int, in_class: bool) -> Member | Any:
        c = self.s.next()
        if c in "dDsSwW":
            chars = {"d": DIGIT, "s": SPACE, "w": self.word()}[c.lower()]
            return Member(self.sets.of(complement, chars) if c.isupper() else chars)
        if c in "pP":
            self.s.need("{")
            found = self.property(self.s.upto("}", "\\p{"), c == "P", begin)
            return Member(self.sets.of(self.folded, found, under=self.flags) if self.flags.ignore_case else found)
        if c in CONTROLS:
            return self.single(CONTROLS[c])
        if c == "c":
            letter = self.s.next()
            if not (letter.isascii() and letter.isalpha()):
                raise self.s.error("\\c is followed by a letter", begin)
            return self.single(ord(letter) % 32)
        if c == "x":
            return self.single(self.s.hexadecimal(2))
        if c == "u":
            return self.single(self.unicode(begin))
        if c == "b" and in_class:
            return self.single(8)
        if c in "bB" and not in_class:
            return self.boundary(self.word(), c == "B")
        if c == "0" and not self.s.peek().isdecimal():
            return self.single(0)
        if c.isdecimal() and c != "0":
            raise self.s.unsupported(f"the backreference \\{c}", "what it matches is no regular language", begin)
        if c == "k":
            raise self.s.unsupported("the backreference \\k", "what it matches is no regular language", begin)
        if c in PUNCTUATION:
            return self.single(ord(c))
        raise self.s.error(f"\\{c} is no escape", begin)

    def word(self) -> Set:
        """What \\w stands for: with the flag i, of what equals k and s too."""
        return self.sets.of(self.folded, WORD, under=self.flags) if self.flags.ignore_case else WORD

    def unicode(self, begin: int) -> int:
        """What follows \\u: four digits, or two times four for what UTF-16 has a pair for, or any number in braces."""
        if self.s.take("{"):
            digits = self.s.upto("}", "\\u{")
            if not digits or any(c not in "0123456789abcdefABCDEF" for c in digits):
                raise self.s.error("\\u{..} holds hexadecimal digits", begin)
            digits = digits.lstrip("0") or "0"
            return ord(self.s.character(int(digits[:8], 16), begin))
        high = self.s.hexadecimal(4)
        if 0xD800 <= high < 0xDC00 and (pair := LOW_SURROGATE.match(self.s.text, self.s.at)):
            self.s.at = pair.end()
            return 0x10000 + ((high - 0xD800) << 10) + (int(pair[1], 16) - 0xDC00)
        return high
