"""ECMA-262's regular expressions, with the flag u, as Python's `re` writes them: for judging by `re` what was made
of the former. Of the patterns that regex_samples.py writes; no back references, and of the flags only s.

    python = translated(r"(?<a>\\w+)\\s$")      re.compile(python, re.ASCII) finds what the engine of a browser finds

Translated are the escapes whose meaning differs, `.`, `$` and the names of groups. Categories are this Python's: of a
character that it does not know, nothing is said (compare_regexes.of_one_mind).
"""

from __future__ import annotations

import re
import sys
import unicodedata
from functools import cache

Ranges = tuple[tuple[int, int], ...]
LINE_ENDS: Ranges = ((0xA, 0xA), (0xD, 0xD), (0x2028, 0x2029))
SPACE: Ranges = ((0x9, 0xD), (0x20, 0x20), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029),
                 (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF))  # fmt: skip
DIGIT: Ranges = ((0x30, 0x39),)
WORD: Ranges = ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
TOKEN = re.compile(
    r"\\u\{([0-9A-Fa-f]+)\}|\\u([Dd][89ABab]..)\\u([Dd][C-Fc-f]..)|\\c([A-Za-z])|\\([pP])\{([^}]*)\}|\\([dDwWsS])|\\/"
    r"|\\[bB]|\\.|\(\?<(?![=!])|\[\^?|\]|\.|\$|\\u....|\\x..",
    re.DOTALL,
)


def _outside(ranges: Ranges) -> Ranges:
    out, at = [], 0
    for lo, hi in ranges:
        if at < lo:
            out.append((at, lo - 1))
        at = hi + 1
    return (*out, (at, sys.maxunicode)) if at <= sys.maxunicode else tuple(out)


@cache
def _property(name: str) -> Ranges:
    """The characters of a general category, or group of such; ASCII; of Greek script, by their names."""
    if name == "ASCII":
        return ((0, 0x7F),)
    if name == "Script=Greek":
        raise ValueError("scripts are not known to Python")
    out: list[list[int]] = []
    for c in range(sys.maxunicode + 1):
        if unicodedata.category(chr(c)).startswith(name):
            if out and out[-1][1] == c - 1:
                out[-1][1] = c
            else:
                out.append([c, c])
    return tuple((lo, hi) for lo, hi in out)


def _written(ranges: Ranges) -> str:
    return "".join(f"\\U{lo:08x}" if lo == hi else f"\\U{lo:08x}-\\U{hi:08x}" for lo, hi in ranges)


def translated(pattern: str, dot_all: bool = False) -> str:
    """The pattern for `re` with the flag ASCII. Raises ValueError for what Python has nothing like."""
    out, at, inside = [], 0, False
    while at < len(pattern):
        m = TOKEN.match(pattern, at)
        if m is None:
            out.append(pattern[at])
            at += 1
            continue
        at, text = m.end(), m[0]
        ranges: Ranges | None = None
        if m[1]:
            ranges = ((int(m[1], 16),) * 2,)
        elif m[2]:
            ranges = ((0x10000 + ((int(m[2], 16) - 0xD800) << 10) + int(m[3], 16) - 0xDC00,) * 2,)
        elif m[4]:
            ranges = ((ord(m[4]) & 31,) * 2,)
        elif m[5]:
            ranges = _property(m[6]) if m[5] == "p" else _outside(_property(m[6]))
        elif m[7]:
            ranges = {"d": DIGIT, "w": WORD, "s": SPACE}[m[7].lower()]
            ranges = _outside(ranges) if m[7].isupper() else ranges
        if ranges is not None:
            out.append(_written(ranges) if inside else f"[{_written(ranges)}]")
        elif text.startswith("[") and not inside:
            inside = True
            out.append(text)
        elif text == "[" or (inside and text == "[^"):
            out.append(text.replace("[", "\\["))
        elif text == "]" and inside:
            inside = False
            out.append(text)
        elif inside or text == "]":
            out.append("\\/" if text == "\\/" else text)
        elif text == ".":
            out.append(f"[{_written(((0, sys.maxunicode),) if dot_all else _outside(LINE_ENDS))}]")
        elif text == r"\B":
            out.append(r"(?!\b)")  # which an empty text has too; of Python's own before 3.14 it has none
        elif text == "$":
            out.append(r"\Z")
        elif text == "(?<":
            out.append("(?P<")
        else:
            out.append("/" if text == "\\/" else text)
    return "".join(out)
