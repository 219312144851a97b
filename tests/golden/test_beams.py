"""Beams that end early, against what transformers wrote on the same small model (tools/make_beams_golden.py)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

GOLDEN: dict[str, Any] = json.loads(Path(__file__).with_name("beams.json").read_text("utf-8"))
CASES: list[dict[str, Any]] = list(GOLDEN["cases"].values())


def test_the_golden_file_is_from_outside_and_its_beams_do_end() -> None:
    assert "transformers 5." in GOLDEN["about"]["oracle"] and GOLDEN["about"]["command"]
    ended = [c for c in CASES if c["tokens"][-1] in c["ends"]]
    assert len(CASES) == 216 and len(ended) > 80
    assert {len(c["tokens"]) for c in ended} >= {2, 3, 5, 8, 12}
    assert any(len(c["ends"]) > 3 for c in ended)


@pytest.mark.parametrize("n_beams", sorted({c["num_beams"] for c in CASES}))
@pytest.mark.parametrize("n_new", sorted({c["n_new"] for c in CASES}))
def test_answers_that_end_are_those_of_transformers(
    n_beams: int, n_new: int, golden_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same tokens and the same reason, whichever of the beams ended, and when the search stopped for it."""
    ends: set[int] = set()
    monkeypatch.setattr(type(golden_model.tokenizer), "end_ids", property(lambda self: frozenset(ends)))
    mine = [c for c in CASES if (c["num_beams"], c["n_new"]) == (n_beams, n_new)]
    assert len(mine) == 36
    for case in mine:
        ends.clear()
        ends.update(case["ends"])
        r = golden_model.generate(case["prompt"], max_tokens=n_new, num_beams=n_beams)
        want = case["tokens"]
        ended = want[-1] in ends
        assert r.token_ids == (want[:-1] if ended else want), case
        assert r.finish_reason == ("stop" if ended else "length"), case
