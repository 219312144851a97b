"""Decimal numbers as texts: the automata of bounds, digits and values, exactly, in every spelling.

    intersect(decimal(), at_least(Decimal("1.5"), strict=False))       1.5 01.50 +2 17. ...

A magnitude is written as zeros that do not count, an integer part without leading zeros of k digits, and perhaps a
point and a fraction; two of them are compared first by k, then digit by digit. Numbers have at most MAX_DIGITS digits,
as validators have them.
"""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache

from zigllama.errors import GrammarBudget
from zigllama.inference.grammar.dfa import determinise, intersect
from zigllama.inference.grammar.ir import EMPTY, Alt, Automaton, Bytes, Expr, Literal, Repeat, Seq, optional

MAX_DIGITS = 24
DIGIT = Bytes(((0x30, 0x39),))
NONZERO = Bytes(((0x31, 0x39),))
ZEROS = Repeat(Literal(b"0"), 0, None)
DIGITS = Repeat(DIGIT, 0, None)
FRACTION = optional(Seq((Literal(b"."), DIGITS)))
SIGN = optional(Bytes(((0x2B, 0x2B), (0x2D, 0x2D))))
PLUS = optional(Literal(b"+"))


@lru_cache(maxsize=1)
def _few() -> Automaton:
    other = Repeat(Bytes(((0x2B, 0x2B), (0x2D, 0x2E))), 0, 2)
    return determinise(Seq((other, Repeat(Seq((DIGIT, other)), 0, MAX_DIGITS))))


@lru_cache(maxsize=1)
def decimal() -> Automaton:
    """The lexical space of xs:decimal."""
    some = Seq((DIGIT, DIGITS))
    shape = Seq((SIGN, Alt((Seq((some, FRACTION)), Seq((Literal(b"."), some))))))
    return intersect(determinise(shape), _few())


@lru_cache(maxsize=1)
def integer() -> Automaton:
    """The lexical space of xs:integer."""
    return intersect(determinise(Seq((SIGN, DIGIT, DIGITS))), _few())


def _parts(value: Decimal) -> tuple[str, str]:
    """The digits of a magnitude before and after the point, as few as it has."""
    value = value.copy_abs()  # abs() rounds, and overflows
    if value.adjusted() > 1000 or (value and value.adjusted() < -1000):
        raise GrammarBudget("digits of a bound", abs(value.adjusted()), 1000)
    whole, _, fraction = format(value, "f").partition(".")
    return whole.lstrip("0"), fraction.rstrip("0")


def _digits(lo: int, hi: int) -> Expr:
    return Bytes(((0x30 + lo, 0x30 + hi),) if lo <= hi else ())


def _less(value: Decimal, strict: bool) -> Expr:
    """Magnitudes, without their leading zeros, below one."""
    whole, fraction = _parts(value)
    k = len(whole)
    ways: list[Expr] = []
    if k:
        ways.append(Seq((optional(Seq((NONZERO, Repeat(DIGIT, 0, k - 2)))) if k > 1 else EMPTY, FRACTION)))
    for i, digit in enumerate(whole):
        here = _digits(0 if i else 1, int(digit) - 1)
        ways.append(Seq((Literal(whole[:i].encode()), here, Repeat(DIGIT, k - i - 1, k - i - 1), FRACTION)))
    below: list[Expr] = []  # fractions, behind the point
    for i, digit in enumerate(fraction):
        below += [
            Literal(fraction[:i].encode()),
            Seq((Literal(fraction[:i].encode()), _digits(0, int(digit) - 1), DIGITS)),
        ]
    if not strict:
        below.append(Seq((Literal(fraction.encode()), ZEROS)))
    after: list[Expr] = [Seq((Literal(b"."), Alt(tuple(below))))]
    if fraction or not strict:
        after.append(EMPTY)
    ways.append(Seq((Literal(whole.encode()), _no_point(after, not fraction and strict))))
    return Alt(tuple(ways))


def _no_point(after: list[Expr], nothing: bool) -> Expr:
    return Alt(()) if nothing else Alt(tuple(after))


def _more(value: Decimal, strict: bool) -> Expr:
    """Magnitudes, without their leading zeros, above one."""
    whole, fraction = _parts(value)
    k = len(whole)
    ways: list[Expr] = [Seq((NONZERO, Repeat(DIGIT, k, None), FRACTION))]
    for i, digit in enumerate(whole):
        here = _digits(int(digit) + 1, 9)
        ways.append(Seq((Literal(whole[:i].encode()), here, Repeat(DIGIT, k - i - 1, k - i - 1), FRACTION)))
    above: list[Expr] = []
    for i, digit in enumerate(fraction):
        above.append(Seq((Literal(fraction[:i].encode()), _digits(int(digit) + 1, 9), DIGITS)))
    end: Expr = Seq((ZEROS, NONZERO, DIGITS)) if strict else DIGITS
    above.append(Seq((Literal(fraction.encode()), end)))
    after: Expr = Seq((Literal(b"."), Alt(tuple(above))))
    if not fraction and not strict:
        after = optional(after)
    ways.append(Seq((Literal(whole.encode()), after)))
    return Alt(tuple(ways))


ANY_MAGNITUDE = Seq((DIGITS, FRACTION))


def at_least(value: Decimal, strict: bool) -> Automaton:
    """Numbers from `value` on, without itself if strict; to be intersected with `decimal()`."""
    if value > 0 or (value == 0 and strict):
        return determinise(Seq((PLUS, ZEROS, _more(value, strict))))
    negative = Seq((Literal(b"-"), ZEROS, _less(value, strict)))
    return determinise(Alt((Seq((PLUS, ANY_MAGNITUDE)), negative)))


def at_most(value: Decimal, strict: bool) -> Automaton:
    """Numbers up to `value`, without itself if strict; to be intersected with `decimal()`."""
    if value < 0 or (value == 0 and strict):
        return determinise(Seq((Literal(b"-"), ZEROS, _more(value, strict))))
    positive = Seq((PLUS, ZEROS, _less(value, strict)))
    return determinise(Alt((Seq((Literal(b"-"), ANY_MAGNITUDE)), positive)))


def equal_to(value: Decimal) -> Expr:
    """All spellings of a number."""
    whole, fraction = _parts(value)
    zero = not whole and not fraction
    sign: Expr = SIGN if zero else Literal(b"-") if value < 0 else PLUS
    point: Expr = Seq((Literal(b"." + fraction.encode()), ZEROS))
    return Seq((sign, ZEROS, Literal(whole.encode()), point if fraction else optional(point)))


def with_digits(total: int | None, fraction: int | None) -> Automaton:
    """Numbers written with at most so many digits that count, and so many behind the point. Zeros that end a fraction
    count too: fewer spellings than there are, and none that is wrong."""
    most = MAX_DIGITS if total is None else min(total, MAX_DIGITS)
    behind = MAX_DIGITS if fraction is None else min(fraction, MAX_DIGITS)
    ways: list[Expr] = []
    for n in range(most + 1):
        whole: Expr = Seq((NONZERO, Repeat(DIGIT, n - 1, n - 1))) if n else EMPTY
        ways.append(Seq((whole, optional(Seq((Literal(b"."), Repeat(DIGIT, 0, min(behind, most - n))))))))
    return determinise(Seq((SIGN, ZEROS, Alt(tuple(ways)))))
