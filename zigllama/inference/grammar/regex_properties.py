"""Sets of characters that regular expressions name: `\\p{..}`, `\\w \\d \\s` of each syntax, and what is equal when
case does not count.

    unicode_property("Script=Greek")     ((0x370, 0x373), (0x375, 0x377), ...)
    fold(((0x6b, 0x6b),))                ((0x4b, 0x4b), (0x6b, 0x6b), (0x212a, 0x212a))      k, K and the Kelvin sign

Names are those of ECMA-262 (its tables of property names): as Unicode spells them, case counts. The tables are of
Unicode 15.1 (regex_tables.py, models/unicode_ranges.py), whichever Python runs.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from zigllama.errors import UnknownName
from zigllama.models.code_point_sets import TABLES, WHITE_SPACE, Set, complement, intersection, prop, union

from . import regex_tables

SURROGATES: Set = ((0xD800, 0xDFFF),)
EVERY: Set = ((0, 0x10FFFF),)

DIGIT: Set = ((0x30, 0x39),)
WORD: Set = ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
# ECMA-262's WhiteSpace and LineTerminator: unlike Unicode's White_Space without U+0085, with U+FEFF.
SPACE: Set = (*((0x9, 0xD), (0x20, 0x20), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029)),
              *((0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF)))  # fmt: skip
LINE_ENDS: Set = ((0xA, 0xA), (0xD, 0xD), (0x2028, 0x2029))
# Python's: str.isspace(), which knows U+001C to U+001F as well; in ASCII mode the six of C.
PYTHON_SPACE: Set = union(WHITE_SPACE, ((0x1C, 0x1F),))
ASCII_SPACE: Set = ((0x9, 0xD), (0x20, 0x20))
FEW = 64  # characters up to which each is looked up by itself

# Values of General_Category: the long names and aliases, and of which two-letter categories a group consists.
LONG_CATEGORIES = {
    "Letter": "L",
    "Cased_Letter": "LC",
    "Uppercase_Letter": "Lu",
    "Lowercase_Letter": "Ll",
    "Titlecase_Letter": "Lt",
    "Modifier_Letter": "Lm",
    "Other_Letter": "Lo",
    "Mark": "M",
    "Combining_Mark": "M",
    "Nonspacing_Mark": "Mn",
    "Spacing_Mark": "Mc",
    "Enclosing_Mark": "Me",
    "Number": "N",
    "Decimal_Number": "Nd",
    "digit": "Nd",
    "Letter_Number": "Nl",
    "Other_Number": "No",
    "Punctuation": "P",
    "punct": "P",
    "Connector_Punctuation": "Pc",
    "Dash_Punctuation": "Pd",
    "Open_Punctuation": "Ps",
    "Close_Punctuation": "Pe",
    "Initial_Punctuation": "Pi",
    "Final_Punctuation": "Pf",
    "Other_Punctuation": "Po",
    "Symbol": "S",
    "Math_Symbol": "Sm",
    "Currency_Symbol": "Sc",
    "Modifier_Symbol": "Sk",
    "Other_Symbol": "So",
    "Separator": "Z",
    "Space_Separator": "Zs",
    "Line_Separator": "Zl",
    "Paragraph_Separator": "Zp",
    "Other": "C",
    "Control": "Cc",
    "cntrl": "Cc",
    "Format": "Cf",
    "Surrogate": "Cs",
    "Private_Use": "Co",
    "Unassigned": "Cn",
}
GROUPS = {"Z": ("Zs", "Zl", "Zp"), "C": ("Cc", "Cf", "Cs", "Co", "Cn"), "LC": ("Lu", "Ll", "Lt")}
BINARY_ALIASES = {
    "Alpha": "Alphabetic",
    "Lower": "Lowercase",
    "Upper": "Uppercase",
    "IDS": "ID_Start",
    "IDC": "ID_Continue",
    "XIDS": "XID_Start",
    "XIDC": "XID_Continue",
    "EPres": "Emoji_Presentation",
    "ExtPict": "Extended_Pictographic",
    "Ideo": "Ideographic",
    "AHex": "ASCII_Hex_Digit",
    "Hex": "Hex_Digit",
    "space": "White_Space",
}
HEX: Set = ((0x30, 0x39), (0x41, 0x46), (0x61, 0x66))
SMALL = {
    "Any": EVERY,
    "ASCII": ((0, 0x7F),),
    "ASCII_Hex_Digit": HEX,
    "Hex_Digit": (*HEX, (0xFF10, 0xFF19), (0xFF21, 0xFF26), (0xFF41, 0xFF46)),
    "White_Space": WHITE_SPACE,
}


def _read(text: str) -> Set:
    pairs = [r.partition("-") for r in text.split()]
    return tuple((int(first, 16), int(last or first, 16)) for first, _, last in pairs)


@cache
def category(name: str) -> Set:
    """The set of a general category or of a group of them, by its short name. Raises UnknownName."""
    if name in GROUPS:
        return union(*map(category, GROUPS[name]))
    if name in regex_tables.CATEGORIES:
        return _read(regex_tables.CATEGORIES[name])
    if name == "Cs":
        return SURROGATES
    if name == "Cn":
        others = ("L", "M", "N", "P", "S", "Z", "Cc", "Cf", "Cs", "Co")
        return complement(union(*map(category, others)))
    if name == "Han" or name not in (*TABLES, "Lo"):
        raise UnknownName("general category", name)
    return prop(name)


@cache
def unicode_property(text: str) -> Set:
    """What stands in the braces of `\\p{..}`: a category, a binary property, General_Category=.. or Script=...

    Raises UnknownName, also for Script_Extensions and properties of strings, for which there are no tables.
    """
    name, equals, value = text.partition("=")
    if equals and name in ("General_Category", "gc"):
        return category(LONG_CATEGORIES.get(value, value))
    if equals and name in ("Script", "sc"):
        old = {"Qaac": "Coptic", "Qaai": "Inherited", "Hani": "Han"}
        script = regex_tables.SCRIPT_ALIASES.get(value, old.get(value, value))
        if script == "Han":
            return prop("Han")
        if script not in regex_tables.SCRIPTS:
            raise UnknownName("script", value)
        return _read(regex_tables.SCRIPTS[script])
    if equals:
        raise UnknownName("property of characters", text, ("General_Category=..", "Script=.."))
    name = BINARY_ALIASES.get(text, text)
    if name in SMALL:
        return SMALL[name]
    if name == "Assigned":
        return complement(category("Cn"))
    if name in regex_tables.BINARY_BASE:
        base = union(*map(category, regex_tables.BINARY_BASE[name].split()))
        without = complement(_read(regex_tables.BINARY[name + " away"]))
        return union(intersection(base, without), _read(regex_tables.BINARY[name + " added"]))
    return category(LONG_CATEGORIES.get(name, name))


# Further characters that Python's `re` takes for equal: it compares lower-case letters, and U+0130's is "i".
PYTHON_EQUALS = ((0x49, 0x130), (0x49, 0x131))


@cache
def _equals(python: bool) -> dict[int, tuple[int, ...]]:
    """Of each character that equals others when case does not count: all that are equal, itself among them."""
    links: list[tuple[int, int]] = list(PYTHON_EQUALS) if python else []
    for run in regex_tables.FOLDS.split():
        where, _, shift = run.partition("+")
        span, _, stride = where.partition("/")
        first, _, last = span.partition("-")
        links += (
            (c, c + int(shift, 16)) for c in range(int(first, 16), int(last or first, 16) + 1, int(stride or "1"))
        )
    classes: dict[int, set[int]] = {}
    for a, b in links:
        one, other = classes.setdefault(a, {a}), classes.setdefault(b, {b})
        if one is not other:
            one |= other
            for c in other:
                classes[c] = one
    return {c: tuple(sorted(members)) for c, members in classes.items()}


@cache
def _pairs(python: bool) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The characters that equal others, each beside each that equals it."""
    pairs = np.array([(c, e) for c, members in _equals(python).items() for e in members], np.int64)
    return pairs[:, 0], pairs[:, 1]


def fold(s: Set, ascii_only: bool = False, python: bool = False) -> Set:
    """The set with everything that equals one of its members when case does not count: Unicode's simple case folding,
    as ECMA-262 has it with the flag u; `python`: with what `re` adds to it; `ascii_only`: of the letters a to z alone.
    """
    if ascii_only:
        lower, upper = intersection(s, ((0x61, 0x7A),)), intersection(s, ((0x41, 0x5A),))
        return union(s, ((a - 32, b - 32) for a, b in lower), ((a + 32, b + 32) for a, b in upper))
    if sum(last - first + 1 for first, last in s) <= FEW:
        equals = _equals(python)
        more = {e for first, last in s for c in range(first, last + 1) for e in equals.get(c, ())}
    else:
        one, other = _pairs(python)
        bounds = np.array(s, np.int64).ravel() + [0, 1] * len(s)  # first, last + 1, ...: inside, odd many are past
        inside = np.searchsorted(bounds, (one, other), "right") % 2 == 1
        more = set(other[inside[0] & ~inside[1]].tolist())
    return union(s, ((c, c) for c in more)) if more else s
