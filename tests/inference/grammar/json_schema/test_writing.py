"""Writing under a schema: whatever is written is valid, never stuck; the machine in C is the twin; limits hold."""

from __future__ import annotations

import json
import random
import time
from typing import Any

import numpy as np
import pytest

from zigllama.errors import BadSchema, EmptyLanguage, GrammarBudget, UnsupportedSchema
from zigllama.inference.grammar.json_schema import compile_schema
from zigllama.inference.grammar.machine import DEAD, Machine, run

SPACES = b" \t\n\r"
TREE = {
    "$defs": {
        "tree": {
            "type": "object",
            "properties": {"left": {"$ref": "#/$defs/tree"}, "size": {"type": "integer", "minimum": 0, "maximum": 99}},
            "required": ["size"],
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/tree",
}
SCHEMAS: list[Any] = [
    True,
    TREE,
    {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 3}, "uniqueItems": True, "minItems": 4},
    {"type": "array", "items": {"type": "number"}, "uniqueItems": True, "minItems": 2, "maxItems": 3},
    {"type": "array", "items": {"type": "string"}, "uniqueItems": True, "minItems": 2, "maxItems": 3},
    {"type": "array", "items": {"type": "string", "pattern": "^[a-c]+é?$"}, "uniqueItems": True, "minItems": 2},
    {"type": "array", "items": {"type": "string", "pattern": "^(ab)*$"}, "uniqueItems": True, "minItems": 2},
    {
        "type": "array",
        "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}}},
        "uniqueItems": True,
    },
    {"type": "array", "items": {"enum": ["a", 1, None]}, "uniqueItems": True, "minItems": 3},
    {"type": "array", "prefixItems": [{"const": "x"}], "items": False, "minItems": 1},
    {"type": "array", "contains": {"type": "null"}, "minContains": 2, "maxContains": 2, "maxItems": 3},
    {"type": "array", "maxItems": 2, "prefixItems": [{"type": "string"}], "unevaluatedItems": {"type": "boolean"}},
    {"type": "object", "additionalProperties": {"type": "string", "maxLength": 3}, "minProperties": 2},
    {
        "type": "object",
        "patternProperties": {"^a": {"type": "null"}},
        "additionalProperties": False,
        "minProperties": 1,
    },
    {"type": "object", "propertyNames": {"pattern": "^[a-z]{2}$"}, "minProperties": 1, "maxProperties": 2},
    {"type": "object", "required": ["a"], "maxProperties": 2, "dependentRequired": {"a": ["b"]}},
    {"allOf": [{"type": "string", "pattern": "^a+b*$"}, {"pattern": "bb$"}, {"minLength": 4, "maxLength": 6}]},
    {"type": "string", "not": {"pattern": "[^0-9]"}, "minLength": 1, "maxLength": 4},
    {"type": "string", "minLength": 2, "maxLength": 5},
    {"type": "string", "format": "date-time"},
    {"type": "string", "format": "email", "maxLength": 12},
    {"type": "string", "pattern": "[aeiou]{2}", "minLength": 4, "maxLength": 6},
    {"anyOf": [{"type": "string", "pattern": "^\\S+$"}, {"enum": ["a b", "c"]}, {"type": "string", "format": "ipv4"}]},
    {
        "properties": {"a_id": {"type": "null"}},
        "patternProperties": {"_id$": {"type": "integer"}, "^x": {"maximum": 9}},
    },
    {"type": "number", "exclusiveMinimum": 0.1, "exclusiveMaximum": 0.2},
    {"type": "number", "multipleOf": 0.25, "maximum": -3},
    {"type": "integer", "multipleOf": 7, "minimum": 50, "maximum": 60},
    {"enum": [1, "a", None, [1, {"b": 2}], {"a": 1}]},
    {
        "oneOf": [
            {"type": "object", "properties": {"k": {"const": 1}, "v": {"type": "integer"}}, "required": ["k", "v"]},
            {"type": "object", "properties": {"k": {"const": 2}, "v": {"type": "null"}}, "required": ["k", "v"]},
        ],
        "maxProperties": 2,
    },
    {"if": {"type": "integer"}, "then": {"minimum": 5}, "else": {"type": "boolean"}},
    {"type": "object", "allOf": [{"properties": {"a": {"type": "null"}}}], "unevaluatedProperties": False},
    {
        "type": "object",
        "properties": {"ab": {"type": "null"}, "\n\u00e9": {"enum": ["x/", "\u00e9", '"']}},
        "patternProperties": {"^a|c$": {"type": "boolean"}},
        "additionalProperties": False,
    },
    {
        "type": "object",
        "properties": {"a": {"type": "string", "minLength": 1, "maxLength": 2}, "b": {"type": "null"}},
        "required": ["a"],
        "additionalProperties": False,
    },
    {
        "oneOf": [
            {"type": "object", "properties": {"k": {"const": 1}}, "additionalProperties": {"type": "null"}},
            {"type": "object", "properties": {"k": {"const": 2}}, "additionalProperties": {"type": "boolean"}},
        ]
    },
    {"anyOf": [{"type": "string", "maxLength": 1}, {"type": "string", "pattern": "^a+$"}, {"type": "null"}]},
    {"type": "array", "items": {"type": "integer", "minimum": -12, "maximum": 130}, "minItems": 1, "maxItems": 2},
]


def write(machine: Machine, rng: random.Random, most: int) -> bytes | None:
    """A document, byte by byte at random; None where it became too long. It is never stuck."""
    state, out = machine.start, bytearray()
    while len(out) < most:
        if machine.finished(state) and rng.random() < 0.6:
            return bytes(out)
        after = [machine.step(state, b) for b in range(256)]
        able = [b for b in range(256) if after[b] != DEAD]
        if not able:
            assert machine.finished(state), f"stuck after {bytes(out)!r}"
            return bytes(out)
        able = [b for b in able if b not in SPACES] or able
        if len(out) > 40:
            able = [b for b in able if b in b'"}]'] or able
        byte = rng.choice(able)
        out.append(byte)
        state = after[byte]
    return None


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda s: json.dumps(s)[:60])
def test_what_is_written_is_valid(schema: Any) -> None:
    made = compile_schema(schema)
    machine, finished = made.twin(), 0
    for seed in range(8):
        document = write(machine, random.Random(seed), 300)
        if document is not None:
            made.check(document.decode())
            json.loads(document)
            finished += 1
    assert finished


@pytest.mark.parametrize("whitespace", [24, -1], ids=["rows of places", "places that C knows"])
@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda s: json.dumps(s)[:60])
def test_c_is_the_twin(schema: Any, whitespace: int) -> None:
    made = compile_schema(schema, whitespace=whitespace)
    twin, native = made.twin(), made.native()
    rng = random.Random(7)
    for _ in range(3):
        s, t = twin.start, native.start
        for _ in range(60):
            assert twin.finished(s) == native.finished(t)
            ours, its = np.array([twin.step(s, b) for b in range(256)]), native.next_states(t)
            np.testing.assert_array_equal(ours == DEAD, its == DEAD)
            able = [b for b in range(256) if ours[b] != DEAD]
            able = [b for b in able if b not in SPACES or rng.random() < 0.05] or able
            if not able:
                break
            byte = rng.choice(able)
            s, t = int(ours[byte]), int(its[byte])


@pytest.mark.parametrize(
    ("schema", "begun", "refused"),
    [
        ({"type": "object", "properties": {"a": {"type": "null"}}, "additionalProperties": False}, '{"', "b"),
        ({"enum": ["no", "yes"]}, '"', "x"),
        ({"maximum": 12, "minimum": 0, "type": "integer"}, "1", "5"),
        ({"type": "string", "pattern": "^a*$"}, '"a', "b"),
        ({"type": "string", "maxLength": 1}, '"a', "b"),
        ({"type": "array", "uniqueItems": True, "items": {"enum": [1, 2]}}, "[1,", "1"),
        ({"type": "object", "required": ["a"], "properties": {"a": True}}, "{", "}"),
        ({"type": "object", "maxProperties": 1, "required": ["a"]}, '{"', "b"),
        ({"type": "object", "minProperties": 2}, '{"a":1,"a', '"'),
    ],
)
def test_a_dead_end_is_not_begun(schema: Any, begun: str, refused: str) -> None:
    machine = compile_schema(schema, writing="minProperties" not in schema).twin()
    state = machine.start
    for byte in begun.encode():
        state = machine.step(state, byte)
        assert state != DEAD
    assert machine.step(state, ord(refused)) == DEAD


@pytest.mark.parametrize(
    "schema",
    [
        False,
        {"type": "string", "minLength": 3, "maxLength": 2},
        {"type": "string", "enum": [1, 2]},
        {"type": "object", "required": ["a"], "properties": {"a": False}},
        {"type": "object", "required": ["a"], "properties": {"b": True}, "additionalProperties": False},
        {"type": "string", "pattern": "^a{3}$", "maxLength": 2},
        {"type": "string", "allOf": [{"pattern": "^a"}, {"pattern": "^b"}]},
        {"type": "integer", "minimum": 3, "maximum": 2},
        {"type": "integer", "multipleOf": 7, "minimum": 50, "maximum": 55},
        {"type": "array", "minItems": 3, "maxItems": 2},
        {"type": "array", "minItems": 3, "uniqueItems": True, "items": {"enum": [1, 2]}},
        {"type": "object", "required": ["a"], "properties": {"a": {"$ref": "#"}}},
        {"not": {}},
        {"type": "string", "oneOf": [{"maxLength": 1}, {"maxLength": 1}]},
        {"allOf": [{"type": "string"}, {"type": "null"}]},
    ],
    ids=lambda s: json.dumps(s)[:60],
)
def test_a_schema_that_nothing_satisfies(schema: Any) -> None:
    with pytest.raises(EmptyLanguage):
        compile_schema(schema)


@pytest.mark.parametrize(
    ("schema", "pointer", "keyword"),
    [
        ({"$ref": "http://example.com/other"}, "", "$ref"),
        ({"properties": {"a": {"items": {"$ref": "file:///etc/passwd"}}}}, "/properties/a/items", "$ref"),
        ({"properties": {"a": {"pattern": "(a)\\1"}}}, "/properties/a", "pattern"),
        ({"$ref": "#"}, "", "$ref"),
        ({"properties": {"a": {"allOf": [{"$ref": "#/properties/a"}]}}}, "/properties/a/allOf/0", "$ref"),
        ({"$schema": "http://example.com/mine"}, "", "$schema"),
    ],
)
def test_what_cannot_be_kept_to_is_refused_at_once(schema: Any, pointer: str, keyword: str) -> None:
    with pytest.raises(UnsupportedSchema) as caught:
        compile_schema(schema)
    assert (caught.value.pointer, caught.value.keyword) == (pointer, keyword)


def test_exactly_one_of_an_integer_and_a_bound_has_no_dead_end() -> None:
    """Ten digits and more had no room left for the fraction without which both hold."""
    schema = {"oneOf": [{"type": "integer"}, {"minimum": 2}], "type": "number"}
    made = compile_schema(schema)
    for machine in (made.native(), made.twin()):
        for digit in b"13":  # with the most digits that are allowed each time
            state = machine.start
            for _ in range(40):
                if machine.finished(state):
                    break
                after = [s for s in (machine.step(state, b) for b in bytes([digit]) + b".5") if s != DEAD]
                assert after
                state = after[0]
            assert machine.finished(state)
    assert made.accepts(b"3.5") and made.accepts(b"1") and not made.accepts(b"3") and not made.accepts(b"1.5")


@pytest.mark.parametrize("step", [3, 9, 11, 7])
def test_multiples_on_both_sides_of_zero(step: int) -> None:
    """1 and -2 are alike modulo 3, and so are 10, 100 ..; but a digit more makes one larger and the other smaller."""
    made = compile_schema({"type": "integer", "multipleOf": step})
    for machine in (made.native(), made.twin()):
        for value in sorted(range(-150, 151), key=lambda v: str(v)[::-1]):
            n, state = run(machine, str(value).encode())
            assert n == len(str(value)) and machine.finished(state) == (value % step == 0), value


def test_an_unknown_format_is_refused_where_formats_are_asserted() -> None:
    schema = {"properties": {"a": {"format": "colour"}}}
    compile_schema(schema)
    with pytest.raises(UnsupportedSchema) as caught:
        compile_schema(schema, formats=True)
    assert (caught.value.pointer, caught.value.keyword) == ("/properties/a", "format")


@pytest.mark.parametrize(
    "schema",
    [
        3,
        {"type": "text"},
        {"items": 3},
        {"minLength": -1},
        {"minLength": "3"},
        {"required": "a"},
        {"multipleOf": 0},
        {"maximum": "3"},
        {"enum": 3},
        {"properties": []},
        {"allOf": {}},
        {"$ref": "#/nowhere"},
        {"$ref": "#nowhere"},
        {"$ref": 3},
        '{"a": 1, "a": 2}',
        '{"a": NaN}',
        "{",
    ],
    ids=str,
)
def test_what_is_no_schema(schema: Any) -> None:
    with pytest.raises(BadSchema):
        compile_schema(schema)


def nested(depth: int, keyword: str) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "null"}
    for _ in range(depth):
        schema = {keyword: schema}
    return schema


HOSTILE: dict[str, Any] = {
    "deep": nested(60_000, "items"),
    "deep in place": nested(900, "not"),
    "deep text": '{"items":' * 60_000 + "true" + "}" * 60_000,
    "enum of many": {"enum": list(range(200_000))},
    "enum of many names": {"enum": [f"name {i}" for i in range(60_000)]},
    "deep enum": {"enum": [json.loads("[" * 900 + "]" * 900)]},
    "repeated": {"type": "string", "pattern": "^(a{0,1000}){0,1000000000}$"},
    "many items": {"type": "array", "minItems": 10**15, "maxItems": 10**18, "uniqueItems": True},
    "long string": {"type": "string", "minLength": 10**12, "pattern": "a"},
    "choices of choices": {
        "allOf": [{"anyOf": [{"required": [f"a{i}"]}, {"required": [f"b{i}"]}]} for i in range(40)],
        "type": "object",
    },
    "one of many": {"oneOf": [{"properties": {f"p{i}": {"type": "null"}}, "required": [f"p{i}"]} for i in range(300)]},
    "contradictions": {"allOf": [{"properties": {f"p{i}": False}, "required": [f"p{i}"]} for i in range(200)]},
    "wide": {
        "properties": {f"p{i}": {"type": "integer"} for i in range(5_000)},
        "required": [f"p{i}" for i in range(5_000)],
    },
    "patterns": {
        "patternProperties": {f"^.{{{i}}}a": {"type": "integer"} for i in range(12)},
        "additionalProperties": False,
    },
    "mutual": {
        "$defs": {"a": {"anyOf": [{"items": {"$ref": "#/$defs/b"}}]}, "b": {"items": {"$ref": "#/$defs/a"}}},
        "$ref": "#/$defs/a",
    },
    "huge numbers": {"type": "number", "minimum": 10**300, "multipleOf": 10**250 + 1},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_schema_is_refused_or_bounded(name: str) -> None:
    began = time.process_time()
    try:
        machine = compile_schema(HOSTILE[name]).native()
        state = machine.start
        for byte in b'{"a":[[1.5,"ab' if name != "long string" else b'"ab':
            after = machine.next_states(state)[byte]
            if after == DEAD:
                break
            state = int(after)
        assert machine.limit()[0] < 64 << 20
    except (GrammarBudget, EmptyLanguage, UnsupportedSchema):
        pass
    assert time.process_time() - began < 10.0  # the bound is 1 s where nothing else runs


def test_whitespace_is_bounded_when_writing() -> None:
    machine = compile_schema({"type": "array"}, whitespace=2).native()
    assert machine.read(machine.start, b"[  ")[0] == 3
    assert machine.read(machine.start, b"[   ")[0] == 3
    assert compile_schema({"type": "array"}).accepts(b"[" + b" " * 500 + b"]" + b"\n" * 500)


def test_a_number_may_have_any_spelling_where_it_is_accepted() -> None:
    made = compile_schema({"type": "integer", "minimum": 10, "maximum": 20})
    for text in ("15", "1.5e1", "150E-1", "15.000"):
        assert made.accepts(text.encode())
    for text in ("15.5", "1.5e0", "015", "1e1000000000000000000000", "+15", "15.", "0x0f"):
        assert not made.accepts(text.encode())


def test_half_a_pair_is_no_text() -> None:
    made = compile_schema({"type": "string", "maxLength": 1})
    assert made.accepts(b'"\\ud83d\\ude42"')
    for text in (b'"\\ud83d"', b'"\\ude42"', b'"\\ud83da"', b'"\xed\xa0\xbd"', b'"\xff"'):
        assert not made.accepts(text)


def test_known_documents_are_given_never_fetched() -> None:
    made = compile_schema({"$ref": "http://example.com/n"}, documents={"http://example.com/n": {"type": "null"}})
    assert made.accepts(b"null")
    assert not made.accepts(b"1")


def test_lengths_beyond_what_c_counts() -> None:
    """An int32 counts characters in C; no text that is written is so long."""
    machine = compile_schema({"type": "string", "minLength": 2, "maxLength": 10**13}, whitespace=-1).native()
    n, state = machine.read(machine.start, b'"ab"')
    assert n == 4 and machine.finished(state)
    machine = compile_schema({"type": "string", "minLength": 10**12}, whitespace=-1).native()
    assert machine.read(machine.start, b'"ab"')[0] == 3
