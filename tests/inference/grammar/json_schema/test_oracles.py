"""Random schemas and documents: what is accepted here is what jsonschema and jsonschema-rs call valid; and what is
written under a schema they call valid too.
"""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zigllama.errors import EmptyLanguage, GrammarBudget
from zigllama.inference.grammar.json_schema import compile_schema
from zigllama.inference.grammar.machine import DEAD, Machine

NAMES = ["a", "b", "ab", "c", "x1"]
SCALARS = st.sampled_from(
    [None, True, False, 0, 1, 2, 3, 5, 7, -1, 1.5, 0.5, 2.0, 100, "", "a", "b", "ab", "abc", "\u00e9", "aaaa"]
)
VALUES = st.recursive(
    SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.sampled_from(NAMES), v, max_size=3), max_leaves=8
)
TYPES = st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"])
SMALL = st.integers(0, 3)
LEAVES: dict[str, st.SearchStrategy[Any]] = {
    "type": TYPES | st.lists(TYPES, min_size=1, max_size=2, unique=True),
    "enum": st.lists(VALUES, min_size=1, max_size=3),
    "const": VALUES,
    "minimum": st.sampled_from([0, 1, 1.5]),
    "exclusiveMinimum": st.sampled_from([0, 1, 2]),
    "maximum": st.sampled_from([2, 3, 5]),
    "exclusiveMaximum": st.sampled_from([2, 3, 7]),
    "multipleOf": st.sampled_from([1, 2, 0.5, 3]),
    "minLength": SMALL,
    "maxLength": SMALL,
    "pattern": st.sampled_from(["^a", "b$", "^[a-z]*$", "a", "^.{2}$"]),
    "minItems": SMALL,
    "maxItems": SMALL,
    "uniqueItems": st.just(True),
    "minProperties": SMALL,
    "maxProperties": SMALL,
    "required": st.lists(st.sampled_from(NAMES), max_size=2, unique=True),
    "dependentRequired": st.dictionaries(
        st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES), max_size=1), max_size=1
    ),
}


def some(keywords: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with up to three of these keywords."""
    chosen = st.lists(st.sampled_from(sorted(keywords)), min_size=1, max_size=3, unique=True)
    return chosen.flatmap(lambda names: st.fixed_dictionaries({name: keywords[name] for name in names}))


def extend(schema: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Objects whose keywords may hold schemas."""
    listed, named = (
        st.lists(schema, min_size=1, max_size=3),
        st.dictionaries(st.sampled_from(NAMES), schema, max_size=2),
    )
    below = dict.fromkeys(
        ["items", "contains", "additionalProperties", "propertyNames", "not", "if", "then", "else"], schema
    )
    below |= dict.fromkeys(["unevaluatedItems", "unevaluatedProperties"], schema)
    below |= dict.fromkeys(["allOf", "anyOf", "oneOf", "prefixItems"], listed)
    below |= dict.fromkeys(["properties", "dependentSchemas"], named)
    below["patternProperties"] = st.dictionaries(st.sampled_from(["^a", "b", "^x"]), schema, max_size=2)
    below |= {"minContains": SMALL, "maxContains": SMALL}
    return some(LEAVES | below)


SCHEMAS = st.recursive(st.booleans() | some(LEAVES), extend, max_leaves=8)


def write(machine: Machine, rng: random.Random) -> bytes | None:
    """A document written at random, or None where it became too long or, behind a `not`, came to no end."""
    state, out = machine.start, bytearray()
    for _ in range(120):
        if machine.finished(state) and rng.random() < 0.6:
            return bytes(out)
        after = [machine.step(state, b) for b in range(256)]
        able = [b for b in range(256) if after[b] != DEAD]
        able = [b for b in able if b not in b" \t\n\r"] or able
        if not able:
            return bytes(out) if machine.finished(state) else None
        out.append(rng.choice(able))
        state = after[out[-1]]
    return None


@given(SCHEMAS, st.lists(VALUES, min_size=1, max_size=8), st.integers(0, 99))
@settings(deadline=None)
def test_against_other_validators(schema: Any, documents: list[Any], seed: int) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    jsonschema_rs = pytest.importorskip("jsonschema_rs", reason="jsonschema-rs is not installed")
    one, two = jsonschema.Draft202012Validator(schema), jsonschema_rs.Draft202012Validator(schema)
    try:
        made = compile_schema(schema, writing=False)
    except EmptyLanguage:
        made = None
    for document in documents:
        valid = one.is_valid(document)
        if valid != two.is_valid(document):
            continue  # they are not of one mind
        assert (made is not None and made.accepts(json.dumps(document).encode())) == valid, document
    if made is None:
        return
    try:
        text = write(compile_schema(schema).twin(), random.Random(seed))
    except (EmptyLanguage, GrammarBudget):
        return
    if text is not None:
        assert one.is_valid(json.loads(text)) or two.is_valid(json.loads(text)), text
