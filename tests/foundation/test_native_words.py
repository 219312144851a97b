"""Words and pairs in C against their twins, `re` and `merging.merge`; what is refused; time on long runs."""

from __future__ import annotations

import time
from typing import Any

import dense_vocabulary
import numpy as np
import pytest
import small_vocabularies
from hypothesis import given, settings
from hypothesis import strategies as st

from zigllama.errors import InvalidArgument, ShapeError
from zigllama.foundation.gguf_metadata import StringArray
from zigllama.foundation.native_strings import StringIndex
from zigllama.foundation.native_words import Cut, CutKind, PairEncoder, Whole, WordCutter
from zigllama.models.pretokenizers import PRE_TOKENIZERS, splitter
from zigllama.models.split_automaton import classes_of, cut_of, cutter
from zigllama.models.tokenizer import Tokenizer
from zigllama.models.tokenizer_bpe import BytePairEncoder

DISTINCT = sorted({rule.stages: name for name, rule in PRE_TOKENIZERS.items()}.values())  # one name for each rule
LETTERS = (
    " \n\t\r'sSlLtvVrReEdDmM12a3.,-/$<>`|_\u00e9\u0301\u4e00\u0416\u0436\u0660\u00bd\u093f\u0939\u00a0\u3000\u2028"
    "\uff01\uac00\u01c5\u02b0\u017f\U0001f642\u200d\x00\x1c\x85IMGZAB\u203f\u02f3"
)
TEXT = st.lists(
    st.one_of(
        st.text(LETTERS, max_size=6),
        st.tuples(st.sampled_from(LETTERS), st.integers(1, 20)).map(lambda t: t[0] * t[1]),
        st.characters(exclude_categories=["Cs"]),
        st.sampled_from(["<sentinel:12>", "IMGIMGABZ", "    ", "'ll", "1234567", " " * 600]),
    ),
    max_size=12,
).map("".join)


def words(cutter: WordCutter, text: str) -> list[str]:
    raw = text.encode()
    ends = cutter.ends(raw).tolist()
    return [raw[a:b].decode() for a, b in zip([0, *ends], ends, strict=False)]


@pytest.mark.parametrize("pre", DISTINCT)
@settings(max_examples=30)
@given(text=TEXT)
def test_words_are_the_twins(pre: str, text: str) -> None:
    rule = PRE_TOKENIZERS[pre]
    assert words(cutter(rule), text) == splitter(rule)(text)


@pytest.mark.parametrize("expression", [r"\p{L}+", r"[^\r\n\p{Lu}]?\p{Ll}+", r"\s+(?!\S)"])
def test_classes_are_the_sets(expression: str) -> None:
    """Every code point: those that Python's `re` finds in a set of the expression share its classes."""
    cut = cut_of(expression)
    assert cut.kind is CutKind.EXPRESSION and cut.classes.shape == (0x110000,)
    table, masks = classes_of([((0x41, 0x5A),), ((0x50, 0x60), (0x10FFFF, 0x10FFFF))])
    assert [masks[0] >> int(table[c]) & 1 for c in (0x40, 0x41, 0x5A, 0x5B)] == [0, 1, 1, 0]
    assert [masks[1] >> int(table[c]) & 1 for c in (0x4F, 0x50, 0x60, 0x10FFFE, 0x10FFFF)] == [0, 1, 1, 0, 1]


@pytest.mark.parametrize("pre", ["gpt-2", "llama-bpe", "tekken", "deepseek-v3", "whitespace"])
@settings(max_examples=30)
@given(
    text=st.text(st.one_of(st.sampled_from(dense_vocabulary.TEXT_WITH_ALL), st.characters(exclude_categories=["Cs"])))
)
def test_ids_are_the_twins(pre: str, text: str) -> None:
    encoder = Tokenizer.from_metadata(dense_vocabulary.dense(pre))._encoder
    assert isinstance(encoder, BytePairEncoder)
    assert encoder.encode(text, False) == encoder.encode_by_definition(text)


def raw_vocabulary() -> dict[str, Any]:
    """Gemma 4's kind: merges over characters, byte tokens, runs of newlines."""
    texts = [
        "<pad>",
        "<bos>",
        "\u2581",
        "a",
        "b",
        "\u00e9",
        "\n",
        "\n\n",
        "\n\n\n",
        "ab",
        "\u2581ab",
        "\u2581a",
        "b\u00e9b",
    ]
    texts += [f"<0x{b:02X}>" for b in range(256)]
    return {
        "tokenizer.ggml.model": "gemma4",
        "tokenizer.ggml.tokens": texts,
        "tokenizer.ggml.token_type": [3, 3] + [1] * 11 + [6] * 256,
        "tokenizer.ggml.merges": ["a b", "\u2581 ab", "\u2581 a", "b \u00e9", "b\u00e9 b", "\n \n", "\u4e16 \u754c"],
        "tokenizer.ggml.bos_token_id": 1,
    }


@given(text=st.text("ab \n\u00e9\u4e16\u754c\U0001f642", max_size=60))
def test_raw_ids_are_the_twins_and_come_back(text: str) -> None:
    t = Tokenizer.from_metadata(raw_vocabulary())
    encoder = t._encoder
    assert isinstance(encoder, BytePairEncoder)
    ids = encoder.encode(text, False)
    assert ids == encoder.encode_by_definition(text)
    assert t.decode(ids) == text and t.encode(text) == [1, *ids]


def test_a_symbol_that_is_no_token_falls_into_letters() -> None:
    """Of a merged symbol without a token, the ASCII letters are tokens and the others nothing, as in llama.cpp."""
    metadata: dict[str, Any] = dict(small_vocabularies.bpe())
    tokens = list(metadata["tokenizer.ggml.tokens"])
    metadata["tokenizer.ggml.merges"] = ["x y", "xy \u0120", "q z"]
    t = Tokenizer.from_metadata(metadata)
    assert t.encode("xyxz", add_special=False) == [tokens.index(c) for c in ("x", "y", "x", "z")]


def test_pairs_refuse_what_does_not_fit() -> None:
    tokens = StringIndex(StringArray.from_strings(["a", "b", "ab"]), last=True)
    lone = np.full(256, -1, np.int32)
    with pytest.raises(InvalidArgument, match="merge 1 is not two symbols"):
        PairEncoder(tokens, StringArray.from_strings(["a b", "ab"]), None, lone, Whole.NEVER)
    pairs = PairEncoder(tokens, StringArray.from_strings(["a b", "b c"]), None, lone, Whole.NEVER)
    ids, id_ends = pairs.encode(b"abbab", np.array([3, 5], np.int32))
    assert ids.tolist() == [2, 1, 2] and id_ends.tolist() == [2, 3]
    with pytest.raises(InvalidArgument, match="word 1 ends at byte 2"):
        pairs.encode(b"abbab", np.array([3, 2], np.int32))
    with pytest.raises(InvalidArgument, match="word 1 ends at byte 3, begins at 3"):
        pairs.encode(b"abbab", np.array([3, 3, 5], np.int32))
    with pytest.raises(ShapeError, match=r"ends is int64 \(2,\), not int32 \(n\)"):
        pairs.encode(b"abbab", np.array([3, 5]))
    with pytest.raises(ShapeError, match=r"lone is int32 \(255,\), not int32 \(256\)"):
        PairEncoder(tokens, StringArray.from_strings(["a b"]), None, lone[1:], Whole.NEVER)
    for letters in ("ab", "a" * 255 + "\u0800"):
        with pytest.raises(ShapeError, match="letters, not 256 below"):
            PairEncoder(tokens, StringArray.from_strings(["a b"]), letters, lone, Whole.NEVER)
    long = StringIndex(StringArray.from_strings(["a", "b", "a" * 1025]))
    with pytest.raises(ShapeError, match="too long for spaces to stand for U\\+2581: 1025 bytes"):
        PairEncoder(long, StringArray.from_strings(["a b"]), None, lone, Whole.NEVER, spaces=True)


@given(text=st.text("ab \u2581\n\u4e16c", max_size=60), token=st.booleans())
def test_spaces_that_stay_spaces_change_no_id(text: str, token: bool) -> None:
    """Ids and places, whether U+2581 is a token, so that spaces need not be spelt, or is none."""
    metadata = raw_vocabulary()
    tokens = list(metadata["tokenizer.ggml.tokens"])
    if not token:
        tokens[tokens.index("\u2581")] = "unused"
    t = Tokenizer.from_metadata({**metadata, "tokenizer.ggml.tokens": tokens})
    encoder = t._encoder
    assert isinstance(encoder, BytePairEncoder) and encoder._spaced == token
    ids, places = encoder.encode_with_offsets(text, False)
    assert ids == encoder.encode(text, False) == encoder.encode_by_definition(text)
    assert [a for a, _ in places] == sorted(a for a, _ in places) and (
        not places or places[-1][1] <= len(text.encode())
    )


def test_tables_that_lead_out_of_themselves() -> None:
    cut = cut_of(r"\p{L}+")
    assert cut.next is not None
    bad = cut.next.copy()
    bad[1, 0] = 999
    with pytest.raises(InvalidArgument, match="leads to state 999"):
        WordCutter([Cut(cut.kind, cut.classes, bad)])
    with pytest.raises(ShapeError, match=r"cut 1: classes is uint8 \(1114111,\), not uint8 \(1114112\)"):
        WordCutter([cut, Cut(cut.kind, cut.classes[1:], cut.next)])
    with pytest.raises(ShapeError, match="cut 0: next is int64"):
        WordCutter([Cut(cut.kind, cut.classes, cut.next.astype(np.int64))])
    with pytest.raises(InvalidArgument, match="kind 7"):
        WordCutter([Cut(7, cut.classes)])  # type: ignore[arg-type]


def test_a_look_far_ahead_is_not_repeated() -> None:
    """jais-2 takes 512 spaces at a time, and looks for a newline behind the whole run each time. Eight times the text
    takes about eight times the time, not 64; so do several runs, and the words are the twin's."""
    tables, split = cutter(PRE_TOKENIZERS["jais-2"]), splitter(PRE_TOKENIZERS["jais-2"])

    def seconds(n: int) -> float:
        raw = b" " * n + b"x" + b" " * (n - 1) + b"x\n"
        begin = time.process_time()
        tables.ends(raw)
        return time.process_time() - begin

    assert seconds(1_600_000) < 20 * max(min(seconds(200_000) for _ in range(3)), 5e-3)
    for text in (" " * 5000 + "x" + " " * 3000 + "y", (" " * 2000 + "x") * 3, " " * 1500 + "\n" + " " * 1500 + "\t x"):
        assert words(tables, text) == split(text)


@pytest.mark.parametrize("pre", DISTINCT)
def test_words_take_linear_time(pre: str) -> None:
    """Runs that make a search by trying quadratic: eight times the text, less than 32 times the time."""
    tables = cutter(PRE_TOKENIZERS[pre])
    for unit, end in (
        (" ", "x"),
        ("1", "a"),
        ("\u0301", "\n"),
        ("A", "1"),
        ("\n ", "x"),
        ("\u4e00A", "1"),
        ("<sentinel:1", ""),
    ):

        def seconds(n: int, unit: str = unit, end: str = end) -> float:
            raw = (unit * n + end).encode()
            begin = time.process_time()
            tables.ends(raw)
            return time.process_time() - begin

        assert seconds(80_000) < 32 * max(min(seconds(10_000) for _ in range(3)), 1e-3)
