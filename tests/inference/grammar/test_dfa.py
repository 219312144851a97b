"""The algebra of automata, against sets of words written out, and its budgets."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zigllama.errors import GrammarBudget, GrammarError, UnsupportedSyntax
from zigllama.inference.grammar import dfa, regex
from zigllama.inference.grammar.ir import ANY_CHAR, Alt, Automaton, Bytes, Chars, Literal, Ref, Repeat, Seq
from zigllama.inference.grammar.nfa import Look
from zigllama.inference.grammar.utf8 import labelled, tree

LETTERS = b"ab"
WORDS = [bytes(w) for n in range(5) for w in itertools.product(LETTERS, repeat=n)]

expressions = st.recursive(
    st.sampled_from([Literal(b"a"), Literal(b"b"), Literal(b"ab"), Literal(b""), Bytes(((97, 98),)), Alt(())]),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda x: Seq(tuple(x))),
        st.lists(inner, min_size=1, max_size=3).map(lambda x: Alt(tuple(x))),
        st.tuples(inner, st.integers(0, 2), st.one_of(st.none(), st.integers(2, 3))).map(lambda x: Repeat(*x)),
    ),
    max_leaves=6,
)


def words(e: object) -> set[bytes]:
    """The words of at most 4 letters of an expression, by its meaning and no automaton."""
    match e:
        case Literal(text):
            return {text} if len(text) <= 4 else set()
        case Bytes(ranges):
            return {bytes([b]) for lo, hi in ranges for b in range(lo, hi + 1)}
        case Seq(items):
            found = {b""}
            for item in items:
                found = {a + b for a in found for b in words(item) if len(a + b) <= 4}
            return found
        case Alt(items):
            return set().union(*map(words, items)) if items else set()
        case Repeat(item, lo, hi):
            every, one, found = set(), words(item), {b""}
            for n in range((hi if hi is not None else lo + 5) + 1):
                every |= found if n >= lo else set()
                found = {a + b for a in found for b in one if len(a + b) <= 4}
            return every
    raise AssertionError(e)


def accepted(a: Automaton) -> set[bytes]:
    return {w for w in WORDS if dfa.accepts(a, w)}


@given(expressions, expressions)
def test_the_algebra_is_that_of_sets(e: object, f: object) -> None:
    a, b = dfa.determinise(e), dfa.determinise(f)
    assert accepted(a) == words(e)
    assert accepted(dfa.intersect(a, b)) == words(e) & words(f)
    assert accepted(dfa.union(a, b)) == words(e) | words(f)
    assert accepted(dfa.difference(a, b)) == words(e) - words(f)
    assert accepted(dfa.complement(a)) == set(WORDS) - words(e)
    assert dfa.is_empty(dfa.difference(a, a)) and dfa.difference(a, a) == dfa.NOTHING
    least = min(words(e), key=lambda w: (len(w), w), default=None)
    if least is not None:
        assert dfa.shortest(a) == least and dfa.count(a, 4) == len(words(e))


@given(expressions)
def test_minimal_is_the_same_language_in_the_fewest_states(e: object) -> None:
    a = dfa.minimise(dfa.determinise(e))
    assert accepted(a) == words(e)
    states = range(len(a.edges))

    def after(state: int) -> frozenset[bytes]:
        from_here = Automaton((*((a.edges[state]),), *a.edges), frozenset())
        shifted = tuple(tuple((lo, hi, to + 1) for lo, hi, to in row) for row in from_here.edges)
        finals = frozenset({f + 1 for f in a.finals} | ({0} if state in a.finals else set()))
        return frozenset(accepted(Automaton(shifted, finals)))

    if len(a.edges) <= 6:  # two states that no word of 4 letters tells apart would be one
        assert len({after(s) for s in states}) == len(a.edges)


@given(expressions, st.lists(st.sampled_from(LETTERS), max_size=6).map(bytes))
def test_lazy_is_the_same_machine(e: object, text: bytes) -> None:
    machine, whole = dfa.lazy(e), dfa.determinise(e)
    state = machine.start
    for byte in text:
        state = machine.step(state, byte)
    assert machine.finished(state) == dfa.accepts(whole, text)


def test_table_is_the_automaton_in_arrays() -> None:
    a = regex.automaton(r"^[^\x00-\x1f\"]{0,3}é+$")
    classes, table, finals = dfa.table(a)
    for text in ("é", "abé", "aéé", "é\n", 'a"é', "☃é", ""):
        state = 0
        for byte in text.encode():
            state = int(table[state, classes[byte]]) if state != -1 else -1
        assert (state != -1 and bool(finals[state])) == dfa.accepts(a, text.encode())


@pytest.mark.parametrize(
    "ranges", [((0, 0x10FFFF),), ((0x61, 0x61), (0x7F, 0x80), (0x7FF, 0x800)), ((0xD000, 0xE010),)]
)
def test_the_tree_of_a_set_is_its_utf8(ranges: tuple[tuple[int, int], ...]) -> None:
    a = dfa.determinise(Chars(ranges))
    for lo, hi in ranges:
        for c in {lo - 1, lo, lo + 1, hi - 1, hi, hi + 1, 0xD7FF, 0xE000} & set(range(0x110000)):
            text = chr(c).encode("utf-8", "surrogatepass")
            inside = any(x <= c <= y for x, y in ranges) and not 0xD800 <= c <= 0xDFFF
            assert dfa.accepts(a, text) == inside, hex(c)
    assert tree(ranges) == labelled(tuple((lo, hi, None) for lo, hi in ranges))


def test_what_is_no_utf8_matches_nothing() -> None:
    a = dfa.all_text()
    for text in (b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x80", b"\xc3", b"\xff"):
        assert not dfa.accepts(a, text)
    assert dfa.count(a, 1) == 129 and dfa.count(a, 2) == 1 + 128 + 128 * 128 + 0x800 - 0x80


def test_bytes_and_characters_mix() -> None:
    a = dfa.determinise(Seq((Bytes(((0xFF, 0xFF),)), Chars(((0xE9, 0xE9),)), Literal(b"\xfe"))))
    assert dfa.shortest(a) == b"\xff\xc3\xa9\xfe"
    b = dfa.determinise(Seq((a, Literal(b"x"))))
    assert dfa.shortest(b) == b"\xff\xc3\xa9\xfex"


HOSTILE = [
    Repeat(Literal(b"a"), 0, 1_000_000_000),
    Repeat(Literal(b"a"), 1_000_000_000, None),
    Repeat(Repeat(Repeat(Literal(b"ab"), 0, 1000), 0, 1000), 0, 1000),
    Repeat(Alt((Literal(b"a"), Repeat(Literal(b"b"), 0, 1))), 5000, 9000),
    Seq((Repeat(ANY_CHAR, 0, None), Literal(b"a"), Repeat(ANY_CHAR, 30, 30))),  # 2^30 states
    Repeat(Repeat(ANY_CHAR, 0, 4000), 0, 40),
]


@pytest.mark.parametrize("e", HOSTILE, ids=range(len(HOSTILE)))
def test_what_is_too_large_is_refused_in_time(e: object) -> None:
    began = time.process_time()
    with pytest.raises(GrammarBudget) as raised:
        dfa.determinise(e)
    assert raised.value.have > raised.value.limit
    assert time.process_time() - began < 10.0  # the bound is 1 s where nothing else runs


def test_what_is_no_regular_expression_is_an_error() -> None:
    with pytest.raises(GrammarError, match="Ref is no part"):
        dfa.determinise(Ref("a"))
    with pytest.raises(UnsupportedSyntax, match="look ahead inside a look behind"):
        dfa.determinise(Look(Look(Literal(b"a"), True, False), False, False))
