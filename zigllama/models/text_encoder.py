"""`TextEncoder`: what the families of tokenizers have in common, and how they differ where special tokens meet text.

                          byte-level BPE   SentencePiece BPE   unigram    WordPiece
    cut_out               user-defined     user-defined        none       user-defined
    restarts              -                every special one   control    control, user-defined
    a space goes before   nothing          each part, if the file says so    each word

What it is not: it encodes nothing; tokenizer_bpe.py and the others do.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from zigllama.errors import InvalidArgument

from .vocabulary import CONTROL, UNKNOWN, USER_DEFINED, Vocabulary

Span = tuple[int, int]


def check_text(text: str) -> None:
    """Raise `InvalidArgument` for what is no text, or has a lone surrogate, which no UTF-8 has."""
    if not isinstance(text, str):
        raise InvalidArgument(f"a text is expected, not {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as e:
        surrogate = f"lone surrogate U+{ord(text[e.start]):04X} at character {e.start}"
        raise InvalidArgument(f"text cannot be encoded: {surrogate}") from None


def places(ends: npt.NDArray[np.int32], origin: npt.NDArray[np.int32]) -> list[Span]:
    """Where pieces of a normalised text lie in the text. `ends` (n,): the byte after each piece; `origin`: the byte of
    the text that each byte of the normalised text comes from, and one more for what follows it."""
    if not len(ends):
        return []
    edges = origin[np.append(0, ends)].tolist()
    return list(pairwise(edges))


class TextEncoder(ABC):
    """Text without special tokens to ids, and ids to bytes."""

    vocabulary: Vocabulary
    cut_out: tuple[int, ...] = (USER_DEFINED,)  # kinds of tokens that are cut out of a text before it comes here
    restarts: tuple[int, ...] = (CONTROL, UNKNOWN, USER_DEFINED)  # kinds after which what follows is a part of its own
    strip = False  # whether a space at the start of such a part is not the text's
    merge_spaces = False  # whether that is so of all spaces there

    @abstractmethod
    def encode(self, text: str, after_special: bool) -> list[int]:
        """Ids of a text. `after_special`: it is the first part of a text, or a special token stands before it."""

    def encode_cut(self, raw: bytes, cuts: npt.NDArray[np.int32]) -> list[int] | None:
        """Ids of a whole text of UTF-8 in one go, special tokens where `cuts` has them, int32 (n, 3): first byte, the
        byte after the last, id. None: this encoder wants the parts one by one."""
        return None

    @abstractmethod
    def encode_with_offsets(self, text: str, after_special: bool) -> tuple[list[int], list[Span]]:
        """`encode`, and for each id the first byte of its place in the text's UTF-8 and the byte after the last."""

    @abstractmethod
    def piece(self, i: int, kind: int) -> bytes:
        """The bytes of token `i`, which has type `kind`."""
