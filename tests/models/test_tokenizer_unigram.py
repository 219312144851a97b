"""Unigram tokenizers: ids are SentencePiece's, kernels equal their twins, hostile vocabularies get typed errors."""

from __future__ import annotations

import base64
import io
import json
import random
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zigllama.errors import BadMetadata, InvalidArgument, ShapeError
from zigllama.foundation.gguf_metadata import StringArray
from zigllama.foundation.native_unigram import LONGEST_PIECE, CharacterMap, PieceTrie, Spaces, Unigram
from zigllama.models import unigram
from zigllama.models.conversion import vocabulary_files
from zigllama.models.tokenizer import Tokenizer
from zigllama.models.tokenizer_unigram import UnigramEncoder
from zigllama.models.vocabulary import Vocabulary

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
MODELS: dict[str, Any] = json.loads((GOLDEN / "tokenizer_unigram.json").read_text("utf-8"))
P = "tokenizer.ggml."


def metadata_of(raw: bytes) -> dict[str, Any]:
    """A SentencePiece model's vocabulary as the conversion writes it."""
    words = vocabulary_files._sentencepiece(raw, "tokenizer.model")
    return words.metadata(len(words.tokens))


def encoder_of(t: Tokenizer) -> UnigramEncoder:
    assert isinstance(t._encoder, UnigramEncoder)
    return t._encoder


METADATA = {name: metadata_of(base64.b64decode(m["model"])) for name, m in MODELS["models"].items()}
TOKENIZERS = {name: Tokenizer.from_metadata(metadata) for name, metadata in METADATA.items()}


def test_golden_is_from_outside() -> None:
    assert MODELS["about"]["oracle"].startswith("sentencepiece ") and MODELS["about"]["command"]


@pytest.mark.parametrize("name", sorted(METADATA))
def test_golden(name: str) -> None:
    """Normalised texts, ids, and decoded texts: an unknown token gives no text here, " \\u2047 " there."""
    t = TOKENIZERS[name]
    for text, normalized, ids, decoded in MODELS["models"][name]["cases"]:
        assert encoder_of(t).normalize(text) == normalized, ascii(text)
        assert t.encode(text, add_special=False) == ids, ascii(text)
        assert t.encode(text) == [*ids, t.eos_id]
        if t.unknown_id not in ids:
            assert t.decode(ids) == decoded, ascii(text)


def test_long_texts_are_cut_as_short_ones() -> None:
    """A sentence's ids do not depend on what stands before it: sums of float32 lose the difference of two pieces."""
    t = TOKENIZERS["rules"]
    sentence = " " + (GOLDEN / "texts" / "psalm.txt").read_text("utf-8").replace("\n", " ").strip()
    once = t.encode(sentence, add_special=False)
    assert t.encode(sentence * 400, add_special=False) == once * 400


# --- twins ------------------------------------------------------------------------------------------------------------

LETTERS = st.text("ab\u00e9\u2581\U0001f642", min_size=1, max_size=5)


@given(
    pieces=st.dictionaries(LETTERS, st.integers(-12, 0), max_size=30),
    text=st.text("abc\u00e9\u2581\U0001f642\u4e16", max_size=60),
    fallback=st.booleans(),
)
def test_search(pieces: dict[str, int], text: str, fallback: bool) -> None:
    """The kernel gives what the twin gives, ties, runs of unknown characters, bytes and ends included."""
    scores = {p: (i, s / 2) for i, (p, s) in enumerate(pieces.items())}
    want = list[tuple[int, int]]()
    end = 0
    for i, piece in unigram.most_probable(text, scores, -16.0):
        end += len(piece.encode())
        if i is None and fallback:
            raw = piece.encode()
            want += [(1000 + b, end - len(raw) + k + 1) for k, b in enumerate(raw)]
        elif i is None and want and want[-1][0] == 999:
            want[-1] = (999, end)
        else:
            want.append((999 if i is None else i, end))
    trie = PieceTrie(StringArray.from_strings(list(pieces)), np.arange(len(pieces)))
    by = np.array([s for _, s in scores.values()], np.float32)
    byte_ids = np.arange(1000, 1256, dtype=np.int32) if fallback else None
    ids, ends = Unigram(trie, by, -16.0, 999, byte_ids).encode(text.encode(), with_ends=True)
    assert ends is not None and list(zip(ids.tolist(), ends.tolist(), strict=True)) == want


UNITS, REPLACEMENTS = Vocabulary(METADATA["rules"]).charsmap
assert UNITS is not None
TABLE = unigram.key_values(UNITS.tolist(), REPLACEMENTS)
NORMALIZED = st.text("ae\u0301\u0323 \u2581\ufb01\ufdfa\u200b\u3000\t\uff76\uff9e\u2026x\U0001f642\x00", max_size=30)


def test_the_map_is_the_rules() -> None:
    assert TABLE["\ufb01".encode()] == b"fi" and TABLE["e\u0301\u0323".encode()] == b"x" and len(TABLE) == 11


def test_a_map_in_a_circle_has_no_keys() -> None:
    """A unit that is its own child, by way of another: a key is as long as one likes."""
    units = np.zeros(512, np.uint32)
    units[0] = 256 << 10  # children at 256 ^ byte
    units[256 ^ ord("r")] = ord("r") | (256 ^ ord("r") ^ 300 ^ ord("s")) << 10
    units[300] = ord("s") | (300 ^ 256) << 10
    with pytest.raises(ValueError, match="more than 1024 bytes"):
        unigram.key_values(units.tolist(), b"\0")


@given(
    text=NORMALIZED,
    kept=st.lists(st.text("a \u2581x\ufb01e", min_size=1, max_size=3), max_size=3),
    spaces=st.tuples(*[st.booleans()] * 3),
)
def test_normalization(text: str, kept: list[str], spaces: tuple[bool, bool, bool]) -> None:
    """The kernel gives what the twin gives; origins rise, and what is copied is from its own byte."""
    raw = [k.encode() for k in kept]
    trie = PieceTrie(StringArray.from_strings(kept), np.arange(len(kept))) if kept else None
    table = CharacterMap(Spaces(*spaces), UNITS, REPLACEMENTS, trie)
    source = text.encode()
    room = table.room(source)
    out, origin = table.apply(source, room, with_origin=True)
    assert out.tobytes() == unigram.normalize(source, TABLE, raw, *spaces)
    assert origin is not None and len(origin) == len(out) + 1 and (np.diff(origin) >= 0).all()
    if not any(c in text for c in "e\u0301\ufb01\ufdfa\u3000\t\uff76\uff9e\u2026 \u2581"):  # all is copied or goes
        assert [source[i] for i in origin[:-1].tolist() if i < len(source)][-len(out) :] == list(out) or spaces[0]
    assert np.array_equal(table.apply(source, room)[0], out)


# --- against SentencePiece itself -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"byte_fallback": True, "vocab_size": 560}, {"user_defined_symbols": ["<x>", "of", "  "]}]
)
def test_against_sentencepiece(options: dict[str, Any]) -> None:
    """Random texts through a model trained here with NFKC: the same ids, or others with the same sum of scores, of
    which SentencePiece's float32 chooses one by what stands before."""
    sentencepiece = pytest.importorskip("sentencepiece", reason="sentencepiece is not installed")
    model = io.BytesIO()
    settings = {"vocab_size": 300, "model_type": "unigram", "hard_vocab_limit": False, "minloglevel": 2} | options
    lines = (GOLDEN / "texts" / "genesis.txt").read_text("utf-8").split("\n")
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=model, **settings)
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    metadata = metadata_of(model.getvalue())
    ours, scores = Tokenizer.from_metadata(metadata), metadata[P + "scores"]
    r = random.Random(0)
    alphabets = [
        "the of and light ",
        " \u2581  ",
        "\u0301\u0308\u0323ea",
        "\u4e16\uff71\uff8a\uff9e\u3316",
        "\ufdfa\ufb01\u2460\u00bd",
        "<x>of ",
    ]
    ties = 0
    for _ in range(3000):
        text = "".join(
            r.choice(r.choice(alphabets)) if r.random() < 0.95 else chr(r.randrange(0xD800))
            for _ in range(r.randrange(40))
        )
        want, found = theirs.encode(text), ours.encode(text, add_special=False)
        assert encoder_of(ours).normalize(text) == theirs.normalize(text)
        if want != found:
            ties += 1
            assert sum(scores[i] for i in want) == pytest.approx(sum(scores[i] for i in found), abs=1e-3)
    assert ties < 10


# --- special tokens, hostile files ------------------------------------------------------------------------------------


def test_control_tokens_only_on_request() -> None:
    t = TOKENIZERS["pieces"]
    mask = METADATA["pieces"][P + "tokens"].index("<mask>")
    assert mask not in t.encode("a<mask>b")
    parsed = t.encode("the<mask>light", add_special=False, parse_special=True)
    assert parsed == [*t.encode("the", False), mask, *t.encode("light", False)]
    assert t.decode(parsed) == "thelight" and t.decode(parsed, special=True) == "the<mask>light"


def test_inside_a_text_there_is_no_prefix() -> None:
    t = TOKENIZERS["rules"]
    assert t.decode(t.encode_inside("light")) == "light" and t.encode_inside("light") != t.encode("light", False)


def changed(name: str, **keys: Any) -> dict[str, Any]:
    return {**METADATA[name], **{P + k: v for k, v in keys.items()}}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("precompiled_charsmap", [1, 2, 300], "bytes"),
        ("precompiled_charsmap", "abc", "array"),
        ("precompiled_charsmap", [8, 0, 0, 0, 1, 2, 3, 4], "8 bytes, its double array has 8"),
        ("precompiled_charsmap", [255, 255, 255, 255] + [0] * 9, "double array"),
        ("precompiled_charsmap", [4, 0, 0, 0, 0, 4, 0, 0, 0], "leads outside its 1 units"),
        ("remove_extra_whitespaces", 3, "true or false"),
        ("unknown_token_id", 100_000, "unknown_token_id"),
    ],
)
def test_bad_metadata(key: str, value: Any, message: str) -> None:
    with pytest.raises(BadMetadata, match=message):
        Tokenizer.from_metadata(changed("rules", **{key: value})).encode("the light")


@pytest.mark.parametrize("score", [float("inf"), float("-inf"), float("nan")])
def test_scores_that_are_no_numbers(score: float) -> None:
    scores = list(METADATA["rules"][P + "scores"])
    scores[7] = score
    with pytest.raises(BadMetadata, match="score 7"):
        Tokenizer.from_metadata(changed("rules", scores=scores)).encode("a")


def test_pieces_have_a_longest() -> None:
    tokens = list(METADATA["rules"][P + "tokens"])
    tokens[9] = "x" * (LONGEST_PIECE + 1)
    with pytest.raises(BadMetadata, match=f"token 9 has {LONGEST_PIECE + 1} bytes"):
        Tokenizer.from_metadata(changed("rules", tokens=tokens)).encode("a")
    tokens[9] = "x" * LONGEST_PIECE
    assert 9 in Tokenizer.from_metadata(changed("rules", tokens=tokens)).encode("x" * LONGEST_PIECE)


def test_a_byte_without_a_token() -> None:
    types = list(METADATA["bytes"][P + "token_type"])
    types[METADATA["bytes"][P + "tokens"].index("<0x41>")] = 5
    with pytest.raises(BadMetadata, match="255 tokens of bytes, none for byte 0x41"):
        Tokenizer.from_metadata(changed("bytes", token_type=types)).encode("a")


def test_a_map_that_floods() -> None:
    """A letter that becomes hundreds: told before memory is taken."""
    units = np.full(512, 0xFFFFFFFF, np.uint32)
    units[0] = 256 << 10
    units[256 ^ 97] = ((256 ^ 97 ^ 500) << 10) | 256 | 97
    units[500] = 1 << 31
    raw = struct.pack("<I", 2048) + units.tobytes() + b"x" * 1000 + b"\0"
    t = Tokenizer.from_metadata(changed("rules", precompiled_charsmap=np.frombuffer(raw, np.uint8)))
    assert t.encode("bbb")
    with pytest.raises(BadMetadata, match="makes 1000003 bytes of a text of 1000"):
        t.encode("a" * 1000)


def test_a_map_that_goes_in_a_circle() -> None:
    """A unit that is its own child is a key without an end, a replacement of megabytes is read for each letter: a text
    of some thousand letters would take minutes."""
    units = np.full(512, 0xFFFFFFFF, np.uint32)
    units[0] = 256 << 10
    units[256 ^ 97] = (97 << 10) | 97
    units[256 ^ 98] = ((256 ^ 98 ^ 500) << 10) | 256 | 98
    units[500] = 1 << 31
    raw = struct.pack("<I", 2048) + units.tobytes() + b" " * 1025 + b"\0"
    t = Tokenizer.from_metadata(changed("rules", precompiled_charsmap=np.frombuffer(raw, np.uint8)))
    assert t.encode("a" * 1000)
    with pytest.raises(BadMetadata, match=r"byte 1 of a text leads .* to a key of more than 1024 bytes"):
        t.encode("c" + "a" * 100_000)
    with pytest.raises(BadMetadata, match="replacement 0 does not end in 1026 bytes, nor after 1024"):
        t.encode("b" * 1000)


@given(seed=st.integers(0, 2**32), text=NORMALIZED)
def test_maps_of_noise(seed: int, text: str) -> None:
    """A map of any bytes gives a text or an error, in time that the text bounds."""
    r = np.random.default_rng(seed)
    assert UNITS is not None
    units = UNITS.copy()
    at = r.integers(0, len(units), 20)
    units[at] = r.integers(0, 2**32, 20, np.uint32)
    table = CharacterMap(Spaces(True, True), units, REPLACEMENTS[: int(r.integers(1, len(REPLACEMENTS)))])
    try:
        room = table.room(text.encode())
    except InvalidArgument:
        return
    assert len(table.apply(text.encode(), room)[0]) <= room


def test_numbers_that_do_not_fit() -> None:
    strings = StringArray.from_strings(["a", "b"])
    with pytest.raises(InvalidArgument, match="piece 2 of 2"):
        PieceTrie(strings, np.array([0, 2]))
    with pytest.raises(ShapeError, match="at most 1024"):
        PieceTrie(StringArray.from_strings(["x" * 1025]), np.array([0]))
    trie = PieceTrie(strings, np.array([0, 1]))
    with pytest.raises(ShapeError, match="3 scores for 2 strings"):
        Unigram(trie, np.zeros(3, np.float32), -10, 0)
    with pytest.raises(InvalidArgument, match="score 1 is not finite"):
        Unigram(trie, np.array([0, np.inf], np.float32), -10, 0)
    for unknown in (-1e39, float("nan")):
        with pytest.raises(InvalidArgument, match=f"the unknown score {unknown} is not".replace("+", ".")):
            Unigram(trie, np.zeros(2, np.float32), unknown, 0)


@pytest.mark.parametrize("letter", ["a", " ", "\u0301", "\n", "\ufdfa", "\x00", "\u4e16"])
@pytest.mark.parametrize("name", ["rules", "bytes", "pieces", "plain"])
def test_long_runs(name: str, letter: str) -> None:
    """Four times the text takes about four times the time; 12 leaves room for a busy machine, squares would be 16."""
    t = TOKENIZERS[name]

    def seconds(n: int) -> float:
        start = time.process_time()
        t.encode(letter * n)
        return time.process_time() - start

    small = min(seconds(10_000) for _ in range(3))
    assert min(seconds(40_000) for _ in range(3)) < 12 * max(small, 0.02)
