"""Numbers and values of JSON, exactly: no binary fractions, `1` and `1.0` one number, `true` none."""

from __future__ import annotations

import json
import math
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from fractions import Fraction

from zigllama.errors import BadSchema, GrammarBudget

from .options import Json

MOST_DIGITS = 1_000  # of a number that is reckoned with: each beginning is compared in every digit
MOST_SPELT = 100_000  # of one that is only written


EXACTLY = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)


def normal(value: Decimal) -> Decimal:
    """The same number, always written alike, nothing rounded."""
    return EXACTLY.normalize(value) if value else Decimal(0)


def spelled(value: Decimal) -> str:
    """A number in digits, as few as it can have. Raises GrammarBudget for more than MOST_SPELT."""
    _within(value, MOST_SPELT)
    text = format(normal(value), "f")
    return "0" if text in ("-0", "0") else text


def number(value: object) -> Decimal | None:
    """The exact value of a number in a schema, as it is written (0.1 is a tenth); None for what is no number."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return Decimal(value)
    if isinstance(value, float):
        return Decimal(repr(value)) if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return value if value.is_finite() else None
    return None


def exact(value: Decimal) -> Fraction:
    """The same as a fraction. Raises GrammarBudget for one of more than MOST_DIGITS digits."""
    _within(value, MOST_DIGITS)
    return Fraction(value)


def _within(value: Decimal, most: int) -> None:
    _sign, digits, exponent = normal(value).as_tuple()
    assert isinstance(exponent, int)
    needs = len(digits) + exponent if exponent >= 0 else max(len(digits), -exponent)
    if needs > most:
        raise GrammarBudget("digits in a number", needs, most)


def is_multiple(value: Decimal, step: Fraction) -> bool:
    """Whether value / step is an integer; for huge exponents too, without working the number out."""
    _sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    mantissa = int("".join(map(str, digits)) or "0")
    if mantissa == 0:
        return True
    while exponent < 0 and mantissa % 10 == 0:
        mantissa, exponent = mantissa // 10, exponent + 1
    scaled = mantissa * step.denominator  # value / step = scaled * 10^exponent / numerator
    if exponent >= 0:
        return scaled * pow(10, exponent, step.numerator) % step.numerator == 0
    if -exponent > scaled.bit_length():  # less than one
        return False
    return bool(scaled % (10**-exponent * step.numerator) == 0)


def kind_of(value: Json, pointer: str = "") -> str:
    """null, true, false, number, string, array or object. Raises BadSchema for what is none of JSON's."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "string"
    if isinstance(value, (list, tuple)):
        return "array"
    if isinstance(value, dict):
        return "object"
    if number(value) is not None:
        return "number"
    raise BadSchema(pointer, f"{value!r:.60} is no value of JSON")


def plain(document: Json) -> None:
    """That a document is made of what JSON has, as far as its names and texts go: names are strings, and no string has
    half of a surrogate pair in it, which no UTF-8 text has. Raises BadSchema with the place; GrammarBudget for a number
    of more than MOST_SPELT digits. So every constant in it can be written."""
    todo: list[tuple[Json, str]] = [(document, "")]
    seen: set[int] = set()
    while todo:
        value, pointer = todo.pop()
        if isinstance(value, str):
            _whole(value, pointer)
        elif isinstance(value, Decimal) and value.is_finite():
            _within(value, MOST_SPELT)
        elif isinstance(value, int) and value.bit_length() > 4 * MOST_SPELT:
            raise GrammarBudget("bits in a number", value.bit_length(), 4 * MOST_SPELT)
        elif isinstance(value, (dict, list, tuple)) and id(value) not in seen:
            seen.add(id(value))
            if isinstance(value, dict):
                for name, each in value.items():
                    if not isinstance(name, str):
                        raise BadSchema(pointer, f"the name {name!r:.60} is no string")
                    _whole(name, pointer)
                    todo.append((each, f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"))
            else:
                todo += [(each, f"{pointer}/{i}") for i, each in enumerate(value)]


def _whole(text: str, pointer: str) -> None:
    if not text.isascii():
        half = next((c for c in text if 0xD800 <= ord(c) < 0xE000), None)
        if half is not None:
            raise BadSchema(pointer, f"{text!a:.60} has U+{ord(half):04X} in it, half of a pair, which is no text")


def _integer(digits: str) -> int | Decimal:
    return int(digits) if len(digits) < 4000 else Decimal(digits)  # Python refuses to convert longer ones


def parse(text: str | bytes) -> Json:
    """A schema's text, its numbers exact, two keys alike refused. Raises BadSchema."""

    def pairs(found: list[tuple[str, Json]]) -> dict[str, Json]:
        made = dict(found)
        if len(made) != len(found):
            raise BadSchema("", "an object has a key twice")
        return made

    def constant(name: str) -> Json:
        raise BadSchema("", f"{name} is no value of JSON")

    try:
        return json.loads(
            text, parse_int=_integer, parse_float=Decimal, parse_constant=constant, object_pairs_hook=pairs
        )
    except RecursionError:
        raise GrammarBudget("levels of nested schemas", 1000, 1000) from None
    except BadSchema:
        raise
    except ValueError as error:
        raise BadSchema("", f"it is not JSON: {error}") from None
