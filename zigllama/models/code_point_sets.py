"""Sets of code points as sorted ranges: union, complement, and the properties that pre-tokenizers ask for.

    prop("Nd")                  ((0x30, 0x39), (0x660, 0x669), ...)
    complement(prop("Nd"))      ((0x0, 0x2f), (0x3a, 0x65f), ...)

A set is a tuple of (first, last), ascending, with a gap between neighbours; both ends belong to it. The tables are in
unicode_ranges.py. Python's `unicodedata` would tie a text's ids to the version of Python.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from zigllama.errors import UnknownName

from . import unicode_ranges

Set = tuple[tuple[int, int], ...]

LAST = 0x10FFFF
# The property White_Space, which \s stands for. Python's own \s also holds U+001C to U+001F.
WHITE_SPACE: Set = (
    *((0x9, 0xD), (0x20, 0x20), (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029)),
    *((0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000)),
)
TABLES = ("L", "M", "N", "P", "S", "Lu", "Ll", "Lt", "Lm", "Nd", "Pc", "Han")


def union(*sets: Iterable[tuple[int, int]]) -> Set:
    """What is in any of the sets; the ranges of one may overlap and come in any order."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(r for s in sets for r in s):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return tuple(found)


def complement(s: Set) -> Set:
    """What is not in the set."""
    begins = [0, *(last + 1 for _, last in s)]
    ends = [*(first - 1 for first, _ in s), LAST]
    return tuple((a, b) for a, b in zip(begins, ends, strict=True) if a <= b)


def intersection(a: Set, b: Set) -> Set:
    """What is in both."""
    found: list[tuple[int, int]] = []
    i = j = 0
    while i < len(a) and j < len(b):
        (first, last), (begin, end) = a[i], b[j]
        if begin <= last and first <= end:
            found.append((max(first, begin), min(last, end)))
        if last < end:
            i += 1
        else:
            j += 1
    return tuple(found)


@cache
def prop(name: str) -> Set:
    """The set of a property: a category of unicode_ranges.py, `Lo` (the other letters) or the script `Han`.

    Raises UnknownName.
    """
    if name == "Lo":
        return intersection(prop("L"), complement(union(*(prop(n) for n in ("Lu", "Ll", "Lt", "Lm")))))
    if name not in TABLES:
        raise UnknownName("property of characters", name, (*TABLES, "Lo"))
    pairs = [r.partition("-") for r in getattr(unicode_ranges, name).split()]
    return tuple((int(first, 16), int(last or first, 16)) for first, _, last in pairs)


def single(character: str) -> Set:
    """The set of one character."""
    return ((ord(character), ord(character)),)
