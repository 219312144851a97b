"""A byte-level BPE vocabulary in which any two of some bytes merge: every cut of a pre-tokenizer shows in the ids.

One further token, " abc", is made by no merge: only rules that take a word which is a token as it is ever give it.
"""

from __future__ import annotations

from gguf_bytes import Value
from small_vocabularies import CONTROL, NORMAL, byte_alphabet

TEXT_WITH_ALL = " \n\tabcsS'lL12.-$\u00e9\u0301\u4e16\u00a0\u0660"


def dense(pre: str) -> dict[str, Value]:
    """Metadata with that pre-tokenizer; nothing is said about BOS, so that the rule's default applies."""
    letters = byte_alphabet()
    merged = [letters[b] for b in sorted(set(TEXT_WITH_ALL.encode()))]
    pairs = [(a, b) for a in merged for b in merged]
    tokens = ["<|endoftext|>", *letters, *(a + b for a, b in pairs), letters[0x20] + "abc"]
    return {
        "general.architecture": "llama",
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [CONTROL] + [NORMAL] * (len(tokens) - 1),
        "tokenizer.ggml.merges": [f"{a} {b}" for a, b in pairs],
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 0,
    }
