"""`SimpleTokenizer`: learns what counting says, and is the tokenizer that models run, on the same vocabulary."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import zigllama as zl
from zigllama.errors import IndexOutOfRange, InvalidArgument
from zigllama.models.simple_tokenizer import SimpleTokenizer
from zigllama.models.tokenizer import Tokenizer

GENESIS = (Path(__file__).resolve().parent.parent / "golden" / "texts" / "genesis.txt").read_text("utf-8")
SIMPLE = SimpleTokenizer.train(GENESIS + "\u4e16\u754c\u4e16\u754c" * 3, 200)
REAL = Tokenizer.from_metadata(SIMPLE.metadata())
TEXT = st.text(
    st.one_of(st.sampled_from(" \t\n'thelrandwsofG.0\u4e16\u754c"), st.characters(exclude_categories=["Cs"]))
)


def test_training_by_hand() -> None:
    t = SimpleTokenizer.train("the then there", 2)
    assert t.merges == [(b"h", b"e"), (b"t", b"he")]  # three each of (h, e) and (t, h): the first by its bytes
    assert t.encode("then the") == [257, 110, 32, 257] and t.decode([257, 110]) == "then"
    assert SimpleTokenizer.train("abc", 5).merges == [] == SimpleTokenizer.train("", 5).merges
    assert len(SIMPLE.merges) == 200 and (b" ", b"t") in SIMPLE.merges


@given(text=TEXT)
def test_the_same_as_production(text: str) -> None:
    ids = SIMPLE.encode(text)
    assert REAL.encode(text) == ids
    assert SIMPLE.decode(ids) == text == REAL.decode(ids)


@given(text=st.text("ab ", max_size=60), n=st.integers(0, 12), other=st.text("ab ", max_size=40))
def test_the_same_for_any_training(text: str, n: int, other: str) -> None:
    t = SimpleTokenizer.train(text, n)
    assert Tokenizer.from_metadata(t.metadata()).encode(other) == t.encode(other)


def test_genesis_becomes_shorter() -> None:
    assert len(SIMPLE.encode(GENESIS)) < 0.55 * len(GENESIS.encode())


def test_errors() -> None:
    assert zl.SimpleTokenizer is SimpleTokenizer
    with pytest.raises(IndexOutOfRange, match="token id 456 is not in a vocabulary of 456"):
        SIMPLE.decode([456])
    with pytest.raises(InvalidArgument, match="-1 merges"):
        SimpleTokenizer.train("a", -1)
    for merges in ([(b"a", b"bc")], [(b"a", b"b"), (b"a", b"b")], [(b"", b"a")]):
        with pytest.raises(InvalidArgument, match="merge"):
            SimpleTokenizer(merges)
    for bad in ("a\ud800", b"a", None):
        for read in (SIMPLE.encode, lambda text: SimpleTokenizer.train(text, 1)):
            with pytest.raises(InvalidArgument, match=r"U\+D800 at character 1|a text is expected"):
                read(bad)  # type: ignore[arg-type]
