"""JSON Schemas and documents as Hypothesis makes them, small and of every keyword that says something of a value: for
the tests that compare validators, and tools/compare_schemas.py.

Beside schema_samples.py, whose schemas are as people write them and which have texts that come to an end.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

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
