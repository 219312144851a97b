"""GBNF, EBNF and context-free grammars: what llama.cpp and lark accept, errors with their places, hostile texts."""

from __future__ import annotations

import itertools
import json
import random
import re
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
from notation_samples import as_cfg, as_gbnf, as_iso, as_w3c, random_rules

from zigllama.errors import GrammarBudget, GrammarError, UnknownName, UnsupportedSyntax
from zigllama.inference.grammar import cfg, ebnf, gbnf
from zigllama.inference.grammar.compile import compile_rules
from zigllama.inference.grammar.ir import Rules
from zigllama.inference.grammar.machine import accepts
from zigllama.inference.grammar.pushdown import Pushdown

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
WORDS = ["".join(w) for n in range(5) for w in itertools.product("abc", repeat=n)]


def machine(rules: Rules) -> Pushdown:
    return Pushdown(compile_rules(rules))


def accepted(rules: Rules) -> list[str]:
    m = machine(rules)
    return [w for w in WORDS if accepts(m, w.encode())]


# --- against others ---------------------------------------------------------------------------------------------------


def test_gbnf_is_what_llama_cpp_reads() -> None:
    cases = json.loads((GOLDEN / "grammars_gbnf.json").read_text("utf-8"))["cases"]
    texts = refused = 0
    for case in cases:
        try:
            m = machine(gbnf.rules(case["grammar"]))
        except GrammarError:
            refused += 1
            assert case["said"] == "E", case["grammar"]
            continue
        # A loop of what may be empty is left recursion for llama.cpp: it refuses it, or does not come to an end.
        if case["said"] == "E":
            assert case["random"] or case["grammar"] == 'root ::= "a" | ("b" | )* "c"'
            continue
        for text, verdict in zip(case["texts"], case["said"], strict=True):
            assert accepts(m, text.encode()) == (verdict == "1"), (case["grammar"], text)
            texts += 1
    assert texts > 1000 and refused >= 15


@pytest.mark.parametrize("write", [as_gbnf, as_iso, as_w3c, as_cfg])
def test_every_notation_is_what_lark_reads(write: Callable[[Rules], str]) -> None:
    readers: dict[object, Callable[[str], Rules]] = {as_gbnf: gbnf.rules, as_cfg: cfg.rules}
    read = readers.get(write, ebnf.rules)
    cases = json.loads((GOLDEN / "grammars_lark.json").read_text("utf-8"))["cases"]
    n = 0
    for case in cases:
        if write is as_cfg and not case["plain"]:
            continue
        rules = read(write(random_rules(random.Random(case["seed"]), case["plain"])))
        assert accepted(rules) == case["accepted"], case
        n += 1
    assert n >= 20


# --- what each notation is --------------------------------------------------------------------------------------------


def test_gbnf_takes_left_recursion_which_llama_cpp_refuses() -> None:
    assert accepted(gbnf.rules('root ::= "a" | root "b"')) == ["a", "ab", "abb", "abbb"]


def test_iso_14977() -> None:
    text = """(* a comment (* in a comment *) *)
    short list = "a", [ 'b' ], { more } ;
    more = "c" | 2 * "a" (* nothing *) ;"""
    rules = ebnf.rules(text)
    assert rules.start == "short list" and {"a", "ab", "ac", "acc", "aaa", "abaa"} <= set(accepted(rules))
    assert accepted(ebnf.rules('s = (/ "a" /), (: "b" / "c" ! "bb" :) .')) == accepted(
        ebnf.rules('s = [ "a" ], { "b" | "c" } ;')
    )
    assert accepted(ebnf.rules('s = letter - ("a" | "b"), { letter } - "b" ; letter = "a" | "b" | "c" ;')) == [
        w for w in WORDS if w[:1] == "c" and w[1:] != "b"
    ]


def test_w3c() -> None:
    text = """[1] s ::= A - 'a' /* a comment */
    [2] A ::= [a-b] | "c" | #x61#x62
    [3a] unused.name-1 ::= [^a] [^#x61-#x63]"""
    assert accepted(ebnf.rules(text)) == ["b", "c", "ab"]
    assert accepted(ebnf.rules("s ::= ([a-c]* - ([a-c]* 'ab' [a-c]*))")) == [w for w in WORDS if "ab" not in w]
    m = machine(ebnf.rules("s ::= [^a] [#x1F600-#x1F64F]?"))
    assert accepts(m, "é😀".encode()) and not accepts(m, b"a")


def test_which_ebnf_it_is_is_seen_or_said() -> None:
    assert ebnf.notation_of('a = "b" ;') == "iso" and ebnf.notation_of("(* c *) a b ::= 'c'") == "w3c"
    with pytest.raises(GrammarError, match="begins with no rule"):
        ebnf.rules("nothing")
    with pytest.raises(GrammarError, match="'=' is expected"):
        ebnf.rules("a ::= 'b'", notation="iso")
    with pytest.raises(UnknownName, match="bnf"):
        ebnf.rules("a", notation="bnf")


def test_context_free_grammars() -> None:
    assert accepted(cfg.rules("S -> a S b | ε")) == ["", "ab", "aabb"]
    assert accepted(cfg.rules("S → S S | a |\n\n# nothing\nS -> b T \\\n c\nT -> ")) == accepted(
        cfg.rules('S -> S S | "a" | "" | "b" T "c"\nT -> ""')
    )
    m = machine(cfg.rules("S -> NP VP\nNP -> 'the ' N | \"a \" N\nN -> 'cat' | 'dog'\nVP -> ' sees ' NP"))
    assert accepts(m, b"the cat sees a dog") and not accepts(m, b"cat sees")
    assert accepted(cfg.rules("A -> a\nB -> b", start="B")) == ["b"]


# --- errors -----------------------------------------------------------------------------------------------------------

GBNF, EBNF, CFG = gbnf.rules, ebnf.rules, cfg.rules
WRONG = [
    (GBNF, 'root ::= "a"\nb ::= ?', "nothing to repeat", 2, 8),
    (GBNF, 'root ::= "a\\q"', "no escape", 1, 12),
    (GBNF, 'root ::= ("a"', "not closed", 1, 10),
    (GBNF, 'root ::= "a" )', "not expected here", 1, 14),
    (GBNF, "root ::= x", "no rule 'x'", 1, 10),
    (GBNF, 'root ::= "a"\nroot ::= "b"', "there already, in line 1", 2, 1),
    (GBNF, "root ::= []", "without characters", 1, 10),
    (GBNF, "root ::= [b-a]", "backwards", 1, 11),
    (GBNF, 'root ::= "a"{2,1}', "never", 1, 13),
    (GBNF, 'root ::= "\\uD800"', "surrogate", 1, 10),
    (GBNF, 'root ::= "\\U00110000"', "beyond", 1, 11),
    (GBNF, 'b ::= "a"', "no rule 'root' to start with", 1, 1),
    (GBNF, "", "there is no rule", 1, 1),
    (GBNF, "root ::= <[10]>", "token '<[10]>'", 1, 10),
    (GBNF, "root ::= !<think>", "token '!<think>'", 1, 10),
    (EBNF, 's = "a" "b" ;', "a comma", 1, 9),
    (EBNF, 's = "a"', "ends with ; or .", 1, 8),
    (EBNF, "s = ? any ? ;", "special sequence", 1, 5),
    (EBNF, 's = - "a" ;', "written a - b", 1, 5),
    (EBNF, 's = "" ;', "not empty", 1, 5),
    (EBNF, 's = "a" ;\nt = s - "a" ;', "nothing is left", 2, 7),
    (EBNF, 's = s, "a" | "a" ;\nt = "b" - s ;', "needs itself", 2, 9),
    (EBNF, 's = { "a" ) ;', "is expected", 1, 11),
    (EBNF, "s ::= 'a' [ wfc: x ]", "constraint", 1, 11),
    (EBNF, "s ::= #xZ", "hexadecimal", 1, 7),
    (EBNF, "s ::= 'a' | t", "no rule 't'", 1, 13),
    (EBNF, "s ::= 'a", "not closed", 1, 8),
    (EBNF, "s ::= 'a' -", "written a - b", 1, 11),
    (CFG, "S -> 'a' T", "no rule 'T'", 1, 10),
    (CFG, "S -> a T", "no rule 'T'", 1, 8),
    (CFG, "S a", "an arrow", 1, 3),
    (CFG, "S -> 'a' \\\n 'b' T", "no rule 'T'", 2, 6),
    (CFG, "S -> 'a' [0.5]", "weight", 1, 10),
    (CFG, "S -> 'a' NP[NUM=sg]", "features", 1, 10),
    (CFG, "S -> 'a", "not closed", 1, 6),
    (CFG, "'S' -> a", "not quoted", 1, 1),
]


@pytest.mark.parametrize(("read", "text", "says", "line", "column"), WRONG)
def test_errors_say_where(read: Callable[[str], Rules], text: str, says: str, line: int, column: int) -> None:
    with pytest.raises(GrammarError, match=re.escape(says)) as raised:
        read(text)
    assert (raised.value.line, raised.value.column) == (line, column)


def test_what_cannot_be_enforced_is_refused_by_name() -> None:
    for read, text in ((GBNF, "root ::= <[1]>"), (EBNF, "s = ? x ? ;"), (CFG, "S -> 'a' [1]")):
        with pytest.raises(UnsupportedSyntax):
            read(text)


HOSTILE = [
    (GBNF, "root ::= " + "(" * 60_000 + '"a"' + ")" * 60_000),
    (GBNF, 'root ::= "a"{0,1000000000}'),
    (GBNF, 'root ::= "a"{' + "9" * 60_000 + "}"),
    (GBNF, 'root ::= (("a"{0,999}){0,999}){0,999}'),
    (GBNF, "root ::= root root | root |"),
    (GBNF, "root ::= root"),
    (GBNF, 'root ::= a\na ::= b | "x"\nb ::= c |\nc ::= a b c'),
    (GBNF, 'root ::= "a"' + "*" * 60_000),
    (GBNF, "root ::= " + "[" * 60_000),
    (GBNF, "root ::= " + '"a" | ' * 60_000 + '"b"'),
    (EBNF, "s = " + "{" * 60_000),
    (EBNF, "s = 999999999 * 'a' ;"),
    (EBNF, "s = " + "(*" * 60_000),
    (EBNF, "s ::= " + "(" * 60_000),
    (EBNF, "s ::= " + "a" * 60_000 + " -" * 60_000),
    (EBNF, "a ::= b b\n" + "".join(f"{x} ::= {y} {y}\n" for x, y in pairwise("bcdefghijklmnopqr")) + "r ::= 'x' - a"),
    (EBNF, "t::='x'-a a::=b b " + " ".join(f"{x}::={y} {y}" for x, y in pairwise("bcdefghijklmno")) + " o::='x'"),
    (EBNF, "s ::= a " + "/**/" * 10_000 + " a\na ::= 'b'"),
    (EBNF, "s ::= ('a' | 'b')* - (('a' | 'b')* 'a' " + "('a' | 'b') " * 40 + ")"),
    (CFG, "S -> " + "S " * 60_000),
    (CFG, "S -> S\n" * 30_000),
    (CFG, "\\\n" * 60_000),
    (CFG, "S -> " + "| " * 60_000),
]  # fmt: skip


@pytest.mark.parametrize(("read", "text"), HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_grammars_are_refused_or_read_in_time(read: Callable[[str], Rules], text: str) -> None:
    began = time.process_time()
    with suppress(GrammarError):  # GrammarBudget is one
        compile_rules(read(text))
    assert time.process_time() - began < 10.0  # the bound is 1 s where nothing else runs


def test_a_text_without_end_is_refused() -> None:
    with pytest.raises(GrammarBudget, match="characters"):
        gbnf.rules("#" * 5_000_000)
