"""The pushdown machine: what it accepts against brute force, in Python and in C alike; that it never goes where it
cannot come back from; its size and its budgets."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from grammar_samples import SHORT, TEXTS, language, random_rules
from hypothesis import given
from hypothesis import strategies as st

from zigllama.errors import EmptyLanguage, GrammarBudget, InvalidArgument
from zigllama.foundation.native_grammar import pushdown_machine
from zigllama.inference.grammar import machine as machines
from zigllama.inference.grammar import pushdown
from zigllama.inference.grammar.compile import compile_rules
from zigllama.inference.grammar.ir import Alt, Bytes, Expr, Literal, Ref, Repeat, Rules, Seq
from zigllama.inference.grammar.machine import DEAD
from zigllama.inference.grammar.pushdown import Pushdown

A, B = Literal(b"a"), Literal(b"b")
SUM: dict[str, Expr] = {
    "e": Alt((Seq((Ref("e"), Literal(b"+"), Ref("t"))), Ref("t"))),
    "t": Alt((Seq((Ref("t"), Literal(b"*"), Ref("f"))), Ref("f"))),
    "f": Alt((Bytes(((0x61, 0x63),)), Seq((Literal(b"("), Ref("e"), Literal(b")"))))),
}


def machine_of(rules: dict[str, Expr], start: str) -> Any:
    return pushdown_machine(compile_rules(Rules(rules, start)))


@given(st.integers(0, 10**9))
def test_random_grammars_against_brute_force(seed: int) -> None:
    rules = random_rules(seed)
    want = language(rules, "S")
    try:
        program = compile_rules(Rules(rules, "S"))
    except EmptyLanguage:
        assert not want
        return
    twin, native = Pushdown(program), pushdown_machine(program)
    prefixes = {t[:n] for t in want for n in range(len(t) + 1)}
    for text in TEXTS:
        n, state = machines.run(twin, text)
        assert native.read(native.start, text) == (n, state)  # the same states, by the same numbers
        assert native.finished(state) == twin.finished(state)
        assert (n == len(text) and twin.finished(state)) == (text in want)
        assert n == len(text) or text not in prefixes


@given(st.integers(0, 10**9))
def test_every_state_can_reach_an_end(seed: int) -> None:
    try:
        twin = Pushdown(compile_rules(Rules(random_rules(seed), "S")))
    except EmptyLanguage:
        return
    states, todo = {twin.start: 0}, [twin.start]
    after: dict[int, set[int]] = {}
    while todo:
        at = todo.pop(0)
        after[at] = {twin.step(at, b) for b in b"abc"} - {DEAD} if states[at] < 4 else set()
        for to in after[at]:
            if to not in states:
                states[to] = states[at] + 1
                todo.append(to)
    for state, depth in states.items():
        if depth == 0:
            assert ends_within(twin, state, 24)


def ends_within(twin: Pushdown, state: int, steps: int) -> bool:
    level, seen = {state}, {state}
    for _ in range(steps):
        if any(twin.finished(s) for s in level):
            return True
        level = {twin.step(s, b) for s in level for b in b"abc"} - {DEAD} - seen
        seen |= level
    return any(twin.finished(s) for s in level)


def test_left_recursion_keeps_its_states() -> None:
    m = machine_of(SUM, "e")
    for text, good in {
        b"a": 1,
        b"a+b*c": 1,
        b"((a+b))*c+a": 1,
        b"a+": 0,
        b"()": 0,
        b"(a": 0,
        b"a)": 0,
        b"a**b": 0,
    }.items():
        n, state = m.read(m.start, text)
        assert (n == len(text) and m.finished(state)) == bool(good), text
    _, before = m.limit()
    long = b"+".join([b"a*b"] * 5000)
    assert m.read(m.start, long)[0] == len(long)
    assert m.limit()[1] <= before + 4  # each state comes back: the stacks do not grow


def test_lists_that_end_in_themselves_do_not_grow() -> None:
    m = machine_of({"list": Alt((Seq((A, B, Ref("list"))), A))}, "list")
    text = b"ab" * 5000 + b"a"
    assert m.read(m.start, text)[0] == len(text)
    assert m.limit()[1] < 10


def test_nesting_grows_by_a_stack_per_level() -> None:
    m = machine_of({"s": Alt((Seq((A, Ref("s"), B)), A))}, "s")
    text = b"a" * 2001 + b"b" * 2000
    n, state = m.read(m.start, text)
    assert n == len(text) and m.finished(state)
    assert m.read(m.start, text + b"b")[0] == len(text)
    assert not m.finished(m.read(m.start, text[:-1])[1])


def test_a_hidden_left_recursion_and_one_through_nothing() -> None:
    rules: dict[str, Expr] = {
        "s": Seq((Ref("n"), Alt((Seq((Ref("s"), A)), B)))),  # n may be empty: s calls itself first
        "n": Alt((Literal(b""), Literal(b"c"), Ref("n"))),
    }
    m = machine_of(rules, "s")
    for text in TEXTS:
        n, state = m.read(m.start, text)
        assert (n == len(text) and m.finished(state)) == (text in language(rules, "s"))


def test_the_empty_text_alone() -> None:
    program = compile_rules(Rules({"s": Literal(b"")}, "s"))
    for m in (Pushdown(program), pushdown_machine(program)):
        assert m.finished(m.start) and all(m.step(m.start, b) == DEAD for b in range(256))
        assert m.step(DEAD, 0) == DEAD and not m.finished(DEAD)


def test_bytes_of_a_character_come_one_by_one() -> None:
    m = machine_of({"s": Repeat(Ref("c"), 0, None), "c": Alt((Literal("é".encode()), Literal("😀".encode())))}, "s")
    half = "é😀".encode()[:-1]
    n, state = m.read(m.start, half)
    assert n == len(half) and not m.finished(state)
    assert m.forced(state)[0] == "😀".encode()[-1:]


def test_forced_bytes_stop_at_a_choice_and_at_an_end() -> None:
    m = machine_of(
        {"s": Seq((Literal(b"abc"), Alt((Literal(b"xy"), Literal(b"xz"))), Repeat(Literal(b"q"), 0, 1)))}, "s"
    )
    text, state = m.forced(m.start)
    assert text == b"abcx" and m.read(m.start, text) == (4, state)
    assert m.forced(m.start, 2) == (b"ab", m.read(m.start, b"ab")[1])
    assert m.forced(m.read(m.start, b"abcxy")[1])[0] == b""
    assert np.flatnonzero(m.next_states(state) != DEAD).tolist() == [ord("y"), ord("z")]


# --- budgets ----------------------------------------------------------------------------------------------------------

# a text is understood in more and more ways: S -> S S | a, with both halves on the stack
MANY: dict[str, Expr] = {"s": Alt((Seq((A, Ref("s"), Ref("s"), Ref("s"))), Seq((A, Ref("s"), Ref("s"))), A))}


def test_an_ambiguous_grammar_stops_at_its_budget() -> None:
    m = machine_of(MANY, "s")
    m.limit(n_bytes=1 << 20)
    began = time.process_time()
    with pytest.raises(GrammarBudget) as caught:
        m.read(m.start, b"a" * 100_000)
    assert time.process_time() - began < 10.0  # the bound is 1 s where nothing else runs
    assert caught.value.limit == 1 << 20 >= caught.value.have and "bytes" in caught.value.what
    assert m.read(m.start, b"aaa")[0] == 3  # what is known stays known


def test_steps_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    m = machine_of(MANY, "s")
    m.limit(work=500)
    with pytest.raises(GrammarBudget, match="steps") as caught:
        m.read(m.start, b"a" * 1000)
    assert caught.value.limit == 500 < caught.value.have
    m.limit(work=1 << 40)
    assert m.read(m.start, b"a" * 60)[0] == 60
    monkeypatch.setattr(pushdown, "LIMIT_STEPS", 100)
    twin = Pushdown(compile_rules(Rules(MANY, "s")))
    with pytest.raises(GrammarBudget, match="steps"):
        machines.run(twin, b"a" * 1000)


# --- what C refuses ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("edge_next", 99, "leads to 99"),
        ("edge_next", -1, "leads to -1"),
        ("call_next", 99, "leads to 99"),
        ("call_rule", 7, "leads to 7"),
        ("edge_first", 5, "ends? at|edges"),
        ("rule_node", 99, "node 99"),
        ("class_of", 200, "class 200"),
        ("rule_group", 4, "group"),
    ],
)
def test_rules_that_lead_out_of_themselves(name: str, value: int, text: str) -> None:
    program = compile_rules(Rules(SUM, "e"))
    array = getattr(program, name).copy()
    array[0 if name != "edge_first" else 1] = value
    with pytest.raises(InvalidArgument, match=text):
        pushdown_machine(replace(program, **{name: array}))


def test_other_shapes_types_and_states() -> None:
    program = compile_rules(Rules(SUM, "e"))
    with pytest.raises(InvalidArgument, match="start 999"):
        pushdown_machine(replace(program, start=999))
    with pytest.raises(InvalidArgument, match="classes"):
        pushdown_machine(replace(program, n_classes=0))
    with pytest.raises(InvalidArgument, match="entries"):
        pushdown_machine(replace(program, edge_low=program.edge_low[:-1]))
    with pytest.raises(InvalidArgument, match="int32"):
        pushdown_machine(replace(program, edge_next=program.edge_next.astype(np.int64)))
    m = pushdown_machine(program)
    for state in (-2, 10**6):
        for call in (m.finished, m.next_states, m.forced, lambda s: m.read(s, b"a")):
            with pytest.raises(InvalidArgument, match=f"state {state}"):
                call(state)
    with pytest.raises(InvalidArgument, match="limits"):
        m.limit(n_bytes=-1)


def test_short_is_what_the_samples_say() -> None:
    assert max(map(len, TEXTS)) == SHORT and len(TEXTS) == sum(3**n for n in range(SHORT + 1))
    assert language({"S": Alt((A, Seq((A, Ref("S")))))}, "S") == {b"a" * n for n in range(1, SHORT + 1)}
    assert list(itertools.islice(TEXTS, 3)) == [b"", b"a", b"b"]
