"""The vocabulary of a GGUF file in the library `sentencepiece`: the same pieces, scores and types, as its own model.

A protocol buffer by hand (zigllama/models/conversion/sentencepiece_file.py has the fields). Only for `llama` files,
whose model is SentencePiece's BPE.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import gguf
import sentencepiece

VERSION = f"sentencepiece {sentencepiece.__version__}"


def _varint(n: int) -> bytes:
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes([*out, n])


def _message(number: int, data: bytes) -> bytes:
    return _varint(number * 8 + 2) + _varint(len(data)) + data


def _numbers(**fields: int) -> bytes:
    return b"".join(_varint(int(name[1:]) * 8) + _varint(value) for name, value in fields.items())


def _piece(text: bytes, kind: int) -> bytes:
    """User-defined pieces have spaces in a GGUF file, for they are cut out of a text as it stands."""
    return text.replace(b" ", "\u2581".encode()) if kind == 4 else text


def model(path: str | Path) -> bytes:
    """The model's bytes."""
    fields = gguf.GGUFReader(path).fields

    def values(name: str) -> list[Any]:
        field = fields["tokenizer.ggml." + name]
        return [field.parts[i] for i in field.data]

    def flag(name: str, default: bool) -> int:
        return int(values(name)[0][0]) if "tokenizer.ggml." + name in fields else int(default)

    pieces = [
        _message(
            1, _message(1, bytes(token)) + b"\x15" + struct.pack("<f", float(score[0])) + _numbers(_3=int(kind[0]))
        )
        for token, score, kind in zip(values("tokens"), values("scores"), values("token_type"), strict=True)
    ]
    ids = {"_40": 0, "_41": int(values("bos_token_id")[0][0]), "_42": int(values("eos_token_id")[0][0])}
    if "tokenizer.ggml.unknown_token_id" in fields:
        ids["_40"] = int(values("unknown_token_id")[0][0])
    trainer = _numbers(_3=2, _35=1, **ids)
    normalizer = _message(1, b"identity") + _numbers(
        _3=flag("add_space_prefix", True), _4=flag("remove_extra_whitespaces", False), _5=1
    )
    return b"".join(pieces) + _message(2, trainer) + _message(3, normalizer)


def processor(raw: bytes) -> Any:
    """A `SentencePieceProcessor` of a model."""
    return sentencepiece.SentencePieceProcessor(model_proto=raw)
