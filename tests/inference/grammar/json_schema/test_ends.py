"""No dead ends: what may be begun can be finished, where names and items must differ or not all may satisfy something;
and a schema that nothing satisfies is refused when it is made, whatever the reason.
"""

from __future__ import annotations

import json
import random
from decimal import Decimal
from typing import Any

import pytest

from zigllama.errors import EmptyLanguage, GrammarBudget, UnsupportedSchema
from zigllama.foundation.native_grammar import NativeMachine
from zigllama.inference.grammar.json_schema import compile_schema
from zigllama.inference.grammar.machine import DEAD

NULLS = {"additionalProperties": {"type": "null"}}
ONE_OF_AB = {"patternProperties": {"^[ab]$": {"type": "null"}}, "additionalProperties": False}
AB = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"], "additionalProperties": False}
ORDER = {"items": {"enum": [1, 2, 3]}, "contains": {"enum": [2, 3]}, "uniqueItems": True}
INTEGER_OR_3 = [{"properties": {"a": {"type": "integer"}}}, {"properties": {"a": {"minimum": 3}}}]


def objects(**keywords: Any) -> dict[str, Any]:
    return {"type": "object", **keywords}


def arrays(**keywords: Any) -> dict[str, Any]:
    return {"type": "array", **keywords}


def unique(items: Any, least: int, **keywords: Any) -> dict[str, Any]:
    return arrays(uniqueItems=True, items=items, minItems=least, **keywords)


def named(name: str, value: Any) -> dict[str, Any]:
    return {"properties": {name: {"const": value}}, "required": [name]}


SATISFIABLE = [
    objects(propertyNames={"enum": ["a", "b", "c"]}, minProperties=3),
    objects(propertyNames={"enum": ["a", "ab", "abc"]}, minProperties=3, **NULLS),
    objects(propertyNames={"pattern": "^[ab]$"}, minProperties=2),
    objects(propertyNames={"pattern": "^[ab]{2}$"}, minProperties=4, **NULLS),
    objects(propertyNames={"maxLength": 0}, minProperties=1),
    objects(propertyNames={"maxLength": 1}, minProperties=2, maxProperties=3, **NULLS),
    objects(propertyNames={"format": "date"}, minProperties=2, **NULLS),
    objects(propertyNames={"pattern": "^[a-z]$"}, minProperties=26, **NULLS),
    objects(minProperties=2, **ONE_OF_AB),
    objects(minProperties=2, unevaluatedProperties=False, patternProperties={"^[ab]$": {"type": "null"}}),
    objects(maxProperties=3, patternProperties={"^a{1,3}$": {"type": "null"}}, additionalProperties=False),
    objects(propertyNames={"enum": ["a"]}, dependentRequired={"a": ["b"]}),
    objects(oneOf=INTEGER_OR_3, maxProperties=1),
    objects(**{"not": {"propertyNames": {"enum": ["a", "b"]}}}, maxProperties=1, **NULLS),
    objects(**{"not": {"properties": {"a": {"type": "null"}}}}, properties={"a": {"type": ["null", "boolean"]}}),
    objects(**{"if": {"properties": {"k": {"const": 1}}}, "then": {"required": ["x"]}}, maxProperties=1, **NULLS),
    unique({"enum": ["a", "ab", "abc"]}, 3),
    unique({"type": "string", "pattern": "^[ab]$"}, 2),
    unique({"type": "string", "maxLength": 1}, 2, maxItems=3),
    unique({"type": "integer", "minimum": 98, "maximum": 103}, 6),
    unique({"type": "number", "minimum": 0, "maximum": 1}, 3, maxItems=4),
    unique({"type": "array", "items": {"type": "null"}, "maxItems": 1}, 2),
    unique(AB, 2),
    unique(True, 2, prefixItems=[{"enum": [1, 2]}, {"const": 1}], maxItems=2),
    unique(True, 3, prefixItems=[{"enum": [1, 2, 3]}, {"enum": [1, 2]}, {"const": 1}], maxItems=3),
    unique(True, 2, prefixItems=[{"enum": ["a"]}, {"type": "string", "maxLength": 1}], maxItems=2),
    arrays(**ORDER, maxContains=1, minItems=2),
    arrays(**{"not": {"uniqueItems": True}}, items={"enum": [1, 2]}, maxItems=2),
    arrays(**{"not": {"items": {"type": "null"}}}, items={"type": ["null", "boolean"]}, maxItems=2),
    arrays(oneOf=[{"items": {"enum": [1, 2]}}, {"items": {"enum": [2, 3]}}], maxItems=2),
    arrays(oneOf=[{"contains": {"const": 1}}, {"contains": {"const": 2}}], items={"enum": [1, 2]}, maxItems=2),
    arrays(**{"not": {"contains": {"type": "null"}}}, minItems=1, maxItems=2),
    {"enum": [[1, 1], [1, 2]], "uniqueItems": True},
    {"type": "number", "minimum": 3, "maximum": 3.0001, "not": {"multipleOf": 0.00001}},
    {"type": "number", "exclusiveMinimum": -0.004, "exclusiveMaximum": -0.002, "not": {"const": -0.003}},
    objects(anyOf=[named("bar", "x"), named("quux", 8)], unevaluatedProperties=False),
    objects(properties={"quux": True}, anyOf=[named("bar", 1), named("quux", 8)], unevaluatedProperties=False),
]
EMPTY = [
    # searches of one list after the other, each of which looks at what the items may be
    *({"enum": [[i, i] for i in range(n)], "uniqueItems": True} for n in (1, 2, 4)),
    {"enum": [[1, 1], [1, 2, 2]], "uniqueItems": True},
    objects(properties={"a": {"enum": [[1, 1], [2, 2]], "uniqueItems": True}}, required=["a"]),
    objects(propertyNames={"enum": ["a", "b", "c"]}, minProperties=4),
    objects(propertyNames={"pattern": "^[ab]$"}, minProperties=3),
    objects(propertyNames={"pattern": "^[a-z]$"}, minProperties=27),
    objects(propertyNames={"enum": ["a", "b"]}, properties={"b": False}, minProperties=2),
    objects(propertyNames={"maxLength": 0}, minProperties=2),
    objects(minProperties=3, **ONE_OF_AB),
    objects(minProperties=1, propertyNames={"pattern": "c$"}, **ONE_OF_AB),
    objects(minProperties=3, unevaluatedProperties=False, patternProperties={"^[ab]$": {"type": "null"}}),
    objects(minProperties=1, propertyNames={"enum": ["a", "b"]}, dependentRequired={"a": ["c"], "b": ["c"]}),
    objects(minProperties=2, propertyNames={"enum": ["a", "b"]}, **{"not": {"required": ["a"]}}),
    objects(**{"not": {"additionalProperties": {"type": "null"}}}, **NULLS),
    unique({"type": "string", "pattern": "^[ab]$"}, 3),
    unique({"type": "string", "maxLength": 0}, 2),
    unique({"type": "array", "items": {"type": "null"}, "maxItems": 1}, 3),
    unique({"type": "object", "maxProperties": 0}, 2),
    unique(AB, 3),
    unique(True, 2, prefixItems=[{"const": 1}, {"const": 1}]),
    arrays(**ORDER, maxContains=1, minItems=3),
    arrays(**ORDER, minContains=3),
    arrays(items={"const": 3}, contains={"const": 3}, maxContains=1, minItems=2),
    arrays(**{"not": {"uniqueItems": True}}, items={"enum": [1, 2]}, maxItems=1),
    arrays(**{"not": {"items": {"type": "null"}}}, items={"type": "null"}),
]


def write(machine: NativeMachine, rng: random.Random) -> bytes | None:
    """A document, at random; None where it became too long. Fails where nothing may follow and it may not end."""
    state, out = machine.start, bytearray()
    while len(out) < 160:
        if machine.finished(state) and rng.random() < 0.5:
            return bytes(out)
        after = {
            to: b for b, to in enumerate(machine.next_states(state).tolist()) if to != DEAD and b not in b" \t\n\r"
        }
        if not {*after} - {state}:  # nothing may follow, or the same digit for ever
            assert machine.finished(state), f"a dead end: {bytes(out)!r}"
            return bytes(out)
        closing = {to: b for to, b in after.items() if b in b'"}]'} if len(out) > 60 else {}
        state, byte = rng.choice(list((closing or after).items()))
        out.append(byte)
    return None


@pytest.mark.parametrize("whitespace", [24, -1], ids=["rows of places", "places that C knows"])
@pytest.mark.parametrize("schema", SATISFIABLE, ids=lambda s: json.dumps(s)[:70])
def test_there_is_no_dead_end(schema: Any, whitespace: int) -> None:
    made = compile_schema(schema, whitespace=whitespace)
    machine = made.native()
    for seed in range(12):
        text = write(machine, random.Random(seed))
        if text is not None:
            made.check(text.decode())


@pytest.mark.parametrize("schema", EMPTY, ids=lambda s: json.dumps(s)[:70])
def test_what_nothing_satisfies_is_refused_when_it_is_made(schema: Any) -> None:
    with pytest.raises(EmptyLanguage):
        compile_schema(schema)


def test_what_is_not_empty_but_cannot_be_kept_track_of_is_not_called_empty() -> None:
    with pytest.raises(GrammarBudget, match="200 names that are told apart, the limit is 127"):
        compile_schema(objects(minProperties=200))
    with pytest.raises(GrammarBudget, match="200 items that are told apart"):
        compile_schema(unique({"type": "string"}, 200))
    with pytest.raises(UnsupportedSchema, match="uniqueItems"):
        compile_schema(arrays(items={"type": "string"}, **{"not": {"uniqueItems": True}}))
    assert compile_schema(objects(minProperties=2), writing=False).accepts(b'{"a": 1, "b": 2}')


def test_equal_items_are_found_whatever_their_places_have_to_say() -> None:
    """At the first place there are few texts, kept as such; at the second many, of which fingerprints are kept."""
    machine = compile_schema(arrays(prefixItems=[{"enum": ["ab"]}, {"type": "string"}], uniqueItems=True)).native()
    assert machine.read(machine.start, b'["ab","ab"')[0] < len(b'["ab","ab"')
    assert machine.read(machine.start, b'["ab","ac"]')[0] == len(b'["ab","ac"]')


def test_half_of_a_pair_is_not_begun_without_the_other() -> None:
    machine = compile_schema({"type": "string"}).native()
    assert machine.read(machine.start, b'"\\uDC')[0] == 4
    assert machine.read(machine.start, b'"\\uD83D\\uDE42"')[0] == 14


def test_a_negative_number_is_not_taken_for_a_positive_one() -> None:
    """Beginnings of which the same may become are one place; what follows a minus leads away from zero."""
    made = compile_schema({"type": "integer", "multipleOf": 3})
    machine = made.native()
    for n in range(-400, 400):
        n_read, state = machine.read(machine.start, str(n).encode())
        assert (n_read == len(str(n)) and machine.finished(state)) == (n % 3 == 0), n


def test_strings_of_which_exactly_one_of_two_must_hold() -> None:
    with pytest.raises(EmptyLanguage):
        compile_schema({"type": "string", "oneOf": [{"maxLength": 1}, {"maxLength": 1}]})
    made = compile_schema({"type": "string", "oneOf": [{"maxLength": 1}, {"pattern": "^a"}, {"minLength": 3}]})
    machine = made.native()
    assert not made.accepts(b'"abc"') and machine.read(machine.start, b'"abc')[0] < 4


def test_searches_within_searches_are_counted() -> None:
    """Shapes of RFC 7946, positions of exactly two numbers: arrays in arrays, each looked ahead in. Before they were
    counted this took minutes."""
    point: Any = {"type": "array", "minItems": 2, "items": [{"type": "number"}] * 2, "additionalItems": False}
    line = {"type": "array", "minItems": 2, "items": point}
    ring = {"allOf": [line], "minItems": 4}
    polygon = {"type": "array", "items": ring}
    kinds = {
        "Point": point,
        "LineString": line,
        "Polygon": polygon,
        "MultiPolygon": {"type": "array", "items": polygon},
    }
    several = [{"properties": {"type": {"enum": [k]}, "coordinates": v}} for k, v in kinds.items()]
    shape = {"type": "object", "required": ["type", "coordinates"], "oneOf": several}
    feature = {"required": ["type", "geometry"], "properties": {"type": {"enum": ["Feature"]}, "geometry": shape}}
    made = compile_schema({"type": "object", "oneOf": [shape, feature]}, draft=4)
    machine = made.native()
    for text, accepted in (
        ('{"type": "LineString", "coordinates": [[1, 2], [3, 4]]}', True),
        ('{"type": "LineString", "coordinates": [[1, 2], [3, 4, 5]]}', False),
        ('{"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}}', True),
        ('{"type": "Feature", "geometry": {"type": "Point", "coordinates": [1]}}', False),
    ):
        n, state = machine.read(machine.start, text.encode())
        assert (n == len(text) and machine.finished(state)) is accepted is made.accepts(text.encode()), text


@pytest.mark.parametrize(
    ("least", "most"), [("3", "3.0001"), ("-3.0001", "-3"), ("2.9995", "3.0005"), ("-0.00002", "0"), ("99.9999", "100")]
)
def test_each_number_within_narrow_bounds_can_be_written(least: str, most: str) -> None:
    """Digits behind the point that lead nowhere else are still digits: 3.0 is not 3.00, of which 3.00001 may come."""
    low, high = Decimal(least), Decimal(most)
    made = compile_schema({"type": "number", "minimum": float(least), "maximum": float(most)})
    machine = made.native()
    step = Decimal("0.00001")
    within = 0
    for i in range(-10, int((high - low) / step) + 11):
        value = low + i * step
        for text in {f"{value:f}", f"{value.normalize():f}", f"{value:.7f}"}:
            if value == 0 and text.startswith("-"):
                continue
            state = machine.start
            for byte in text.encode():
                state = machine.step(state, byte)
            assert machine.finished(state) == (low <= value <= high), text
            within += machine.finished(state)
    assert within >= 6
