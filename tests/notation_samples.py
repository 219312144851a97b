"""Random context-free grammars as expressions, written in each notation, and texts met by walking through a machine.

    rules = random_rules(random.Random(3))      letters a, b, c; left recursion and empty rules among them
    as_gbnf(rules), as_iso(rules), as_w3c(rules), as_cfg(rules), as_lark(rules)

The writers are the reverse of the front ends, and know nothing of them.
"""

from __future__ import annotations

import random
import re
from typing import Any

from zigllama.inference.grammar.compile import compile_rules
from zigllama.inference.grammar.ir import Alt, Chars, Expr, Literal, Ref, Repeat, Rules, Seq
from zigllama.inference.grammar.machine import DEAD
from zigllama.inference.grammar.pushdown import Pushdown

LETTERS = "abc"
NAMES = ("s", "t", "u")
COUNTS = ((0, 1), (0, None), (1, None), (2, 2), (1, 3))


def random_rules(rng: random.Random, plain: bool = False, left: bool = True) -> Rules:
    """plain: without counts, as context-free grammars are written. left False: a rule calls itself, or one before it,
    only behind a letter.
    """

    def item(depth: int, rule: int, behind: bool) -> Expr:
        kind = rng.random()
        if depth and kind < 0.25 and not plain:
            return Repeat(either(depth - 1, rule, behind), *rng.choice(COUNTS))
        if kind < 0.55:
            names = NAMES if left or behind else NAMES[rule + 1 :]
            if names:
                return Ref(rng.choice(names))
        return Literal(rng.choice(LETTERS).encode())

    def sequence(depth: int, rule: int, behind: bool) -> Expr:
        items: list[Expr] = []
        for _ in range(rng.choice((0, 1, 1, 2, 2, 3))):
            items.append(item(depth, rule, behind))
            behind |= isinstance(items[-1], Literal)
        return Seq(tuple(items))

    def either(depth: int, rule: int, behind: bool) -> Expr:
        return Alt(tuple(sequence(depth, rule, behind) for _ in range(rng.randint(1, 3))))

    found: dict[str, Expr] = {}
    for i, name in enumerate(NAMES):
        whole = either(2, i, False)
        assert isinstance(whole, Alt)
        found[name] = Alt((*whole.items, Literal(rng.choice(LETTERS).encode())))  # no rule is without words
    return Rules(found, "s")


def _write(e: Any, comma: str, count: Any, quote: str = '"', of_class: str = "[{}]") -> str:
    def inner(e: Any, within: bool = False) -> str:
        text = _write(e, comma, count, quote, of_class)
        return f"({text})" if within and isinstance(e, (Seq, Alt)) else text

    match e:
        case Literal(text):
            return quote + text.decode() + quote
        case Chars(ranges):
            return of_class.format("".join(f"{chr(lo)}-{chr(hi)}" for lo, hi in ranges))
        case Ref(name):
            return str(name)
        case Seq(items):
            return comma.join(inner(i, True) for i in items)
        case Alt(items):
            return " | ".join(inner(i) for i in items)
        case Repeat(item, lo, hi):
            return str(count(inner(item), lo, hi))
    raise AssertionError(e)


def as_gbnf(rules: Rules) -> str:
    signs = {(0, 1): "?", (0, None): "*", (1, None): "+"}

    def count(inner: str, lo: int, hi: int | None) -> str:
        return f"({inner})" + signs.get((lo, hi), f"{{{lo}}}" if lo == hi else f"{{{lo},{hi}}}")

    lines = [f"{name} ::= {_write(e, ' ', count)}" for name, e in rules.rules.items()]
    return re.sub(rf"\b{rules.start}\b", "root", "\n".join(lines))  # no letter is the name of a rule


def as_iso(rules: Rules) -> str:
    def count(inner: str, lo: int, hi: int | None) -> str:
        more = {1: f", {{ {inner} }}", 0: ""}
        return {
            (0, 1): f"[ {inner} ]",
            (0, None): f"{{ {inner} }}",
            (1, None): f"( {inner} ){more[1]}",
            (2, 2): f"2 * ( {inner} )",
            (1, 3): f"( {inner} ), 2 * [ {inner} ]",
        }[lo, hi]

    return "".join(f"{name} = {_write(e, ', ', count)} ;\n" for name, e in rules.rules.items())


def as_w3c(rules: Rules) -> str:
    def count(inner: str, lo: int, hi: int | None) -> str:
        signs = {(0, 1): "?", (0, None): "*", (1, None): "+"}
        if (lo, hi) in signs:
            return f"({inner}){signs[lo, hi]}"
        assert hi is not None
        more = ""
        for _ in range(hi - lo):
            more = f"(({inner}) {more})?" if more else f"({inner})?"
        return " ".join([f"({inner})"] * lo + [more] * bool(more))

    return "".join(f"{name} ::= {_write(e, ' ', count, chr(39))}\n" for name, e in rules.rules.items())


def as_cfg(rules: Rules) -> str:
    """A plain grammar, in quotes."""
    return "".join(f"{name} -> {_write(e, ' ', None)}\n" for name, e in rules.rules.items())


def as_lark(rules: Rules) -> str:
    def count(inner: str, lo: int, hi: int | None) -> str:
        signs = {(0, 1): "?", (0, None): "*", (1, None): "+", (2, 2): "~2", (1, 3): "~1..3"}
        return f"({inner}){signs[lo, hi]}"

    return "".join(f"{name}: {_write(e, ' ', count, of_class='/[{}]/')}\n" for name, e in rules.rules.items())


def walk(machine: Pushdown, rng: random.Random, most: int) -> bytes | None:
    """A text that the machine accepts, met by chance: past `most` bytes it ends where it may; None when it does not."""
    of = machine.program.class_of
    classes: dict[int, list[int]] = {}
    for byte in range(256):
        classes.setdefault(int(of[byte]), []).append(byte)
    text, state = bytearray(), machine.start
    while len(text) < 2 * most:
        if machine.finished(state) and (len(text) >= most or rng.random() < 0.15):
            return bytes(text)
        ways = [(after, members) for members in classes.values() if (after := machine.step(state, members[0])) != DEAD]
        if not ways:
            return bytes(text) if machine.finished(state) else None
        state, members = rng.choice(ways)
        text.append(rng.choice(members))
    return None


def texts_of(rules: Rules, rng: random.Random, n: int = 12, most: int = 30) -> list[str]:
    """Texts that the grammar accepts, and changed ones."""
    machine = Pushdown(compile_rules(rules))
    found: set[str] = {""}
    for _ in range(n):
        met = walk(machine, rng, rng.randint(1, most))
        if met is None:
            continue
        text = met.decode()
        found.add(text)
        at = rng.randint(0, len(text))
        other = rng.choice(text) if text else "a"
        found.add(text[:at] + rng.choice(["", other, "x", " "]) + text[at + rng.randint(0, 1) :])
    return sorted(found)
