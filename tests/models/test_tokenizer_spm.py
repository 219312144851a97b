"""SentencePiece BPE against `sentencepiece`: a model trained here, with every option about spaces and its map of
characters."""

from __future__ import annotations

import io
import random
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import small_vocabularies
from hypothesis import given
from hypothesis import strategies as st

from zigllama.errors import BadMetadata
from zigllama.models.conversion import vocabulary_files
from zigllama.models.tokenizer import Tokenizer
from zigllama.models.tokenizer_spm import SentencePieceEncoder

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


# --- where the file normalises ----------------------------------------------------------------------------------------


def trained(**options: Any) -> tuple[Any, dict[str, Any]]:
    """A SentencePiece BPE model trained here, and its vocabulary as the conversion writes it."""
    sentencepiece = pytest.importorskip("sentencepiece", reason="sentencepiece is not installed")
    model = io.BytesIO()
    settings = {"vocab_size": 300, "model_type": "bpe", "hard_vocab_limit": False, "minloglevel": 2} | options
    lines = GENESIS.read_text("utf-8").split("\n")
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=model, **settings)
    words = vocabulary_files._sentencepiece(model.getvalue(), "tokenizer.model")
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue()), words.metadata(len(words.tokens))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"user_defined_symbols": ["<x>", "of", "==", "o", "é"]},
        {"user_defined_symbols": ["<x>", "of"], "byte_fallback": True, "vocab_size": 600},
        {"user_defined_symbols": ["<x>", "of"], "add_dummy_prefix": False},
    ],
)
def test_against_sentencepiece(options: dict[str, Any]) -> None:
    """A text is normalised whole, user-defined pieces apart, and then cut: spaces stay where they are."""
    theirs, metadata = trained(**options)
    ours = Tokenizer.from_metadata(metadata)
    r = random.Random(0)
    alphabets = ["the of and light ", " \u2581  ", "<x>of ", "éa\ufb01\u3316", "==  "]
    for _ in range(3000):
        drawn = [
            r.choice(["<x>", "of", "=="]) if r.random() < 0.15 else r.choice(r.choice(alphabets)) for _ in range(30)
        ]
        text = "".join(drawn[: r.randrange(30)])
        want = theirs.encode(text)
        assert ours.encode(text, add_special=False) == want, ascii(text)
        ids, places = ours.encode_with_offsets(text, add_special=False)
        assert ids == want and all(a is not None and a[0] <= a[1] for a in places)
        assert ours.unknown_id in want or ours.decode(want) == theirs.decode(want)


def test_unknown_characters_are_one_token_a_run() -> None:
    _, metadata = trained()
    t = Tokenizer.from_metadata(metadata)
    unknown = t.unknown_id
    assert t.encode("a\u4e16\u754cb", add_special=False).count(unknown or 0) == 1
    del metadata["tokenizer.ggml.unknown_token_id"]
    with pytest.raises(BadMetadata, match="no token for byte 0xE4"):
        Tokenizer.from_metadata(metadata).encode("a\u4e16b")


def test_a_user_defined_piece_has_a_longest() -> None:
    _, metadata = trained(user_defined_symbols=["<x>"])
    tokens = list(metadata["tokenizer.ggml.tokens"])
    tokens[tokens.index("<x>")] = "x" * 1025
    with pytest.raises(BadMetadata, match="1025 bytes"):
        Tokenizer.from_metadata(metadata | {"tokenizer.ggml.tokens": tokens})


@given(text=st.text("the ofand\u2581.\n\u00e9\u4e16\U0001f642", min_size=1, max_size=80), prefix=st.booleans())
def test_ids_are_the_twins(text: str, prefix: bool) -> None:
    """All words in one call, or each by itself; with spaces spelt in the index or in the text."""
    for tokens in (None, "\u2581"):
        metadata: dict[str, Any] = {**small_vocabularies.spm(), "tokenizer.ggml.add_space_prefix": prefix}
        if tokens:
            names = list(metadata["tokenizer.ggml.tokens"])
            names[names.index(tokens)] = "unused"
            metadata["tokenizer.ggml.tokens"] = names
        encoder = Tokenizer.from_metadata(metadata)._encoder
        assert isinstance(encoder, SentencePieceEncoder) and (encoder._spaced is None) == bool(tokens)
        assert encoder.encode(text, True) == encoder.encode_by_definition(text, True)
