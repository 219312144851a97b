"""The vocabulary of a `bert` GGUF file in the library `tokenizers`: BERT's normalisation, words and WordPiece."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

START = "\u2581"  # GGUF marks what begins a word, vocab.txt what goes on


def tokenizer(path: str | Path, unknown: int, lower: bool = True) -> Any:
    """A `tokenizers.Tokenizer` without special tokens."""
    fields = gguf.GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"]
    kinds = fields["tokenizer.ggml.token_type"]
    vocabulary = dict[str, int]()
    for i, (part, kind) in enumerate(zip(tokens.data, kinds.data, strict=True)):
        text = bytes(tokens.parts[part]).decode("utf-8", "replace")
        normal = int(kinds.parts[kind][0]) == 1
        vocabulary[text.removeprefix(START) if not normal or text.startswith(START) else "##" + text] = i
    name = next(text for text, i in vocabulary.items() if i == unknown)
    found = Tokenizer(models.WordPiece(vocabulary, unk_token=name, max_input_chars_per_word=100))
    found.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=lower
    )
    found.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return found
