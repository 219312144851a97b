"""tools/tokenizer_differences.py: a difference is known only where its reason makes the other tokenizer's very ids."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from load_tool import load_tool

from zigllama.app.catalogue import cache_dir
from zigllama.models.conversion import vocabulary_files
from zigllama.models.tokenizer import Tokenizer
from zigllama.models.tokenizer_unigram import UnigramEncoder

differences = load_tool("tokenizer_differences")
GOLDEN = Path(__file__).parent.parent / "golden" / "tokenizer_unigram.json"


@pytest.fixture(scope="module")
def falcon() -> tuple[Tokenizer, Any]:
    """Ours and that of `tokenizers`."""
    pytest.importorskip("tokenizers", reason="tokenizers is not installed")
    pytest.importorskip("gguf", reason="gguf is not installed")
    path = cache_dir() / "vocabularies" / "ggml-vocab-falcon.gguf"
    if not path.is_file():
        pytest.skip("llama.cpp's vocabularies are not in the cache; tools/fetch_vocabularies.py fetches them")
    theirs = load_tool("oracle/hf_bpe").tokenizer(path, "falcon", False)
    return Tokenizer(path), lambda text: theirs.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("text", ["\x00\x1c\x00", "\x00\x1c\x00\x1d\x00", "a \x00\x1c\x00 t\x1che"])
def test_gap(falcon: tuple[Tokenizer, Any], text: str) -> None:
    """Falcon has no letter for the byte 1C. `tokenizers` joins what it parts, as if it had not been there; here what
    stands on either side is encoded as with a byte between, which is right: two zeros that were apart stay two."""
    ours, other = falcon
    mine, theirs = ours.encode(text, add_special=False), other(text)
    assert differences.bpe_ids(ours, text, gaps=False, newer=False) == mine
    assert differences.bpe_ids(ours, text, gaps=True, newer=False) == theirs
    assert differences.reason(ours, "tokenizers", text, mine, theirs) == "gap"
    bare = text.replace("\x1c", "").replace("\x1d", "").encode()
    assert b"".join(map(ours.piece, mine)) == b"".join(map(ours.piece, theirs)) == bare
    assert len(mine) > len(theirs)


def test_a_gap_explains_its_own_ids_alone(falcon: tuple[Tokenizer, Any]) -> None:
    """That a text holds such a byte is no reason for whatever else differs."""
    ours, other = falcon
    text = "\x00\x1c\x00 cat"
    mine, theirs = ours.encode(text, add_special=False), other(text)
    assert mine != theirs
    for wrong in ([*theirs, 5], theirs[1:], theirs[::-1], [5], []):
        assert differences.reason(ours, "tokenizers", text, mine, wrong) == ""
    plain = ours.encode("the cat", add_special=False)
    assert differences.reason(ours, "tokenizers", "the cat", plain, [*plain, 5]) == ""


def test_table(falcon: tuple[Tokenizer, Any]) -> None:
    """U+09FD is punctuation since Unicode 10. The rule says \\p{P}, so it is one here and in llama.cpp, which is right;
    `tokenizers` has a table of Unicode 8 for this one stage, and of now for the next."""
    ours, other = falcon
    marks = differences.newer_marks()
    assert "\u09fd" in marks and not set(marks) & set("!?.,\u2014\u3002\u060c")
    for text in ("\n" * 7 + "\u09fdl", "\n\n\u2e52", "a \u2e52b"):
        mine, theirs = ours.encode(text, add_special=False), other(text)
        assert differences.bpe_ids(ours, text, gaps=False, newer=True) == theirs
        assert mine == theirs or differences.reason(ours, "tokenizers", text, mine, theirs) == "table"
        assert mine != theirs or text == "a \u2e52b"
    text = "\n" * 7 + "\u09fdl \x00\x1c\x00"
    mine, theirs = ours.encode(text, add_special=False), other(text)
    assert differences.reason(ours, "tokenizers", text, mine, theirs) == "gap and table"
    assert differences.reason(ours, "tokenizers", text, mine, ours.encode(text[1:], add_special=False)) == ""


def model(name: str) -> tuple[Tokenizer, bytes]:
    raw = base64.b64decode(json.loads(GOLDEN.read_text("utf-8"))["models"][name]["model"])
    words = vocabulary_files._sentencepiece(raw, "tokenizer.model")
    return Tokenizer.from_metadata(words.metadata(len(words.tokens))), raw


def test_tie() -> None:
    """Of eleven quotes, pieces of one and three: any order has the same sum, so both are right; SentencePiece's order
    is that of its sums in float32."""
    ours, raw = model("pieces")
    encoder, text = ours._encoder, '"' * 11
    assert isinstance(encoder, UnigramEncoder)
    mine = ours.encode(text, add_special=False)
    other = [i for i, _ in differences.sentencepiece_search(encoder, encoder.normalize(text).encode())]
    assert mine != other and sorted(mine) == sorted(other)
    assert differences.reason(ours, "sentencepiece", text, mine, other) == "tie"
    third = [mine[0], *mine[:0:-1]]  # has the same sum too, but is not what the other one's search gives
    assert sorted(third) == sorted(mine) and third not in (mine, other)
    assert differences.reason(ours, "sentencepiece", text, mine, third) == ""
    worse = [mine[0], *[ours.encode('"', add_special=False)[-1]] * 11]
    assert differences.reason(ours, "sentencepiece", text, worse, other) == ""  # ours would be the less probable
    sentencepiece = pytest.importorskip("sentencepiece", reason="sentencepiece is not installed")
    assert sentencepiece.SentencePieceProcessor(model_proto=raw).encode(text) == other


def test_a_sum_of_all_but_the_same_size_is_no_tie() -> None:
    """A piece of the least score more or less is within a millionth of a long text's sum, and no tie."""
    ours, _ = model("plain")
    encoder = ours._encoder
    assert isinstance(encoder, UnigramEncoder)
    text = "the light of heaven " * 2
    mine = ours.encode(text, add_special=False)
    assert differences.is_tie(encoder, text, mine, mine)
    assert not differences.is_tie(encoder, text, mine, [*mine[:-1], mine[-1] + 1])
    assert not differences.is_tie(encoder, text, mine, mine[:-1])


@pytest.mark.parametrize("name", ["rules", "plain", "pieces", "inside", "bytes"])
def test_the_search_is_sentencepiece_s(name: str) -> None:
    sentencepiece = pytest.importorskip("sentencepiece", reason="sentencepiece is not installed")
    ours, raw = model(name)
    theirs = sentencepiece.SentencePieceProcessor(model_proto=raw)
    encoder = ours._encoder
    assert isinstance(encoder, UnigramEncoder)
    for text in ("the light of heaven", "\U00010400\U00010400x \u4e16", '"""""""""""+ <x> of', "", "  a  "):
        made = differences.sentencepiece_search(encoder, encoder.normalize(text).encode())
        assert [i for i, _ in made] == theirs.encode(text)
