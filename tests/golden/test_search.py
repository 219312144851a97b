"""Contrastive and beam search against what transformers wrote on the same small model (tools/make_search_golden.py)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

GOLDEN: dict[str, Any] = json.loads(Path(__file__).with_name("search.json").read_text("utf-8"))


def test_the_golden_file_is_from_outside() -> None:
    assert "transformers 4." in GOLDEN["about"]["oracle"] and GOLDEN["about"]["command"]
    assert len(GOLDEN["cases"]) == 36


@pytest.mark.parametrize("case", [c for c in GOLDEN["cases"] if "penalty_alpha" in c], ids=str)
def test_contrastive_search_writes_what_transformers_writes(case: dict[str, Any], golden_model: Any) -> None:
    options = {name: case[name] for name in ("penalty_alpha", "top_k")}
    r = golden_model.generate(case["prompt"], max_tokens=GOLDEN["n_new"], ignore_eos=True, **options)
    assert r.token_ids == case["tokens"]


@pytest.mark.parametrize("case", [c for c in GOLDEN["cases"] if "num_beams" in c], ids=str)
def test_beam_search_writes_what_transformers_writes(
    case: dict[str, Any], golden_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    eos = case["eos"]
    kind = type(golden_model.tokenizer)
    monkeypatch.setattr(kind, "end_ids", property(lambda self: frozenset(() if eos is None else (eos,))))
    r = golden_model.generate(case["prompt"], max_tokens=GOLDEN["n_new"], num_beams=case["num_beams"])
    want = case["tokens"]
    assert r.token_ids == (want[:-1] if want[-1] == eos else want)
    assert r.finish_reason == ("stop" if want[-1] == eos else "length")
