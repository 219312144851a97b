"""What becomes of each code point before BERT's words are looked up: the tables that ckernels/core/wordpiece.c reads.

    Å  A + U+030A --the mark goes--> A --small--> a           LETTER a
    U+0301  a mark: goes, and a word goes on                  NOTHING
    U+2260  = + U+0338 --the mark goes--> =                   ALONE_AS =        (punctuation: a word of its own)
    U+AC00  taken apart by NFD                                SEVERAL U+1100 U+1161

    code point >> 8 -> page;  entries[page][code point & 255] = what it is, and a letter or where its letters are

That code points can be looked at one by one is so because nothing in NFD depends on a neighbour but the order of marks.
Those that stay (which take room, or are newer than the list of those that go) have their class beside them, and C puts
them in order. One that goes and has no class still keeps apart what stands on its two sides.

Twin of what is done with the tables: `WordPieceEncoder.words`. The ranges: wordpiece_ranges.py.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache

import numpy as np
import numpy.typing as npt

from zigllama.errors import InvalidArgument
from zigllama.foundation.native_wordpiece import CODE_POINTS, NO_LETTER, Form, Forms

from . import wordpiece_ranges
from .unicode_forms import classes, combining, normalized

BLOCK = 0x400  # code points
HANGUL = range(0xAC00, 0xD7A4)
BETWEEN = "\u4e00", "\u4e01"  # letters that stay as they are; the second where the first is in the block


@cache
def ranges(name: str) -> tuple[tuple[int, int], ...]:
    """First and last code point of each range of wordpiece_ranges.NAME."""
    found = (piece.partition("-") for piece in getattr(wordpiece_ranges, name).split())
    return tuple((int(first, 16), int(last or first, 16)) for first, _, last in found)


def small(text: str) -> str:
    """Letters made small one by one: `str.lower` without its exception for a sigma that ends a word."""
    return text.replace("\u03a3", "\u03c3").lower()


def _flags(*names: str) -> npt.NDArray[np.bool_]:
    """Which code points are in some of the ranges, bool (CODE_POINTS,)."""
    flags = np.zeros(CODE_POINTS, bool)
    for name in names:
        for first, last in ranges(name):
            flags[first : last + 1] = True
    return flags


@cache
def _everything() -> str:
    """All code points in their order."""
    return np.arange(CODE_POINTS, dtype="<u4").tobytes().decode("utf-32-le", "surrogatepass")


def _changed(lower: bool, strip: bool) -> Iterator[tuple[str, str]]:
    """Characters that NFD takes apart or that have a small letter, where these are wanted, and what NFD makes of them.

    Block by block: one whose text stays the same has none, for marks may change places, but neither of the two changes
    back what the other changed. The characters of another one are asked for at once, with a letter between that stays.
    """
    for first in range(0, CODE_POINTS, BLOCK):
        text, between = _everything()[first : first + BLOCK], BETWEEN[first <= ord(BETWEEN[0]) < first + BLOCK]
        apart = text if not strip or unicodedata.is_normalized("NFD", text) else normalized(text, "NFD")
        if (small(apart) if lower else apart) == text or first in range(HANGUL.start, HANGUL.stop - BLOCK):
            continue
        apart = between.join(text)
        apart = normalized(apart, "NFD") if strip else apart
        for character, parts in zip(text, apart.split(between), strict=True):
            if (small(parts) if lower else parts) != character:
                yield character, parts


class _Table:
    """The entries of all code points, and the letters of those that become several."""

    def __init__(self, lower: bool, strip: bool) -> None:
        self.lower, self.strip = lower, strip
        self.alone, self.space = _flags("ALONE", "CHINESE"), np.zeros(CODE_POINTS, bool)
        self.space[[ord(c) for c in re.findall(r"\s", _everything()[:0x10000])]] = True
        self.marks = _flags("MARKS") if strip else np.zeros(CODE_POINTS, bool)
        self.entries = np.where(self.alone, Form.ALONE, np.where(self.space, Form.SPACE, Form.SAME)).astype(np.uint32)
        self.elements, self.numbers = list[int](), dict[tuple[int, ...], int]()

    def letters(self, character: str, parts: str) -> list[int]:
        """What a character becomes, whose NFD is `parts`, as elements."""
        found = list[int]()
        for part in parts:
            order = combining(part) if self.strip else 0
            if self.marks[ord(part)]:
                found += [] if order else [NO_LETTER]
                continue
            made = small(part) if self.lower else part
            if order and (made != part or self.alone[ord(part)] or self.space[ord(part)]):
                raise InvalidArgument(
                    f"U+{ord(character):04X}: mark U+{ord(part):04X} is no letter that stays as it is"
                )
            found += [ord(c) | order << 24 for c in made]
        return found

    def set(self, character: str, letters: list[int]) -> None:
        """Its entry. Raises InvalidArgument for a character that is neither a word of its own nor part of one."""
        code, kept = ord(character), [c for c in letters if c != NO_LETTER]
        apart = [c for c in kept if c < CODE_POINTS and (self.alone[c] or self.space[c])]
        if apart and len(kept) > 1:
            spelt = " ".join(f"U+{c:04X}" for c in kept)
            raise InvalidArgument(f"U+{code:04X} becomes {spelt}, which are neither one word nor part of one")
        if apart:
            self.entries[code] = Form.SPACE if self.space[apart[0]] else Form.ALONE_AS | apart[0] << 3
        elif not letters:
            self.entries[code] = Form.NOTHING
        elif len(letters) == 1 and letters[0] < CODE_POINTS:
            self.entries[code] = Form.LETTER | letters[0] << 3
        else:
            number = self.numbers.setdefault(tuple(letters), len(self.elements))
            if number == len(self.elements):
                self.elements += [len(letters), *letters]
            self.entries[code] = Form.SEVERAL | number << 3

    def set_hangul(self) -> None:
        """Syllables, of which NFD makes a consonant, a vowel, and another consonant or none: a list of each that none
        of them changes would take longer than everything else."""
        vowel_and_tail, n_tails = 21 * 28, 28
        k = np.arange(len(HANGUL), dtype=np.uint32)
        lead, vowel, tail = 0x1100 + k // vowel_and_tail, 0x1161 + k % vowel_and_tail // n_tails, 0x11A7 + k % n_tails
        rows = np.stack([2 + (k % n_tails > 0), lead, vowel, tail], axis=1)
        self.entries[HANGUL] = Form.SEVERAL | (len(self.elements) + rows.shape[1] * k) << 3
        self.elements += rows.ravel().tolist()

    def forms(self) -> Forms:
        """The tables as C reads them: equal pages once."""
        pages, rows = dict[bytes, int](), self.entries.reshape(-1, 256)
        numbers = np.array([pages.setdefault(row.tobytes(), len(pages)) for row in rows], np.uint16)
        kept = np.frombuffer(b"".join(pages), np.uint32).reshape(-1, 256)
        return Forms(numbers, kept, np.array(self.elements, np.uint32))


@cache
def forms(lower: bool, strip: bool) -> Forms:
    """The tables, with small letters or not, with accents or not.

    Raises InvalidArgument where Python's Unicode has a character that the tables cannot say, which Unicode 14 has not.
    """
    table = _Table(lower, strip)
    found = dict(_changed(lower, strip))
    if strip:
        table.set_hangul()
        for code in np.flatnonzero(table.marks).tolist() + np.flatnonzero(classes()).tolist():
            found.setdefault(chr(code), chr(code))
    for character, parts in found.items():
        table.set(character, table.letters(character, parts))
    table.entries[_flags("REMOVED")] = Form.NOTHING
    return table.forms()
