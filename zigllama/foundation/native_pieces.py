"""`PieceEncoder`: the ids of a text by SentencePiece's merges, all its words in one call.

A leaf of native.py's door, to ckernels/core/pieces.c. The twin is `zigllama.models.tokenizer_spm`'s
`encode_by_definition`. What it is not: a tokenizer; it normalises nothing and puts nothing before a text.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zigllama.errors import ShapeError

from .native import check, ffi, lib
from .native_strings import StringIndex

I32 = npt.NDArray[np.int32]


class Lacking(NamedTuple):
    """A byte of a text that has no token and needs one, and the first byte of its piece and the byte after it."""

    byte: int
    begin: int
    end: int


class PieceEncoder:
    """Merges by the strings of `index`: of those that two neighbours make the one with the lowest rank goes first.

    ranks      uint32 (n,), one per string
    joinable   bool (256,): whether a byte stands before a space (U+2581) inside a string; no word ends after it
    byte_ids   int32 (256,): the token of each byte, -1 for none
    unknown    what a run of characters that are no token becomes; None: the tokens of their bytes

    Raises ShapeError for arrays of another shape.
    """

    def __init__(
        self,
        index: StringIndex,
        ranks: npt.NDArray[np.uint32],
        joinable: npt.NDArray[np.bool_],
        byte_ids: I32,
        unknown: int | None,
    ) -> None:
        n = len(index.strings)
        if ranks.shape != (n,) or joinable.shape != (256,) or byte_ids.shape != (256,):
            found = f"ranks {ranks.shape}, joinable {joinable.shape}, byte_ids {byte_ids.shape}"
            raise ShapeError(f"{found}, not ({n},), (256,), (256,)")
        self._keep = (
            index,
            ffi.from_buffer("uint32_t[]", np.ascontiguousarray(ranks, np.uint32)),
            ffi.from_buffer("uint8_t[]", np.ascontiguousarray(joinable, np.uint8)),
            ffi.from_buffer("int32_t[]", np.ascontiguousarray(byte_ids, np.int32)),
        )
        self._record = record = ffi.new("zl_pieces *")
        record.tokens = index.record
        record.ranks, record.joinable, record.bytes = self._keep[1:]
        record.unknown = -1 if unknown is None else unknown

    def encode(self, text: bytes, cuts: I32 | None = None) -> tuple[I32, Lacking | None]:
        """Ids of a text of UTF-8, int32 (n,), and the first byte that lacks a token. `cuts`, int32 (n, 3): the first
        byte of each special token, the byte after its last, and its id; what lies between is a text of its own.

        Raises ShapeError for a text of 2 GiB or more, or cuts of another shape; InvalidArgument for cuts that are
        empty, not in their order, or past the text; OutOfMemory.
        """
        if cuts is not None and (cuts.dtype != np.int32 or cuts.shape != (len(cuts), 3)):
            raise ShapeError(f"cuts are {cuts.dtype} {cuts.shape}, not int32 (n, 3)")
        ids, n_ids, lacking = np.empty(len(text), np.int32), ffi.new("int64_t *"), ffi.new("int64_t[3]")
        at = ffi.NULL if cuts is None else ffi.from_buffer("int32_t[]", cuts)
        n_cuts = 0 if cuts is None else len(cuts)
        to = ffi.from_buffer("int32_t[]", ids)
        check(lib.zl_pieces_encode(self._record, text, len(text), at, n_cuts, to, n_ids, lacking))
        return ids[: n_ids[0]], None if lacking[0] < 0 else Lacking(*lacking)
