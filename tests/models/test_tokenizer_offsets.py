"""Streams, places and round trips, for all families of vocabularies: what comes piece by piece is what comes at
once."""

from __future__ import annotations

import base64
import json
import time
import unicodedata
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import small_vocabularies
from hypothesis import given
from hypothesis import strategies as st

from zigllama.errors import InvalidArgument
from zigllama.models.conversion import vocabulary_files
from zigllama.models.tokenizer import StreamDecoder, Tokenizer

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
P = "tokenizer.ggml."


def unigram(name: str) -> dict[str, Any]:
    golden = json.loads((GOLDEN / "tokenizer_unigram.json").read_text("utf-8"))
    words = vocabulary_files._sentencepiece(base64.b64decode(golden["models"][name]["model"]), "tokenizer.model")
    return words.metadata(len(words.tokens))


def word_piece() -> dict[str, Any]:
    tokens = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "<x>",
        *(f"\u2581{c}" for c in "abehlto.,\u4e16"),
        *"abehlto",
        "\u2581the",
    ]
    types = [3, 2, 3, 3, 4] + [1] * (len(tokens) - 5)
    special = {
        f"{P}{name}_token_id": i for name, i in (("unknown", 1), ("cls", 2), ("seperator", 3), ("bos", 2), ("eos", 3))
    }
    return {P + "model": "bert", P + "tokens": tokens, P + "token_type": types, **special}


def raw_pairs() -> dict[str, Any]:
    """Gemma 4's kind: spaces are spelt U+2581, what is no token falls into bytes."""
    tokens = [*"\u2581theab\n", "\u2581a", "\u2581the", "th", "the", *(f"<0x{b:02X}>" for b in range(256))]
    types = [1] * (len(tokens) - 256) + [6] * 256
    merges = ["t h", "th e", "\u2581 the", "\u2581 a"]
    return {P + "model": "gemma4", P + "tokens": tokens, P + "token_type": types, P + "merges": merges}


SPM = small_vocabularies.spm()
MERGED = {**SPM, P + "add_space_prefix": True, P + "remove_extra_whitespaces": True}
VOCABULARIES: dict[str, Any] = {
    "bpe": small_vocabularies.bpe(),
    "bpe-raw": raw_pairs(),
    "spm": SPM,
    "spm-prefix": {**SPM, P + "add_space_prefix": True},
    "spm-merged": MERGED,
    "unigram": unigram("rules"),
    "unigram-bytes": unigram("bytes"),
    "unigram-plain": unigram("plain"),
    "unigram-pieces": unigram("pieces"),
    "wordpiece": word_piece(),
}
TOKENIZERS = {name: Tokenizer.from_metadata(metadata) for name, metadata in VOCABULARIES.items()}
ALL = pytest.mark.parametrize("name", sorted(TOKENIZERS))
TEXT = st.text(
    st.one_of(
        st.sampled_from(" \t\n'a\u2581thelrd.0\u00e9\u4e16\u0301\ufb01\u0130"), st.characters(exclude_categories=["Cs"])
    ),
    max_size=40,
)


@ALL
@given(data=st.data(), special=st.booleans())
def test_a_stream_is_what_decode_gives(name: str, data: st.DataObject, special: bool) -> None:
    """Any ids: from a text's start, and after others, where a space at the start belongs to the text."""
    t = TOKENIZERS[name]
    few = st.integers(0, min(40, t.n_vocab - 1)) | st.integers(0, t.n_vocab - 1)
    ids = data.draw(st.lists(few, max_size=12))
    stream = StreamDecoder(t, special, start=True)
    for _ in range(2):  # a stream that was flushed begins anew
        parts = [stream.push(i) for i in ids]
        assert "".join(parts) + stream.flush() == t.decode(ids, special)
    assert b"".join(map(StreamDecoder(t, special, start=True).push_bytes, ids)) == t.decode_bytes(ids, special)
    before = t.encode("the", add_special=False)
    after = b"".join(map(StreamDecoder(t, special).push_bytes, ids))
    assert t.decode_bytes(before, special) + after == t.decode_bytes([*before, *ids], special)


@ALL
@given(text=TEXT, added=st.booleans(), parse=st.booleans())
def test_places(name: str, text: str, added: bool, parse: bool) -> None:
    """The ids are `encode`'s; places ascend and lie in the text; only what was added has none."""
    t = TOKENIZERS[name]
    ids, places = t.encode_with_offsets(text, added, parse)
    assert ids == t.encode(text, added, parse)
    own = [place for place in places if place is not None]
    assert len(places) - len(own) == (added and t.add_bos) + (added and t.add_eos)
    raw = text.encode()
    assert all(0 <= a <= b <= len(raw) for a, b in own)
    assert all(b <= c for (_, b), (c, _) in pairwise(own))


@pytest.mark.parametrize("name", ["bpe", "bpe-raw", "spm", "spm-prefix"])
@given(text=TEXT)
def test_places_are_the_text(name: str, text: str) -> None:
    """Vocabularies that have every byte, and normalise nothing: places side by side are the text, and each token's
    bytes are those in its place, but for a space that was put before it."""
    t = TOKENIZERS[name]
    ids, places = t.encode_with_offsets(text, add_special=False)
    raw, at = text.encode(), 0
    for i, place in zip(ids, places, strict=True):
        assert place is not None and place[0] == at
        at = place[1]
        own = raw[place[0] : at].replace("\u2581".encode(), b" ") if name != "bpe" else raw[place[0] : at]
        assert t.piece(i).removeprefix(b"" if len(own) == len(t.piece(i)) else b" ") == own
    assert at == len(raw)


@pytest.mark.parametrize("name", ["bpe", "bpe-raw", "spm", "spm-prefix", "unigram-bytes"])
@given(text=st.text(st.characters(exclude_categories=["Cs"])) | TEXT)
def test_round_trip(name: str, text: str) -> None:
    """Every text comes back: exactly for byte-level BPE; SentencePiece spells a space U+2581 and cannot tell the two
    apart; where it normalises, what comes back is the normalised text."""
    t = TOKENIZERS[name]
    want = text if name == "bpe" else text.replace("\u2581", " ")
    if name == "unigram-bytes":
        normalized = t._encoder.normalize(text)  # type: ignore[attr-defined]
        want = normalized.replace("\u2581", " ").lstrip(" ")
    assert t.decode(t.encode(text)) == want


@given(text=TEXT)
def test_places_of_words(text: str) -> None:
    """WordPiece: the text in a token's place, normalised, is the token."""
    t = TOKENIZERS["wordpiece"]
    ids, places = t.encode_with_offsets(text, add_special=False)
    for i, place in zip(ids, places, strict=True):
        assert place is not None and place[0] < place[1]
        if i != t.unknown_id and i != 4:
            piece = text.encode()[slice(*place)].decode()
            bare = "".join(
                c for c in unicodedata.normalize("NFD", piece) if unicodedata.category(c) not in ("Mn", "Cc", "Cf")
            )
            assert bare.lower().strip() == t.piece(i).decode().strip()


def test_places_written_out() -> None:
    t = TOKENIZERS["spm-prefix"]
    ids, places = t.encode_with_offsets("the\n\u4e17", add_special=True)
    assert [t.piece(i) for i in ids] == [b"<bos>", b" the", b"\n", b" ", b"\xe4", b"\xb8", b"\x97"]
    assert places == [None, (0, 3), (3, 4), (4, 4), (4, 5), (5, 6), (6, 7)]
    t = TOKENIZERS["unigram"]
    ids, places = t.encode_with_offsets("  the \u4e16\u4e16  light ")
    assert [t.piece(i) for i in ids][-3:] == [b"<unk>", b" light", b"</s>"]
    assert places[-3:] == [(6, 12), (12, 19), None]
    t = TOKENIZERS["bpe-raw"]
    ids, places = t.encode_with_offsets("\u2581the a<0x41>", add_special=False)
    assert [t.piece(i) for i in ids] == [b" the", b" a", *(bytes((b,)) for b in b"<0x41>")]
    assert places == [(0, 6), (6, 8), *((i, i + 1) for i in range(8, 14))]
    for refused in (t.encode, t.encode_with_offsets, t.encode_inside, lambda text: t.encode_template(text, "\ue000")):
        with pytest.raises(InvalidArgument, match=r"U\+DFFF at character 1"):
            refused("a\udfff")


@pytest.mark.parametrize("kind", [1, 6])
def test_places_where_bytes_have_no_token(kind: int) -> None:
    """A byte without a token is in no place, and what follows is where it stands; a token <0xHH> that the file says is
    a word is still that byte, and looking for its name takes no time."""
    tokens = [*"\u2581a", "\u2581a", *(f"<0x{b:02X}>" for b in b"bc\xc3")]
    metadata = {**raw_pairs(), P + "tokens": tokens, P + "token_type": [1, 1, 1, kind, kind, kind]}
    t = Tokenizer.from_metadata({**metadata, P + "merges": ["\u2581 a"]})
    ids, places = t.encode_with_offsets("da aab\u00e9ca", add_special=False)
    assert ids == [1, 2, 1, 3, 5, 4, 1]
    assert places == [(1, 2), (2, 4), (4, 5), (5, 6), (6, 7), (8, 9), (9, 10)]
    begin = time.process_time()
    assert t.encode_with_offsets("b" * 300_000, add_special=False)[1][-1] == (299_999, 300_000)
    assert time.process_time() - begin < 20  # to look through the rest for each took minutes
