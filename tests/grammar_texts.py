"""Context-free grammars as people write them, as expressions, and any grammar as plain productions.

    rules = written_by_hand(random.Random(2))     arithmetic, lists, brackets, palindromes, ... of some letters
    plain(rules)                                  the same without counts, classes and choices within sequences

Left recursion (direct, mutual, hidden behind what may be empty) and empty rules are among them.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from zigllama.inference.grammar.ir import EMPTY, Alt, Chars, Expr, Literal, Ref, Repeat, Rules, Seq

DIGIT, LOWER, UPPER = Chars(((0x30, 0x39),)), Chars(((0x61, 0x7A),)), Chars(((0x41, 0x5A),))
WORDS = ["red", "blue", "cat", "größe", "日本", "a", "xy", "done", "naïve"]


def lit(text: str) -> Literal:
    return Literal(text.encode())


def seq(*items: Expr | str) -> Seq:
    return Seq(tuple(lit(i) if isinstance(i, str) else i for i in items))


def alt(*items: Expr | str) -> Alt:
    return Alt(tuple(lit(i) if isinstance(i, str) else i for i in items))


def _arithmetic(rng: random.Random) -> dict[str, Expr]:
    return {
        "s": alt(seq(Ref("s"), rng.choice("+-"), Ref("t")), Ref("t")),
        "t": alt(seq(Ref("t"), rng.choice("*%"), Ref("f")), Ref("f")),
        "f": alt(Repeat(DIGIT, 1, rng.randint(1, 3)), seq("(", Ref("s"), ")")),
    }


def _lists(rng: random.Random) -> dict[str, Expr]:
    opening, closing = rng.choice([("[", "]"), ("(", ")"), ("<", ">")])
    item = alt(Ref("s"), Repeat(LOWER, 1, rng.randint(1, 4)))
    more = Repeat(seq(rng.choice([", ", ",", " "]), Ref("item")), 0, rng.randint(1, 4))
    return {"s": seq(opening, Repeat(seq(Ref("item"), more), 0, 1), closing), "item": item}


def _brackets(rng: random.Random) -> dict[str, Expr]:
    return {"s": alt(EMPTY, seq(Ref("s"), "(", Ref("s"), ")"), seq("[", Ref("s"), "]"))}


def _palindromes(rng: random.Random) -> dict[str, Expr]:
    a, b = rng.sample(list("abcxyz"), 2)
    return {"s": alt(EMPTY, seq(a, Ref("s"), a), seq(b, Ref("s"), b), b)}


def _counted(rng: random.Random) -> dict[str, Expr]:
    return {"s": alt(seq("a", Ref("s"), "b"), Ref("t")), "t": alt(seq("b", Ref("t"), "c"), rng.choice(["", "d"]))}


def _hidden(rng: random.Random) -> dict[str, Expr]:
    return {"s": alt(seq(Ref("t"), Ref("s"), "x"), "y"), "t": alt(EMPTY, rng.choice(["b", "bb"]), seq(Ref("t"), "c"))}


def _mutual(rng: random.Random) -> dict[str, Expr]:
    word = rng.choice(WORDS)
    return {"s": alt(seq(Ref("t"), " a"), word), "t": alt(seq(Ref("s"), "; "), seq(word, "!"))}


def _sentences(rng: random.Random) -> dict[str, Expr]:
    return {
        "s": seq(Ref("who"), " ", alt("sees", "likes", "ist größer als"), " ", Ref("who"), rng.choice(".!")),
        "who": alt(
            seq(alt("the", "a"), Repeat(seq(" ", alt("big", "small", "naïve")), 0, 2), " ", alt("cat", "dog")),
            seq(UPPER, Repeat(LOWER, 1, 6)),
        ),
    }


def _settings(rng: random.Random) -> dict[str, Expr]:
    value = alt(Repeat(DIGIT, 1, 4), "true", "false", seq("<", Repeat(alt(LOWER, UPPER, " "), 0, 8), ">"))
    line = seq(Repeat(LOWER, 1, 6), rng.choice(["=", ": "]), Ref("value"), ";")
    return {"s": Repeat(line, 1, rng.randint(1, 4)), "value": value}


def _moments(rng: random.Random) -> dict[str, Expr]:
    time = seq(" ", Repeat(DIGIT, 2, 2), ":", Repeat(DIGIT, 2, 2))
    month = alt(seq("0", Chars(((0x31, 0x39),))), seq("1", Chars(((0x30, 0x32),))))
    return {"s": seq(Repeat(DIGIT, 4, 4), "-", month, Repeat(time, 0, rng.randint(1, 2)))}


def _queries(rng: random.Random) -> dict[str, Expr]:
    return {
        "s": seq("select ", alt("*", Ref("names")), " from ", Ref("name"), Repeat(seq(" where ", Ref("test")), 0, 1)),
        "names": alt(seq(Ref("names"), ", ", Ref("name")), Ref("name")), "name": Repeat(LOWER, 1, 5),
        "test": alt(seq(Ref("name"), " = ", Repeat(DIGIT, 1, 3)), seq(Ref("test"), rng.choice([" and ",
        " or "]), Ref("test"))),
    }  # fmt: skip


def _trees(rng: random.Random) -> dict[str, Expr]:
    name = rng.choice(["b", "i", "li"])
    text = Repeat(alt(LOWER, " ", Chars(((0xC0, 0xD6), (0x4E00, 0x4E20)))), 0, 8)
    return {"s": alt(seq(f"<{name}>", Ref("s"), f"</{name}>"), text)}


HANDS: list[Callable[[random.Random], dict[str, Expr]]] = [
    _arithmetic, _lists, _brackets, _palindromes, _counted, _hidden, _mutual, _sentences, _settings, _moments,
    _queries, _trees,
]  # fmt: skip


def written_by_hand(rng: random.Random) -> Rules:
    """One of them."""
    return Rules(rng.choice(HANDS)(rng), "s")


def plain(rules: Rules, classes: bool = False) -> Rules:
    """The same language by productions alone: each rule is a choice of sequences of letters and names, with `classes`
    also of classes."""
    out: dict[str, Expr] = {}

    def name_of(e: Expr) -> Ref:
        name = f"n{'x' * (len(out) + 1)}"  # letters only, and no rule's
        out[name] = EMPTY
        out[name] = flat(e)
        return Ref(name)

    def atom(e: Expr) -> Expr:
        return e if isinstance(e, (Literal, Ref)) or (classes and isinstance(e, Chars)) else name_of(e)

    def flat(e: Expr) -> Expr:
        if isinstance(e, Alt):
            return Alt(tuple(sequence(i) for i in e.items))
        if isinstance(e, Chars) and not classes:
            return Alt(tuple(lit(chr(c)) for lo, hi in e.ranges for c in range(lo, hi + 1)))
        if isinstance(e, Repeat):
            item = atom(e.item)
            first = (item,) * e.lo
            if e.hi is None:
                more = f"n{'x' * (len(out) + 1)}"
                out[more] = Alt((Seq(()), Seq((Ref(more), item))))
                return Alt((Seq((*first, Ref(more))),))
            return Alt(tuple(Seq((*first, *(item,) * n)) for n in range(e.hi - e.lo + 1)))
        return Alt((sequence(e),))

    def sequence(e: Expr) -> Expr:
        return Seq(tuple(atom(i) for i in (e.items if isinstance(e, Seq) else (e,)) if i != Literal(b"")))

    out |= dict.fromkeys(rules.rules, EMPTY)
    for name, e in rules.rules.items():
        out[name] = flat(e)
    return Rules(out, rules.start)
