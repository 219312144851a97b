"""Turns vocabularies of GGUF files back into what they were made from, for tests of the conversion: a tokenizer.json of
`tokenizers`, a tokenizer.model of SentencePiece. Written by hand from the formats' descriptions, so that the packages
themselves, where they are installed, judge both this and the conversion.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

CONTROL, USER_DEFINED, UNUSED = 3, 4, 5
GPT2 = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
SMOLLM = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, GPT2]}
LLAMA3_REGEX = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_REGEX = LLAMA3_REGEX.replace("{1,3}", "")


def split_on(regex: str) -> dict[str, Any]:
    """The rule of a family that writes one expression."""
    split = {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, GPT2 | {"use_regex": False}]}


FALCON = {
    "type": "Sequence",
    "pretokenizers": [
        {"type": "Punctuation", "behavior": "Contiguous"},
        GPT2,
        {"type": "Digits", "individual_digits": False},
        {"type": "Split", "pattern": {"Regex": "[0-9][0-9][0-9]"}, "behavior": "Isolated", "invert": False},
    ],
}


def byte_bpe(
    tokens: Sequence[str], types: Sequence[int], merges: Sequence[str], rule: dict[str, Any]
) -> dict[str, Any]:
    """tokenizer.json of a byte-level BPE vocabulary."""
    special = {i: t for i, t in enumerate(tokens) if types[i] in (CONTROL, USER_DEFINED)}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": i, "content": t, "special": int(types[i]) == CONTROL} | flags for i, t in special.items()
        ],
        "pre_tokenizer": rule,
        "decoder": GPT2,
        "model": {"type": "BPE", "vocab": {t: i for i, t in enumerate(tokens)}, "merges": list(merges)},
    }


def _varint(x: int) -> bytes:
    out = bytearray()
    while x > 127:
        out.append(x & 127 | 128)
        x >>= 7
    return bytes([*out, x])


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def sentencepiece(
    tokens: Sequence[str], scores: Sequence[float], types: Sequence[int], *, prefix: bool, model_type: int = 2
) -> bytes:
    """tokenizer.model: a SentencePiece model with an identity normaliser."""
    pieces = [
        _field(
            1,
            _field(1, (t.replace(" ", "\u2581") if k == USER_DEFINED else t).encode())
            + _varint(2 << 3 | 5)
            + struct.pack("<f", s)
            + _number(3, int(k)),
        )
        for t, s, k in zip(tokens, scores, types, strict=True)
    ]
    trainer = _number(3, model_type) + _number(35, 1) + b"".join(_number(40 + i, x) for i, x in enumerate((0, 1, 2)))
    normalizer = _field(1, b"identity") + _number(3, int(prefix)) + _number(4, 0) + _number(5, 1)
    return b"".join(pieces) + _field(2, trainer) + _field(3, normalizer)
