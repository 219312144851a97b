"""`tokenizer.model`: a SentencePiece model, as far as a conversion needs it, read out of its protocol buffer.

    message ModelProto   pieces 1 (repeated): piece 1 text, score 2 float, type 3
                         trainer_spec 2: model_type 3 (1 unigram, 2 BPE), treat_whitespace_as_suffix 24,
                                        unk_id 40, bos_id 41, eos_id 42, pad_id 43
                         normalizer_spec 3: name 1, precompiled_charsmap 2, add_dummy_prefix 3,
                                            remove_extra_whitespaces 4, escape_whitespaces 5

A protocol buffer is a row of fields, each a key (number * 8 + wire type) and a value; unknown fields are passed over.
Types of pieces are GGUF's own: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte. The file may come from
anybody: every length is checked against the bytes that are left. Source: sentencepiece_model.proto, and the encoding
as developers.google.com/protocol-buffers describes it. What this file is not: it tokenises nothing.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from zigllama.errors import BadCheckpoint

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5  # wire types
UNIGRAM, BPE = 1, 2
MAX_PIECES = 1 << 21


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
        self.data, self.path = data, path

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

    def fields(self, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """(number, wire type, first byte, byte after the last) of each field; of a number its value, 0."""
        while at < end:
            key, start = self.varint(at, end)
            wire = key & 7
            if wire == VARINT:
                value, at = self.varint(start, end)
                yield key >> 3, wire, value, 0
                continue
            if wire == LENGTH:
                n, start = self.varint(start, end)
            elif wire in (FIXED64, FIXED32):
                n = 8 if wire == FIXED64 else 4
            else:
                raise self.bad(at, f"wire type {wire} is not in use")
            if n > end - start:
                raise self.bad(at, f"field {key >> 3} has {n} bytes, {end - start} are left")
            yield key >> 3, wire, start, start + n
            at = start + n

    def text(self, first: int, last: int) -> str:
        try:
            return self.data[first:last].decode()
        except UnicodeDecodeError as e:
            raise self.bad(first, f"text is not UTF-8: {e.reason}") from None

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
    for number, wire, first, last in reader.fields(0, len(data)):
        if wire == LENGTH and number in (1, 2, 3):
            (reader.piece, reader.trainer, reader.normalizer)[number - 1](model, first, last)
            if len(model.tokens) > MAX_PIECES:
                raise reader.bad(first, f"more than {MAX_PIECES} pieces")
    if not model.tokens:
        raise BadCheckpoint(path, "holds no pieces: it is no SentencePiece model")
    return model
