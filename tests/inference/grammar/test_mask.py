"""Masks of tokens: C against the twin, on random vocabularies and on grammars that take each of C's short cuts."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest
from grammar_samples import random_rules
from hypothesis import given
from hypothesis import strategies as st

from zigllama.errors import EmptyLanguage, GrammarBudget, InvalidArgument, ShapeError
from zigllama.foundation.native_grammar import NativeMachine, NativeVocabulary, pushdown_machine
from zigllama.inference.grammar.compile import compile_rules
from zigllama.inference.grammar.ir import ANY_CHAR, MAX_CODE_POINT, Alt, Bytes, Chars, Expr, Literal, Repeat, Rules, Seq
from zigllama.inference.grammar.json_rules import json_rules
from zigllama.inference.grammar.machine import run
from zigllama.inference.grammar.mask import VocabularyTrie, ids_of, mask_of
from zigllama.inference.grammar.pushdown import Pushdown

PARTS = [b"a", b"b", b"c", b"x", b"A", b"1", b"_", b" ", b".", b'"', b"\\", b"{", b"}", b":", b",", b"\n", b"\x7f"]
PARTS += ["é".encode(), "日".encode(), "😀".encode(), b"\xc3", b"\xa9", b"\xf0\x9f", b"\xff"]
PLAIN = Chars(((0x20, 0x21), (0x23, 0x5B), (0x5D, MAX_CODE_POINT)))
LOWER, NAME = Bytes(((0x61, 0x7A),)), Bytes(((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)))
QUOTE = Literal(b'"')


def native(tokens: list[bytes], ends: list[int]) -> NativeVocabulary:
    offsets = np.zeros(len(tokens) + 1, np.int64)
    np.cumsum([len(t) for t in tokens], out=offsets[1:])
    return NativeVocabulary(np.frombuffer(b"".join(tokens) or b"\0", np.uint8), offsets, ends)


def random_tokens(seed: int, n: int = 300) -> list[bytes]:
    rng = random.Random(seed)
    tokens = [b"".join(rng.choice(PARTS) for _ in range(rng.randint(0, 6))) for _ in range(n)]
    tokens += [bytes((b,)) for b in range(256)]
    tokens += [b"a" * k for k in (7, 31, 32, 33, 40)] + [
        b'"' + b"a" * 40,
        b"a" * 33 + b'"',
        "é".encode() * 33,
        b"a" * 300,
    ]
    rng.shuffle(tokens)
    return tokens


def short_cuts() -> Iterator[tuple[str, Expr]]:
    """Grammars by what of grammar_mask.c they go through."""
    yield "a string", Seq((QUOTE, Repeat(PLAIN, 0, None), QUOTE))
    yield "a string of 5", Seq((QUOTE, Repeat(PLAIN, 0, 5), QUOTE))
    yield "a string of 40", Seq((QUOTE, Repeat(PLAIN, 0, 40), QUOTE))
    yield "a string of 4 and more", Seq((QUOTE, Repeat(PLAIN, 4, None), QUOTE))
    yield "all text", Repeat(ANY_CHAR, 0, None)
    yield "all text of three", Repeat(ANY_CHAR, 0, 3)
    yield "any bytes", Repeat(Bytes(((0, 255),)), 0, None)
    yield "any bytes but a", Repeat(Bytes(((0, 0x60), (0x62, 255))), 0, None)
    yield "lower case", Repeat(LOWER, 1, None)
    yield "names, then one of two", Seq((Repeat(NAME, 2, 3), Alt((Literal(b"ab"), Literal(b":")))))
    yield "a name, known ones apart", Seq((Alt((Literal(b"abc"), Literal(b"xa."), Repeat(NAME, 0, None))), QUOTE))
    not_a = Chars(((0x20, 0x21), (0x23, 0x5B), (0x5D, 0x60), (0x62, MAX_CODE_POINT)))
    known = Seq((Literal(b"a"), Alt((Literal(b"b\n"), Seq((Literal(b"c"), Repeat(PLAIN, 0, None)))))))
    yield "most lead to text, a does not", Alt((Seq((not_a, Repeat(PLAIN, 0, None))), known))
    yield "anything that has abc in it", Seq((Repeat(ANY_CHAR, 0, None), Literal(b"abc"), Repeat(ANY_CHAR, 0, None)))
    yield "ASCII", Repeat(Bytes(((0x20, 0x7E),)), 0, None)
    yield "text but some of UTF-8", Repeat(Chars(((0x20, 0xFFFF), (0x1F600, 0x1F601))), 0, None)
    yield "a capital, then text", Seq((Bytes(((0x41, 0x5A),)), Repeat(PLAIN, 0, None)))


def same_masks(
    vocabulary: NativeVocabulary, trie: VocabularyTrie, machine: NativeMachine, twin: Pushdown, text: bytes
) -> None:
    """In the state after a text, in both; which are the same states by other numbers."""
    n, state = machine.read(machine.start, text)
    mask, count, first = vocabulary.mask(machine, state)
    want, twin_count, twin_first = trie.mask(twin, run(twin, text[:n])[1])
    assert ids_of(mask) == ids_of(want), text[:n]
    assert (count, first) == (twin_count, twin_first)


@pytest.mark.parametrize(("name", "e"), list(short_cuts()), ids=[name for name, _ in short_cuts()])
def test_each_short_cut_finds_what_the_walk_finds(name: str, e: Expr) -> None:
    program = compile_rules(Rules({"s": e}, "s"))
    for seed in range(3):
        tokens, ends = random_tokens(seed), [7, 9]
        vocabulary, trie = native(tokens, ends), VocabularyTrie(tokens, ends)
        machine, twin = pushdown_machine(program), Pushdown(program)
        rng = random.Random(seed)
        for _ in range(12):
            text = rng.choice([b"", b'"', b"a", b"A"]) + b"".join(rng.choice(PARTS) for _ in range(rng.randint(0, 7)))
            same_masks(vocabulary, trie, machine, twin, text)


def test_json_along_a_document() -> None:
    tokens, ends = random_tokens(5, 600), [0]
    vocabulary, trie = native(tokens, ends), VocabularyTrie(tokens, ends)
    program = compile_rules(json_rules())
    machine, twin = pushdown_machine(program), Pushdown(program)
    text = '{"a\\u00e9": [1.5e3, true, {"b": "日😀"}], "c": null}'.encode()
    for n in range(len(text) + 1):
        same_masks(vocabulary, trie, machine, twin, text[:n])


@given(st.integers(0, 10**9), st.integers(0, 3))
def test_random_grammars(seed: int, which: int) -> None:
    try:
        program = compile_rules(Rules(random_rules(seed), "S"))
    except EmptyLanguage:
        return
    tokens = random_tokens(which, 60)
    vocabulary, trie = native(tokens, [3]), VocabularyTrie(tokens, [3])
    machine, twin = pushdown_machine(program), Pushdown(program)
    for text in (b"", b"a", b"ab", b"cab"):
        same_masks(vocabulary, trie, machine, twin, text)


def test_order_of_asking_does_not_matter() -> None:
    """States are made by masks too; their numbers differ then, the masks do not."""
    program = compile_rules(json_rules())
    vocabulary = native(random_tokens(1), [0])
    one, other = pushdown_machine(program), pushdown_machine(program)
    text = b'{"abc": [1, 2]}'
    for n in range(len(text)):
        vocabulary.mask(one, one.read(one.start, text[:n])[1])
    for n in reversed(range(len(text))):
        a = vocabulary.mask(one, one.read(one.start, text[:n])[1])
        b = vocabulary.mask(other, other.read(other.start, text[:n])[1])
        assert (a[0] == b[0]).all() and a[1:] == b[1:]


def test_tokens_without_bytes_and_ends() -> None:
    tokens = [b"", b"a", b"a", b"b", b"ab", b""]
    v = native(tokens, [5, 3])
    m = pushdown_machine(compile_rules(Rules({"s": Alt((Literal(b"a"), Literal(b"abc")))}, "s")))
    assert v.mask(m, m.start)[1:] == (2, 1) and ids_of(v.mask(m, m.start)[0]) == [1, 2, 4]
    after = m.read(m.start, b"a")[1]
    mask, count, first = v.mask(m, after)  # "b" is an end here, and not a text
    assert ids_of(mask) == [3, 5] and (count, first) == (2, 3)
    after = m.read(m.start, b"ab")[1]
    assert v.mask(m, after)[1:] == (0, -1)
    assert (mask_of([3, 5], 6) == mask).all()


def test_one_token_is_told_from_several_wherever_they_are() -> None:
    tokens = [b"x"] * 5000
    for places in ([4999], [0], [2100], [31, 32], [100, 4000], [64, 65, 66]):
        for i in range(5000):
            tokens[i] = b"a" if i in places else b"x"
        m = pushdown_machine(compile_rules(Rules({"s": Literal(b"a")}, "s")))
        assert native(tokens, []).mask(m, m.start)[1:] == (min(2, len(places)), places[0])


def test_a_budget_ends_a_walk() -> None:
    v = native(random_tokens(2), [0])
    m = pushdown_machine(compile_rules(Rules({"s": Seq((QUOTE, Repeat(PLAIN, 0, 400), QUOTE))}, "s")))
    m.limit(work=10)
    with pytest.raises(GrammarBudget, match="steps"):
        v.mask(m, m.start)
    m.limit(work=1 << 30)
    assert ids_of(v.mask(m, m.start)[0])


def test_vocabularies_that_do_not_fit_together() -> None:
    data, offsets = np.zeros(4, np.uint8), np.array([0, 2, 4], np.int64)
    with pytest.raises(InvalidArgument, match="end token 2"):
        NativeVocabulary(data, offsets, [2])
    with pytest.raises(InvalidArgument, match="begins at byte 4"):
        NativeVocabulary(data, np.array([0, 4, 2], np.int64), [])
    with pytest.raises(ShapeError):
        NativeVocabulary(data, np.array([0, 5], np.int64), [])
    with pytest.raises(ShapeError):
        NativeVocabulary(data, np.zeros(1, np.int64), [])
    with pytest.raises(InvalidArgument, match="70000"):
        NativeVocabulary(np.zeros(70000, np.uint8), np.array([0, 70000], np.int64), [])
    m = pushdown_machine(compile_rules(Rules({"s": Literal(b"a")}, "s")))
    with pytest.raises(InvalidArgument, match="state 99"):
        NativeVocabulary(data, offsets, []).mask(m, 99)
