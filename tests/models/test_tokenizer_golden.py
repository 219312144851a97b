"""Ids of difficult texts, as llama.cpp gives them: every pre-tokenizer on a small vocabulary, and real vocabularies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dense_vocabulary
import pytest

from zigllama.models.tokenizer import Tokenizer

GOLDEN = Path(__file__).resolve().parent.parent / "golden"


def load(name: str) -> dict[str, Any]:
    golden: dict[str, Any] = json.loads((GOLDEN / f"tokenizer_{name}.json").read_text("utf-8"))
    return golden


RULES = load("rules")


@pytest.mark.parametrize("name", ["rules", "smollm2", "gemma3-270m"])
def test_golden_is_from_outside(name: str) -> None:
    about = load(name)["about"]
    assert about["oracle"].startswith("llama-cpp-python ") and about["command"]


@pytest.mark.parametrize("pre", sorted(RULES["rules"]))
def test_rule(pre: str) -> None:
    """Each name of a rule cuts, and takes whole words and a BOS, as llama.cpp does under that name."""
    t = Tokenizer.from_metadata(dense_vocabulary.dense(pre))
    assert [t.encode(text) for text in RULES["texts"]] == RULES["ids"][str(RULES["rules"][pre])]


@pytest.mark.parametrize(("name", "fixture"), [("smollm2", "smollm2_path"), ("gemma3-270m", "gemma3_path")])
def test_real_vocabulary(name: str, fixture: str, request: pytest.FixtureRequest) -> None:
    """Ids with and without control tokens, the ends of a generation, bytes of tokens."""
    golden = load(name)
    t = Tokenizer(request.getfixturevalue(fixture))
    assert t.end_ids == set(golden["end_ids"])
    for i, text in enumerate(golden["texts"]):
        ids = golden["ids"][str(i)]
        assert t.encode(text) == ids, ascii(text)
        assert t.encode(text, parse_special=True) == golden["parsed"].get(str(i), ids), ascii(text)
        assert t.decode(ids) in (text, text.replace("\u2581", " "))
    for id, piece in golden["pieces"].items():
        assert t.piece(int(id)).hex() == piece
