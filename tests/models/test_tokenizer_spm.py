"""SentencePiece BPE against `sentencepiece`: a model trained here, with every option about spaces and its map of
characters."""

from __future__ import annotations

import io
import random
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from zigllama.models.conversion import vocabulary_files
from zigllama.models.tokenizer import Tokenizer

GENESIS = Path(__file__).resolve().parent.parent / "golden" / "texts" / "genesis.txt"
RULES = ["identity", "nmt_nfkc", "nfkc_cf"]
ALPHABETS = [
    "the of and light ", " \u2581  ", "\u0301\u0308\u0323ea", "\u4e16\uff71\uff8a\uff9e\u3316",
    "\ufdfa\ufb01\u2460\u00bd", "\t\n\u3000\u00a0\u200b\x00", "\U0001f642\U0001f468\u200d", "<s><0x41>",
]  # fmt: skip


@pytest.mark.parametrize(("prefix", "merge", "rule"), list(product([False, True], [False, True], RULES)))
def test_options(prefix: bool, merge: bool, rule: str) -> None:
    """The same ids, and the same text back."""
    sentencepiece = pytest.importorskip("sentencepiece", reason="sentencepiece is not installed")
    model = io.BytesIO()
    options: dict[str, Any] = {
        "add_dummy_prefix": prefix,
        "remove_extra_whitespaces": merge,
        "normalization_rule_name": rule,
    }
    lines = iter(GENESIS.read_text("utf-8").split("\n"))
    train = sentencepiece.SentencePieceTrainer.train
    train(
        sentence_iterator=lines,
        model_writer=model,
        model_type="bpe",
        vocab_size=480,
        byte_fallback=True,
        minloglevel=2,
        **options,
    )
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    words = vocabulary_files._sentencepiece(model.getvalue(), "tokenizer.model")
    assert bool(words.notes) is (merge or rule != "identity")  # other programs do not look at these keys
    ours = Tokenizer.from_metadata(words.metadata(len(words.tokens)))
    r = random.Random(f"{prefix} {merge} {rule}")
    for _ in range(1000):
        text = "".join(
            r.choice(r.choice(ALPHABETS)) if r.random() < 0.95 else chr(r.randrange(0xD800))
            for _ in range(r.randrange(30))
        )
        ids = theirs.encode(text)
        assert ours.encode(text, add_special=False) == ids, ascii(text)
        assert ours.decode(ids) == theirs.decode(ids), ascii(text)
        assert ours.encode_with_offsets(text, add_special=False)[0] == ids
