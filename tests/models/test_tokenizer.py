"""Tokenizers: ids are the oracle's, decoding gives the text back, bad metadata and bad text get typed errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_vocabularies
from hypothesis import given
from hypothesis import strategies as st

from zigllama.errors import BadMetadata, IndexOutOfRange, InvalidArgument, UnsupportedTokenizer
from zigllama.models.tokenizer import StreamDecoder, Tokenizer

GOLDEN = Path(__file__).resolve().parent.parent / "golden"

BPE = Tokenizer.from_metadata(small_vocabularies.bpe())
SPM = Tokenizer.from_metadata(small_vocabularies.spm())
SMALL = pytest.mark.parametrize("t", [BPE, SPM], ids=["bpe", "spm"])

TEXT = st.text(
    st.one_of(st.sampled_from(" \t\n'a\u2581thelrd.0\u00e9\u4e16"), st.characters(exclude_categories=["Cs"]))
)


@SMALL
@given(text=TEXT)
def test_round_trip(t: Tokenizer, text: str) -> None:
    """Decoding gives the text back. SentencePiece spells a space U+2581 and cannot tell the two apart."""
    want = text.replace("\u2581", " ") if t is SPM else text
    ids = t.encode(text)
    assert t.decode(ids) == want
    stream = StreamDecoder(t)
    assert "".join(map(stream.push, ids)) + stream.flush() == want


def test_small_ids() -> None:
    """Words of the small vocabularies are one token each."""
    assert [BPE.piece(i) for i in BPE.encode("the heaven and 12")] == [b"the", b" heaven", b" and", b" ", b"1", b"2"]
    assert [SPM.piece(i) for i in SPM.encode("the heaven \u4e17")] == (
        [b"<bos>", b"the", b" heaven", b" ", b"\xe4", b"\xb8", b"\x97"]
    )


@SMALL
def test_control_tokens_only_on_request(t: Tokenizer) -> None:
    """A typed control token is text; with `parse_special` it is the token."""
    name = t.piece(t.eos_id or 0).decode()
    assert t.eos_id not in t.encode(name)
    assert t.encode(f"a{name}the", add_special=False, parse_special=True)[1] == t.eos_id
    assert t.decode(t.encode(name)) == name
    assert t.decode(t.encode(name, parse_special=True)) == ""
    assert t.decode(t.encode(name, add_special=False, parse_special=True), special=True) == name


def test_lone_surrogate() -> None:
    with pytest.raises(InvalidArgument, match=r"U\+D800 at character 2"):
        BPE.encode("ab\ud800")


@SMALL
def test_id_out_of_range(t: Tokenizer) -> None:
    for bad in (-1, t.n_vocab):
        with pytest.raises(IndexOutOfRange):
            t.decode([bad])


@pytest.mark.parametrize("name", ["smollm2", "gemma3-270m"])
def test_real_ids(name: str, request: pytest.FixtureRequest) -> None:
    """llama.cpp's ids of the golden texts."""
    t = Tokenizer(request.getfixturevalue({"smollm2": "smollm2_path", "gemma3-270m": "gemma3_path"}[name]))
    golden: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text("utf-8"))
    for text_name, about in golden["texts"].items():
        text = (GOLDEN / "texts" / f"{text_name}.txt").read_text("utf-8")
        ids = t.encode(text)
        assert ids[: len(about["ids"])] == about["ids"], text_name
        assert t.decode(ids) == text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("eos_token_id", 100_000),
        ("bos_token_id", -1),
        ("eot_token_id", "2"),
        ("tokens", []),
        ("tokens", "abc"),
        ("token_type", [1]),
        ("merges", None),
        ("merges", ["ab"]),
        ("merges", ["a b", "a "]),
        ("add_bos_token", 3),
    ],
)
def test_bad_bpe(key: str, value: Any) -> None:
    metadata = {**small_vocabularies.bpe(), f"tokenizer.ggml.{key}": value}
    with pytest.raises(BadMetadata, match=key):
        Tokenizer.from_metadata(metadata).encode("the")


@pytest.mark.parametrize("text", ["<0x-1>", "<0xG0>", "<0x100>", "0x10", "<0x+1>", "<0x 1>", "<0x1_>"])
def test_bad_byte_token(text: str) -> None:
    metadata: dict[str, Any] = dict(small_vocabularies.spm())
    tokens = list(metadata["tokenizer.ggml.tokens"])
    tokens[tokens.index("<0x10>")] = text
    with pytest.raises(BadMetadata, match="BYTE"):
        Tokenizer.from_metadata({**metadata, "tokenizer.ggml.tokens": tokens})


@pytest.mark.parametrize(
    ("model", "why"),
    [
        ("hybriddna", "DNA"),
        ("whitespace", "spaces"),
        ("rwkv", "RWKV"),
        ("plamo2", "suffixes"),
        ("none", "no tokenizer"),
    ],
)
def test_models_of_other_architectures_are_refused_by_name(model: str, why: str) -> None:
    metadata = small_vocabularies.bpe() | {"tokenizer.ggml.model": model}
    with pytest.raises(UnsupportedTokenizer, match=rf"{model}'; .*{why}.*must be gpt2"):
        Tokenizer.from_metadata(metadata)


def test_unknown_names() -> None:
    """Nothing is guessed: model and pre-tokenizer must be known, or the latter passed."""
    metadata: dict[str, Any] = dict(small_vocabularies.bpe())
    with pytest.raises(UnsupportedTokenizer, match="pre="):
        Tokenizer.from_metadata({**metadata, "tokenizer.ggml.pre": "of-next-year"})
    del metadata["tokenizer.ggml.pre"]
    with pytest.raises(UnsupportedTokenizer, match="pre="):
        Tokenizer.from_metadata(metadata)
    assert Tokenizer.from_metadata(metadata, pre="smollm").encode("the 1") == BPE.encode("the 1")
    with pytest.raises(UnsupportedTokenizer, match="wordpiece"):
        Tokenizer.from_metadata({**metadata, "tokenizer.ggml.model": "wordpiece"})


def test_names_that_are_passed() -> None:
    """One that is nearly known is told, one that would mean nothing is refused, not left aside."""
    with pytest.raises(UnsupportedTokenizer, match=r"did you mean 'smollm'\? .*pass the one it behaves like as pre="):
        Tokenizer.from_metadata(small_vocabularies.bpe(), pre="smolm")
    for metadata in (small_vocabularies.spm(), small_vocabularies.wordpiece()):
        with pytest.raises(InvalidArgument, match="pre='qwen2' means nothing to a tokenizer of the model"):
            Tokenizer.from_metadata(metadata, pre="qwen2")
    with pytest.raises(InvalidArgument, match="by its name, not list"):
        Tokenizer.from_metadata(small_vocabularies.bpe(), pre=["qwen2"])  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [None, b"ab", 5, ["a"]])
@pytest.mark.parametrize("t", [BPE, SPM], ids=["bpe", "spm"])
def test_what_is_no_text(t: Tokenizer, bad: Any) -> None:
    for encode in (t.encode, t.encode_with_offsets, t.encode_inside):
        with pytest.raises(InvalidArgument, match=f"a text is expected, not {type(bad).__name__}"):
            encode(bad)


@pytest.mark.parametrize("bad", [["a"], [None], [1.0], [True], [[1]], np.ones(1), "ab", b"ab", 5, None])
@pytest.mark.parametrize("t", [BPE, SPM], ids=["bpe", "spm"])
def test_what_is_no_id(t: Tokenizer, bad: Any) -> None:
    with pytest.raises(InvalidArgument, match="whole number"):
        t.decode(bad)
    if isinstance(bad, list):
        for read in (t.piece, StreamDecoder(t).push):
            with pytest.raises(InvalidArgument, match=f"whole number, not {type(bad[0]).__name__}"):
                read(bad[0])
    assert t.decode(np.array(t.encode("the"))) == "the"
