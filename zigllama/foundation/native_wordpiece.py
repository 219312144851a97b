"""`WordPieces`: the ids of a text's words, each by the longest tokens, in one call; `Forms`: what becomes of each code
point before.

A leaf of native.py's door, to ckernels/core/wordpiece.c. The twin is `zigllama.models.tokenizer_wordpiece`'s
`encode_by_definition`. What it is not: it knows no Unicode; that is in the tables (models/wordpiece_forms.py).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zigllama.errors import ShapeError

from .native import check, ffi, lib
from .native_unigram import PieceTrie

I32 = npt.NDArray[np.int32]
CODE_POINTS: int = lib.ZL_CODE_POINTS
LONGEST_WORD: int = lib.ZL_LONGEST_WORD  # characters
NO_LETTER = 0xFFFFFF  # among elements: marks on its two sides are put in order apart


class Form(IntEnum):
    """What becomes of a code point; see zl_form in zl_text.h."""

    SAME = lib.ZL_FORM_SAME
    ALONE = lib.ZL_FORM_ALONE
    SPACE = lib.ZL_FORM_SPACE
    NOTHING = lib.ZL_FORM_NOTHING
    LETTER = lib.ZL_FORM_LETTER
    ALONE_AS = lib.ZL_FORM_ALONE_AS
    SEVERAL = lib.ZL_FORM_SEVERAL


class Forms(NamedTuple):
    """The page of each 256 code points, uint16 (4352,); entries, uint32 (pages, 256), `Form | value << 3`; elements,
    uint32 (n,): for each value of SEVERAL the number of letters, then these, `code point | class << 24` or NO_LETTER.
    """

    pages: npt.NDArray[np.uint16]
    entries: npt.NDArray[np.uint32]
    elements: npt.NDArray[np.uint32]


class WordPieces:
    """The tokens of a trie, those that begin a word with U+2581 before them; `unknown` is the id of a word that they do
    not make, or of more than LONGEST_WORD characters.

    Raises ShapeError for tables of another shape or type; InvalidArgument for entries that lead out of them, or to more
    letters than a code point has bytes.
    """

    def __init__(self, trie: PieceTrie, unknown: int, forms: Forms) -> None:
        self._shaped("pages", forms.pages, "uint16", (CODE_POINTS // 256,))
        self._shaped("entries", forms.entries, "uint32", (len(forms.entries), 256))
        self._shaped("elements", forms.elements, "uint32", (forms.elements.size,))
        pages, entries, elements = (np.ascontiguousarray(array) for array in forms)
        self._keep = (
            trie,
            ffi.from_buffer("uint16_t[]", pages),
            ffi.from_buffer("uint32_t[]", entries),
            ffi.from_buffer("uint32_t[]", elements),
        )
        self._record = record = ffi.new("zl_wordpiece *")
        record.trie, record.unknown = trie.record, unknown
        record.pages, record.entries, record.elements = self._keep[1:]
        record.n_pages, record.n_elements = len(entries), len(elements)
        check(lib.zl_wordpiece_check(record))

    @staticmethod
    def _shaped(name: str, array: npt.NDArray[Any], dtype: str, shape: tuple[int, ...]) -> None:
        if array.dtype != dtype or array.shape != shape:
            raise ShapeError(f"{name} is {array.dtype} {array.shape}, not {dtype} {shape}")

    def encode(self, text: bytes) -> I32:
        """Ids of a text of UTF-8, int32 (n,). Raises ShapeError for a text of 2 GiB or more; OutOfMemory."""
        ids, n_ids = np.empty(len(text), np.int32), ffi.new("int64_t *")
        check(lib.zl_wordpiece_encode(self._record, text, len(text), ffi.from_buffer("int32_t[]", ids), n_ids))
        return ids[: n_ids[0]]
