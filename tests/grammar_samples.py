"""Random grammars over three letters, and all short texts of one by brute force: what machines are compared with."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping

from zigllama.inference.grammar.ir import Alt, Automaton, Bytes, Chars, Expr, Literal, Ref, Repeat, Seq

LETTERS = b"abc"
SHORT = 5  # letters of a short text
TEXTS = [bytes(t) for n in range(SHORT + 1) for t in itertools.product(LETTERS, repeat=n)]


def language(rules: Mapping[str, Expr], start: str) -> set[bytes]:
    """All texts of up to SHORT letters that a rule derives: what rules derive from what rules derive, until no more."""
    known: dict[str, set[bytes]] = {name: set() for name in rules}

    def joined(a: set[bytes], b: set[bytes]) -> set[bytes]:
        return {x + y for x in a for y in b if len(x) + len(y) <= SHORT}

    def derived(e: Expr) -> set[bytes]:
        if isinstance(e, Literal):
            return {e.text} if len(e.text) <= SHORT else set()
        if isinstance(e, Bytes):
            return {bytes((c,)) for lo, hi in e.ranges for c in range(lo, hi + 1)}
        if isinstance(e, Chars):
            return {chr(c).encode() for lo, hi in e.ranges for c in range(lo, hi + 1)}
        if isinstance(e, Ref):
            return known[e.name]
        if isinstance(e, Alt):
            return set().union(*map(derived, e.items)) if e.items else set()
        if isinstance(e, Seq):
            out = {b""}
            for item in e.items:
                out = joined(out, derived(item))
            return out
        if isinstance(e, Automaton):
            return {t for t in TEXTS if _accepts(e, t)}
        repeated, out, times = derived(e.item), {b""}, 0
        found = set(out) if e.lo == 0 else set()
        while out and times < (e.lo + SHORT + 1 if e.hi is None else e.hi):
            out, times = joined(out, repeated), times + 1
            found |= out if times >= e.lo else set()
        return found

    while True:
        more = {name: known[name] | derived(e) for name, e in rules.items()}
        if more == known:
            return known[start]
        known = more


def _accepts(e: Automaton, text: bytes) -> bool:
    state = 0
    for c in text:
        to = [t for lo, hi, t in e.edges[state] if lo <= c <= hi]
        if not to:
            return False
        state = to[0]
    return bool(e.edges) and state in e.finals


def random_expression(rng: random.Random, names: list[str], depth: int = 3) -> Expr:
    """An expression over the letters that calls these rules; nothing about it is kept from being odd."""
    kind = rng.random()
    if depth == 0 or kind < 0.3:
        return Literal(rng.choice([b"", b"a", b"b", b"ab", b"a", b"b", b"c"]))
    if kind < 0.5:
        return Ref(rng.choice(names))
    if kind < 0.55:
        odd: list[Expr] = [Bytes(((0x61, 0x62),)), Chars(((0x62, 0x63),)), Chars(()), Alt(())]
        return rng.choice(odd)
    if kind < 0.6:
        n = rng.randint(1, 3)
        edges = tuple(tuple((c, c, rng.randrange(n)) for c in LETTERS if rng.random() < 0.5) for _ in range(n))
        return Automaton(edges, frozenset(i for i in range(n) if rng.random() < 0.5))
    if kind < 0.9:
        items = tuple(random_expression(rng, names, depth - 1) for _ in range(rng.randint(1, 3)))
        return Seq(items) if kind < 0.75 else Alt(items)
    lo = rng.randint(0, 2)
    return Repeat(random_expression(rng, names, depth - 1), lo, rng.choice([None, lo, lo + 1]))


def random_rules(seed: int) -> dict[str, Expr]:
    """One to four rules that call each other any way; S is the first."""
    rng = random.Random(seed)
    names = ["S", "A", "B", "C"][: rng.randint(1, 4)]
    return {name: random_expression(rng, names) for name in names}
