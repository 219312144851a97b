"""NFC and NFD: `unicodedata`'s, whatever its version, in linear time; and where a vocabulary asks for them."""

from __future__ import annotations

import time
import unicodedata
import zlib
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import small_vocabularies
from hypothesis import given
from hypothesis import strategies as st

from zigllama.errors import UnsupportedTokenizer
from zigllama.models.tokenizer import Tokenizer
from zigllama.models.unicode_forms import Form, newer, normalized, with_origin

MARKS = "\u0301\u0323\u0345\u05b0\u0f71\u0f73\u0f75\u0f81\u3099\u0344\u0340\u0bd7\u09be\u1161\u11a8"
TEXT = st.text(
    st.one_of(
        st.sampled_from("ae\u00e9\u1100\uac00\u0b47\u09c7\u304b\u212b\ufb1d \U0001d15e" + MARKS),
        st.characters(exclude_categories=["Cs"]),
    )
)
RUNS = st.lists(st.tuples(st.sampled_from(MARKS + "a"), st.integers(1, 40))).map(
    lambda runs: "".join(c * n for c, n in runs)
)
FORMS = pytest.mark.parametrize("form", ["NFC", "NFD"])


def test_the_version_of_unicode_does_not_matter() -> None:
    """What this Python knows of all characters but those of NEWER is what Python 3.11 knows."""
    known = [
        f"{c:x} {unicodedata.combining(chr(c))} {unicodedata.decomposition(chr(c))}"
        for c in range(0x110000)
        if c not in newer()
        and (unicodedata.combining(chr(c)) or unicodedata.decomposition(chr(c))[:1] not in ("", "<"))
    ]
    hangul = sum(line.split()[0] in {"ac00", "d7a3"} for line in known)  # some versions list them, some make them
    assert hangul in (0, 2)
    lines = [line for line in known if not 0xAC00 <= int(line.split()[0], 16) <= 0xD7A3]
    assert (len(lines), zlib.crc32("\n".join(lines).encode())) == (2969, 3922806830)


@FORMS
@given(text=TEXT | RUNS)
def test_it_is_unicodedatas(form: Form, text: str) -> None:
    if newer().isdisjoint(map(ord, text)):
        assert normalized(text, form) == unicodedata.normalize(form, text)
    parts = text.split("\u0897")  # a mark of Unicode 16 stays, and what stands around it knows nothing of it
    assert normalized("\u0897".join(parts), form) == "\u0897".join(normalized(part, form) for part in parts)


@FORMS
@given(text=TEXT | RUNS)
def test_origins(form: Form, text: str) -> None:
    made, origin = with_origin(text, form)
    assert made == normalized(text, form)
    assert len(origin) == len(made.encode()) + 1 and origin[-1] == len(text.encode()) and (np.diff(origin) >= 0).all()
    if made == text:
        assert origin.tolist() == list(range(len(text.encode()) + 1))


@FORMS
@pytest.mark.parametrize("marks", ["\u0301", "\u0301\u0323", "\u0f71\u0f73", "e\u0301", "\u1100\u1161\u11a8"])
def test_long_runs(form: Form, marks: str) -> None:
    """Four times the text takes about four times the time; 12 leaves room for a busy machine, squares would be 16."""

    def seconds(n: int) -> float:
        start = time.process_time()
        normalized("a" + marks * n, form)
        return time.process_time() - start

    small = min(seconds(20_000) for _ in range(3))
    assert seconds(80_000) < 12 * max(small, 0.01)


PLAIN: dict[str, Any] = dict(small_vocabularies.bpe())
NFC = {**PLAIN, "tokenizer.ggml.normalizer.form": "NFC"}


@given(text=TEXT)
def test_a_vocabulary_that_asks_for_it(text: str) -> None:
    t, plain = Tokenizer.from_metadata(NFC), Tokenizer.from_metadata(PLAIN)
    ids, places = t.encode_with_offsets(text)
    assert ids == t.encode(text) == plain.encode(normalized(text, "NFC"))
    assert t.decode(ids) == normalized(text, "NFC")
    own = [place for place in places if place is not None]
    assert all(0 <= a <= b <= len(text.encode()) for a, b in own) and all(b <= c for (_, b), (c, _) in pairwise(own))


def test_places_in_the_text_as_it_was() -> None:
    t = Tokenizer.from_metadata(NFC)
    ids, places = t.encode_with_offsets("the e\u0301x")
    assert b"".join(map(t.piece, ids)).decode() == "the \u00e9x"
    assert places == [(0, 3), (3, 4), (4, 4), (4, 7), (7, 8)]


def test_a_form_that_is_not_known() -> None:
    with pytest.raises(UnsupportedTokenizer, match=r"normalizer\.form"):
        Tokenizer.from_metadata({**PLAIN, "tokenizer.ggml.normalizer.form": "NFKC"})
