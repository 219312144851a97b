"""A SentencePiece vocabulary of any size, of made-up pieces: what a file with random weights is opened and asked with.

What it is not: the vocabularies of the tests (tests/small_vocabularies.py), whose bytes must never change.
"""

from __future__ import annotations

import itertools
import string
from collections.abc import Iterator
from typing import Any

import numpy as np

LETTERS = "\u2581" + string.ascii_lowercase + ".,"
SPECIAL = 3 + 256  # <unk>, <s>, </s> and the bytes


def _pieces() -> Iterator[str]:
    """Pieces of 1 to 3 letters, then those of three behind a space too, then all of four; some come twice."""
    for length in (1, 2, 3):
        yield from map("".join, itertools.product(LETTERS, repeat=length))
    for start in ("\u2581", *LETTERS):
        yield from (start + "".join(three) for three in itertools.product(LETTERS, repeat=3))


def vocabulary(n: int) -> dict[str, Any]:
    """Metadata of a vocabulary of `n` tokens: 3 special ones, 256 bytes, then pieces.

    Every piece begins with a shorter one that is a token too and has a higher score, so each can be reached by merges.
    Raises ValueError where `n` is below 320 (single letters would be missing) or above what four letters give.
    """
    most = SPECIAL + sum(len(LETTERS) ** length for length in (1, 2, 3, 4))
    if not 320 <= n <= most:
        raise ValueError(f"a vocabulary of {n} tokens; 320 to {most} can be made")
    found = dict.fromkeys(itertools.islice(_pieces(), 2 * n))  # no piece comes three times
    pieces = list(found)[: n - SPECIAL]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), *pieces],
        "tokenizer.ggml.scores": np.concatenate([np.zeros(SPECIAL), -np.arange(len(pieces))]).astype(np.float32),
        "tokenizer.ggml.token_type": [2, 3, 3] + [6] * 256 + [1] * len(pieces),  # unknown, control, byte, normal
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": False,
    }
