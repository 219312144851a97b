"""`tokenizer.model`: a SentencePiece model, as far as a conversion needs it, read out of its protocol buffer.

    message ModelProto   pieces 1 (repeated): piece 1 text, score 2 float, type 3
                         trainer_spec 2: model_type 3 (1 unigram, 2 BPE), treat_whitespace_as_suffix 24,
                                        unk_id 40, bos_id 41, eos_id 42, pad_id 43
                         normalizer_spec 3: name 1, precompiled_charsmap 2, add_dummy_prefix 3,
                                            remove_extra_whitespaces 4, escape_whitespaces 5

A protocol buffer is a row of fields, each a key (number * 8 + wire type) and a value; unknown fields are passed over.
Types of pieces are GGUF's own: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte. The file may come from
anybody: every length is checked against the bytes that are left, and fields are counted. Nearly all of a file is pieces
of one layout, in which they follow each other; those are read as arrays, field by field only what is otherwise. Source:
sentencepiece_model.proto, and the encoding as developers.google.com/protocol-buffers describes it. What this file is
not: it tokenises nothing.
"""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from zigllama.errors import BadCheckpoint

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5  # wire types
PIECE, SCORE, TYPE = 0x0A, 0x15, 0x18  # keys: field 1 with a length, 2 as a float, 3 as a number
UNIGRAM, BPE = 1, 2
NORMAL = 1
MAX_PIECES = 1 << 19  # twice the largest vocabulary of a language model
MAX_FIELDS = 1 << 19  # that are read one by one: a usual file has a hundred


@dataclass
class SentencePieceModel:
    """What the file says. Ids are -1 where the model has no such token."""

    tokens: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    types: list[int] = field(default_factory=list)
    model_type: int = UNIGRAM
    ids: dict[str, int] = field(default_factory=lambda: {"unk": 0, "bos": 1, "eos": 2, "pad": -1})
    normalizer: str = ""
    charsmap: bytes = b""
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = True


class _Reader:
    """Fields of messages in the bytes of one file."""

    def __init__(self, data: bytes, path: str) -> None:
        self.data, self.path, self.left = data, path, MAX_FIELDS

    def bad(self, at: int, reason: str) -> BadCheckpoint:
        return BadCheckpoint(self.path, f"byte {at}: {reason}")

    def varint(self, at: int, end: int) -> tuple[int, int]:
        """(value, the byte after it): seven bits a byte, the lowest first."""
        value = 0
        for i in range(10):
            if at + i >= end:
                break
            byte = self.data[at + i]
            value |= (byte & 127) << 7 * i
            if byte < 128:
                return value & (1 << 64) - 1, at + i + 1
        raise self.bad(at, "a number does not end")

    def field(self, at: int, end: int) -> tuple[int, int, int, int, int]:
        """(number, wire type, first byte, byte after the last, where the next one begins) of the field at `at`; of a
        number its value, 0."""
        self.left -= 1
        if self.left < 0:
            raise self.bad(at, f"more than {MAX_FIELDS} fields beside usual pieces: no vocabulary has as many")
        key, start = (self.data[at], at + 1) if self.data[at] < 128 else self.varint(at, end)
        wire = key & 7
        if wire == VARINT:
            value, after = self.varint(start, end)
            return key >> 3, wire, value, 0, after
        if wire == LENGTH:
            n, start = self.varint(start, end)
        elif wire in (FIXED64, FIXED32):
            n = 8 if wire == FIXED64 else 4
        else:
            raise self.bad(at, f"wire type {wire} is not in use")
        if n > end - start:
            raise self.bad(at, f"field {key >> 3} has {n} bytes, {end - start} are left")
        return key >> 3, wire, start, start + n, start + n

    def fields(self, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """The fields of a message, as `field` has them."""
        while at < end:
            number, wire, first, last, at = self.field(at, end)
            yield number, wire, first, last

    def text(self, first: int, last: int) -> str:
        try:
            return self.data[first:last].decode()
        except UnicodeDecodeError as e:
            raise self.bad(first, f"text is not UTF-8: {e.reason}") from None

    def message(self, model: SentencePieceModel) -> tuple[array[int], array[int]]:
        """The whole file: where each piece begins and ends; the two other messages are read."""
        data, end, at = self.data, len(self.data), 0
        begins, ends = array("q"), array("q")
        while at < end:
            if data[at] == PIECE and at + 1 < end and data[at + 1] < 128 and at + 2 + data[at + 1] <= end:
                first, at = at + 2, at + 2 + data[at + 1]  # as nearly all of them: without a call
                last = at
            else:
                number, wire, first, last, at = self.field(at, end)
                if wire == LENGTH and number in (2, 3):
                    (self.trainer if number == 2 else self.normalizer)(model, first, last)
                if wire != LENGTH or number != 1:
                    continue
            begins.append(first)
            ends.append(last)
            if len(begins) > MAX_PIECES:
                raise self.bad(first, f"more than {MAX_PIECES} pieces")
        return begins, ends

    def pieces(self, model: SentencePieceModel, begins: array[int], ends: array[int]) -> None:
        """Those of one of two layouts at once, others field by field.

        0a k text(k) 15 score(4)            k + 7 bytes
        0a k text(k) 15 score(4) 18 type    k + 9 bytes
        """
        raw = np.frombuffer(self.data + bytes(16), np.uint8)  # what a length leads to is there, whatever it says
        first, last = np.array(begins, np.int64), np.array(ends, np.int64)
        k = raw[first + 1].astype(np.int64)
        mark, typed = np.minimum(first + 2 + k, len(self.data)), last - first == k + 9
        usual = (raw[first] == PIECE) & (k < 128) & (typed | (last - first == k + 7)) & (raw[mark] == SCORE)
        usual &= ~typed | (raw[mark + 5] == TYPE)
        scores = raw[mark[:, None] + np.arange(1, 5)].view("<f4")[:, 0]
        kinds = np.where(typed, raw[mark + 6], NORMAL)
        usual &= (kinds >= 1) & (kinds <= 6) & ~np.isnan(scores)
        columns = (begins, ends, mark.tolist(), scores.tolist(), kinds.tolist(), usual.tolist())
        for a, b, end, score, kind, plain in zip(*columns, strict=True):
            if plain:
                model.tokens.append(self.text(a + 2, end))
                model.scores.append(score)
                model.types.append(kind)
            else:
                self.piece(model, a, b)

    def piece(self, model: SentencePieceModel, first: int, last: int) -> None:
        token, score, kind = "", 0.0, 1
        for number, wire, a, b in self.fields(first, last):
            if (number, wire) == (1, LENGTH):
                token = self.text(a, b)
            elif (number, wire) == (2, FIXED32):
                score = struct.unpack_from("<f", self.data, a)[0]
            elif (number, wire) == (3, VARINT):
                kind = a
        if not 1 <= kind <= 6 or math.isnan(score):
            raise self.bad(first, f"piece {len(model.tokens)} has type {kind} and score {score}")
        model.tokens.append(token)
        model.scores.append(score)
        model.types.append(kind)

    def trainer(self, model: SentencePieceModel, first: int, last: int) -> None:
        names = {40: "unk", 41: "bos", 42: "eos", 43: "pad"}
        for number, wire, a, _ in self.fields(first, last):
            if wire == VARINT and number == 3:
                model.model_type = a
            elif wire == VARINT and number == 24 and a:
                raise self.bad(first, "treat_whitespace_as_suffix is not supported: no key of a file says so")
            elif wire == VARINT and number in names:
                model.ids[names[number]] = a if a < 1 << 31 else -1  # a negative number has all of its 64 bits

    def normalizer(self, model: SentencePieceModel, first: int, last: int) -> None:
        for number, wire, a, b in self.fields(first, last):
            if (number, wire) == (1, LENGTH):
                model.normalizer = self.text(a, b)
            elif (number, wire) == (2, LENGTH):
                model.charsmap = self.data[a:b]
            elif (number, wire) == (3, VARINT):
                model.add_dummy_prefix = bool(a)
            elif (number, wire) == (4, VARINT):
                model.remove_extra_whitespaces = bool(a)
            elif (number, wire, a) == (5, VARINT, 0):
                raise self.bad(first, "escape_whitespaces false is not supported: no key of a file says so")


def parse(data: bytes, path: str) -> SentencePieceModel:
    """The model. Raises BadCheckpoint with the byte at which it breaks."""
    reader, model = _Reader(data, path), SentencePieceModel()
    reader.pieces(model, *reader.message(model))
    if not model.tokens:
        raise BadCheckpoint(path, "holds no pieces: it is no SentencePiece model")
    return model
