"""Rules to programs: characters as bytes, what is refused, and that size stays in bounds."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zigllama.errors import EmptyLanguage, GrammarBudget, GrammarError
from zigllama.inference.grammar.automata import MAX_EDGES, MAX_NODES, disjoint, utf8_sequences, without_surrogates
from zigllama.inference.grammar.compile import MAX_DEPTH, byte_classes, compile_rules, groups
from zigllama.inference.grammar.ir import (
    ANY_CHAR,
    EMPTY,
    MAX_CODE_POINT,
    NOTHING,
    Alt,
    Bytes,
    Chars,
    Expr,
    Literal,
    Ref,
    Repeat,
    Rules,
    Seq,
    children,
    optional,
    place_of,
    walk,
)
from zigllama.inference.grammar.machine import accepts
from zigllama.inference.grammar.pushdown import Pushdown

A = Literal(b"a")
EDGES = [0, 0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xD800, 0xDFFF, 0xE000, 0xFFFF, 0x10000, 0x3FFFF, 0x40000, MAX_CODE_POINT]
points = st.one_of(st.sampled_from(EDGES), st.integers(0, MAX_CODE_POINT))


@given(st.lists(st.tuples(points, points).map(lambda p: (min(p), max(p))), max_size=4), points)
def test_characters_are_exactly_their_ranges(ranges: list[tuple[int, int]], point: int) -> None:
    sequences = utf8_sequences(tuple(ranges))
    for c in {point, *EDGES, *(lo for lo, _ in ranges), *(hi for _, hi in ranges)}:
        if 0xD800 <= c <= 0xDFFF:
            continue
        raw = chr(c).encode()
        hits = [
            s for s in sequences if len(s) == len(raw) and all(a <= b <= z for b, (a, z) in zip(raw, s, strict=True))
        ]
        assert len(hits) == any(lo <= c <= hi for lo, hi in ranges)


def test_all_of_utf8_is_nine_sequences() -> None:
    assert len(utf8_sequences(ANY_CHAR.ranges)) == 9
    assert without_surrogates(((0xD800, 0xDFFF),)) == ()
    assert without_surrogates(((5, 9), (0, 4), (7, 20))) == ((0, 20),)
    assert len(compile_rules(Rules({"s": ANY_CHAR}, "s")).final) <= 9


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255), st.integers(0, 3)), max_size=8))
def test_disjoint_ranges_lead_where_all_of_them_did(edges: list[tuple[int, int, int]]) -> None:
    edges = [(min(a, b), max(a, b), to) for a, b, to in edges]
    out = disjoint([edges])
    for b in range(256):
        hits = [to for lo, hi, to in out if lo <= b <= hi]
        want = {to for lo, hi, to in edges if lo <= b <= hi}
        assert hits == ([want] if want else [])
    class_of, n = byte_classes([edges])
    for b in range(256):
        same = [c for c in range(256) if class_of[c] == class_of[b]]
        assert all({e for e in edges if e[0] <= c <= e[1]} == {e for e in edges if e[0] <= b <= e[1]} for c in same)
    assert n == len(set(class_of.tolist()))


def test_names_and_places() -> None:
    source = "s = a\nt = s other"
    with pytest.raises(GrammarError, match=r"line 2, column 7.*'t' uses 'other', which is not defined") as caught:
        compile_rules(Rules({"s": A, "t": Seq((Ref("s"), Ref("other", (12, 17))))}, "s", source=source))
    assert (caught.value.line, caught.value.column) == (2, 7)
    with pytest.raises(GrammarError, match="begin with, 'x'"):
        compile_rules(Rules({"s": A}, "x"))
    with pytest.raises(GrammarError, match="from 3 to 2 times"):
        compile_rules(Rules({"s": Repeat(A, 3, 2)}, "s"))
    assert place_of("", (3, 4)) == place_of("abc", None) == (0, 0)


@pytest.mark.parametrize(
    "e",
    [
        NOTHING,
        Chars(()),
        Chars(((0xD800, 0xDBFF),)),
        Bytes(()),
        Ref("s"),
        Seq((A, Ref("s"))),
        Alt((Seq((A, NOTHING)), Seq((Ref("s"), A)))),
        Repeat(NOTHING, 1, None),
    ],
)
def test_grammars_without_any_text(e: Expr) -> None:
    with pytest.raises(EmptyLanguage, match="no text satisfies my grammar"):
        compile_rules(Rules({"s": e}, "s", what="my grammar"))


def test_what_derives_nothing_is_left_out() -> None:
    rules: dict[str, Expr] = {
        "s": Alt((Seq((A, Ref("never"))), Seq((A, Repeat(Ref("never"), 0, None))))),
        "never": Seq((A, Ref("never"))),
    }
    m = Pushdown(compile_rules(Rules(rules, "s")))
    assert accepts(m, b"a") and m.step(m.step(m.start, 0x61), 0x61) == -1


def test_hostile_sizes() -> None:
    began = time.process_time()
    with pytest.raises(GrammarBudget, match="nodes") as caught:
        compile_rules(Rules({"s": Repeat(A, 0, 1_000_000_000)}, "s"))
    assert caught.value.have > caught.value.limit == MAX_NODES
    e: Expr = A
    for _ in range(12):
        e = Repeat(e, 10, 10)  # 10^12 of them
    with pytest.raises(GrammarBudget):
        compile_rules(Rules({"s": e}, "s"))
    for _ in range(MAX_DEPTH):
        e = Seq((A, Alt((e, A))))
    with pytest.raises(GrammarBudget, match="levels of nesting"):
        compile_rules(Rules({"s": e}, "s"))
    with pytest.raises(GrammarBudget, match="parts of rules"):
        compile_rules(Rules({"s": Seq((Ref("s"),) * (6 * MAX_NODES))}, "s"))
    assert time.process_time() - began < 20.0


def test_sets_of_nodes_are_bounded() -> None:
    """Each place of 3,600 reaches all that follow by nothing: neither as a deterministic automaton nor merely without
    such edges does it fit. Twenty by twenty of them do."""

    def optional(n: int) -> Rules:
        few = Repeat(Alt((A, Literal(b""))), n, n)
        return Rules({"s": Repeat(Seq((few, Alt((Literal(b"b"), Literal(b""))))), n, n)}, "s")

    began = time.process_time()
    with pytest.raises(GrammarBudget, match="edges of an automaton") as caught:
        compile_rules(optional(60))
    assert caught.value.have > caught.value.limit == MAX_EDGES
    assert accepts(Pushdown(compile_rules(optional(20))), b"aaab" * 5 + b"b")
    assert time.process_time() - began < 20.0


def test_long_chains_of_rules_take_no_recursion() -> None:
    n = 3000
    rules: dict[str, Expr] = {f"r{i}": Seq((Literal(b"x"), Ref(f"r{i + 1}"))) for i in range(n)}
    rules[f"r{n}"] = optional(Ref("r0"))
    m = Pushdown(compile_rules(Rules(rules, "r0")))
    assert accepts(m, b"x" * n) and not accepts(m, b"x" * (n + 1))
    left: dict[str, Expr] = {f"r{i}": Seq((Ref(f"r{i + 1}"), Literal(b"x"))) for i in range(n)}
    left[f"r{n}"] = Alt((A, Ref("r0")))
    m = Pushdown(compile_rules(Rules(left, "r0")))
    assert accepts(m, b"a" + b"x" * n) and not accepts(m, b"a" + b"x")


def test_an_automaton_of_subsets_that_would_be_huge_stays_as_it_is() -> None:
    ab = Bytes(((0x61, 0x62),))
    m = Pushdown(compile_rules(Rules({"s": Seq((Repeat(ab, 0, None), A, Repeat(ab, 12, 12)))}, "s")))
    assert len(m.program.final) < 200
    assert accepts(m, b"b" + b"a" + b"ab" * 6) and not accepts(m, b"ab" + b"b" * 12)


def test_groups_come_before_what_they_lead_to() -> None:
    found = groups({"a": ["b"], "b": ["c", "a"], "c": ["d"], "d": [], "e": ["d", "e"]})
    assert sorted(map(sorted, found)) == [["a", "b"], ["c"], ["d"], ["e"]]
    at = {name: i for i, group in enumerate(found) for name in group}
    assert at["a"] < at["c"] < at["d"] and at["e"] < at["d"]


def test_walking_an_expression() -> None:
    e = Seq((A, Alt((Repeat(Ref("x"), 0, 1), EMPTY))))
    assert {type(p).__name__ for p in walk(e)} == {"Seq", "Literal", "Alt", "Repeat", "Ref"}
    assert children(A) == () and children(Repeat(A, 0, 1)) == (A,)
