"""The bounds of what reads patterns and numbers: each is met by what is little beyond it, and says its numbers."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zigllama.errors import GrammarBudget
from zigllama.inference.grammar import dfa, nfa, notation, regex, regex_properties, regex_reader, utf8
from zigllama.inference.grammar.ir import Alt, Literal
from zigllama.inference.grammar.json_schema import check, values
from zigllama.inference.grammar.regex_properties import fold
from zigllama.inference.grammar_constraints import Grammar
from zigllama.models.code_point_sets import Set, complement, intersection, union

APART = "".join(map(chr, range(0x10000, 0x10000 + 2 * 60_000, 2)))  # characters of which no two are neighbours


def _set_of(characters: set[int]) -> Set:
    return union(tuple((c, c) for c in characters))


few = st.sets(st.integers(0x20, 0x180), max_size=90).map(_set_of)
many = st.tuples(few, few).map(lambda two: union(complement(two[0]), two[1]))


@pytest.mark.parametrize(
    ("pattern", "need", "limit"),
    [
        ("a" * (regex_reader.MAX_CHARACTERS + 1), "characters of a regular expression", regex_reader.MAX_CHARACTERS),
        (f"[{APART}]", "ranges of characters in an expression", regex_reader.MAX_RANGES),
        ("".join(f"[^{c}]" for c in APART[:20_000]), "ranges of characters in an", regex_reader.MAX_RANGES),
        ("|".join(APART[: nfa.MAX_CLASSES + 1]), "classes of characters", nfa.MAX_CLASSES),
        ("".join(f"[^{c}]" for c in APART[:700]), "members of classes of characters", nfa.MAX_MEMBERS),
    ],
)
def test_a_pattern_beyond_a_bound_is_refused_with_the_numbers(pattern: str, need: str, limit: int) -> None:
    with pytest.raises(GrammarBudget, match=rf"needs \d+ {need}.*, the limit is {limit}$") as caught:
        regex.automaton(f"^({pattern})$")
    assert limit < caught.value.have <= limit + 50_000


def test_a_grammar_of_too_many_characters_is_refused() -> None:
    text = 'root ::= "a"'
    assert Grammar.from_gbnf(text.ljust(notation.MAX_TEXT)).accepts("a")
    with pytest.raises(GrammarBudget, match=f"{notation.MAX_TEXT + 1} characters, the limit is {notation.MAX_TEXT}"):
        Grammar.from_gbnf(text.ljust(notation.MAX_TEXT + 1))


@pytest.mark.parametrize("keyword", ["required", "dependentRequired"])
def test_too_many_required_names_are_refused(keyword: str) -> None:
    names = [f"n{i}" for i in range(check.NAMES + 1)]
    with pytest.raises(GrammarBudget, match=f"{check.NAMES + 1} required names, the limit is {check.NAMES}"):
        Grammar.from_json_schema({keyword: names if keyword == "required" else {"a": names}})


def test_many_numbers_are_told_from_others() -> None:
    """Each of 20,000 is looked for among all: by halves."""
    grammar = Grammar.from_json_schema({"enum": [3 * i for i in range(20_000)] + [0.25]})
    assert all(map(grammar.accepts, ("0", "3", "59997", "59997.0", "0.25")))
    assert not any(map(grammar.accepts, ("1", "59998", "60000", "0.5", "-3")))


@pytest.mark.parametrize(
    ("make", "text", "need"),
    [
        (
            Grammar.from_cfg,
            "S -> R0\n" + "\n".join(f"R{i} -> x R{i} | {' '.join(f'R{j}' for j in range(100))} |" for i in range(100)),
            "edges of all automata, the limit is 200000",
        ),
        (Grammar.from_ebnf, "s = " + "{ 'a' } - 'b' , " * 3000 + "'c' ;", "steps to determinise exceptions"),
    ],
)
def test_what_all_parts_of_a_grammar_come_to_is_bounded(make: Any, text: str, need: str) -> None:
    with pytest.raises(GrammarBudget, match=need):
        make(text)


@given(st.lists(st.integers(-1, 3), min_size=1, max_size=40))
def test_symbols_are_joined_by_a_loop_as_by_operations_of_arrays(targets: list[int]) -> None:
    characters = "".join(chr(0x4E00 + i + i // 5) for i in range(len(targets)))  # a gap after each fifth
    machine = nfa.Nfa(Alt(tuple(Literal(c.encode()) for c in characters)))
    by_class = targets[: machine.symbols]
    assert dfa._joined_few(by_class, machine) == dfa._joined_many(np.array(by_class, np.int64), machine)


def test_what_is_made_again_is_not_counted() -> None:
    """5,000 times the same 700 ranges, which would be 35 times what all sets may have."""
    once, often = regex.parse(r"[\p{L}\d]"), regex.parse(r"[\p{L}\d]" * 5000)
    assert {id(each.ranges) for each in often.items} == {id(often.items[0].ranges)}
    assert often.items[0] == once


def test_a_set_that_stands_where_another_was_is_not_that_one() -> None:
    """A large set is known by its identity, which must outlast it."""

    def large(n: int) -> Set:
        return tuple((3 * i, 3 * i + n % 2) for i in range(100))

    sets = regex_reader.Sets()
    sets.of(complement, large(0))
    for n in range(200):
        sets.of(complement, large(0))  # equal to what is known, but another tuple, and freed
        assert sets.of(complement, large(n)) == complement(large(n))


@pytest.mark.parametrize(
    ("number", "digits"), [("1e1000", 1001), ("7" * 1001, 1001), ("-1e-1001", 1001), ("0." + "3" * 1001, 1001)]
)
def test_a_number_of_too_many_digits_is_refused(number: str, digits: int) -> None:
    with pytest.raises(GrammarBudget, match=f"needs {digits} digits in a number, the limit is {values.MOST_DIGITS}"):
        Grammar.from_json_schema('{"type": "number", "minimum": ' + number + "}")


@pytest.mark.parametrize("number", ["1e999", "7" * 1000, "-1e-1000", "1000e-3"])
def test_one_of_as_many_as_may_be_is_not(number: str) -> None:
    grammar = Grammar.from_json_schema('{"type": "number", "minimum": ' + number + "}")
    assert grammar.accepts(format(Decimal(number).normalize(), "f"))


@pytest.mark.parametrize(
    ("schema", "need"),
    [
        ('{"const": 1e100000}', "needs 100001 digits"),
        ('{"const": [{"a": [1e-999999999]}]}', "needs 999999999 digits"),
        ({"enum": [[10**200_000]]}, "needs 664386 bits"),
        ({"enum": [[Decimal("1e100001")]]}, "needs 100002 digits"),
    ],
)
def test_a_constant_that_would_fill_memory_is_refused_when_the_grammar_is_made(schema: Any, need: str) -> None:
    with pytest.raises(GrammarBudget, match=need):
        Grammar.from_json_schema(schema)


def test_a_constant_of_many_members_can_be_written() -> None:
    value: list[Any] = [[[i], {"a": str(i)}] for i in range(300)]
    grammar = Grammar.from_json_schema({"const": value})
    assert grammar.accepts(json.dumps(value)) and not grammar.accepts(json.dumps([*value[:-1], [[0], {"a": "1"}]]))


def test_results_are_remembered_up_to_a_bound() -> None:
    asked = 0

    @utf8.remembered
    def doubled(ranges: Set) -> Set:
        nonlocal asked
        asked += 1
        return ranges + ranges

    small, large = ((1, 1),), tuple((i, i) for i in range(utf8.MOST_KEPT // 4))
    assert doubled(small) == small * 2 and doubled(small) is doubled(small) and asked == 1
    doubled(large)
    assert doubled(small) and asked == 2  # both are kept: 3/4 of the bound
    doubled(large[1:])
    assert doubled(small) and asked == 3  # the large one had to go, the small one was asked for since
    assert doubled(large) and asked == 4
    huge = tuple((i, i) for i in range(utf8.MOST_KEPT))
    assert len(doubled(huge)) == 2 * len(huge) and doubled(small) and asked == 6  # beyond it: nothing is left


@given(few, many)
def test_intersection_is_what_is_in_both(a: Set, b: Set) -> None:
    def members(s: Set) -> set[int]:
        return {c for first, last in s for c in range(first, min(last, 0x200) + 1)}

    for one, other in ((a, b), (b, a), (b, b), (a, a)):
        found = intersection(one, other)
        assert members(found) == members(one) & members(other) and found == union(found)
        assert found == complement(union(complement(one), complement(other)))


@given(st.one_of(few, many), st.booleans())
def test_a_large_set_is_folded_as_its_characters_are(s: Set, python: bool) -> None:
    """Up to FEW characters each is looked up; of more all pairs of equal ones are looked at together."""
    cased = intersection(s, union((c, c) for c in regex_properties._equals(python)))
    each = (fold(((c, c),), python=python) for first, last in cased for c in range(first, last + 1))
    assert fold(s, python=python) == union(s, *each)


def test_a_rule_of_many_others_is_looked_at_a_few_times() -> None:
    """A rule of 2,000 alternatives, each another rule: 2,000 looks at it would be four million steps."""
    names = [f"r{i}" for i in range(2000)]
    text = "root ::= " + " | ".join(names) + "\n" + "\n".join(f'{n} ::= "{n}" root?' for n in names)
    grammar = Grammar.from_gbnf(text)
    assert grammar.accepts("r5r77r1999") and not grammar.accepts("r5r2000")
