"""One grammar, many requests: what it keeps stays the same in size, what others wrote makes no difference, threads
share it; and what is given that cannot be a grammar is refused with a type.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from zigllama import errors
from zigllama.foundation.native_json_schema import json_schema_machine
from zigllama.inference import grammar_constraints
from zigllama.inference.grammar import renewed
from zigllama.inference.grammar.ir import Bytes, Literal, Repeat, Rules, Seq
from zigllama.inference.grammar.json_schema import compile_schema
from zigllama.inference.grammar.machine import DEAD
from zigllama.inference.grammar.mask import ids_of
from zigllama.inference.grammar_constraints import Grammar, GrammarConstraint, grammar_of
from zigllama.inference.model import Model

SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "array", "items": {"type": "string"}, "uniqueItems": True}, "b": {"pattern": "^x+y"}},
    "minProperties": 2,
    "required": ["a", "b"],
}
Small = Callable[[str], Path]


@pytest.fixture(scope="module")
def model(small_model: Small) -> Iterator[Model]:
    with Model(small_model("llama-mix"), n_threads=1, n_ctx=400) as m:
        yield m


def written(g: Grammar, model: Model, seed: int, most: int = 60) -> bytes:
    """What a model that knows nothing writes: as far as it comes, and checked where it ends."""
    c, rng = GrammarConstraint(g, model.tokenizer), random.Random(seed)
    pieces = model.tokenizer.text_pieces()
    for _ in range(most):
        ids = [i for i in ids_of(c.allowed()[0]) if pieces[i]]
        closing = [i for i in ids if pieces[i] in (b'"', b"}", b"]")] if len(c.place.text) > 30 else []
        if c.finished or not ids:
            break
        c.accept(rng.choice(closing or ids))
    if c.finished:
        g.check(c.place.text.decode())
    return c.place.text


# --- any number of requests -------------------------------------------------------------------------------------------


def test_a_grammar_does_not_wear_out(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand texts, each of other states; with bounds so low that machines are made anew hundreds of times."""
    monkeypatch.setattr(grammar_constraints, "WORN", 200_000)
    monkeypatch.setattr(renewed, "WORN", 2_000)
    digit = Bytes(((0x30, 0x39),))
    g = Grammar.from_rules(Rules({"s": Seq((Repeat(digit, 8, 8), Literal(b"."), Repeat(digit, 0, 600)))}, "s"))
    most, machines = 0, set()
    for n in range(1000):
        live = g.live()
        machines.add(id(live))
        text = f"{n * 99991:08d}." + str(n) * (n % 97)
        n_read, state = live.machine.read(live.machine.start, text.encode())
        assert n_read == len(text) and live.machine.finished(state)
        g.check(text)
        most = max(most, live.machine.limit()[0])
    assert most < 1_000_000
    schema = Grammar.from_json_schema(SCHEMA)
    for seed in range(12):
        written(schema, model, seed)
        assert schema.machine.limit()[0] < 8_000_000


def test_a_text_goes_on_where_others_have_used_the_machine_up(model: Model) -> None:
    g = Grammar.from_json_schema(SCHEMA)
    c = GrammarConstraint(g, model.tokenizer)
    for token in model.tokenizer.encode('{"a": ["ab', add_special=False):
        c.accept(token)
    shared = c.place.live
    shared.machine.limit(shared.machine.limit()[0])  # not a byte more
    mask = c.allowed()[0]
    for token in model.tokenizer.encode('c"], "b', add_special=False):
        c.accept(token)
    assert ids_of(mask) and c.place.live is not shared and c.place.text == b'{"a": ["abc"], "b'
    fresh = GrammarConstraint(Grammar.from_json_schema(SCHEMA), model.tokenizer)
    for token in model.tokenizer.encode('{"a": ["abc"], "b', add_special=False):
        fresh.accept(token)
    assert ids_of(fresh.allowed()[0]) == ids_of(c.allowed()[0])


def test_more_than_a_machine_may_keep_is_an_error_all_the_same(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    g = Grammar.from_json_schema(SCHEMA)
    made = g._make_machine

    def small() -> Any:
        machine = made()
        machine.limit(2_000)
        return machine

    monkeypatch.setattr(g, "_make_machine", small)
    g._live = g.fresh()
    with pytest.raises(errors.GrammarBudget):
        written(g, model, 1)


def test_the_tokens_of_a_run_do_not_depend_on_who_came_first(model: Model) -> None:
    t = model.tokenizer
    rules = Rules({"s": Literal(b"let there be light and there was light")}, "s")
    whole = t.encode_inside("let there be light and there was light")
    for first in range(6):
        g = Grammar.from_rules(rules)
        other = GrammarConstraint(g, t)
        for byte in range(first):  # someone who came byte by byte to the middle of it
            other.accept(t.encode_inside("let there be light"[byte])[0])
        other.next_token()
        c = GrammarConstraint(g, t)
        taken = []
        while (token := c.next_token()) is not None:
            taken.append(token)
            c.accept(token)
        assert taken == whole


# --- threads ----------------------------------------------------------------------------------------------------------


def test_eight_threads_share_a_grammar(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewed, "WORN", 500)
    texts = [written(Grammar.from_json_schema(SCHEMA), model, seed) for seed in range(4)]
    g = Grammar.from_json_schema(SCHEMA)

    def one(n: int) -> bytes:
        assert g.accepts(b'{"a": ["x"], "b": "xxy"}') and not g.accepts(b'{"a": ["x", "x"], "b": "xxy"}')
        assert g.explain('{"a": 1').offset == 6
        return written(g, model, n % 4)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(24))) == [texts[n % 4] for n in range(24)]


def test_requests_of_many_threads_to_one_model(model: Model) -> None:
    g = Grammar.from_json_schema({"type": "array", "items": {"enum": ["a", "b", 1, 2]}, "uniqueItems": True})
    options: dict[str, Any] = {"max_tokens": 40, "temperature": 1.5, "grammar": g}
    alone = [model.generate("the cat", seed=n, **options).text for n in range(4)]
    with ThreadPoolExecutor(8) as pool:
        handles = list(pool.map(lambda n: model.submit("the cat", seed=n % 4, **options), range(16)))
        found = list(pool.map(lambda h: h.result(timeout=120).text, handles))
    assert found == [alone[n % 4] for n in range(16)]
    assert all(g.accepts(text) for text in found if text.endswith("]"))


# --- right answers are taken ------------------------------------------------------------------------------------------


def test_right_answers_are_not_refused() -> None:
    Grammar.from_json_schema({"type": "object"}).check('{"a": 1, "a": 2}')  # where it changes no answer
    assert not Grammar.from_json_schema({"minProperties": 2}).accepts('{"a": 1, "a": 2}')
    exact = Grammar.from_json_schema({"const": 9007199254740993})
    assert exact.accepts("9007199254740993") and not exact.accepts("9007199254740992")
    assert exact.accepts("9.007199254740993e15")
    huge = Grammar.from_json_schema('{"type": "number", "minimum": 1e400}')
    assert huge.accepts("1e400") and huge.accepts("2E+500") and not huge.accepts("9e399")
    digits = "1" + "0" * 5000
    assert Grammar.from_json_schema(f'{{"const": {digits}}}').accepts(digits)
    for g in (Grammar.from_json(), Grammar.from_json_schema(True)):
        g.check(digits)
        g.check("[" * 1100 + "]" * 1100)  # more than json.loads reads
        g.check("[1e400, -0.0]")


# --- errors have types ------------------------------------------------------------------------------------------------

HALF = "\ud800"


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"properties": {1: {}}}, "bad schema at /properties: the name 1 is no string"),
        ({"enum": [{1: 2}]}, "bad schema at /enum/0: the name 1 is no string"),
        ({"const": {1: 2, "a": 3}}, "the name 1"),
        ({"dependentSchemas": {None: {}}}, "the name None"),
        ({"pattern": HALF}, "bad schema at /pattern: .*U\\+D800"),
        ({"enum": ["a", HALF]}, "bad schema at /enum/1"),
        ({"const": {HALF: 1}}, "half of a pair"),
        ({"properties": {HALF: {}}}, "half of a pair"),
        ({"required": [HALF]}, "bad schema at /required/0"),
        ('{"const": "\\ud800"}', "half of a pair"),
        ({"$id": "http://[x"}, "no URI"),
        ({"$id": "http://a/b", "$ref": "//[x"}, "no URI"),
    ],
)
def test_what_is_no_schema_in_other_ways(schema: Any, said: str) -> None:
    with pytest.raises(errors.BadSchema, match=said):
        Grammar.from_json_schema(schema)


def test_options_that_are_none() -> None:
    for draft in (5, 3, "2020-12", 2020.0, True):
        with pytest.raises(errors.InvalidArgument, match=r"known are 4, 6, 7, 2019, 2020"):
            Grammar.from_json_schema(True, draft=draft)
    xsd = '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema"><xs:element name="a" type="xs:string"/></xs:schema>'
    wrong: list[Any] = [-1, 25, None, "3", 2.0]
    for n in wrong:
        with pytest.raises(errors.InvalidArgument, match=r"whitespace is .*from 0 to 24"):
            Grammar.from_json_schema(True, whitespace=n)
        with pytest.raises(errors.InvalidArgument, match=r"blanks is .*from 0 to 24"):
            Grammar.from_xsd(xsd, blanks=n)
    assert Grammar.from_xsd(xsd, blanks=3).blanks == 3
    tight = Grammar.from_json_schema({"type": "array"}, whitespace=1).machine
    assert tight.read(tight.start, b"[  ")[0] == 2


def test_nesting_is_bounded_and_said_so() -> None:
    nested: Any = {"type": "null"}
    for _ in range(190):
        nested = {"type": "array", "items": nested, "uniqueItems": True, "minItems": 1}
    Grammar.from_json_schema(nested)
    with pytest.raises(errors.GrammarBudget):
        Grammar.from_json_schema({"items": nested, "allOf": [{"items": {"items": [nested] * 9}}]}, depth=100)


def test_the_notation_of_ebnf() -> None:
    iso, w3c = 'list = "a", {"b"} ;', 'list ::= "a" "b"*'
    assert Grammar.from_ebnf(iso, notation="iso").accepts("abb")
    assert grammar_of({"ebnf": {"text": w3c, "notation": "w3c", "start": "list"}}).accepts("abb")
    with pytest.raises(errors.GrammarError):
        Grammar.from_ebnf(iso, notation="w3c")
    with pytest.raises(errors.UnknownName, match="notation of EBNF"):
        grammar_of({"ebnf": {"text": iso, "notation": "bnf"}})
    with pytest.raises(errors.UnknownName, match="option of cfg 'notation'"):
        grammar_of({"cfg": {"text": "A -> b", "notation": "iso"}})
    with pytest.raises(errors.InvalidArgument, match="ebnf: a mapping needs its `text`"):
        grammar_of({"ebnf": {"notation": "iso"}})


def test_whether_a_text_may_end_is_an_error_where_it_cannot_be_said() -> None:
    class Sevens:
        """7 7 7: that they may end is asked of one who does not answer."""

        root = -1

        def say(self, machine: object, what: int, a: int, b: int, c: int) -> list[int]:
            raise AssertionError("rows are asked of all places")

        def row(self, place: int) -> tuple[list[int], list[int]]:
            row = [-1] * 257
            row[0x37] = 1 << 2 if place else 1
            row[256] = 0 if place else -1
            return row, [] if place else [1, 0]

        def after(self, frame: int, result: int) -> int:
            raise KeyError(result)

    machine = json_schema_machine(Sevens(), 0, 2)
    state = machine.step(machine.start, 0x37)
    assert state != DEAD and machine.step(state, 0x37) == state
    for ask in (machine.finished, machine.forced):
        with pytest.raises(errors.GrammarBudget):
            ask(state)
    assert isinstance(machine.failure, KeyError)


def test_a_written_document_is_json(model: Model) -> None:
    made = compile_schema(SCHEMA)
    for seed in range(3):
        text = written(Grammar.from_json_schema(SCHEMA), model, seed, 90)
        if made.accepts(text):
            json.loads(text)
