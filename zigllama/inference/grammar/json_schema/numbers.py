"""Numbers: bounds, multiples and sets, exactly, while the digits come.

Any spelling of JSON is accepted when not writing: what has been read is kept, and looked at when the number ends. When
writing, a number of which something is asked has no exponent, no minus before a zero, and at most as many digits as
matter; then each beginning can be checked: what "17" may become is 17, 17.0 .. 17.99, 170 .. 179.99 and so on, ranges
that must meet the bounds, and contain a multiple. Beginnings of which the same may become are one place.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from .ends import can_end
from .formula import Formula, Way, atoms_of, evaluate
from .languages import DEAD, Texts
from .prints import FEW, of_number
from .transducer import Action, Go, Over, Result
from .values import EXACTLY, exact, is_multiple, normal, spelled

if TYPE_CHECKING:
    from .plans import Plans, Valued

# The spelling: phase -> {what may come: phase}; a number may end in "0", "1", ".1" and "e1"
IN_NUMBERS = b"0123456789+-.eE"
DIGIT = frozenset(b"0123456789")
NONZERO = frozenset(b"123456789")
ENDS = frozenset(("0", "1", ".1", "e1"))
DIGITS = tuple(sorted({c for b in b"+-.eE0123456789" for c in (b, b + 1)}))
SIGNS = tuple(sorted({c for b in b"+-.eE0" for c in (b, b + 1)} | {0x3A}))
SLACK = 6  # decimals that a number may have beyond those of its bounds
ENUMERATED = 512  # numbers that are looked at one by one
SPANS_KEPT, MOST_KEPT = 64, 4096  # spans whose beginnings are kept, and how many of each


def next_phase(phase: str, byte: int) -> str | None:
    """The spelling's automaton: "" "-" "0" "1" (digits) "." ".1" "e" "e+" "e1"."""
    if byte in DIGIT:
        if phase in ("", "-"):
            return "1" if byte in NONZERO else "0"
        if phase == "0":
            return None
        return "1" if phase == "1" else ".1" if phase in (".", ".1") else "e1"
    if byte == 0x2D:
        return "-" if phase == "" else "e+" if phase == "e" else None
    if byte == 0x2B:
        return "e+" if phase == "e" else None
    if byte == 0x2E:
        return "." if phase in ("0", "1") else None
    if byte in b"eE":
        return "e" if phase in ("0", "1", ".1") else None
    return None


# of each phase the bytes that may come, and the phases after them
PHASES = {
    phase: tuple((b, after) for b in IN_NUMBERS if (after := next_phase(phase, b)) is not None)
    for phase in ("", "-", "0", "1", ".", ".1", "e", "e+", "e1")
}


def _decimals(value: Decimal) -> int:
    exponent = normal(value).as_tuple().exponent
    assert isinstance(exponent, int)
    return max(0, -exponent)


class Span:
    """One way for a number, as integers in units of 10^-decimals: from `least` to `most`, multiples of `step`, not
    multiples of any of `not_steps`, none of `excluded`; or one of `texts`.
    """

    def __init__(self, way: Way, digits: int, barred: list[Decimal]) -> None:
        least: tuple[Decimal, bool] | None = None  # bound, whether itself excluded
        most: tuple[Decimal, bool] | None = None
        steps: list[Fraction] = []
        not_steps: list[Fraction] = []
        numbers: set[Decimal] | None = None
        excluded: set[Decimal] = set(barred)
        for f, wanted in way.literals:
            sort, argument = f.atom[0], f.atom[1]
            if sort == "multiple":
                (steps if wanted else not_steps).append(argument)
            elif sort == "numbers":
                values = set(argument)
                if not wanted:
                    excluded |= values
                else:
                    numbers = values if numbers is None else numbers & values
            elif wanted:
                bound = (argument, sort == "gt")
                least = bound if least is None or bound > least else least
            else:  # not v >= x: v < x; not v > x: v <= x
                bound = (argument, sort == "ge")
                if most is None or argument < most[0] or (argument == most[0] and bound[1]):
                    most = bound
        self.texts: Texts | None = None
        self.least = self.most = 0
        if numbers is not None:
            asked = [(f, wanted) for f, wanted in way.literals if f.atom[0] != "numbers"]
            kept = [v for v in numbers - excluded if all(_holds(f, v) is wanted for f, wanted in asked)]
            self.texts = Texts([spelled(v).encode() for v in kept])
            self.empty, self.decimals = not kept, 0
            return
        bounds = [b[0] for b in (least, most) if b is not None]
        if steps:
            step = _common(steps)
            self.decimals = next(d for d in range(10**6) if (step * 10**d).denominator == 1)
        else:
            step = Fraction(1)
            self.decimals = max([_decimals(v) for v in (*bounds, *excluded)], default=0) + SLACK
        unit = self.unit = 10**self.decimals
        self.stepped = bool(steps)
        self.step = int(step * unit) if steps else 1
        self.not_steps = [
            int(s * unit) if (s * unit).denominator == 1 else 0
            for s in (_common([s, Fraction(self.step, unit)]) for s in not_steps)
        ]
        # No more digits in all than a double tells apart: whoever reads the number as one must see the same multiple.
        self.digits = max([1, digits - self.decimals, *(v.adjusted() + 2 for v in bounds)])
        top = 10**self.digits * unit - 1
        self.least, self.most = -top, top
        if least is not None:
            scaled = exact(least[0]) * unit
            self.least = max(self.least, math.floor(scaled) + 1 if least[1] else math.ceil(scaled))
        if most is not None:
            scaled = exact(most[0]) * unit
            self.most = min(self.most, math.ceil(scaled) - 1 if most[1] else math.floor(scaled))
        self.excluded = tuple(sorted(int(exact(v) * unit) for v in excluded if (exact(v) * unit).denominator == 1))
        self.barred = [v for v in self.excluded if v % self.step == 0]
        self.plain = not self.excluded and not self.not_steps
        self.empty = not self.any_in(self.least, self.most)

    def values(self) -> set[Decimal] | None:
        """All numbers there are; None: many."""
        if self.texts is not None:
            return {Decimal(text.decode()) for text in self.texts.texts}
        first = -(-self.least // self.step) * self.step
        if not self.stepped or (self.most - first) // self.step >= ENUMERATED:
            return None
        here = range(first, self.most + 1, self.step)
        return {normal(Decimal(v).scaleb(-self.decimals, EXACTLY)) for v in here if self.any_in(v, v)}

    def any_in(self, low: int, high: int) -> bool:
        """Whether an allowed number lies in a range."""
        low, high = max(low, self.least), min(high, self.most)
        first = -(-low // self.step) * self.step
        if first > high:
            return False
        count = (high - first) // self.step + 1
        if not self.not_steps:
            return count > bisect_right(self.barred, high) - bisect_left(self.barred, first)
        if count > ENUMERATED + len(self.excluded):
            return not any(s and self.step % s == 0 for s in self.not_steps)
        return any(
            not self.bars(v) and not any(s and v % s == 0 for s in self.not_steps)
            for v in range(first, high + 1, self.step)
        )

    def bars(self, v: int) -> bool:
        """Whether a number is one that must not come."""
        at = bisect_left(self.excluded, v)
        return at < len(self.excluded) and self.excluded[at] == v

    def ranges(self, text: str) -> list[tuple[int, int]]:
        """What a beginning may become: ranges in units, by how many digits more come before the point; with a minus the
        numbers without it.
        """
        negative, body = text.startswith("-"), text.lstrip("-")
        if not body:
            return [(1, 10**self.digits * self.unit - 1)]
        whole, point, fraction = body.partition(".")
        if point:
            if len(fraction) > self.decimals or not self.decimals:
                return []
            size = 10 ** (self.decimals - len(fraction))
            base = int(whole + fraction) * size
            return [(max(base, 1) if negative else base, base + size - 1)]
        more = 0 if whole == "0" else self.digits - len(whole)
        found = []
        for j in range(more + 1):
            size = 10**j * self.unit
            base = int(whole) * size
            found.append((max(base, 1) if negative else base, base + size - 1))
        return found

    def beginning(self, text: str) -> tuple[Any, ...] | None:
        """What a beginning may become, the same for those that may become the same; None where that is nothing. A digit
        that comes makes a number larger or, behind a minus, smaller, and the more the wider its range is: of 3.0 and
        3.00 the same is within a bound of 3.0001, but not after one more digit."""
        negative = text.startswith("-")
        if self.plain:
            return self._plain_beginning(text, negative)
        found: list[Any] = [negative]
        alive = False
        for low, high in self.ranges(text):
            if negative:
                low, high = -high, -low
            if not self.any_in(low, high):
                found.append(None)
                continue
            alive = True
            rests = tuple(low % s if s else 0 for s in (self.step, *self.not_steps))
            those = self.excluded[bisect_left(self.excluded, low) : bisect_right(self.excluded, high)]
            inside = tuple(v - low for v in those)
            found.append((max(0, self.least - low), min(high - low, self.most - low), high - low, rests, inside))
        return tuple(found) if alive else None

    def _plain_beginning(self, text: str, negative: bool) -> tuple[Any, ...] | None:
        """The same where only bounds and one step are asked: as far as they are within the bounds, and where the first
        multiple is."""
        found: list[Any] = [negative]
        step, alive = self.step, False
        for low, high in self.ranges(text):
            if negative:
                low, high = -high, -low
            first, last = max(low, self.least), min(high, self.most)
            if -(-first // step) * step > last:
                found.append(None)
            else:
                alive = True
                found.append((first - low, last - low, high - low, low % step))
        return (negative, *found) if alive else None


def _common(steps: list[Fraction]) -> Fraction:
    """The least number that is a multiple of all."""
    found = steps[0]
    for step in steps[1:]:
        found = Fraction(
            math.lcm(found.numerator * step.denominator, step.numerator * found.denominator),
            found.denominator * step.denominator,
        )
    return found


class Spellings:
    """The beginnings of the numbers of one plain span, each of those that may become the same one by the first of them
    that was come across. Such spans are alike in many schemas: they are kept (`spellings_of`)."""

    def __init__(self, span: Span) -> None:
        self.span = span
        self._next: dict[tuple[str, int], str | None] = {}
        self._same: dict[Any, str] = {}
        self._ends: dict[str, bool] = {}
        self._rows: dict[tuple[str, str], tuple[tuple[int, str, str], ...]] = {}

    def row(self, text: str, phase: str) -> tuple[tuple[int, str, str], ...]:
        """The bytes that may come after a beginning in a phase, and the phases and beginnings after them."""
        key = text, phase
        if key not in self._rows:
            plain = ((b, after, self.step(text, after, b)) for b, after in PHASES[phase] if not after.startswith("e"))
            row = tuple((b, after, found) for b, after, found in plain if found is not None)
            if len(self._rows) > MOST_KEPT // len(IN_NUMBERS):
                self._rows = {}
            self._rows[key] = row
        return self._rows[key]

    def step(self, text: str, phase: str, byte: int) -> str | None:
        """The beginning after one more byte, which leads to a phase; None where nothing may become of it."""
        key = text, byte
        if key not in self._next:
            if len(self._next) > MOST_KEPT:  # two of one kind may become two beginnings then, which are both right
                self._next, self._same, self._ends = {}, {}, {}
            longer = text + chr(byte)
            may = self.span.beginning(longer)
            ends = phase in ENDS and self.ends(longer)
            self._next[key] = None if may is None else self._same.setdefault((phase, ends, may), longer)
        return self._next[key]

    def ends(self, text: str) -> bool:
        """Whether a number of the span is spelt so."""
        found = self._ends.get(text)
        if found is None:
            whole, _, fraction = text.lstrip("-").partition(".")
            more = self.span.decimals - len(fraction)
            value = int(whole + fraction) * 10**more if more >= 0 else -1
            value = -value if text[0] == "-" else value
            good = more >= 0 and self.span.least <= value <= self.span.most and value % self.span.step == 0
            found = self._ends[text] = good
        return found


_spellings: OrderedDict[tuple[int, ...], Spellings] = OrderedDict()


def spellings_of(span: Span) -> Spellings:
    """The spellings of a span; those of the last spans are kept."""
    key = span.least, span.most, span.step, span.decimals, span.digits
    found = _spellings.get(key) or Spellings(span)
    _spellings[key] = found
    if len(_spellings) > SPANS_KEPT:
        with suppress(KeyError):
            _spellings.popitem(last=False)
    return found


def _holds(f: Formula, value: Decimal) -> bool:
    """Whether an atom is true of a number."""
    sort, argument = f.atom[0], f.atom[1]
    if sort == "multiple":
        return is_multiple(value, argument)
    if sort == "numbers":
        at = bisect_left(argument, value)  # they are sorted, and may be many
        return at < len(argument) and bool(argument[at] == value)
    return bool(value >= argument if sort == "ge" else value > argument)


class NumberPlan:
    """What is to be kept of a number."""

    def __init__(self, plans: Plans, valued: Valued) -> None:
        self.plans, self.valued = plans, valued
        self.asked = atoms_of(valued.formulas)
        self.identity = valued.plan.identity
        self.free = not self.asked and not self.identity
        self.barred = valued.plan.barred
        barred = [i[1] for i in self.barred.whole if i[0] == "n" and isinstance(i[1], Decimal)]
        made = [] if self.free else [Span(way, plans.options.digits, barred) for way in valued.ways]
        self.spans = [span for span in made if not span.empty]
        self.exactly = valued.fixed is None or (self.identity and (not plans.writing or self.size() is not None))
        told_apart = self.identity and (bool(self.barred) or not self.exactly)
        self.searched = plans.writing and (told_apart or any(way.residues for way in valued.ways))
        self._same: dict[Any, str] = {}
        ways = valued.ways if plans.writing and not self.identity and valued.fixed is not None else ()
        simple = len(ways) == 1 and not ways[0].residues and len(self.spans) == 1 and self.spans[0].texts is None
        self.spellings = spellings_of(self.spans[0]) if simple and self.spans[0].plain else None

    def can_finish(self) -> bool:
        """Whether there is a number."""
        if self.free or not self.searched:
            return self.free or bool(self.spans)
        return any(self.begin(byte) is not None for byte in b"0123456789-")

    def outcomes(self) -> dict[Any, tuple[bool, ...]] | None:
        """All numbers there are, as identities, with what they satisfy; None: many."""
        values = [span.values() for span in self.spans]
        if self.free or None in values or not self.identity:
            return None
        results = [self.result(spelled(v)) for v in sorted({v for each in values for v in each or ()})]
        return {r.identity: r.satisfied for r in results if r is not None} if len(results) <= FEW else None

    def size(self) -> int | None:
        """How many numbers there are; None: many."""
        found: set[Decimal] = set()
        for span in self.spans:
            values = span.values()
            if values is None:
                return None
            found |= values
        return None if self.free else sum(not self.barred.bars(("n", value)) for value in found)

    def print_of(self, text: str) -> Any:
        """A number's identity: what it is, or when writing a fingerprint of its text, which has no zeros at the end of
        its fraction then."""
        if self.exactly:
            return ("n", normal(Decimal(text)))
        return ("n", of_number(text))

    def begin(self, byte: int) -> Digits | None:
        """After the first byte."""
        return self.at("", "", byte)

    def at(self, phase: str, text: str, byte: int) -> Digits | None:
        """After one more byte."""
        after = self.goes_on(phase, text, byte)
        return after if after is None or not self.searched or can_end(after, self.plans.ends) else None

    def row(self, phase: str, text: str) -> list[tuple[int, Digits]]:
        """All bytes that may come, and where each leads: what `at` says of it."""
        place = self.plans.place
        if self.free and not self.searched:
            return [(b, place(Digits, self, after, None)) for b, after in PHASES[phase]]
        if self.spellings is not None and not self.searched:
            return [(b, place(Digits, self, after, found)) for b, after, found in self.spellings.row(text, phase)]
        return [(b, to) for b, _ in PHASES[phase] if (to := self.at(phase, text, b)) is not None]

    def goes_on(self, phase: str, text: str, byte: int) -> Digits | None:
        """The same, but for numbers that may come to be one that must not come."""
        after = next_phase(phase, byte)
        if after is None:
            return None
        if self.free:
            return self.plans.place(Digits, self, after, None)
        if self.spellings is not None:
            found = None if after.startswith("e") else self.spellings.step(text, after, byte)
            return None if found is None else self.plans.place(Digits, self, after, found)
        text += chr(byte)
        if not self.plans.writing:
            return self.plans.place(Digits, self, after, text)
        if after.startswith("e"):
            return None
        sign = text.startswith("-")  # the digits that follow lead away from zero, which is not the same way for both
        key: list[Any] = [after, self.result(text) if after in ENDS else None]
        for span in self.spans:
            if span.texts is not None:
                state = 0
                for each in text.encode():
                    state = span.texts.step(state, each) if state != DEAD else DEAD
                key.append(None if state == DEAD else state)
            else:
                key.append(span.beginning(text))
        if not any(key[2:]) and 0 not in key[2:]:
            return None
        key.append(sign)
        if not self.exactly:
            if self.identity:
                idle = text[-1] == "0" and "." in text
                if idle and all(len(text.partition(".")[2]) >= span.decimals for span in self.spans):
                    return None
                key += [self.print_of(text), idle]
            text = self._same.setdefault(tuple(key), text)
        return self.plans.place(Digits, self, after, text)

    def result(self, text: str | None) -> Result | None:
        """The result, if a number of this text satisfies."""
        if text is None:
            return Result(tuple(f.number == 1 for f in self.valued.formulas), None)
        if self.spellings is not None:
            assert self.valued.fixed is not None
            return Result(self.valued.fixed, None) if self.spellings.ends(text) else None
        try:
            value = Decimal(text)
        except InvalidOperation:  # an exponent of more than 18 digits
            return None
        known = {f: _holds(f, value) for f in self.asked}
        satisfied = tuple(evaluate(f, known.get) is True for f in self.valued.formulas)
        if not self.valued.plan.allows(satisfied):
            return None
        if not self.identity:
            return Result(satisfied, None)
        if not self.exactly and ("." in text and text.endswith("0")):
            return None
        identity = self.print_of(text)
        return None if self.barred.bars(identity) else Result(satisfied, identity)


class Digits:
    """Within a number: the phase of its spelling and what has been read, where that matters."""

    __slots__ = ("number", "phase", "plan", "plans", "text")

    def __init__(self, plans: Plans, number: int, plan: NumberPlan, phase: str, text: str | None) -> None:
        self.plans, self.number, self.plan, self.phase, self.text = plans, number, plan, phase, text

    def act(self, byte: int) -> Action | None:
        """What a byte does."""
        if byte in IN_NUMBERS:
            after = self.plan.at(self.phase, self.text or "", byte)
            return None if after is None else Go(after)
        result = self.ended()
        return None if result is None else Over(result)

    def feed(self, byte: int) -> Digits | None:
        """After one more byte, whether it can end or not."""
        return self.plan.goes_on(self.phase, self.text or "", byte)

    def close(self) -> Result | None:
        """As `ended`."""
        return self.ended()

    def like(self) -> None:
        """No other place is known where all but whitespace does the same."""
        return

    def cuts(self) -> tuple[int, ...]:
        """Where what bytes do may change."""
        return SIGNS if self.plan.free else DIGITS

    def after(self, result: object) -> None:
        """Nothing is within a number."""
        raise AssertionError(result)

    def ended(self) -> Result | None:
        """The result, if it may end here."""
        return self.plan.result(self.text) if self.phase in ENDS else None
