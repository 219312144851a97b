"""Random regular expressions, and texts that have something to do with them: for tests, tools and golden files.

    case = sample(random.Random(7), "python")     a pattern, flags, and texts: walks through its automaton, changed
    ones, random ones

Every construct that is read has its turn: classes, escapes, counts (greedy, lazy, of groups and of groups in groups),
flags, anchors and looks anywhere. Nothing here knows what should match.
"""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass

from zigllama.errors import ZigllamaError
from zigllama.inference.grammar import regex
from zigllama.inference.grammar.ir import Automaton

LETTERS = "aabbcxyABkKsS01 _-\n\té߃ıſ☃😀\u2028"
CLASSES = {
    "python": [r"\d", r"\D", r"\w", r"\W", r"\s", r"\S"],
    "ecma": [
        r"\d",
        r"\D",
        r"\w",
        r"\W",
        r"\s",
        r"\S",
        r"\p{L}",
        r"\P{Lu}",
        r"\p{Script=Greek}",
        r"\p{Nd}",
        r"\p{ASCII}",
    ],
}
ESCAPES = {
    "python": [r"\n", r"\x41", r"\u00e9", r"\-", r"\.", r"\101", r"\0", r"\U0001f600", r"\t"],
    "ecma": [r"\n", r"\x41", r"\u00e9", r"\u{1F600}", r"\uD83D\uDE00", r"\.", r"\cJ", r"\0", r"\/", r"\t"],
}
SPECIAL = {"python": r"\.^$*+?{}[]|()", "ecma": r"\.^$*+?{}[]|()/"}


@dataclass(frozen=True)
class Sample:
    """A pattern with the flags it is read with, and texts to try."""

    pattern: str
    flags: str
    texts: tuple[str, ...]


class _Writer:
    def __init__(self, rng: random.Random, syntax: str) -> None:
        self.rng, self.syntax = rng, syntax

    def letter(self) -> str:
        c = self.rng.choice(LETTERS)
        return "\\" + c if c in SPECIAL[self.syntax] else c

    def char_class(self) -> str:
        rng, parts = self.rng, []
        for _ in range(rng.randint(1, 3)):
            kind = rng.random()
            if kind < 0.4:
                a, b = sorted(rng.choice("abcxyzABKZ059éß") for _ in range(2))
                parts.append(f"{a}-{b}")
            elif kind < 0.6:
                parts.append(rng.choice(CLASSES[self.syntax]))
            else:
                c = rng.choice(LETTERS)
                parts.append("\\-" if c == "-" else c)
        return "[" + ("^" if rng.random() < 0.25 else "") + "".join(parts) + "]"

    def atom(self, depth: int) -> str:
        kind = self.rng.random()
        if depth > 0 and kind < 0.28:
            opening = self.rng.choice(["(", "(", "(?:", "(?P<g%d>" if self.syntax == "python" else "(?<g%d>"])
            if "%d" in opening:
                opening %= self.rng.randrange(10**9)
            elif self.syntax == "python" and self.rng.random() < 0.15:
                opening = self.rng.choice(["(?i:", "(?s:", "(?-i:", "(?m:", "(?i-s:"])
            return opening + self.either(depth - 1) + ")"
        if kind < 0.6:
            return self.letter()
        if kind < 0.72:
            return self.char_class()
        if kind < 0.84:
            return self.rng.choice(CLASSES[self.syntax])
        return "." if kind < 0.93 else self.rng.choice(ESCAPES[self.syntax])

    def item(self, depth: int) -> str:
        rng = self.rng
        if rng.random() < 0.07:
            return rng.choice(["^", "$", r"\b", r"\B", *([r"\A", r"\Z"] if self.syntax == "python" else [])])
        if depth > 0 and rng.random() < 0.06:
            # Python looks behind at a fixed width only, and so does this generator.
            behind = rng.random() < 0.4
            inside = self.letter() if behind else self.either(depth - 1)
            return ("(?<" if behind else "(?") + rng.choice("=!") + inside + ")"
        count = ""
        if rng.random() < 0.35:
            lo = rng.randint(0, 3)
            count = rng.choice(["*", "+", "?", f"{{{lo}}}", f"{{{lo},}}", f"{{{lo},{lo + rng.randint(0, 3)}}}"])
            count += "?" if rng.random() < 0.2 else ""
        return self.atom(depth) + count

    def either(self, depth: int) -> str:
        branches = self.rng.choice([1, 1, 1, 2, 3])
        return "|".join("".join(self.item(depth) for _ in range(self.rng.randint(0, 4))) for _ in range(branches))


@functools.lru_cache(8)
def automaton(pattern: str, syntax: str, flags: str, search: bool) -> Automaton:
    """regex.automaton, which the texts are made from and which then is tried on them."""
    return regex.automaton(pattern, syntax, flags, search)


def walk(a: Automaton, rng: random.Random, most: int = 24) -> bytes | None:
    """A text of the language, met by chance; None when none was met within `most` bytes."""
    text, state = bytearray(), 0
    while len(text) <= most:
        if state in a.finals and rng.random() < 0.3:
            return bytes(text)
        if not a.edges[state]:
            return bytes(text) if state in a.finals else None
        lo, hi, state = rng.choice(a.edges[state])
        text.append(rng.choice((lo, hi, rng.randint(lo, hi))))
    return None


def _changed(text: str, rng: random.Random) -> str:
    at = rng.randint(0, len(text))
    return text[:at] + rng.choice(["", rng.choice(LETTERS)]) + text[at + rng.randint(0, 1) :]


def sample(rng: random.Random, syntax: str, search: bool = False) -> Sample:
    """A random pattern with texts; `search` only directs which texts are tried."""
    pattern = _Writer(rng, syntax).either(rng.randint(0, 2))
    flags = "".join(f for f in ("aims" if syntax == "python" else "ims") if rng.random() < 0.15)
    texts = {"", *("".join(rng.choice(LETTERS) for _ in range(rng.randint(1, 6))) for _ in range(4))}
    try:
        a = automaton(pattern, syntax, flags, search)
    except ZigllamaError:
        return Sample(pattern, flags, tuple(sorted(texts)))
    for _ in range(6):
        met = walk(a, rng)
        if met is not None:
            texts |= {met.decode(), _changed(met.decode(), rng)}
    return Sample(pattern, flags, tuple(sorted(texts)))
