"""`Grammar` and generation under one: nothing else is written, the same tokens by every way, and every way to fail."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import zigllama as zl
from zigllama import errors
from zigllama.foundation.native_grammar import pushdown_machine
from zigllama.inference import grammar_constraints
from zigllama.inference.grammar.compile import compile_rules
from zigllama.inference.grammar.ir import Alt, Bytes, Chars, Expr, Literal, Repeat, Rules, Seq
from zigllama.inference.grammar.kept import TokenTable
from zigllama.inference.grammar.mask import ids_of
from zigllama.inference.grammar.pushdown import Pushdown
from zigllama.inference.grammar_constraints import Grammar, GrammarConstraint, grammar_of
from zigllama.inference.model import Model

LOWER, DIGIT = Bytes(((0x61, 0x7A),)), Bytes(((0x30, 0x39),))
ANIMAL: Expr = Seq(
    (
        Literal(b'{"name": "'),
        Repeat(LOWER, 1, 8),
        Literal(b'", "age": '),
        Repeat(DIGIT, 1, 2),
        Literal(b', "kind": "'),
        Alt((Literal("größer".encode()), Literal("größte".encode()))),
        Literal(b'"}'),
    )
)
OPTIONS: dict[str, Any] = {"max_tokens": 90, "temperature": 1.5, "seed": 11}
Small = Callable[[str], Path]


def grammar(e: Expr, blanks: int | None = None, **options: Any) -> Grammar:
    made = Grammar.from_rules(Rules({"s": e}, "s"), **options)
    made.blanks = blanks
    return made


@pytest.fixture(scope="module")
def model(small_model: Small) -> Iterator[Model]:
    with Model(small_model("llama-mix"), n_threads=2, n_ctx=400) as m:
        yield m


# --- the same tokens by every way -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_answers_are_of_the_grammar_and_the_same_by_every_way(model: Model, seed: int) -> None:
    g = grammar(ANIMAL)
    options = OPTIONS | {"seed": seed}
    r = model.generate("the cat", grammar=g, **options)
    assert r.finish_reason == "stop" and g.accepts(r.text) and json.loads(r.text)["age"] >= 0
    asked = model.generate("the cat", grammar=g, forced=False, **options)
    assert (asked.text, asked.token_ids, asked.finish_reason) == (r.text, r.token_ids, "stop")
    assert model.generate("the cat", grammar=g, lookup=True, **options).token_ids == r.token_ids
    assert model.submit("the cat", grammar=g, **options).result(timeout=60).token_ids == r.token_ids
    stream = model.generate("the cat", grammar=g, stream=True, **options)
    assert "".join(e.text for e in stream) == r.text

    async def read() -> str:
        return "".join([e.text async for e in model.agenerate("the cat", grammar=g, **options)])

    assert asyncio.run(read()) == r.text
    others = model.generate_batch(["let there be", "the cat", "dry land"], grammar=g, **options)
    assert others[1].token_ids == r.token_ids and all(g.accepts(o.text) for o in others)


def test_with_and_without_grammars_in_one_batch(model: Model) -> None:
    g = grammar(ANIMAL)
    free, bound = OPTIONS | {"max_tokens": 20, "seed": 5}, OPTIONS | {"seed": 5, "grammar": g}
    want = [model.generate("the waters", **o).token_ids for o in (free, bound, free)]
    handles = [model.submit("the waters", **o) for o in (free, bound, free)]
    assert [h.result(timeout=60).token_ids for h in handles] == want


def test_the_reference_backend_and_a_session(small_model: Small, model: Model) -> None:
    g = grammar(ANIMAL)
    with Model(small_model("llama-mix"), backend="reference", n_ctx=400) as twin:
        assert g.accepts(twin.generate("the", grammar=g, max_tokens=60, temperature=1.0, seed=1).text)
    with model.session() as s:
        first = s.chat("hi", grammar=g, **OPTIONS)
        assert g.accepts(first.text) and g.accepts(s.chat("and?", grammar=g, **OPTIONS).text)
    assert model.chat("hi", grammar=g, **OPTIONS).token_ids == first.token_ids


def test_greedy_takes_no_steps_in_a_row(model: Model) -> None:
    g = grammar(Repeat(LOWER, 30, 40))
    r = model.generate("the cat", grammar=g, temperature=0, max_tokens=60)
    assert g.accepts(r.text) and 30 <= len(r.text) <= 40


def test_penalties_and_bias_do_not_bring_back_what_is_not_allowed(model: Model) -> None:
    g = grammar(Repeat(DIGIT, 20, 20))
    letter = model.tokenizer.encode("a", add_special=False)[0]
    r = model.generate("abc", grammar=g, logit_bias={letter: 1000.0}, repeat_penalty=1.5, top_k=0, **OPTIONS)
    assert len(r.text) == 20 and r.text.isdigit()


def test_with_other_ways_to_choose(model: Model) -> None:
    g = grammar(ANIMAL)
    for options in (
        {"mirostat_mode": 2},
        {"top_k": 0, "typical_p": 0.5},
        {"guidance_scale": 1.5, "negative_prompt": "dry"},
    ):
        r = model.generate("the cat", grammar=g, **OPTIONS | options)
        assert g.accepts(r.text), options
        asked = model.generate("the cat", grammar=g, forced=False, **OPTIONS | options)
        assert asked.token_ids == r.token_ids, options
    r = model.generate("the cat", grammar=g, logprobs=True, explain=True, **OPTIONS)
    assert r.logprobs is not None and [p.token_id for p in r.logprobs] == r.token_ids
    assert r.explain is not None and len(r.explain) == len(r.token_ids)
    assert r.token_ids == model.generate("the cat", grammar=g, **OPTIONS).token_ids
    for refused in ({"num_beams": 2}, {"penalty_alpha": 0.5}):
        with pytest.raises(errors.InvalidArgument, match=f"{next(iter(refused))} with a grammar"):
            model.generate("the cat", grammar=g, **refused)


# --- forced runs ------------------------------------------------------------------------------------------------------


def test_forced_runs_are_not_run_one_by_one(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    run = model.engine.run

    def counted(step: Any) -> Any:
        steps.append(len(step.tokens))
        return run(step)

    monkeypatch.setattr(model.engine, "run", counted)
    g = grammar(Seq((Repeat(DIGIT, 1, 1), Literal(b" heaven and earth and the firmament "), Repeat(DIGIT, 1, 1))))
    r = model.generate("let", grammar=g, reuse=False, **OPTIONS)
    taken, n = list(steps), len(r.token_ids)
    steps.clear()
    assert model.generate("let", grammar=g, reuse=False, forced=False, **OPTIONS).token_ids == r.token_ids
    assert len(steps) == n > 8 and len(taken) < 5
    assert sum(taken) <= sum(steps)


def test_the_end_of_a_run_is_left_open_where_a_token_reaches_beyond(model: Model) -> None:
    t = model.tokenizer
    c = GrammarConstraint(grammar(Seq((Literal(b"the"), Repeat(LOWER, 0, 9)))), t)
    pieces = TokenTable.of(t).pieces
    assert any(p.startswith(b"the") and len(p) > 3 for p in pieces)  # "there"
    assert c.next_token() is None
    c = GrammarConstraint(grammar(Seq((Literal(b"the waters"), Repeat(DIGIT, 0, 9)))), t)
    assert c.next_token() == t.encode_inside("the waters")[0]
    mask, n, first = c.allowed()
    assert (n, first, ids_of(mask)) == (1, c.next_token(), [first])


def test_a_whole_text_without_any_choice(model: Model) -> None:
    g = grammar(Literal(b"let there be light"))
    r = model.generate("x", grammar=g, **OPTIONS)
    assert r.text == "let there be light" and r.finish_reason == "stop"
    assert r.token_ids == model.tokenizer.encode_inside(r.text)
    empty = model.generate("x", grammar=grammar(Literal(b"")), **OPTIONS)
    assert (empty.text, empty.token_ids, empty.finish_reason) == ("", [], "stop")


def test_a_length_limit_holds_within_a_run(model: Model) -> None:
    g = grammar(Literal(b"let there be light and there was light"))
    r = model.generate("x", grammar=g, max_tokens=3)
    assert r.finish_reason == "length" and len(r.token_ids) == 3
    assert model.generate("x", grammar=g, max_tokens=0).token_ids == []


# --- ends -------------------------------------------------------------------------------------------------------------


def test_end_tokens_only_where_the_text_may_end(model: Model) -> None:
    g = grammar(Repeat(Literal(b"ab"), 1, 3))
    c = GrammarConstraint(g, model.tokenizer)
    ends = model.tokenizer.end_ids
    assert not ends & set(ids_of(c.allowed()[0])) and not c.finished
    for byte in ("a", "b"):
        c.accept(model.tokenizer.encode(byte, add_special=False)[0])
    assert ends <= set(ids_of(c.allowed()[0])) and c.finished and not c.complete
    c.accept(min(ends))
    assert c.place.written == 2
    on = GrammarConstraint(g, model.tokenizer, ignore_eos=True)
    on.place = c.place
    assert not ends & set(ids_of(on.allowed()[0]))
    r = model.generate("x", grammar=g, ignore_eos=True, max_tokens=40)
    assert r.text == "ababab" and r.finish_reason == "stop"


def test_stop_strings_still_stop(model: Model) -> None:
    r = model.generate("x", grammar=grammar(Literal(b"let there be light")), stop="be", max_tokens=40)
    assert r.text == "let there " and r.finish_reason == "stop"


def test_characters_that_tokens_cut_in_two(model: Model) -> None:
    g = grammar(Repeat(Chars(((0x1F600, 0x1F64F),)), 3, 5))
    for seed in range(5):
        r = model.generate("x", grammar=g, max_tokens=60, temperature=2.0, seed=seed)
        assert g.accepts(r.text) and 3 <= len(r.text) <= 5


def test_white_space_has_an_end_when_json_is_written(model: Model) -> None:
    g = Grammar.from_json()
    space = model.tokenizer.encode("  ", add_special=False)[0]
    bias = {i: 60.0 for i, p in enumerate(TokenTable.of(model.tokenizer).pieces) if p and not p.strip()}
    assert space in bias
    for seed in range(3):
        r = model.generate("x", grammar=g, logit_bias=bias, max_tokens=400, temperature=1.5, seed=seed)
        assert max((len(run) for run in re.findall(r"\s+", r.text)), default=0) < grammar_constraints.BLANKS + 8
        if r.finish_reason == "stop":
            json.loads(r.text)
    only_blanks = grammar(Repeat(Literal(b" "), 40, 40), blanks=3)  # nothing else may follow: all of them are written
    assert model.generate("x", grammar=only_blanks, max_tokens=90).text == " " * 40
    c = GrammarConstraint(grammar(Repeat(Bytes(((0x20, 0x20), (0x61, 0x61))), 0, 99), blanks=2), model.tokenizer)
    one = model.tokenizer.encode_inside(" ")[0]
    for _ in range(2):
        assert one in ids_of(c.allowed()[0])
        c.accept(one)
    assert c.place.blanks == 2 and one not in ids_of(c.allowed()[0])
    c.accept(model.tokenizer.encode_inside("a")[0])
    assert c.place.blanks == 0 and one in ids_of(c.allowed()[0])


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_no_token_allowed_is_an_error() -> None:
    table = TokenTable([b"a", b"b", b""], frozenset({2}))

    class Tokens:
        end_ids = frozenset({2})

        def encode_inside(self, text: str) -> list[int]:
            return [0] if text.startswith("a") else []

    TokenTable._made[Tokens()] = table  # type: ignore[index]
    tokens: Any = Tokens()
    TokenTable._made[tokens] = table
    c = GrammarConstraint(grammar(Literal(b"axb")), tokens)
    c.accept(0)
    with pytest.raises(errors.NoTokenAllowed, match=r'after 1 bytes.*expects "x"') as caught:
        c.allowed()
    assert (caught.value.written, caught.value.expected) == (1, '"x"')
    with pytest.raises(errors.InvalidArgument, match=r"token 1 \(b'b'\)"):
        c.accept(1)


def test_an_error_of_one_request_is_its_own(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    bad, good = grammar(ANIMAL), grammar(Seq((ANIMAL, Literal(b" "))))
    plain = GrammarConstraint._plain

    def fail(self: GrammarConstraint, at: Any) -> Any:
        if self.grammar is bad and at.written > 12:
            raise errors.NoTokenAllowed(at.written, "nothing")
        return plain(self, at)

    monkeypatch.setattr(GrammarConstraint, "_plain", fail)
    handles = [model.submit("the", grammar=g, **OPTIONS) for g in (bad, good)]
    with pytest.raises(errors.NoTokenAllowed):
        handles[0].result(timeout=60)
    assert good.accepts(handles[1].result(timeout=60).text)


def test_a_finished_answer_is_looked_at_once_more(model: Model) -> None:
    wide, narrow = (compile_rules(Rules({"s": Repeat(Literal(c), 4, 4)}, "s")) for c in (b"a", b"b"))
    broken = Grammar(lambda: pushdown_machine(wide), lambda: Pushdown(narrow))
    with pytest.raises(errors.GrammarRefused, match="reads 0 of 4 bytes") as caught:
        model.generate("x", grammar=broken, **OPTIONS)
    assert caught.value.text == "aaaa"
    no_json = grammar(Literal(b"{]"), check=json.loads)
    with pytest.raises(errors.GrammarRefused, match="does not satisfy"):
        model.generate("x", grammar=no_json, **OPTIONS)


def test_keywords(model: Model) -> None:
    g = grammar(ANIMAL)
    with pytest.raises(errors.InvalidArgument, match="grammar and regex: one constraint"):
        model.generate("x", grammar=g, regex="a")
    with pytest.raises(errors.InvalidArgument, match="nothing"):
        grammar_of({"regex": None})
    with pytest.raises(TypeError, match="did you mean 'json_schema'"):
        model.generate("x", json_shema={})
    assert model.generate("x", grammar=None, regex=None, max_tokens=2).token_ids
    assert grammar_of({"grammar": g, "cfg": None}) is g


def test_grammars_of_keywords_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def from_cfg(text: str) -> Grammar:
        made.append(text)
        return grammar(Literal(text.encode()))

    monkeypatch.setattr(Grammar, "from_cfg", from_cfg)
    monkeypatch.setattr(grammar_constraints, "_recent", type(grammar_constraints._recent)())
    for text in ["0", "0", *map(str, range(grammar_constraints.KEPT_GRAMMARS + 1)), "0"]:
        grammar_of({"cfg": text})
    assert made == [*map(str, range(grammar_constraints.KEPT_GRAMMARS + 1)), "0"]


# --- without a model --------------------------------------------------------------------------------------------------


def test_accepts_and_explain() -> None:
    g = grammar(Seq((Literal(b"ab"), Repeat(DIGIT, 1, 3), Repeat(Chars(((0xE9, 0xE9),)), 0, 1))))
    assert g.accepts("ab1é") and g.accepts(b"ab12") and not g.accepts("ab") and not g.accepts("ab1234")
    said = g.explain("abx")
    assert (said.accepted, said.complete, said.offset, said.found, said.finished) == (False, False, 2, 0x78, False)
    assert str(said) == 'at byte 2 "x" is refused: the grammar expects "0" to "9"' and not said
    assert str(g.explain("a")) == 'the text ends after 1 bytes, where the grammar expects "b"'
    said = g.explain("ab1")
    assert said and said.finished and 'accepted by the grammar; "0" to "9" or a character beyond ASCII' in str(said)
    said = g.explain("ab1é", b"x ")
    assert said.offset == 5 and str(said) == 'at byte 5 "x" is refused: the grammar expects the end'
    assert str(g.explain(b"ab123\xc3\xc3")).startswith("at byte 6 byte 0xc3 is refused: the grammar expects byte 0xa9")
    assert "the end, or" in str(g.explain("ab1 ")) and "a space is refused" in str(g.explain("ab1 "))
    assert g.unsupported == () and "states" in repr(g)


def test_any_json() -> None:
    g = Grammar.from_json()
    for text in (
        '{"a": [1, -2.5e+3, true, null, "\\u00e9\\ud83d\\ude00"]}',
        "0",
        '""',
        " [ ] ",
        "\n{}\n",
        "[" * 300 + "]" * 300,
    ):
        assert g.accepts(text), text
        json.loads(text)
    for wrong in (
        "",
        "{",
        "01",
        "[1,]",
        '{"a" 1}',
        '"\\ud83d"',
        "nul",
        "1 2",
        "'a'",
        '"\t"',
        "NaN",
        '{"a":1,}',
        b'"\xff"',
        "+1",
    ):
        assert not g.accepts(wrong), wrong
    assert not g.machine.finished(g.machine.read(g.machine.start, b"{")[1])


def test_pieces_of_tokenizers(small_model: Small, model: Model) -> None:
    with Model(small_model("gemma3-mix"), n_threads=1) as gemma:
        for t in (model.tokenizer, gemma.tokenizer):
            pieces = t.text_pieces()
            assert len(pieces) == t.n_vocab and not any(pieces[i] for i in t.end_ids)
            ids = t.encode_inside("In the beginning God\n😀")
            assert b"".join(pieces[i] for i in ids) == "In the beginning God\n😀".encode()
        assert TokenTable.of(gemma.tokenizer) is TokenTable.of(gemma.tokenizer) is not TokenTable.of(model.tokenizer)


def test_names_are_public() -> None:
    assert zl.Grammar is Grammar and zl.GrammarConstraint is GrammarConstraint
