"""The vocabulary of a GGUF file in the library `tokenizers`: the same tokens and merges, the rule written by hand.

The pre-tokenizers here are `tokenizer.json`'s own (kinds, expressions and their order), put down apart from the
engine's, so that an error cannot be on both sides. Only for byte-level vocabularies.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers

BEGIN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?"
SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = BEGIN + r"\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + SPACES
QWEN35 = BEGIN + r"[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|" + SPACES
GPT4O = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)
CJK3 = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
V3 = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|"""
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _split(*expressions: str) -> list[Any]:
    return [pre_tokenizers.Split(Regex(e), "isolated") for e in expressions]


def _letters(words: bool) -> Any:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=words)


RULES: dict[str, list[Any]] = {
    "gpt-2": [_letters(True)],
    "mpt": [_letters(True)],
    **{
        name: [pre_tokenizers.Digits(individual_digits=True), _letters(True)]
        for name in ("smollm", "starcoder", "refact", "command-r")
    },
    "llama-bpe": [*_split(LLAMA3), _letters(False)],
    "qwen2": [*_split(LLAMA3.replace("{1,3}", "")), _letters(False)],
    "qwen35": [*_split(QWEN35), _letters(False)],
    "gpt-4o": [*_split(GPT4O), _letters(False)],
    "tekken": [*_split(TEKKEN), _letters(False)],
    "tiny_aya": [*_split(r"\d{1,3}(?=(?:\d{3})*\b)", GPT4O), _letters(False)],
    "superbpe": [*_split(r"\p{N}+", r"(?=(\d{3})+(?!\d))"), _letters(False)],
    "deepseek-v3": [*_split(r"\p{N}{1,3}", CJK3, V3), _letters(False)],
    "deepseek-coder": [
        *_split(r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"),
        pre_tokenizers.Digits(individual_digits=True),
        _letters(False),
    ],
    "falcon": [
        pre_tokenizers.Punctuation("contiguous"),
        _letters(True),
        pre_tokenizers.Digits(individual_digits=False),
        pre_tokenizers.Split(Regex("[0-9][0-9][0-9]"), "isolated"),
    ],
}


def tokenizer(path: str | Path, pre: str, ignore_merges: bool) -> Any:
    """A `tokenizers.Tokenizer` of the file's vocabulary. Raises KeyError for a rule that is not here."""
    fields = gguf.GGUFReader(path).fields

    def strings(name: str) -> list[str]:
        field = fields["tokenizer.ggml." + name]
        return [bytes(field.parts[i]).decode("utf-8", "replace") for i in field.data]

    tokens = strings("tokens")
    types = [int(fields["tokenizer.ggml.token_type"].parts[i][0]) for i in fields["tokenizer.ggml.token_type"].data]
    merges = [(a, b) for a, _, b in (m.partition(" ") for m in strings("merges"))]
    model = models.BPE({t: i for i, t in enumerate(tokens)}, merges, ignore_merges=ignore_merges)
    found = Tokenizer(model)
    found.pre_tokenizer = pre_tokenizers.Sequence(RULES[pre])
    found.add_tokens([AddedToken(t, normalized=False) for t, k in zip(tokens, types, strict=True) if k == 4])
    return found
