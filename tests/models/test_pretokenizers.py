"""Pre-tokenizers: every name that llama.cpp knows, and what sets each family apart."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from zigllama.errors import InvalidArgument, UnknownName, UnsupportedTokenizer
from zigllama.models import unicode_ranges
from zigllama.models.code_point_sets import LAST, complement, intersection, prop, union
from zigllama.models.pretokenizers import PRE_TOKENIZERS, lookup, splitter
from zigllama.models.split_expressions import parse

KNOWN: dict[str, Any] = json.loads(Path(__file__).with_name("pre_tokenizer_names.json").read_text("utf-8"))


@pytest.mark.parametrize("name", KNOWN["names"])
def test_every_name_has_a_rule(name: str) -> None:
    text = "It's 12345 \u4f60\u597dABC\u0939\u093f \n\n x\r\n"
    assert "".join(splitter(lookup(name))(text)) == text


def test_no_name_is_made_up() -> None:
    assert "0.3.36" in KNOWN["about"]["source"] and set(PRE_TOKENIZERS) == set(KNOWN["names"])


def test_unknown_name() -> None:
    with pytest.raises(UnsupportedTokenizer, match=r"'of-next-year'.*pass the one it behaves like as pre="):
        lookup("of-next-year")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("gpt-2", "we'll  go 12345", ["we", "'ll", " ", " go", " 12345"]),
        ("smollm", "go  12\n", ["go", "  ", "1", "2", "\n"]),
        ("llama-bpe", "WE'LL go\n\n 12345", ["WE", "'LL", " go", "\n\n", " ", "123", "45"]),
        ("jais-2", "a" + " " * 13 + "b", ["a", " " * 8, " " * 4, " b"]),
        ("minicpm5", "12345 6", ["123", "45", " ", "6"]),
        ("qwen35", "\u0939\u093f\u0928", ["\u0939\u093f\u0928"]),
        ("qwen2", "\u0939\u093f\u0928", ["\u0939", "\u093f\u0928"]),
        ("ufakzeka", "Ali's 1", ["Ali", "'s", " ", "1"]),
        ("ufakzeka", "o'sa", ["o", "'sa"]),
        ("qwen2", "o'sa", ["o", "'s", "a"]),
        ("laguna", "a \n\nb", ["a", " ", "\n\n", "b"]),
        ("bailingmoe", "a \n \nb", ["a", " \n \n", "b"]),
        ("exaone-moe", "one two  3/\n/", ["one two", " ", " ", "3", "/\n", "/"]),
        ("seed-coder", "a!!\n\n", ["a", "!!", "\n\n"]),
        ("gpt-4o", "HELLOworldNew's a/\n", ["HELLOworld", "New's", " a", "/\n"]),
        ("tekken", "HELLOworldNew's 12", ["HELLOworld", "New", "'s", " ", "1", "2"]),
        ("kimi-k2", "abc\u4f60\u597dDef", ["abc", "\u4f60\u597d", "Def"]),
        ("tiny_aya", "1234567 1234ab", ["1", "234", "567", " ", "123", "4", "ab"]),
        ("tiny_aya", "1234\u2167 1234\u2153", ["123", "4\u2167", " ", "1", "234", "\u2153"]),
        ("tiny_aya", "1234\u00bd 1234\u00b2 1234", ["123", "4\u00bd", " ", "123", "4\u00b2", " ", "1", "234"]),
        ("afmoe", "1234567 12ab", ["1", "234", "567", " ", "12", "ab"]),
        ("superbpe", "so it is 1234567 ok", ["so it is ", "1", "234", "567", " ok"]),
        ("superbpe", "12\u00bd345", ["12\u00bd", "345"]),
        ("youtu", "\uac00\ub098\uff01\u4f60Ab", ["\uac00\ub098", "\uff01", "\u4f60", "Ab"]),
        ("deepseek-llm", "a  \u4f60  \n", ["a", "  ", "\u4f60", "  ", "\n"]),
        ("deepseek-coder", "a b!\n12", ["a", " b", "!", "\n", "1", "2"]),
        ("deepseek-v3", "x.abc 1234", ["x", ".abc", " ", "123", "4"]),
        ("spark2_5", "a!\n\n", ["a", "!", "\n", "\n"]),
        ("bloom", "a, b|c", ["a", ",", " b", "|", "c"]),
        ("viking", "a12", ["a", "1", "2"]),
        ("chameleon", "IMGIMGABZ x\n    !!", ["IMGIMGABZ", " x", "\n", "    ", "!", "!"]),
        ("gemma4", "a b\n\n\nc", ["a b", "\n\n\n", "c"]),
        ("whitespace", "a  b", ["a", "  ", "b"]),
        ("falcon", "a1234`b", ["a", "123", "4", "`", "b"]),
        ("default", "12 34567", ["12", " ", "345", "67"]),
    ],
)
def test_words(name: str, text: str, words: list[str]) -> None:
    assert splitter(lookup(name))(text) == words


@pytest.mark.parametrize(
    ("name", "text", "words", "llama_cpp"),
    [
        # Letters beyond ASCII have case: the expression says so, llama.cpp runs one in which they have both.
        (
            "gpt-4o",
            "\u0434\u0430\u041d\u0435\u0442",
            ["\u0434\u0430", "\u041d\u0435\u0442"],
            ["\u0434\u0430\u041d\u0435\u0442"],
        ),
        (
            "tekken",
            "\u0434\u0430\u041d\u0435\u0442",
            ["\u0434\u0430", "\u041d\u0435\u0442"],
            ["\u0434\u0430\u041d\u0435\u0442"],
        ),
        # Marks belong to words there.
        ("gpt-4o", "\u0939\u093f\u0928", ["\u0939\u093f\u0928"], ["\u0939", "\u093f\u0928"]),
        # \\b: digits that a letter follows are not counted from the right.
        ("tiny_aya", "1234ab", ["123", "4", "ab"], ["1", "234", "ab"]),
        # (?i:'s) takes the long s too, as Oniguruma folds case.
        ("llama-bpe", "a'\u017fx", ["a", "'\u017f", "x"], ["a", "'\u017fx"]),
    ],
)
def test_where_llama_cpp_runs_another_expression(name: str, text: str, words: list[str], llama_cpp: list[str]) -> None:
    """The published expression is what the model was trained with, so it is right; tools/compare_tokenizers.py shows
    that `tokenizers` cuts the same."""
    assert splitter(lookup(name))(text) == words != llama_cpp


def test_sets() -> None:
    digits = prop("Nd")
    assert union(digits, complement(digits)) == ((0, LAST),) and intersection(digits, complement(digits)) == ()
    assert complement(((0, LAST),)) == () and complement(()) == ((0, LAST),)
    assert prop("L") == union(*(prop(n) for n in ("Lu", "Ll", "Lt", "Lm", "Lo")))
    with pytest.raises(UnknownName, match="'Xx'"):
        prop("Xx")


@pytest.mark.parametrize("name", ["Lu", "Ll", "Lt", "Lm", "Nd", "Pc"])
def test_small_categories_are_unicode(name: str) -> None:
    """What `unicodedata` says of those characters that this Python knows."""
    inside = {code for a, b in prop(name) for code in range(a, b + 1)}
    newer = unicodedata.unidata_version.split(".") > unicode_ranges.UNICODE_VERSION.split(".")
    for code in range(LAST + 1):
        category = unicodedata.category(chr(code))
        if category != "Cn" and not (newer and code not in inside):
            assert (category == name) == (code in inside), hex(code)


@pytest.mark.parametrize(
    "bad",
    ["(a", "a)", "[a", "*", "a{", "a{x}", "a{1,2,3}", r"\w", r"\p{L", "[b-a]", r"[\s-z]", "(?!a", "(?<a)", "a.b"],
)
def test_expressions_that_are_not_read(bad: str) -> None:
    with pytest.raises(InvalidArgument):
        parse(bad)
