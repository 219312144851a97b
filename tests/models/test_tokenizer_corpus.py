"""The fuzzer's corpus of vocabularies and texts (tools/fuzz_tokenizers.py), replayed: every one is handled as it should
be."""

from __future__ import annotations

from pathlib import Path

from tokenizer_judge import FAMILIES, divided, judge, tokenizer

CORPUS = Path(__file__).parent.parent / "corpus" / "tokenizers"


def test_the_corpus() -> None:
    files = sorted(CORPUS.iterdir())
    assert len(files) >= 40
    families = set[object]()
    for path in files:
        data = path.read_bytes()
        families.add(tokenizer(divided(data)[0])[0]["tokenizer.ggml.model"])
        judge(data)
    assert families == set(FAMILIES)
