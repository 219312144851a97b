"""A model writes under grammars of every kind at a high temperature, and validators from outside judge what it wrote:
few grammars of those that tools/generate_under_grammars.py has. And whether those judges can say no.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import guided_cases
import pytest
from compare_regexes import of_one_mind
from generate_under_grammars import NEEDS, Run
from regex_translation import translated

from zigllama.inference.grammar_constraints import Grammar
from zigllama.inference.model import Model

KINDS = {"schemas": "schema", "regexes": "regex", "grammars": "grammar", "xsds": "xsd"}


@pytest.fixture(scope="module")
def model(smollm2_path: Path) -> Iterator[Model]:
    with Model(smollm2_path, n_threads=2, n_ctx=512) as m:
        yield m


def want_judges(kind: str) -> None:
    for name in NEEDS[kind]:
        pytest.importorskip(name, reason=f"{name} is not installed")


@pytest.mark.parametrize(("maker", "n"), [("schemas", 12), ("regexes", 8), ("grammars", 5), ("xsds", 3)])
def test_every_finished_answer_is_valid(model: Model, maker: str, n: int) -> None:
    kind = KINDS[maker]
    want_judges(kind)
    run = Run(model, max_tokens=100, seed=3)
    run.cases(getattr(guided_cases, maker)(n, 3), answers=1)
    assert run.faults == []
    assert run.counts[kind]["grammars"] >= 0.7 * n and run.counts[kind]["valid"] >= n // 4, run.counts


def none() -> Grammar:
    raise RuntimeError("not this one")


def test_what_is_wrong_is_a_fault(small_model: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    case = guided_cases._of_regex("four letters", "a{4}", "python", "", re.compile("b{4}"))
    broken = replace(case, name="broken", make=none)
    with Model(small_model("llama-mix"), n_threads=1, n_ctx=64) as m:
        run = Run(m, max_tokens=20, seed=1)
        run.cases([case, broken, replace(case, name="none", make=lambda: Grammar.from_regex("[^\\s\\S]"))], answers=2)
    counts = run.counts["regex"]
    assert (counts["grammars"], counts["answers"], counts["ended by stop"], counts["valid"]) == (1, 2, 2, 0)
    assert counts["refused: EmptyLanguage"] == 1 and counts["FAULTS"] == len(run.faults) == 3
    assert "answer 'aaaa'" in run.faults[0] and "RuntimeError: not this one" in run.faults[2]
    run.report()
    assert "1 grammars, 2 answers, 2 finished (100%)" in capsys.readouterr().out


WRONG = {"schemas": ['{"a": "\\u0000"}', "[[[[]]]]", "123456789.5"], "grammars": ["?!"], "xsds": ["<none/>"]}


@pytest.mark.parametrize("maker", WRONG)
def test_judges_say_no(maker: str) -> None:
    want_judges(KINDS[maker])
    for case in getattr(guided_cases, maker)(6, 1):
        assert any(case.judge(text) for text in WRONG[maker]), case.source


def test_translated_expressions_find_what_an_engine_of_ecma_262_finds() -> None:
    cases = json.loads((Path(__file__).parents[2] / "golden" / "regex_ecma.json").read_text("utf-8"))["cases"]
    compared = 0
    for pattern, flags, texts, verdicts in cases:
        if set(flags) - {"s"} or verdicts == "E":
            continue
        try:
            theirs = re.compile(translated(pattern, "s" in flags), re.ASCII)
        except ValueError:  # what Python has nothing like
            continue
        for text, said in zip(texts, verdicts, strict=True):
            if of_one_mind(text):
                assert bool(theirs.search(text)) == (said == "1"), (pattern, text)
                compared += 1
    assert compared > 1000


def test_a_run_goes_on_where_it_ended(small_model: Callable[[str], Path], tmp_path: Path) -> None:
    """Outcomes are kept as they come, and grammars that have one are not run again."""
    asked: list[str] = []

    def case(name: str, judged: str) -> guided_cases.Case:
        made = guided_cases._of_regex(name, "a{4}", "python", "", re.compile(judged))
        return replace(made, make=lambda: asked.append(name) or made.make())  # type: ignore[func-returns-value]

    first, second, third = case("first", "a{4}"), case("second", "b"), case("third", "a+")
    results = tmp_path / "results.jsonl"
    with Model(small_model("llama-mix"), n_threads=1, n_ctx=64) as m:
        Run(m, max_tokens=20, seed=1, results=results).cases([first, second], answers=1)
        run = Run(m, max_tokens=20, seed=1, results=results)
        run.cases([first, second, third], answers=1)
    assert asked == ["first", "second", "third"] and len(results.read_text().splitlines()) == 3
    assert run.counts["regex"]["grammars"] == 3 and run.counts["regex"]["valid"] == 2 and len(run.faults) == 1
    assert Run(m, 20, 1, results=results).counts == run.counts
    answers = run.outcome(third).answers
    assert [a["text"] for a in answers] == ["aaaa"] and answers[0]["ended"] == "stop"


def test_numbers_are_read_as_they_are_written() -> None:
    """Also those whose exponent has more digits than Decimal has, which are beyond all that a schema says."""
    for text, value in (("1e5", 100_000), ("-0.50", Decimal("-0.5")), ("0e99999999999999999999", 0), ("1.0", 1)):
        assert guided_cases.exactly(text) == value
    large, small = guided_cases.exactly("[1e99999999999999999999, -3.5E-0000099999999999999999999]")
    assert large > 10**400 and -Decimal("1e-400") < small < 0
    pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    judge = guided_cases.json_judge({"type": "number", "minimum": 3}, "Draft7Validator", False)
    assert judge("1e99999999999999999999") == "" and judge("-1e99999999999999999999")
    judge = guided_cases.json_judge({"multipleOf": 3}, "Draft7Validator", False)
    with pytest.raises(guided_cases.NoVerdict):
        judge("1e99999999999999999999")
