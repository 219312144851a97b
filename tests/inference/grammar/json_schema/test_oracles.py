"""Random schemas and documents: what is accepted here is what jsonschema and jsonschema-rs call valid; and what is
written under a schema they call valid too.
"""

from __future__ import annotations

import json
import random
from importlib import import_module
from typing import Any

import compare_schemas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schema_strategies import SCHEMAS, VALUES

from zigllama.errors import EmptyLanguage, GrammarBudget
from zigllama.inference.grammar.json_schema import compile_schema
from zigllama.inference.grammar.machine import DEAD, Machine


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


def test_the_counted_comparison_finds_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """tools/compare_schemas.py: nothing with the schemas themselves, something where another one is compiled."""
    pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    pytest.importorskip("jsonschema_rs", reason="jsonschema-rs is not installed")
    counts = compare_schemas.compare(25, seed=5, show=1)
    assert counts.found == [] and counts.counts["pairs"] > 200 and counts.counts["pairs valid for both"] > 40
    assert all(counts.counts[f"pairs, document {how}"] > 30 for how in ("made", "written", "changed"))
    package = import_module("zigllama.inference.grammar.json_schema")
    real = package.compile_schema
    for wrong, kind in ((True, "FALSE ACCEPTS"), ({"type": "null"}, "FALSE REFUSALS")):
        monkeypatch.setattr(package, "compile_schema", lambda schema, wrong=wrong, **options: real(wrong, **options))
        found = compare_schemas.Comparison(show=1)
        found.schema({"type": "object", "maxProperties": 1}, 2020, [{}, {"a": 1}, {"a": 1, "b": 2}, 1], 1)
        assert found.counts[kind] > 1 and f"{kind.lower()}: " in capsys.readouterr().out
