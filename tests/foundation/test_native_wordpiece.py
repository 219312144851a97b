"""`WordPieces`: small tables written out, and what it refuses. Its twin: tests/models/test_tokenizer_wordpiece.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from zigllama.errors import InvalidArgument, ShapeError
from zigllama.foundation.gguf_metadata import StringArray
from zigllama.foundation.native_unigram import PieceTrie
from zigllama.foundation.native_wordpiece import CODE_POINTS, NO_LETTER, Form, Forms, WordPieces

TOKENS = StringArray.from_strings(["\u2581a", "a", "b", "\u2581.", "\u2581b"])
TRIE = PieceTrie(TOKENS, np.arange(5))


def forms(several: tuple[int, ...] = (), **entries: int) -> Forms:
    """Letters that stay as they are, but for those that are named by their letter, and U+00E9, which is `several`."""
    table = np.zeros((2, 256), np.uint32)
    for letter, entry in entries.items():
        table[1, ord({"dot": ".", "space": " "}.get(letter, letter))] = entry
    if several:
        table[1, 0xE9] = Form.SEVERAL
    pages = np.zeros(CODE_POINTS // 256, np.uint16)
    pages[0] = 1
    return Forms(pages, table, np.array([len(several), *several][: 99 * bool(several)], np.uint32))


def test_each_form() -> None:
    made = forms(
        A=Form.LETTER | ord("a") << 3, B=Form.ALONE_AS | ord("b") << 3, dot=Form.ALONE, space=Form.SPACE, x=Form.NOTHING
    )
    found = WordPieces(TRIE, 7, made).encode(b"axb A.xab B xx zb")
    assert found.tolist() == [0, 2, 0, 3, 0, 2, 4, 7]


def test_marks_are_put_in_order() -> None:
    """`b` and `a` are marks of classes 2 and 1 where U+00E9 has them; what is no letter keeps them apart."""
    b, a = ord("b") | 2 << 24, ord("a") | 1 << 24
    assert WordPieces(TRIE, 7, forms((b, a))).encode("\u00e9".encode()).tolist() == [0, 2]
    assert WordPieces(TRIE, 7, forms((b, NO_LETTER, a))).encode("\u00e9".encode()).tolist() == [4, 1]


@pytest.mark.parametrize(
    ("entry", "why"),
    [(7, "kind 7"), (Form.LETTER | CODE_POINTS << 3, "becomes 1114112"), (Form.SEVERAL | 1 << 3, "element 1 of 0")],
)
def test_entries_that_lead_outside(entry: int, why: str) -> None:
    with pytest.raises(InvalidArgument, match=why):
        WordPieces(TRIE, 7, forms(a=entry))


def test_more_letters_than_bytes() -> None:
    with pytest.raises(InvalidArgument, match=r"U\+00E9 has 2 bytes and becomes 3 letters"):
        WordPieces(TRIE, 7, forms((97, 97, 97)))


def test_arrays_have_their_shapes() -> None:
    good = forms()
    wrong: list[dict[str, Any]] = [
        {"pages": good.pages[1:]},
        {"entries": good.entries.astype(np.int32)},
        {"entries": good.entries.ravel()},
        {"elements": good.elements.astype(np.int64)},
    ]
    for change in wrong:
        with pytest.raises(ShapeError, match=next(iter(change))):
            WordPieces(TRIE, 7, good._replace(**change))
