"""The regular expressions of XML Schema (Part 2, appendix F) as expressions of ir.py, and what the built-in types look
like, said with them.

They always mean the whole text; `^` and `$` are characters like others; \\i and \\c are what may begin and be in names;
a class may take another away from itself, `[a-z-[aeiou]]`. Nothing in them is not regular. What may be in a name
differs between editions of XML: \\i and \\c are read as what all editions allow, \\I and \\C as what none allows.
"""

from __future__ import annotations

import re
from typing import Any

from zigllama.inference.grammar.ir import EMPTY, Chars, Expr
from zigllama.inference.grammar.regex_properties import category
from zigllama.inference.grammar.regex_reader import Flags, Member, Reader
from zigllama.models.code_point_sets import Set, complement, intersection, union

# What every edition lets begin a name: Latin, Greek, Cyrillic, kana, Han, hangul
START: Set = (
    *((0x3A, 0x3A), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A), (0xC0, 0xD6), (0xD8, 0xF6), (0xF8, 0x131)),
    *((0x134, 0x13E), (0x141, 0x148), (0x14A, 0x17E), (0x180, 0x1C3), (0x388, 0x38A), (0x38E, 0x3A1), (0x3A3, 0x3CE)),
    *((0x401, 0x40C), (0x40E, 0x44F), (0x451, 0x45C), (0x45E, 0x481), (0x3041, 0x3094), (0x30A1, 0x30FA)),
    *((0x4E00, 0x9FA5), (0xAC00, 0xD7A3)),
)
INSIDE: Set = union(START, ((0x2D, 0x2E), (0x30, 0x39), (0xB7, 0xB7)))
# What some edition allows: the fifth's tables, and letters that only earlier ones list
ANY_START: Set = union(START, category("L"), category("Nl"), ((0x37F, 0x1FFF), (0x200C, 0x200D)), ((0x2070, 0x218F),),
                       ((0x2C00, 0x2FEF), (0x3001, 0xD7FF)),
                       ((0xF900, 0xFDCF), (0xFDF0, 0xFFFD), (0x10000, 0xEFFFF)))  # fmt: skip
ANY_INSIDE: Set = union(ANY_START, INSIDE, category("M"), category("Nd"), ((0x203F, 0x2040),), category("Lm"))
SPACE: Set = ((0x9, 0xA), (0xD, 0xD), (0x20, 0x20))
WORD: Set = complement(union(category("P"), category("Z"), category("C")))
BLOCKS: dict[str, Set] = {
    "BasicLatin": ((0, 0x7F),), "Latin-1Supplement": ((0x80, 0xFF),), "LatinExtended-A": ((0x100, 0x17F),),
    "LatinExtended-B": ((0x180, 0x24F),), "IPAExtensions": ((0x250, 0x2AF),), "Greek": ((0x370, 0x3FF),),
    "Cyrillic": ((0x400, 0x4FF),), "Hebrew": ((0x590, 0x5FF),), "Arabic": ((0x600, 0x6FF),),
    "Devanagari": ((0x900, 0x97F),), "Thai": ((0xE00, 0xE7F),), "GeneralPunctuation": ((0x2000, 0x206F),),
    "Hiragana": ((0x3040, 0x309F),), "Katakana": ((0x30A0, 0x30FF),), "CJKUnifiedIdeographs": ((0x4E00, 0x9FFF),),
    "HangulSyllables": ((0xAC00, 0xD7A3),),
}  # fmt: skip
CATEGORY = re.compile("L[ultmo]?|M[nce]?|N[dlo]?|P[cdseifo]?|Z[slp]?|S[mcko]?|C[cfon]?")
CONTROLS = {"n": 0xA, "r": 0xD, "t": 0x9}


class XsdReader(Reader):
    """The syntax, over what all have in common."""

    line_ends = ((0xA, 0xA), (0xD, 0xD))
    wide = False  # within a negated class or one that is taken away: sets are then better too large than too small

    def caret(self, begin: int) -> Any:
        return self.literal(0x5E, begin)

    def dollar(self, begin: int) -> Any:
        return self.literal(0x24, begin)

    def one(self, c: str, begin: int) -> None:
        if c in "]}":
            raise self.s.error(f"{c!r} is written with a backslash", begin)
        if c == "[":
            self.can_repeat = True
            inside = self.class_expression(begin)
            self.build.item(Chars(inside, (begin, self.s.at)))
            return
        super().one(c, begin)
        self.can_repeat = True

    def count(self, begin: int, lo: int, hi: int | None) -> None:
        if hi is not None and hi < lo:
            raise self.s.error(f"a count from {lo} to {hi}", begin)
        super().count(begin, lo, hi)

    def counted(self, begin: int) -> None:
        """Nothing may follow a count."""

    def group(self, begin: int) -> None:
        raise self.s.error("`(?` is not of this syntax: there is nothing to repeat", begin)

    def class_expression(self, begin: int, depth: int = 0) -> Set:
        """A class behind its `[`, up to and with its `]`."""
        if depth > 20:
            raise self.s.error("classes are taken away more than 20 deep", begin)
        outer = self.wide
        negated = self.s.take("^")
        self.wide = outer ^ negated
        found: list[Set] = []
        away: Set = ()
        while not self.s.take("]"):
            if self.s.ended:
                raise self.s.error("a class is not closed", begin)
            if found and self.s.take("-["):
                self.wide = not outer
                away = self.class_expression(begin, depth + 1)
                self.s.need("]")
                break
            at = self.s.at
            first = self.class_member(bool(found))
            if self.s.peek() == "-" and self.s.peek(2) not in ("-]", "-["):
                self.s.at += 1
                found.append(self.span_of(first, self.class_member(True), at))
            else:
                found.append(first.chars)
        self.wide = outer
        if not found:
            raise self.s.error("a class without characters", begin)
        chars = self.sets.of(union, *found)
        if negated:
            chars = self.sets.of(complement, chars)
        return self.sets.of(intersection, chars, self.sets.of(complement, away)) if away else chars

    def class_member(self, inner: bool) -> Member:
        """One member of a class; inner: not the first. `[` and an inner `-` need a backslash."""
        begin, c = self.s.at, self.s.peek()
        found = self.member()
        if c == "[" or (c == "-" and inner and self.s.peek() != "]"):
            raise self.s.error(f"{c!r} in a class is written with a backslash", begin)
        return found

    def escape(self, begin: int, in_class: bool) -> Member | Any:
        c = self.s.next()
        if c in CONTROLS or c in "\\|.?*+(){}-[]^":
            return self.single(CONTROLS.get(c, ord(c)))
        if c in "icIC":
            # a large \I is what is not in the small \i
            small = self.wide if c.isupper() else not self.wide
            chars = {"i": (START, ANY_START), "c": (INSIDE, ANY_INSIDE)}[c.lower()][0 if small else 1]
            return Member(self.sets.of(complement, chars) if c.isupper() else chars)
        if c in "dDsSwW":
            # symbols belong to \w, and some validators think they do not
            small = self.wide if c.isupper() else not self.wide
            word = self.sets.of(intersection, WORD, self.sets.of(complement, category("S"))) if small else WORD
            chars = {"d": category("Nd"), "s": SPACE, "w": word}[c.lower()]
            return Member(self.sets.of(complement, chars) if c.isupper() else chars)
        if c in "pP":
            self.s.need("{")
            name = self.s.upto("}", "\\p{")
            if name.startswith("Is"):
                if name[2:] not in BLOCKS:
                    raise self.s.unsupported(f"the block {name!r:.60}", f"known are {', '.join(BLOCKS)}", begin)
                chars = BLOCKS[name[2:]]
            elif CATEGORY.fullmatch(name):
                chars = category(name)
            else:
                raise self.s.error(f"\\p{{{name:.60}}} is no category", begin)
            return Member(self.sets.of(complement, chars) if c == "P" else chars)
        raise self.s.error(f"\\{c} is no escape", begin)


def pattern(text: str) -> Expr:
    """The texts that a pattern means. Raises GrammarError, UnsupportedSyntax for an unknown block, GrammarBudget."""
    if not text:
        return EMPTY
    made: Expr = XsdReader(text, Flags()).read()
    return made


_D4 = "([0-9]{3}[1-9]|[0-9]{2}[1-9][0-9]|[0-9][1-9][0-9]{2}|[1-9][0-9]{3})"
_LEAP = "([0-9]{2}(0[48]|[13579][26]|[2468][048])|(0[48]|[13579][26]|[2468][048])00)"
_ZONE = r"(Z|[+\-](0[0-9]|1[0-3]):[0-5][0-9]|[+\-]14:00)?"
_DAY31, _DAY30 = "(0[1-9]|[12][0-9]|3[01])", "(0[1-9]|[12][0-9]|30)"
_DATE = rf"({_D4}-((0[13578]|1[02])-{_DAY31}|(0[469]|11)-{_DAY30}|02-(0[1-9]|1[0-9]|2[0-8]))|{_LEAP}-02-29)"
_TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?"
_N = "[0-9]{1,9}"
_CLOCK = rf"T({_N}H({_N}M)?({_N}(\.{_N})?S)?|{_N}M({_N}(\.{_N})?S)?|{_N}(\.{_N})?S)"
_SCHEME = r"[A-Za-z][A-Za-z0-9+.\-]*:"
_HOST = r"//([A-Za-z0-9.\-]+(:[0-9]{1,4})?)?"
_URI = "[A-Za-z0-9._~!$&'()*+,;=@\\-]|%[0-9A-Fa-f]{2}"

# The lexical spaces, by the name of the type; years have four digits, no year is before 1
LEXICAL = {
    "boolean": "true|false|1|0",
    "float": r"[+\-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([Ee][+\-]?[0-9]{1,2})?|-?INF|NaN",
    "date": _DATE + _ZONE,
    "dateTime": f"{_DATE}T{_TIME}{_ZONE}",
    "time": _TIME + _ZONE,
    "gYear": _D4 + _ZONE,
    "gYearMonth": f"{_D4}-(0[1-9]|1[0-2]){_ZONE}",
    "gMonth": f"--(0[1-9]|1[0-2]){_ZONE}",
    "gDay": f"---{_DAY31}{_ZONE}",
    "gMonthDay": f"--((0[13578]|1[02])-{_DAY31}|(0[469]|11)-{_DAY30}|02-(0[1-9]|[12][0-9])){_ZONE}",
    "duration": rf"-?P(({_N}Y({_N}M)?({_N}D)?|{_N}M({_N}D)?|{_N}D)({_CLOCK})?|{_CLOCK})",
    "anyURI": rf"({_SCHEME}({_HOST}|/?({_URI}|:)+)(/({_URI}|:)*)*|({_SCHEME}({_HOST})?)?(/?({_URI})+)?(/({_URI})*)*)"
    rf"(\?({_URI}|[:/?])*)?(#({_URI}|[:/?])*)?",
    "hexBinary": "([0-9A-Fa-f]{2})*",
    "base64Binary": "([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?",
    "NMTOKEN": r"\c+",
    "Name": r"\i\c*",
    "NCName": r"[\i-[:]][\c-[:]]*",
    "language": "[a-zA-Z]{1,8}(-[a-zA-Z0-9]{1,8})*",
}
