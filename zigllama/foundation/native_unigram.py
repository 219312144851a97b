"""`PieceTrie`: a trie over strings; `Unigram`: a text's most probable pieces; `CharacterMap`: what a text is before.

A leaf of native.py's door, to ckernels/core/unigram.c. The twins are `zigllama.models.unigram`, in plain Python.
What it is not: a tokenizer; that is `zigllama.models.tokenizer_unigram`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zigllama.errors import InvalidArgument, ShapeError

from .gguf_metadata import StringArray
from .native import check, ffi, lib
from .native_strings import strings_record

I32 = npt.NDArray[np.int32]
U8 = npt.NDArray[np.uint8]
LONGEST_PIECE: int = lib.ZL_LONGEST_PIECE  # bytes


class PieceTrie:
    """A trie over the strings with the numbers `chosen`, int32 (n,); of equal strings the one chosen last is found.

    Raises ShapeError for a string of more than LONGEST_PIECE bytes, InvalidArgument for a number out of range.
    """

    def __init__(self, strings: StringArray, chosen: npt.NDArray[np.integer[Any]]) -> None:
        order = np.array(chosen, np.int32)
        inside = order[(order >= 0) & (order < len(strings))]
        room = 1 + int(strings.lengths[inside].sum())
        first, label, token = np.empty(room + 1, np.int32), np.empty(room, np.uint8), np.empty(room, np.int32)
        self._keep: list[Any] = []
        self.record = record = ffi.new("zl_trie *")
        record.room = room
        for name, array, kind in (("first", first, "int32_t *"), ("label", label, "uint8_t *")):
            self._keep.append(ffi.from_buffer(array))
            setattr(record, name, ffi.cast(kind, self._keep[-1]))
        self._keep.append(ffi.from_buffer(token))
        record.token = ffi.cast("int32_t *", self._keep[-1])
        self.strings = strings_record(strings, self._keep)
        spare = np.empty(len(order), np.int32)
        pointers = ffi.from_buffer("int32_t[]", order), len(order), ffi.from_buffer("int32_t[]", spare)
        check(lib.zl_trie_build(record, self.strings, *pointers))

    def places(self, text: bytes) -> I32:
        """Where the strings stand in a text of UTF-8, int32 (n, 3): first byte, the byte after the last, number.

        The longest are taken first, over the whole text; of one length the one with the lowest number; each from the
        left, in what is not taken yet. Raises ShapeError for a text of 2 GiB or more; OutOfMemory.
        """
        found, n = np.empty((len(text), 3), np.int32), ffi.new("int64_t *")
        check(lib.zl_specials_find(self.record, text, len(text), ffi.from_buffer("int32_t[]", found), n))
        return found[: n[0]]


class Unigram:
    """Viterbi search over the pieces of a trie. `scores` float32, one per string of the trie's array.

    A character that is no piece has `unknown_score` and becomes `unknown_id`, runs of them one token; with `byte_ids`,
    int32 (256,), the tokens of its bytes. Raises ShapeError, and InvalidArgument for a score that is not finite.
    """

    def __init__(
        self,
        trie: PieceTrie,
        scores: npt.NDArray[np.float32],
        unknown_score: float,
        unknown_id: int,
        byte_ids: I32 | None = None,
    ) -> None:
        if scores.shape != (trie.strings.n,) or (byte_ids is not None and byte_ids.shape != (256,)):
            raise ShapeError(f"{scores.size} scores for {trie.strings.n} strings, or not 256 tokens of bytes")
        if not abs(unknown_score) <= float(np.finfo(np.float32).max):
            raise InvalidArgument(f"unigram: the unknown score {unknown_score} is not finite in float32")
        if not np.isfinite(scores).all():
            raise InvalidArgument(f"unigram: score {int(np.argmin(np.isfinite(scores)))} is not finite")
        self._record = record = ffi.new("zl_unigram *")
        self._keep: list[Any] = [trie, ffi.from_buffer("float[]", np.ascontiguousarray(scores, np.float32))]
        record.trie, record.strings, record.scores = trie.record, trie.strings, self._keep[1]
        record.unknown_score, record.unknown_id = unknown_score, unknown_id
        if byte_ids is not None:
            self._keep.append(ffi.from_buffer("int32_t[]", np.ascontiguousarray(byte_ids, np.int32)))
            record.byte_ids = self._keep[2]

    def encode(self, text: bytes | U8, with_ends: bool = False) -> tuple[I32, I32 | None]:
        """Ids int32 (n,) of a text of UTF-8, and where they are wanted the byte after each, int32 (n,).

        Raises ShapeError for a text of 2 GiB or more.
        """
        ids = np.empty(len(text), np.int32)
        ends = np.empty(len(text), np.int32) if with_ends else None
        n_ids = ffi.new("int64_t *")
        to = ffi.NULL if ends is None else ffi.from_buffer("int32_t[]", ends)
        source = ffi.from_buffer("uint8_t[]", text)
        check(lib.zl_unigram_encode(self._record, source, len(text), ffi.from_buffer("int32_t[]", ids), to, n_ids))
        return ids[: n_ids[0]], None if ends is None else ends[: n_ids[0]]


class Spaces(NamedTuple):
    """What becomes of spaces: one before a text; none at its ends and one for several; written as U+2581."""

    prefix: bool
    merge: bool
    escape: bool = True


class CharacterMap:
    """Normalisation before tokens: a map of characters (`units` uint32 (n,), a double array; `replacements`, bytes),
    pieces that are `kept` as they are, and what becomes of spaces."""

    def __init__(
        self,
        spaces: Spaces,
        units: npt.NDArray[np.uint32] | None = None,
        replacements: bytes = b"",
        kept: PieceTrie | None = None,
    ) -> None:
        self._record = record = ffi.new("zl_charsmap *")
        self._keep: list[Any] = [kept]
        if units is not None and len(units):
            self._keep += [ffi.from_buffer("uint32_t[]", units), ffi.from_buffer("uint8_t[]", replacements)]
            record.units, record.replacements = self._keep[1:]
            record.n_units, record.n_replacements = len(units), len(replacements)
        if kept is not None:
            record.kept = kept.record
        flags = lib.ZL_SPACES_PREFIX, lib.ZL_SPACES_MERGE, lib.ZL_SPACES_ESCAPE
        record.flags = sum(flag for flag, wanted in zip(flags, spaces, strict=True) if wanted)

    def room(self, text: bytes) -> int:
        """Bytes that `apply` needs for a text. Raises InvalidArgument for a map that leads outside itself."""
        n = ffi.new("int64_t *")
        check(lib.zl_normalize(self._record, ffi.from_buffer("uint8_t[]", text), len(text), ffi.NULL, ffi.NULL, n))
        return int(n[0])

    def apply(self, text: bytes, room: int, with_origin: bool = False) -> tuple[U8, I32 | None]:
        """The normalised text, uint8 (n,); and, where it is wanted, the byte of the text that each of its bytes comes
        from, and where what follows would, int32 (n + 1,). `room` is what `room` said."""
        out = np.empty(room, np.uint8)
        origin = np.empty(room + 1, np.int32) if with_origin else None
        n = ffi.new("int64_t *")
        to = ffi.NULL if origin is None else ffi.from_buffer("int32_t[]", origin)
        source = ffi.from_buffer("uint8_t[]", text)
        check(lib.zl_normalize(self._record, source, len(text), ffi.from_buffer("uint8_t[]", out), to, n))
        return out[: n[0]], None if origin is None else origin[: n[0] + 1]
