"""The fuzzer's corpora of grammars (tools/fuzz_grammars.py), replayed: every one is handled as it should be."""

from __future__ import annotations

from pathlib import Path

import pytest
from grammar_judge import READERS, judge

CORPUS = Path(__file__).resolve().parents[2] / "corpus" / "grammars"


@pytest.mark.parametrize("kind", READERS)
def test_the_corpus(kind: str) -> None:
    files = sorted((CORPUS / kind).iterdir())
    assert len(files) >= 10
    for path in files:
        judge(kind, path.read_bytes())


def test_no_corpus_is_left_out() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(READERS)
