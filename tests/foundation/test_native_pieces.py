"""`PieceEncoder`: its words are the twin's; what it refuses."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from zigllama.errors import InvalidArgument, ShapeError
from zigllama.foundation.gguf_metadata import StringArray
from zigllama.foundation.native_pieces import Lacking, PieceEncoder
from zigllama.foundation.native_strings import StringIndex
from zigllama.models.merging import merge

TOKENS = ["a", "b", "\u2581", "\u2581a", "ab", "\u2581ab", "ba", "b\u2581", "<0x63>"]
INDEX = StringIndex(StringArray.from_strings(TOKENS), last=True)
RANKS = np.arange(len(TOKENS), dtype=np.uint32)


def encoder(joinable: str = "b", unknown: int | None = None) -> PieceEncoder:
    before = np.isin(np.arange(256), list(joinable.encode()))
    byte_ids = np.full(256, -1, np.int32)
    byte_ids[ord("c")] = 8
    return PieceEncoder(INDEX, RANKS, before, byte_ids, unknown)


def test_ids_are_those_of_the_text_as_one_word() -> None:
    r, ours = random.Random(0), encoder()
    for _ in range(2000):
        text = "".join(r.choices("aab\u2581c", k=r.randrange(60)))
        symbols = merge([c.encode() for c in text], lambda a, b: INDEX.find(a + b))
        ids, lacking = ours.encode(text.encode())
        assert ids.tolist() == [8 if s == b"c" else INDEX.find(s) for s in symbols]
        assert lacking is None


def test_what_is_no_token() -> None:
    text = "a c\u00e9\u4e16 c".replace(" ", "\u2581").encode()
    ids, lacking = encoder().encode(text)
    assert ids.tolist() == [0, 2, 8, *[-1] * 5, 2, 8] and lacking == Lacking(5, 5, 7)
    ids, lacking = encoder(unknown=99).encode(text)
    assert ids.tolist() == [0, 2, 99, 2, 99] and lacking is None


def test_a_run_of_unknown_characters_goes_on_in_the_next_word() -> None:
    index = StringIndex(StringArray.from_strings(["a"]), last=True)
    none = np.full(256, -1, np.int32)
    ours = PieceEncoder(index, np.zeros(1, np.uint32), np.zeros(256, bool), none, 7)
    assert ours.encode(b"x y x y a x y")[0].tolist() == [7, 0, 7]


def test_arrays_have_their_shapes() -> None:
    wide, narrow = np.zeros(256, np.int32), np.zeros(255, np.int32)
    for ranks, joinable, byte_ids in ((RANKS[1:], wide, wide), (RANKS, narrow, wide), (RANKS, wide, narrow)):
        with pytest.raises(ShapeError, match=r"not \(9,\), \(256,\), \(256,\)"):
            PieceEncoder(INDEX, ranks, joinable.astype(bool), byte_ids, None)


def test_cuts() -> None:
    """Special tokens where they are said to be; what lies between is a text of its own. What cuts must not be."""
    found, lacking = encoder().encode(b"aab<s>ba", np.array([[3, 6, 50]], np.int32))
    assert found.tolist() == [0, 4, 50, 6] and lacking is None
    for cuts in ([[1, 1, 5]], [[0, 9, 5]], [[2, 3, 5], [1, 2, 5]]):
        with pytest.raises(InvalidArgument, match=f"cut {len(cuts) - 1} lies"):
            encoder().encode(b"aab<s>ba", np.array(cuts, np.int32))
    shapes: list[Any] = [np.zeros((1, 2), np.int32), np.zeros((1, 3), np.int64)]
    for wrong in shapes:
        with pytest.raises(ShapeError, match="cuts are"):
            encoder().encode(b"a", wrong)
