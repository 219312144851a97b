"""WordPiece against the library `tokenizers`: every code point, ids of any text, with a small vocabulary and with
MiniLM's; the kernel against its twin, word by word in Python; times that grow with the text."""

from __future__ import annotations

import time
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zigllama.errors import BadMetadata
from zigllama.models.tokenizer import Tokenizer
from zigllama.models.tokenizer_wordpiece import WordPieceEncoder
from zigllama.models.unicode_forms import normalized

tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed")

CONTROL, UNKNOWN, NORMAL = 3, 2, 1
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [
    *(
        f"{mark}{c}"
        for c in "abcdefghijklmnopqrstuvwxyz0123456789\u00e9\u00df\u03c3\u4f60\u3042"
        for mark in ("", "##")
    ),
    *"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~\u00bf\u3002",
    *("un", "##aff", "##able", "the", "##re", "here", "##ness", "##ing", "cat", "dog"),
    *("\u0434\u043e\u043c", "##\u0430", "##\u03c3\u03c3"),
]
NOT_OURS = "\U00011938"  # decomposed since Unicode 13; the library's tables are older


def ours(words: list[str], lower: bool = True, strip: bool | None = None) -> Tokenizer:
    """A vocabulary as GGUF files have it."""
    spelt = [w if w in SPECIAL else w[2:] if w.startswith("##") and len(w) > 2 else "\u2581" + w for w in words]
    keys: dict[str, Any] = {
        "model": "bert",
        "tokens": spelt,
        "token_type": [UNKNOWN if w == "[UNK]" else CONTROL if w in SPECIAL else NORMAL for w in words],
        "cls_token_id": words.index("[CLS]"),
        "seperator_token_id": words.index("[SEP]"),
        "unknown_token_id": words.index("[UNK]"),
        "normalizer.lowercase": lower,
    }
    if strip is not None:
        keys["normalizer.strip_accents"] = strip
    return Tokenizer.from_metadata({f"tokenizer.ggml.{k}": v for k, v in keys.items()})


def theirs(words: list[str], lower: bool = True, strip: bool | None = None) -> Any:
    """The same in the library."""
    ids = {w: i for i, w in enumerate(words)}
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    made.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=lower, strip_accents=strip)
    made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    return made


SMALL = [*SPECIAL, *WORDS]
PAIR = ours(SMALL), theirs(SMALL)
LOWER = tokenizers.normalizers.Lowercase()
TEXT = st.text(
    st.one_of(st.characters(codec="utf-8"), st.sampled_from("abcdeins unaffable\u00e9\u0301\u4f60,.")), max_size=60
)


def test_every_code_point() -> None:
    """Each between two letters: removed, a word of its own, a gap, or part of the word, and in which form."""
    encoder = WordPieceEncoder(PAIR[0]._vocabulary, 1, True, True)
    normalizer, splitter = tokenizers.normalizers.BertNormalizer(), tokenizers.pre_tokenizers.BertPreTokenizer()
    for first in range(0, 0x110000, 256):
        points = [chr(c) for c in range(first, first + 256) if not 0xD800 <= c < 0xE000]
        text = " ".join(f"a{c}b" for c in points if c != NOT_OURS and c.lower() == normalizer_lower(c))
        assert list(encoder.words(text)) == [w for w, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))]


def normalizer_lower(c: str) -> str:
    """A letter newer than this Python has no small form here, and has one there."""
    made: str = LOWER.normalize_str(c)
    return made


@given(text=TEXT)
def test_any_text(text: str) -> None:
    text = text.replace(NOT_OURS, "")
    assert PAIR[0].encode(text, add_special=False) == PAIR[1].encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize(("lower", "strip"), [(False, None), (True, False), (False, True)])
def test_cased_and_with_accents(lower: bool, strip: bool | None) -> None:
    a, b = ours(SMALL, lower, strip), theirs(SMALL, lower, strip)
    for text in ("Unaffable h\u00c9re", "\u00e9\u00df \u03a3\u03c3\u03a3", "CAT cat e\u0301", "\u0130 dog\u0301s"):
        assert a.encode(text, add_special=False) == b.encode(text, add_special_tokens=False).ids, ascii(text)


def of_letters(letters: str, lower: bool, strip: bool) -> WordPieceEncoder:
    """A vocabulary in which each letter is a token, and another one where it goes on a word."""
    encoder = ours([*SPECIAL, *letters, *(f"##{c}" for c in letters)], lower, strip)._encoder
    assert isinstance(encoder, WordPieceEncoder)
    return encoder


SOME_PLANES = (*range(3), 14)  # of the others no code point is assigned, or all are private


@pytest.mark.parametrize(("lower", "strip"), [(True, True), (False, True), (True, False), (False, False)])
def test_every_code_point_is_the_twins(lower: bool, strip: bool) -> None:
    """Between letters, and among marks that stay, whose order NFD changes."""
    twin = of_letters("a", lower, strip)
    for plane in range(17) if lower and strip else SOME_PLANES:
        for first in range(plane << 16, (plane + 1) << 16, 0x4000):
            points = [chr(c) for c in range(first, first + 0x4000) if not 0xD800 <= c < 0xE000 and c != 0x2581]
            text = " ".join(f"a{c}b\u302e{c}\U0001d165" for c in points)
            words = list(twin.words(text))
            encoder = of_letters("".join(sorted({*"".join(words)})), lower, strip)
            starts, rest, _ = encoder._tables
            wanted = [i for w in words for i in (starts[w[0]], *(rest[c] for c in w[1:]))]
            assert encoder.encode(text, True) == wanted, f"U+{first:04X} and on"


MARKED = st.text(
    st.sampled_from(
        "abA\u0130\u03a3 .\u2581\u4f60\u00e9\u0301\u0323\u0f73\u0345\u0488\u302e\u302f\U0001d165\U0001d16d"
        "\uac01\u1fe2\u2260\u2000\ufffd\0\u00ad\u05b0\u08d3\U0001e08f"
    ),
    max_size=40,
)  # fmt: skip


@pytest.mark.parametrize(("lower", "strip"), [(True, True), (False, True), (True, False), (False, False)])
@given(text=st.one_of(MARKED, TEXT))
def test_any_text_is_the_twins(lower: bool, strip: bool, text: str) -> None:
    """With the small vocabulary, and with all letters of this text; the ids with offsets are the same."""
    letters = of_letters("".join(sorted({*"".join(PAIR[0]._encoder.words(text + "x"))})), lower, strip)  # type: ignore[attr-defined]
    for encoder in (letters, ours(SMALL, lower, strip)._encoder):
        assert isinstance(encoder, WordPieceEncoder)
        ids = encoder.encode(text, True)
        assert ids == encoder.encode_by_definition(text) == encoder.encode_with_offsets(text, True)[0]


def test_tokens_that_no_word_has() -> None:
    """One that is no UTF-8, one longer than any word, and one that begins with U+2581 twice; of equal ones the last."""
    tokens = [
        b"[UNK]",
        b"\xe2\x96\x81a",
        b"b\xc3",
        b"b",
        b"b" * 404,
        b"\xe2\x96\x81\xe2\x96\x81",
        b"b",
        b"",
        b"\xe2\x96\x81",
    ]
    keys = {"model": "bert", "tokens": tokens, "token_type": [UNKNOWN, *[NORMAL] * 8], "unknown_token_id": 0}
    t = Tokenizer.from_metadata({f"tokenizer.ggml.{k}": v for k, v in keys.items()})
    for text, wanted in (
        ("ab", [1, 6]),
        ("ab\u00e9", [0]),
        ("\u2581", [5]),
        ("a\u2581", [0]),
        ("\u2581b", [5, 6]),
        ("", []),
    ):
        assert t.encode(text, add_special=False) == wanted, ascii(text)
        assert t._encoder.encode_by_definition(text) == wanted  # type: ignore[attr-defined]


def test_around_a_text_and_back() -> None:
    t = PAIR[0]
    ids = t.encode("Unaffable, here")
    assert (ids[0], ids[-1]) == (t.bos_id, t.eos_id) == (2, 3)
    assert t.decode(ids) == "unaffable , here"
    assert t.encode("[MASK]", add_special=False) != [4] and t.encode(
        "[MASK]", add_special=False, parse_special=True
    ) == [4]
    assert t.encode("") == [2, 3]


def test_words_that_are_too_long_or_not_to_be_spelt() -> None:
    t = PAIR[0]
    assert t.encode("a" * 100, add_special=False) == t.encode("a", add_special=False) + [SMALL.index("##a")] * 99
    assert t.encode("a" * 101, add_special=False) == [1]
    assert t.encode("cat\u0416 cat", add_special=False) == [1, SMALL.index("cat")]


def test_no_token_for_the_unknown() -> None:
    with pytest.raises(BadMetadata, match="unknown_token_id"):
        Tokenizer.from_metadata({"tokenizer.ggml.model": "bert", "tokenizer.ggml.tokens": ["\u2581a"]})


@pytest.mark.parametrize(
    "piece", ["a", " ", "\u0301", "a ", "\u4f60", "!", "\u0301\u0323", "\u0f73", "\u302e\U0001d165", "\uac01"]
)
def test_time_is_linear(piece: str) -> None:
    """Ten megabytes of one thing: a second or so, where the square of its length would be days."""
    start = time.process_time()
    PAIR[0].encode(piece * (10_000_000 // len(piece.encode())))
    assert time.process_time() - start < 30


def test_marks_in_any_order() -> None:
    """Long runs are sorted before NFD is asked: nothing changes but the time."""
    rng = np.random.default_rng(3)
    marks = "\u0301\u0323\u0327\u0f73\u0f75\u0f81\u0344\u0340\u302e\u0488\u3099"
    for n in (40, 100, 300):
        text = "\xe9" + "".join(rng.choice(list(marks), n)) + "a" + "".join(rng.choice(list(marks[:3]), n))
        assert normalized(text, "NFD") == unicodedata.normalize("NFD", text)


@settings(max_examples=100)
@given(text=TEXT)
def test_minilm(minilm_path: Path, text: str) -> None:
    """MiniLM's vocabulary, read from its folder."""
    a, b = _minilm(minilm_path)
    text = text.replace(NOT_OURS, "")
    assert a.encode(text) == b.encode(text).ids


def test_minilm_on_prose(minilm_path: Path) -> None:
    a, b = _minilm(minilm_path)
    for path in sorted((Path(__file__).resolve().parents[1] / "golden" / "texts").glob("*.txt")):
        text = path.read_text("utf-8")
        assert a.encode(text) == b.encode(text).ids, path.name


_KEPT: dict[Path, tuple[Tokenizer, Any]] = {}


def _minilm(folder: Path) -> tuple[Tokenizer, Any]:
    if folder not in _KEPT:
        b = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        b.no_truncation()
        b.no_padding()
        words = (folder / "vocab.txt").read_text("utf-8").split("\n")
        _KEPT[folder] = ours(words[:-1] if not words[-1] else words), b
    return _KEPT[folder]
