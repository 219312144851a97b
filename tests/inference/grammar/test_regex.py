"""Regular expressions: against Python's re on random patterns, and what each syntax accepts and refuses."""

from __future__ import annotations

import json
import re
import time
from contextlib import suppress
from pathlib import Path

import pytest
from compare_regexes import differences

from zigllama.errors import EmptyLanguage, GrammarBudget, GrammarError, InvalidArgument, UnknownName, UnsupportedSyntax
from zigllama.inference.grammar import dfa, regex
from zigllama.inference.grammar.ir import Automaton

GOLDEN = Path(__file__).resolve().parents[2] / "golden"


@pytest.mark.parametrize("search", [False, True])
def test_random_patterns_match_what_re_matches(search: bool) -> None:
    # The first 100 of the sequences of which tools/compare_regexes.py compares 5,000 each.
    found, compared, matched, large = differences(100, 1 + search, search)
    assert not found, found[:3]
    assert compared > 600 and 0.2 < matched / compared < 0.9 and large <= 2


def test_random_patterns_of_ecma_match_what_node_matches() -> None:
    cases = json.loads((GOLDEN / "regex_ecma.json").read_text("utf-8"))["cases"]
    texts = large = 0
    for pattern, flags, tried, verdicts in cases:
        try:
            a = regex.automaton(pattern, "ecma", flags)
        except EmptyLanguage:
            a = dfa.NOTHING
        except GrammarBudget:
            large += 1
            continue
        for text, verdict in zip(tried, verdicts, strict=True):
            assert dfa.accepts(a, text.encode()) == (verdict == "1"), (pattern, flags, text)
            texts += 1
    assert texts > 2500 and large <= 4


def matches(pattern: str, text: str, **how: object) -> bool:
    return dfa.accepts(regex.automaton(pattern, **how), text.encode())  # type: ignore[arg-type]


# What JSON Schema's suite and its users write: pattern, texts that match, texts that do not.
ECMA = [
    ("a+", ["a", "xaay"], ["", "b"]),
    ("^a*$", ["", "aaa"], ["b", "aab", "a\n"]),
    ("^a|b$", ["ab", "ax", "xb"], ["xa", "bx"]),
    (r"^\d+$", ["0", "42"], ["৪২", "", "4a"]),
    (r"^\p{digit}+$", ["42", "৪২"], ["a", "-%#"]),
    (r"\p{Letter}cole", ["école", "l'ecole"], ["cole", "1cole"]),
    (r"^\w$", ["a", "_", "0"], ["é", "-"]),
    (r"^\s$", [" ", "\t", "\u00a0", "\ufeff", "\u2029", "\u2003"], ["a", "\u0085", "\x1c", "\u200b"]),
    (r"^\S$", ["a", "\u0085"], [" ", "\ufeff"]),
    (r"^.$", ["a", "🐲", "\u0085"], ["\n", "\r", "\u2028", "\u2029", "ab"]),
    (r"^\cC$", ["\x03"], ["\\cC"]),
    (r"^\u{1F432}\uD83D\uDC32$", ["🐲🐲"], ["🐲"]),
    ("^🐲*$", ["", "🐲🐲"], ["🐉"]),
    (r"^\W$", ["é", "☃"], ["a", "_"]),
    (r"^(?!foo)[a-z]{3,5}$", ["bar", "fop"], ["foo", "fooba", "ab"]),
    (r"^(?=.*[A-Z])(?=.*\d).{4,8}$", ["aB1x", "12345A"], ["aB1", "abcd1", "A23456789"]),
    (r"(?<=\$)\d+(?!\.)$", ["cost $42"], ["42", "$x42", "$42."]),
    (r"\bcat\b", ["cat", "a cat!", "écaté"], ["cats", "concat", "cat_"]),
    (r"\Bat", ["cat"], ["at", "x at"]),
    (r"^[\-\w]+[^\]]$", ["a-b"], ["a]"]),
    (r"^(?<year>\d{4})-\d\d$", ["2024-01"], ["24-01"]),
    (r"^(?:(?:a|b)?){2,3}$", ["", "ab", "aba"], ["abab"]),
    (r"^[^]*$", ["", "a\n\u2028"], []),
    (r"a[]|b", ["b"], ["a"]),
    (r"^(?i:straße)$", ["STRAẞE", "ſtraße"], ["strasse"]),
    (r"^\_\"\/$", ['_"/'], ["_"]),
    (r"^a{2}$|^b{1,2}$|^c{2,}$", ["aa", "b", "bb", "ccc"], ["a", "bbb", "c"]),
    (r"^$", [""], ["a", "\n"]),
    ("^(^a$)$", ["a"], ["b"]),
    (r"^\p{Script=Greek}\p{sc=Hira}\p{Lu}$", ["αあA"], ["aあA"]),
    (r"^\p{gc=Lt}\P{ASCII}\p{Emoji}\p{Alpha}$", ["ǅé1é"], ["ab1c"]),
]


@pytest.mark.parametrize(("pattern", "good", "bad"), ECMA)
def test_ecma_patterns_are_found_anywhere(pattern: str, good: list[str], bad: list[str]) -> None:
    for text in good:
        assert matches(pattern, text), text
    for text in bad:
        assert not matches(pattern, text), text


def test_flags_of_ecma() -> None:
    assert (
        matches("^K$", "\u212a", flags="i") and matches(r"^\w$", "ſ", flags="iu") and not matches("^i$", "İ", flags="i")
    )
    assert matches("^a.b$", "a\nb", flags="s") and not matches("^a.b$", "a\nb")
    assert matches("^b$", "a\u2028b\r", flags="m") and not matches("^b$", "a\nb")
    assert matches("a(?i:b)", "aB") and not matches("a(?i:b)", "Ab")
    assert matches("a(?-i:b)", "Ab", flags="i") and not matches("a(?-i:b)", "AB", flags="i")


def test_python_s_syntax() -> None:
    def full(pattern: str, text: str, flags: str = "") -> bool:
        found = matches(pattern, text, syntax="python", flags=flags)
        known = sum(getattr(re, f.upper()) for f in flags)
        assert found == bool(re.fullmatch(pattern, text, known)), (pattern, text)
        return found

    assert full("a$", "a") and not full("a$", "a\n") and full("a$\n", "a\n")
    assert full("(?x) a  # a letter\n [ ] b", "a b") and full("a b", "ab", "x")
    assert full("(?i)I", "ı") and full("k", "\u212a", "i") and not full("k", "\u212a", "ia")
    assert full(r"\N{DRAGON}\x41\101\0[\1]", "🐉AA\0\1") and full("x{,2}y{}{", "xxy{}{")
    assert full(r"\d\s", "৪\x1c") and not full(r"\d", "৪", "a") and full("(?#nothing)a", "a")
    assert full(r"(?P<a>.)\Z", "é") and full(r"[]a^-]+", "]^-a")
    assert full(r"\B|a", "a") and not full(r"\B|a", "")
    assert not matches("a$", "xa\n\n", syntax="python", search=True)
    assert matches("a$", "xa\n", syntax="python", search=True) and matches("a", "xay", syntax="python", search=True)


# What is no expression: syntax, pattern, the word that the error says, its column.
WRONG = [
    ("ecma", "a)", "not opened", 2),
    ("ecma", "(a", "not closed", 1),
    ("ecma", "a\n(", "not closed", 1),
    ("ecma", "*", "nothing to repeat", 1),
    ("ecma", "a**", "nothing to repeat", 3),
    ("ecma", "^*", "nothing to repeat", 2),
    ("ecma", "(?=a)*", "nothing to repeat", 6),
    ("ecma", "a{2", "expected", 4),
    ("ecma", "a{x}", "a number", 3),
    ("ecma", "a{3,2}", "never", 2),
    ("ecma", "[a", "not closed", 1),
    ("ecma", "[b-a]", "backwards", 2),
    ("ecma", r"[a-\d]", "a range goes", 2),
    ("ecma", r"\Z", "no escape", 1),
    ("ecma", r"\a", "no escape", 1),
    ("ecma", r"\p{Klingon}", "unknown general category", 1),
    ("ecma", r"\p{Script=Klingon}", "unknown script", 1),
    ("ecma", r"\p{Script_Extensions=Greek}", "unknown property", 1),
    ("ecma", r"\u12", "4 hexadecimal digits", 3),
    ("ecma", r"\u{110000}", "beyond", 1),
    ("ecma", r"\u{}", "hexadecimal digits", 1),
    ("ecma", r"\c1", "letter", 1),
    ("ecma", "(?<1>a)", "no name", 1),
    ("ecma", "(?z:a)", "no flag", 1),
    ("ecma", "(?ii:a)", "twice", 1),
    ("ecma", "a\\", "ends too early", 3),
    ("python", "a++b(", "possessive", 2),
    ("python", "(?P<a>x)(?P<a>y)", "two groups", 9),
    ("python", "a(?i)b", "beginning", 2),
    ("python", r"\777", "octal", 1),
    ("python", r"\N{nobody}", "no character", 1),
    ("python", r"[\8]", "no escape", 2),
    ("python", r"\q", "no escape", 1),
    ("python", "(?z)", "expected after", 1),
    ("python", "(?i-i:a)", "contradict", 1),
    ("python", "(?i-:a)", "expected after -", 1),
]


@pytest.mark.parametrize(("syntax", "pattern", "says", "column"), WRONG)
def test_what_is_no_expression_is_an_error_with_its_place(syntax: str, pattern: str, says: str, column: int) -> None:
    with pytest.raises(GrammarError, match=re.escape(says)) as raised:
        regex.parse(pattern, syntax)
    assert (raised.value.line, raised.value.column) == (pattern[: pattern.find("\n") + 1].count("\n") + 1, column)


# What is understood and not regular, or not what it would be without.
NOT_REGULAR = [
    ("ecma", r"(a)\1", "backreference", 4),
    ("ecma", r"(?<x>a)\k<x>", "backreference", 8),
    ("python", r"(a)\1", "backreference", 4),
    ("python", "(?P<x>a)(?P=x)", "backreference", 9),
    ("python", "(a)?(?(1)b|c)", "condition", 5),
    ("python", "(?>a*)a", "atomic", 1),
    ("python", "a*+", "possessive", 2),
    ("python", "(?L:a)", "flag L", 1),
]


@pytest.mark.parametrize(("syntax", "pattern", "feature", "column"), NOT_REGULAR)
def test_what_is_not_regular_is_refused_by_name(syntax: str, pattern: str, feature: str, column: int) -> None:
    with pytest.raises(UnsupportedSyntax) as raised:
        regex.parse(pattern, syntax)
    assert feature in raised.value.feature and (raised.value.line, raised.value.column) == (1, column)


def test_a_look_ahead_inside_a_look_behind_is_refused() -> None:
    with pytest.raises(UnsupportedSyntax, match="look ahead inside a look behind"):
        regex.rules("a(?<=a(?=b))b")


def test_arguments() -> None:
    with pytest.raises(UnknownName, match="perl"):
        regex.parse("a", "perl")
    with pytest.raises(InvalidArgument, match="'x'"):
        regex.parse("a", flags="x")


@pytest.mark.parametrize("pattern", ["a^b", "a(?!)", "(?=a)b", r"a\b\Ba", "a$b", "(?<=b)a(?<=b)"])
def test_an_empty_language_is_an_error(pattern: str) -> None:
    with pytest.raises(EmptyLanguage, match="no text satisfies"):
        regex.rules(f"^{pattern}$")


def test_anchors_at_the_ends_need_no_automaton() -> None:
    for pattern in ("^a+$", "a", "^a|b$|^c$", "^(a|b)$"):
        assert not isinstance(regex.expression(pattern), Automaton)
    assert isinstance(regex.expression("x(^a|b)"), Automaton)


HOSTILE = [
    "a{0,1000000000}",
    "(a{0,1000}){0,1000}",
    "(((a{0,99}){0,99}){0,99}){0,99}",
    "(" * 60_000,
    "(" * 60_000 + ")" * 60_000,
    "a{" + "9" * 60_000 + "}",
    "(?:a?){1000000000}",
    "(a*)*" * 20_000 + "$x",
    "(?=" * 60_000,
    "[" * 60_000,
    r"\p{L}{0,99999}^x",
    "(?=.*a.{20}b)" * 20 + "x^",
    "(" * 150 + "a?" + "){9}" * 150,
    "(?:(?!a.*b)c|" * 150 + "d" + ")*" * 150,
    r"(\b\w+\b){50}(?!x)",
    "x*" * 30_000 + "(?!y)",
]


@pytest.mark.parametrize("pattern", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_patterns_are_refused_or_done_in_time(pattern: str) -> None:
    began = time.process_time()
    with suppress(GrammarError):  # GrammarBudget is one
        regex.automaton(pattern)
    assert time.process_time() - began < 10.0  # the bound is 1 s where nothing else runs
