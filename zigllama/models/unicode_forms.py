"""NFC and NFD, in time that goes by a text's length, and the same whatever Python runs.

    e + U+0301  --NFC-->  U+00E9            U+00E9  --NFD-->  e + U+0301

Python's `unicodedata` does the work; two things are done around it.

The version. Python 3.11 knows Unicode 14, later ones know more, and a text's ids must not depend on which of them
runs. A character's form never changes once it is assigned (Unicode's stability policy), so versions differ only where
a text holds characters that came later and compose or have a class. These are listed in NEWER, and are left alone, as
Python 3.11 leaves them: text on their two sides is normalised apart. A table of all of Unicode would be 30 KB more,
and would answer otherwise for these 125 rare characters only, which no vocabulary in use was trained with.

Long runs of marks. `unicodedata` moves each mark back past all that it must precede, in time that goes by the square
of the run's length. Long runs are sorted here before, stably by their classes, which is what it would have made of
them.

Source: Unicode Standard Annex 15. What it is not: NFKC; SentencePiece's map of characters (space_normalizer.py).
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

Form = Literal["NFC", "NFD"]

# Characters of Unicode 15 to 18 that have a class or a canonical decomposition, or are the first in one
NEWER = (
    "5c8-5c9 897 1acf-1af0 105c9 105d2 105da 105e4 10d69-10d6d 10ecb-10ecf 10ef0-10efb 10efd-10eff 11382-11385 1138b "
    "1138e 11390-11391 113bb 113c2 113c5 113c7-113c9 113ce-113d0 11f41-11f42 1611e-16129 1612f 16d63 16d67-16d6a "
    "1d127-1d128 1d250-1d252 1d25b-1d25c 1d25f 1d280-1d281 1e08f 1e4ec-1e4ef 1e5ee-1e5ef 1e6e3 1e6e6 1e6ee-1e6ef 1e6f5"
)
LAST = 0x20000  # beyond it no character has a class
LONG = 32
# The vowel signs that are two marks in one, of different classes, and have none themselves
DOUBLE = {"\u0f73": "\u0f71\u0f72", "\u0f75": "\u0f71\u0f74", "\u0f81": "\u0f71\u0f80"}


@cache
def newer() -> frozenset[int]:
    """The characters of NEWER."""
    found = set[int]()
    for piece in NEWER.split():
        first, _, last = piece.partition("-")
        found |= set(range(int(first, 16), int(last or first, 16) + 1))
    return frozenset(found)


def _ranges(codes: list[int]) -> str:
    """Characters in the form that stands between [ and ]."""
    edges = [i for i, c in enumerate(codes) if i == 0 or c != codes[i - 1] + 1] + [len(codes)]
    return "".join(f"\\U{codes[a]:08x}-\\U{codes[b - 1]:08x}" for a, b in pairwise(edges))


@cache
def classes() -> npt.NDArray[np.uint8]:
    """Canonical combining class of each character below LAST."""
    found = np.fromiter(map(unicodedata.combining, map(chr, range(LAST))), np.uint8, LAST)
    found[sorted(newer())] = 0
    return found


def combining(character: str) -> int:
    """The canonical combining class of a character: where it stands among marks."""
    code = ord(character)
    return int(classes()[code]) if code < LAST else 0


@cache
def _long_runs() -> re.Pattern[str]:
    return re.compile(f"[{_ranges(np.flatnonzero(classes()).tolist())}]{{{LONG},}}")


@cache
def _newer_characters() -> re.Pattern[str]:
    return re.compile(f"([{_ranges(sorted(newer()))}])")


def _in_order(match: re.Match[str]) -> str:
    """A run of marks by their classes, those of one class as they stand."""
    codes = np.frombuffer(match.group().encode("utf-32-le"), "<u4")
    return codes[np.argsort(classes()[codes], kind="stable")].tobytes().decode("utf-32-le")


def normalized(text: str, form: Form) -> str:
    """The text in normal form NFC or NFD."""
    if text.isascii():
        return text
    for double, two in DOUBLE.items():
        text = text.replace(double, two)
    parts = _newer_characters().split(_long_runs().sub(_in_order, text))
    return "".join(part if i % 2 else unicodedata.normalize(form, part) for i, part in enumerate(parts))


@cache
def _joins() -> frozenset[str]:
    """Characters without a class that compose with one before them: vowel signs, and parts of Hangul syllables."""
    found = {chr(c) for c in (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))}
    for c in range(LAST):
        two = unicodedata.decomposition(chr(c)).split()
        if len(two) == 2 and not two[0].startswith("<"):
            found.add(chr(int(two[1], 16)))
    return frozenset(found)


def with_origin(text: str, form: Form) -> tuple[str, npt.NDArray[np.int32]]:
    """`normalized`, and the byte of the text's UTF-8 that each byte of its result comes from, int32 (n + 1,): its own
    where nothing changed, the first one of a character with its marks where something did; and the text's end.

    Character by character: for showing where tokens lie, not for long texts.
    """
    parts, origin, at = list[str](), list[int](), 0
    begins = [i for i, c in enumerate(text) if i == 0 or not (combining(c) or c in _joins() or c in DOUBLE)]
    for begin, end in pairwise([*begins, len(text)]):
        part = text[begin:end]
        made, n = normalized(part, form), len(part.encode())
        parts.append(made)
        origin += range(at, at + n) if made == part else [at] * len(made.encode())
        at += n
    return "".join(parts), np.array([*origin, at], np.int32)
