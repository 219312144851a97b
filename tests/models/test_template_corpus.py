"""The fuzzer's corpus of chat templates (tools/fuzz_templates.py), replayed: every one is handled as it should be."""

from __future__ import annotations

from pathlib import Path

import pytest
from template_judge import judge

CORPUS = Path(__file__).parent.parent / "corpus" / "templates"


@pytest.mark.filterwarnings("ignore:invalid escape sequence")  # Jinja decodes texts as Python does
def test_the_corpus() -> None:
    files = sorted(CORPUS.iterdir())
    assert len(files) > 50
    for path in files:
        judge(path.read_bytes())
