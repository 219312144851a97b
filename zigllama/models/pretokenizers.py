"""Pre-tokenizers: how a text is cut into words before byte-pair merges run inside each word.

A GGUF file names its rule in `tokenizer.ggml.pre`. Each rule is a list of stages as its authors published them: the
first cuts the text into matches and what lies between, the next cuts each of those parts, and so on. What this file is
not: it merges nothing and knows no token ids.

    "it's 1234"  --LLaMA 3-->  it | 's | " " | 123 | 4        --GPT-2-->  it | 's | " 1234"

A stage is an expression (split_expressions.py), or one of two cuts that no expression makes in linear time: digits
in threes counted from the right (`Threes`), and a run at the end of a part (`Tail`).

Two executions: here, with Python's `re`, as the textbook and twin; split_automaton.py makes tables for the kernel,
which takes linear time on any text.

Sources: `tokenizer.json` of the models, as the comments of llama.cpp quote it (src/llama-vocab.cpp), and the names that
llama.cpp knows (tests/models/pre_tokenizer_names.json). Where llama.cpp runs another expression than it quotes, the
quoted one is here, for it is what the model was trained with: llama.cpp takes every letter beyond ASCII for upper and
lower case at once (gpt-4o, tekken and their kin). tests/models/test_pretokenizers.py has a text for each difference.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from difflib import get_close_matches
from functools import cache
from typing import NamedTuple

from zigllama.errors import UnsupportedTokenizer

from .code_point_sets import WHITE_SPACE, Set, prop, union
from .split_expressions import Chars, parse, to_re

Splitter = Callable[[str], list[str]]


class Threes(NamedTuple):
    """Runs of digits, cut into threes from the right: 12345 -> 12 | 345. `isolated`: cut also where a run begins and
    ends. A run with a character of `unless` after it stays whole, and what precedes it too."""

    digits: Set
    isolated: bool = True
    unless: Set = ()


class Tail(NamedTuple):
    """The longest run of such characters that ends the part is a word."""

    chars: Set


Stage = str | Threes | Tail


class PreTokenizer(NamedTuple):
    """One rule: its stages, and what else its name implies."""

    stages: tuple[Stage, ...]
    ignore_merges: bool = False  # a word that is a token is that token, whatever the merges would make of it
    add_bos: bool = False  # the default, where the file does not say
    raw: bool = False  # characters stand for themselves, bytes without a token are <0xHH>; else GPT-2's byte letters
    escape_spaces: bool = False  # a space is spelt U+2581, as SentencePiece does
    newline_words: bool = False  # a run of newlines that is a token is that token


CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
GPT2_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# Two stages in one, the first \p{N}: its cuts are ends of text for the second, so a run of spaces is whole before a
# digit as it is at the end.
DIGIT_WORDS = r"\p{N}|'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?![^\s\p{N}])|\s+"
CJK = r"\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff"
ASCII_MARKS = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"""
NEWLINE_RUNS = r"[^\n]+|[\n]+"


def _words(number: str, spaces: str = SPACES, contractions: str = CONTRACTIONS + "|", after: str = r"[\r\n]*") -> str:
    """The family of LLaMA 3 and Qwen 2; they differ in how many digits make a word."""
    return contractions + rf"[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{number}| ?[^\s\p{{L}}\p{{N}}]+{after}|{spaces}"


def _cased(number: str, contractions: str = CONTRACTIONS + "?", but: str = "", after: str = r"[\r\n/]*") -> str:
    """The family of GPT-4o: a word goes from upper to lower case and not back."""
    upper, lower = rf"[\p{{Lu}}\p{{Lt}}\p{{Lm}}\p{{Lo}}\p{{M}}{but}]", rf"[\p{{Ll}}\p{{Lm}}\p{{Lo}}\p{{M}}{but}]"
    first = r"[^\r\n\p{L}\p{N}]?"
    words = f"{first}{upper}*{lower}+{contractions}|{first}{upper}+{lower}*{contractions}"
    return rf"{words}|{number}| ?[^\s\p{{L}}\p{{N}}]+{after}|{SPACES}"


def _marked(after: str, spaces: str) -> str:
    """The family of DeepSeek V3: words of ASCII go with the sign before them, marks of punctuation on their own."""
    words = r"[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    return rf"{ASCII_MARKS}|{words}| ?[\p{{P}}\p{{S}}]+{after}|{spaces}"


ALPHABETS = (  # the letters with case of DeepSeek LLM's rule
    r"[A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373\u0376"
    r"\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f"
    r"\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77"
    r"\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d"
    r"\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4"
    r"\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139"
    r"\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d"
    r"\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a"
    "\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2"
    "\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943]+"
)
BLOOM_WORDS = r" ?[^(\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+"
ASIAN_WORDS = (
    r"[\u4e00-\u9fff\u3400-\u4dbf\u8c48-\ufaff\u3040-\u309f\u30a0-\u30ff\uff65-\uff9f\u2f00-\u2fdf\u0e40-\u0e7f"
    r"\u0e80-\u0eff\u1780-\u17ff\u1000-\u109f\uaa60-\uaa7f\ua9e0-\ua9ff\uac00-\ud7af\u1100-\u11ff]+"
)
YOUTU_WORDS = (
    r"[\uac00-\ud7a3\u3131-\u318e]+|[\uff01\u2026\u201c\u201d\u2018\u2019\u2014\uff1a\uff1b\uff0c\u3001-\u303f"
    rf"\ufe30-\ufe4f]+|[\u3105-\u312f]+|[{CJK}]+"
)
JAIS2_SPACES = r"\s*[\r\n]+|" + "|".join(rf"\s{{{1 << n}}}(?!\S)" for n in range(9, 1, -1)) + r"|\s{1,2}(?!\S)|\s{1}"
QWEN35_WORDS = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|" + SPACES
EXAONE_MOE_WORDS = (
    CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|"
    r"\s*[\r\n]|\s+(?!\S)|\s+"
)
NUMBERS, DIGITS = prop("N"), prop("Nd")
# \w of Oniguruma, where \b is an end of such characters: letters and what counts as one (numbers that are letters,
# letters in circles and squares), marks, digits, connectors. Below U+0100 it has a table of its own, in which the
# superscripts and fractions are word characters too, though other numbers of their category (U+2153) are none.
LETTER_NUMBERS: Set = (
    *((0x16EE, 0x16F0), (0x2160, 0x2182), (0x2185, 0x2188), (0x24B6, 0x24E9), (0x3007, 0x3007), (0x3021, 0x3029)),
    *((0x3038, 0x303A), (0xA6E6, 0xA6EF), (0x10140, 0x10174), (0x10341, 0x10341), (0x1034A, 0x1034A)),
    *((0x103D1, 0x103D5), (0x12400, 0x1246E), (0x1F130, 0x1F149), (0x1F150, 0x1F169), (0x1F170, 0x1F189)),
)
LATIN_NUMBERS: Set = ((0xB2, 0xB3), (0xB9, 0xB9), (0xBC, 0xBE))
WORD = union(prop("L"), prop("M"), DIGITS, prop("Pc"), LETTER_NUMBERS, LATIN_NUMBERS)

GPT2 = PreTokenizer((GPT2_WORDS,))
SMOLLM = PreTokenizer((DIGIT_WORDS,))
LLAMA3 = PreTokenizer((_words(r"\p{N}{1,3}"),), ignore_merges=True, add_bos=True)
QWEN2 = PreTokenizer((_words(r"\p{N}"),))
DEEPSEEK3 = PreTokenizer((r"\p{N}{1,3}", f"[{CJK}]+", _marked(r"[\r\n]*", SPACES)))
GPT4O = PreTokenizer((_cased(r"\p{N}{1,3}"),))
BAILING = PreTokenizer((_words(r"\p{N}", r"\s*[\r\n]|\s+(?!\S)|\s+"),))
AYA = PreTokenizer((Threes(DIGITS, unless=WORD), _cased(r"\p{N}{1,3}")))
BLOOM = PreTokenizer((BLOOM_WORDS,))
# Not byte-level: spaces are spelt as SentencePiece spells them, and merges run over whole lines.
GEMMA4 = PreTokenizer((NEWLINE_RUNS,), add_bos=True, raw=True, escape_spaces=True, newline_words=True)

PRE_TOKENIZERS: dict[str, PreTokenizer] = {
    "default": PreTokenizer((r"[\p{P}$+<=>^~|]+", GPT2_WORDS, r"\p{N}+", "[0-9][0-9][0-9]")),
    "falcon": PreTokenizer((r"[\p{P}$+<=>^~|`]+", GPT2_WORDS, "[0-9][0-9][0-9]")),
    **dict.fromkeys(("gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "exaone4"), GPT2),
    **dict.fromkeys(("gigachat", "a.x-4.0", "mellum", "modern-bert", "jina-es", "jina-de"), GPT2),
    **dict.fromkeys(("jina-v2-es", "jina-v2-de", "jina-v1-en", "jina-v2-code", "roberta-bpe"), GPT2),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"), SMOLLM),
    "mellum2": SMOLLM,
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "lfm2"), LLAMA3),
    **dict.fromkeys(("midm-2.0", "jina-v5-nano"), LLAMA3),
    **dict.fromkeys(("dbrx", "smaug-bpe", "chatglm-bpe"), LLAMA3._replace(ignore_merges=False, add_bos=False)),
    **dict.fromkeys(("glm4", "glm5"), LLAMA3._replace(add_bos=False)),
    "minicpm5": PreTokenizer((r"\p{N}{1,3}", _words(r"\p{N}+")), ignore_merges=True),
    "jais-2": PreTokenizer((_words(r"\p{N}{1,3}", JAIS2_SPACES),)),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan", "solar-open", "megrez", "grok-2"), QWEN2),
    **dict.fromkeys(("kormo", "f2llmv2"), QWEN2),
    "qwen35": PreTokenizer((QWEN35_WORDS,)),
    "ufakzeka": PreTokenizer((_words(r"\p{N}", contractions=""),)),
    "laguna": PreTokenizer((NEWLINE_RUNS, *QWEN2.stages)),
    **dict.fromkeys(("bailingmoe", "bailingmoe2", "llada-moe"), BAILING),
    "exaone-moe": PreTokenizer((EXAONE_MOE_WORDS,)),
    "seed-coder": PreTokenizer(
        (CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|" + SPACES,)
    ),
    **dict.fromkeys(("gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"), GPT4O),
    "granite-embed-multi-97m": GPT4O._replace(ignore_merges=True),
    "tekken": PreTokenizer((_cased(r"\p{N}", contractions=""),), ignore_merges=True, add_bos=True),
    "kimi-k2": PreTokenizer((r"\p{Han}+|" + _cased(r"\p{N}{1,3}", but=r"&&[^\p{Han}]", after=r"[\r\n]*"),)),
    **dict.fromkeys(("tiny_aya", "cohere2moe"), AYA),
    "youtu": PreTokenizer((YOUTU_WORDS, _cased(r"\p{N}")), ignore_merges=True),
    "deepseek-llm": PreTokenizer(
        (
            *(r"[\r\n]", r"\s?" + ALPHABETS, r"\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+"),
            *(Tail(WHITE_SPACE), r"[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+", r"\p{N}+"),
        )
    ),
    "deepseek-coder": PreTokenizer(
        (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+", r"\p{N}")
    ),
    **dict.fromkeys(("deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"), DEEPSEEK3),
    "spark2_5": PreTokenizer(
        (*DEEPSEEK3.stages[:2], _marked("", r"[\r\n]|\s+(?!\S)|\s+"), r"\p{N}"),
    ),
    "afmoe": PreTokenizer((Threes(NUMBERS), ASIAN_WORDS, *DEEPSEEK3.stages[2:])),
    "superbpe": PreTokenizer((r"\p{N}+", Threes(DIGITS, isolated=False))),
    **dict.fromkeys(("poro-chat", "bloom", "gpt3-finnish"), BLOOM),
    "viking": PreTokenizer((*BLOOM.stages, r"\p{N}")),
    "chameleon": PreTokenizer(
        (
            *("<sentinel:[0-9]+>", "IMGIMG[A-I]{1,4}Z", r"[\t\n]|    |  ", r"\p{N}"),
            *(r"[\p{P}!-/:-@\[-`{-~]", GPT2_WORDS),
        ),
        add_bos=True,
    ),
    **dict.fromkeys(("gemma4", "granite-embed-multi-311m"), GEMMA4),
    "sarvam-moe": GEMMA4._replace(add_bos=False, newline_words=False),
    "whitespace": PreTokenizer((r"\S+",), raw=True),
}


def lookup(name: str) -> PreTokenizer:
    """The rule of that name. Raises `UnsupportedTokenizer`, whose text says how to pass another."""
    if name not in PRE_TOKENIZERS:
        known = ", ".join(sorted(PRE_TOKENIZERS))
        near = "".join(f"did you mean {n!r}? " for n in get_close_matches(name, PRE_TOKENIZERS, 1))
        hint = f"{near}as a pre-tokenizer's name these are known: {known}; pass the one it behaves like as pre= (--pre)"
        raise UnsupportedTokenizer(name, hint)
    return PRE_TOKENIZERS[name]


@cache
def _compiled(stage: Stage) -> re.Pattern[str]:
    if isinstance(stage, str):
        return re.compile(to_re(parse(stage)))
    if isinstance(stage, Tail):
        chars = to_re(Chars(stage.chars))
        return re.compile(rf"(?<!{chars}){chars}+\Z")
    digit, after = to_re(Chars(stage.digits)), to_re(Chars(union(stage.digits, stage.unless)))
    if stage.isolated:
        return re.compile(f"{digit}{{1,3}}(?=(?:{digit}{{3}})*(?!{after}))")
    return re.compile(f"(?=(?:{digit}{{3}})+(?!{after}))")


def splitter(rule: PreTokenizer) -> Splitter:
    """The function that cuts a text into words: `"".join(words) == text`."""

    def split(text: str) -> list[str]:
        parts = [text]
        for stage in rule.stages:
            pattern = _compiled(stage)
            parts = [word for part in parts for word in _cut(pattern, part)]
        return parts

    return split


def _cut(pattern: re.Pattern[str], text: str) -> list[str]:
    """Matches of `pattern` and what lies between them, in order; an empty match is a cut."""
    words, end = [], 0
    for match in pattern.finditer(text):
        words += [text[end : match.start()], match.group()]
        end = match.end()
    return [w for w in [*words, text[end:]] if w]
