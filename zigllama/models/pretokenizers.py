"""Pre-tokenizers: how a text is cut into words before byte-pair merges run inside each word.

A GGUF file names its rule in `tokenizer.ggml.pre`. Each rule is a list of regular expressions as its authors published
them: the first cuts the text into matches and what lies between, the next cuts each of those parts, and so on. What
this file is not: it merges nothing and knows no token ids.

The rules speak of Unicode categories, \\p{L} (letters) and \\p{N} (numbers), which Python's `re` does not have. So the
classes are written out as ranges, from unicode_ranges.py, the first time a text needs them; `re` turns them into lookup
tables. (`unicodedata` would tie ids to the version of Python.) A text of ASCII alone, the common case, is cut by the
same rules over the ASCII part of each class, which costs nothing to prepare. `\\s` is Unicode's White_Space property
here: Python's own also holds U+001C to U+001F.

Source of the rules: `tokenizer.json` of the models named, in the form llama.cpp gives them (src/llama-vocab.cpp): its
ids are what GGUF files are made for.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from zigllama.errors import UnsupportedTokenizer

from . import unicode_ranges

Splitter = Callable[[str], list[str]]

WHITE_SPACE = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
ASCII_WHITE_SPACE = r"\t-\r "

# In the rules below L N P S M stand for categories and W for white space, as {L} inside a class. {W} is \s.
GPT2_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?[{L}]+| ?[{N}]+| ?[^{W}{L}{N}]+|[{W}]+(?![^{W}])|[{W}]+"
# The digit rule runs first, each digit on its own, and its cuts are ends of text for the second: written as one
# expression, a run of spaces is whole before a digit as it is at the end.
SMOLLM_WORDS = r"[{N}]|'s|'t|'re|'ve|'m|'ll|'d| ?[{L}]+| ?[^{W}{L}{N}]+|[{W}]+(?![^{W}{N}])|[{W}]+"
CONTRACTIONS = r"'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL])"
SPACES = r"[{W}]*[\r\n]+|[{W}]+(?![^{W}])|[{W}]+"


def _cased(number: str, letters: str = "{L}", contractions: str = CONTRACTIONS + "|") -> str:
    """The family of rules that LLaMA 3 and Qwen 2 belong to; they differ in how many digits make a word."""
    words = rf"[^\r\n{{L}}{{N}}]?[{letters}]+|{number}| ?[^{{W}}{letters}{{N}}]+[\r\n]*|"
    return contractions + words + SPACES


class PreTokenizer(NamedTuple):
    """One rule: its expressions, and what else its name implies."""

    stages: tuple[str, ...]
    ignore_merges: bool = False  # a word that is a token is that token, whatever the merges would make of it
    add_bos: bool = False  # the default, where the file does not say


GPT2 = PreTokenizer((GPT2_WORDS,))
SMOLLM = PreTokenizer((SMOLLM_WORDS,))
LLAMA3 = PreTokenizer((_cased("[{N}]{{1,3}}"),), ignore_merges=True, add_bos=True)
QWEN2 = PreTokenizer((_cased("[{N}]"),))
FALCON = PreTokenizer((r"[{P}$+<=>^~|`]+", GPT2_WORDS, "[0-9][0-9][0-9]"))
DEFAULT = PreTokenizer((r"[{P}$+<=>^~|]+", GPT2_WORDS, "[{N}]+", "[0-9][0-9][0-9]"))

PRE_TOKENIZERS: dict[str, PreTokenizer] = {
    "default": DEFAULT,
    "falcon": FALCON,
    **dict.fromkeys(("gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "exaone4"), GPT2),
    **dict.fromkeys(("gigachat", "a.x-4.0", "mellum", "modern-bert", "jina-es", "jina-de"), GPT2),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"), SMOLLM),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "lfm2"), LLAMA3),
    **dict.fromkeys(("dbrx", "smaug-bpe", "chatglm-bpe"), LLAMA3._replace(ignore_merges=False, add_bos=False)),
    **dict.fromkeys(("glm4", "glm5"), LLAMA3._replace(add_bos=False)),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan", "solar-open", "megrez", "grok-2"), QWEN2),
    "qwen35": PreTokenizer((_cased("[{N}]", "{L}{M}"),)),
}


def lookup(name: str) -> PreTokenizer:
    """The rule of that name. Raises `UnsupportedTokenizer`, whose text says how to pass another."""
    if name not in PRE_TOKENIZERS:
        known = ", ".join(sorted(PRE_TOKENIZERS))
        hint = f"the file's `tokenizer.ggml.pre` is none of {known}; pass the one it behaves like as pre="
        raise UnsupportedTokenizer(name, hint)
    return PRE_TOKENIZERS[name]


@cache
def _classes(ascii_only: bool) -> dict[str, str]:
    """Each class in the form that stands between [ and ], whole or its ASCII part."""
    spelt = {"W": ASCII_WHITE_SPACE if ascii_only else WHITE_SPACE}
    for category in "LMNPS":
        pairs = [r.partition("-") for r in getattr(unicode_ranges, category).split()]
        ends = [(int(first, 16), int(last or first, 16)) for first, _, last in pairs]
        kept = [(a, b) for a, b in ends if b < 0x80 or not ascii_only]  # no range crosses the end of ASCII
        spelt[category] = "".join(f"\\U{a:08x}-\\U{b:08x}" for a, b in kept)
    return spelt


@cache
def _compiled(stages: tuple[str, ...], ascii_only: bool) -> list[re.Pattern[str]]:
    return [re.compile(stage.format_map(_classes(ascii_only)) if "{" in stage else stage) for stage in stages]


def splitter(rule: PreTokenizer) -> Splitter:
    """The function that cuts a text into words: `"".join(words) == text`. Time linear in the text's length."""

    def split(text: str) -> list[str]:
        patterns = _compiled(rule.stages, text.isascii())
        parts = [text]
        for pattern in patterns:
            parts = [word for part in parts for word in _cut(pattern, part)]
        return parts

    return split


def _cut(pattern: re.Pattern[str], text: str) -> list[str]:
    """Matches of `pattern` and what lies between them, in order."""
    words = pattern.findall(text)
    if sum(map(len, words)) == len(text):  # nothing between: matches never overlap
        return words
    words, end = [], 0
    for match in pattern.finditer(text):
        if match.start() > end:
            words.append(text[end : match.start()])
        words.append(match.group())
        end = match.end()
    if end < len(text):
        words.append(text[end:])
    return words
