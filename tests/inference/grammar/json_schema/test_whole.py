"""Automata of which all is known: those of the formats are what their expressions say, and what is reckoned with them
is what all short strings show."""

from __future__ import annotations

import itertools

import pytest

from zigllama.inference.grammar import dfa, regex
from zigllama.inference.grammar.json_schema import compile_schema
from zigllama.inference.grammar.json_schema.format_tables import TABLES
from zigllama.inference.grammar.json_schema.formats import FORMATS, expression, format_language
from zigllama.inference.grammar.json_schema.languages import contains
from zigllama.inference.grammar.json_schema.whole import PURSE, Table, Whole, either, labelled, one_of, soon, within
from zigllama.inference.grammar.subsets import Work

TEXTS = ["".join(t) for n in range(5) for t in itertools.product("ab\u00e9", repeat=n)]
EXPRESSIONS = ["^a*$", "^(ab)+$", "\u00e9", "^a?b?$", "^[^a]{2,3}$", "a.*b"]


def made(source: str) -> Whole:
    found = soon(regex.expression(source), Work(PURSE))
    assert isinstance(found, Whole)
    return found


@pytest.mark.parametrize("name", FORMATS)
def test_the_table_of_a_format_is_its_expression(name: str) -> None:
    a = dfa.determinise(regex.expression(expression(name)), 10_000_000)
    found = format_language(name)
    assert isinstance(found, Whole) and (found.edges, found.finals) == (a.edges, a.finals)
    assert found.shortest == Whole(a).shortest


def test_there_is_a_table_for_each_format() -> None:
    assert list(TABLES) == list(FORMATS)


@pytest.mark.parametrize("source", EXPRESSIONS)
def test_what_is_known_of_an_automaton_is_what_its_strings_show(source: str) -> None:
    a = made(source)
    mine = {t for t in TEXTS if contains(a, t.encode())}
    assert mine and a.shortest[0] == min(map(len, mine))
    for t in mine:
        state = 0
        for i, c in enumerate(t):
            for byte in c.encode():
                state = a.step(state, byte)
            assert a.shortest[state] <= len(t) - i - 1
    b = Whole(Table.unpacked(a.table.packed()))
    assert (b.edges, b.finals, b.shortest) == (a.edges, a.finals, a.shortest)
    for least in range(6):
        longer = a.at_least(least)
        if longer is None:
            assert not any(len(t) >= least for t in mine)
        else:
            assert {t for t in TEXTS if contains(longer, t.encode())} == {t for t in mine if len(t) >= least}


@pytest.mark.parametrize(("one", "other"), list(itertools.permutations(EXPRESSIONS, 2)))
def test_two_automata(one: str, other: str) -> None:
    a, b = made(one), made(other)
    of = [{t for t in TEXTS if contains(x, t.encode())} for x in (a, b)]
    both = either(frozenset((a, b)))
    assert both is not None and {t for t in TEXTS if contains(both, t.encode())} == of[0] | of[1]
    assert not within(a, b) or of[0] <= of[1]
    assert within(a, both) and within(b, both)
    wanted = frozenset(((True, False), (False, False)))
    found = labelled((a, b), wanted)
    assert found is not None
    for t in TEXTS:
        state = 0
        for byte in t.encode():
            state = found.whole.step(state, byte) if state >= 0 else state
        so = tuple(t in each for each in of)
        assert (found.labels[state] if state >= 0 else None) == (so if so in wanted else None), t


def test_ways_of_a_string_as_one() -> None:
    a, b = made("^a*$"), made("^aa?$")
    assert one_of([(a, 3)]) == (a, 3) and one_of([(None, None)]) is None and one_of([(a, 3), (b, 2)]) is None
    assert one_of([(b, None), (a, 3)]) is None  # of which some are none of the first
    found = one_of([(a, None), (b, 2)])
    assert found is not None and found[1] is None and contains(found[0], b"aaaa") and not contains(found[0], b"b")


def test_a_large_expression_is_made_as_it_is_needed() -> None:
    found = soon(regex.expression("^(a|b)*a(a|b){12}$"), Work(PURSE))
    assert isinstance(found, dfa.Lazy) and soon(dfa.NOTHING, Work(PURSE)) is None
    assert isinstance(soon(regex.expression("^a$"), Work(0)), dfa.Lazy)


TOLD_APART = [
    {"type": "object", "properties": {"k": {"const": "x"}, "v": {"type": "integer"}}, "required": ["k"]},
    {"type": "object", "properties": {"k": {"enum": ["y", "z"]}, "v": {"type": "null"}}, "required": ["k"]},
]


@pytest.mark.parametrize(
    ("branches", "document", "valid"),
    [
        (TOLD_APART, '{"k": "x", "v": 1}', True),
        (TOLD_APART, '{"k": "z", "v": null}', True),
        (TOLD_APART, '{"k": "z", "v": 1}', False),
        (TOLD_APART, '{"v": 1}', False),
        ([*TOLD_APART, {"type": "object"}], '{"k": "x"}', False),
        ([*TOLD_APART, {"type": "object"}], '{"k": "q"}', True),
        ([TOLD_APART[0], TOLD_APART[0], TOLD_APART[1]], '{"k": "x"}', False),
        ([TOLD_APART[0], {**TOLD_APART[1], "required": []}], "{}", True),
        ([TOLD_APART[0], {**TOLD_APART[1], "required": []}], '{"k": "x"}', True),
        ([{"const": "a"}, {"enum": ["b", "c"]}], '"b"', True),
        ([{"enum": ["a", "b"]}, {"enum": ["b", "c"]}], '"b"', False),
        ([{"enum": ["a", "b"]}, {"enum": ["b", "c"]}], '"c"', True),
    ],
)
def test_one_of_branches_that_are_told_apart(branches: list[object], document: str, valid: bool) -> None:
    assert compile_schema({"oneOf": branches}).accepts(document.encode()) is valid


def test_a_const_that_a_draft_does_not_know_tells_nothing_apart() -> None:
    apart = [
        {"properties": {"k": {"const": c}}, "required": required} for c, required in (("x", ["k"]), ("y", ["k", "v"]))
    ]
    for draft, valid in (("draft-04", False), ("draft-06", True)):
        schema = {"$schema": f"http://json-schema.org/{draft}/schema#", "type": "object", "oneOf": apart}
        assert compile_schema(schema).accepts(b'{"k": "x", "v": 1}') is valid
