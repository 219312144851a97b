"""Shared flags: llama.cpp's spellings become the library's keywords, and what is not given is not passed on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from zigllama.app.console import UsageError
from zigllama.app.main import Parser
from zigllama.app.options import (
    add_engine,
    add_generation,
    add_model,
    engine_options,
    generation_options,
    model_path,
)
from zigllama.errors import UnknownName

from .conftest import Shop


def parsed(*words: str) -> Any:
    parser = Parser(prog="test")
    add_model(parser)
    add_engine(parser)
    add_generation(parser)
    return parser.parse_all(words)


def test_nothing_given_nothing_passed_on() -> None:
    args = parsed("m.gguf")
    assert engine_options(args) == {}
    assert generation_options(args) == {}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("-n 8 --temp 0 -s 1", {"max_tokens": 8, "temperature": 0.0, "seed": 1}),
        ("--n-predict 8 --temperature 0.5 --seed 7", {"max_tokens": 8, "temperature": 0.5, "seed": 7}),
        ("-n -1 -s -1", {"max_tokens": None, "seed": None}),
        ("--top-k 40 --top-p 0.9 --min-p 0.05", {"top_k": 40, "top_p": 0.9, "min_p": 0.05}),
        ("--repeat-penalty 1.1 --repeat-last-n 64", {"repeat_penalty": 1.1, "repeat_last_n": 64}),
        ("--presence-penalty 1 --frequency-penalty 2", {"presence_penalty": 1.0, "frequency_penalty": 2.0}),
        ("-r one --stop two --ignore-eos", {"stop": ["one", "two"], "ignore_eos": True}),
        ("-l 15043+1 -l 2-0.5 -l 3-inf", {"logit_bias": {15043: 1.0, 2: -0.5, 3: float("-inf")}}),
    ],
)
def test_generation(words: str, expected: dict[str, Any]) -> None:
    assert generation_options(parsed("m.gguf", *words.split())) == expected


def test_engine() -> None:
    args = parsed("m.gguf", "-c", "2048", "-t", "2", "--backend", "native", "--isa", "generic", "--blas", "mkl")
    expected = {"n_ctx": 2048, "n_threads": 2, "backend": "native", "isa": "generic", "blas": "mkl"}
    assert engine_options(args) == expected
    assert engine_options(parsed("m.gguf", "-c", "0")) == {}


def test_cache_types_are_llama_cpps() -> None:
    for words in (["-ctk", "q8_0", "-ctv", "Q8_0"], ["--cache-type-k", "q8_0"], ["-ctv", "q8_0"]):
        assert engine_options(parsed("m.gguf", *words)) == {"cache_type": "Q8_0"}
    with pytest.raises(UsageError, match="one type"):
        engine_options(parsed("m.gguf", "-ctk", "q8_0", "-ctv", "f16"))


@pytest.mark.parametrize("word", ["15043", "x+1", "7+y", "", "+1"])
def test_a_logit_bias_that_is_none(word: str) -> None:
    with pytest.raises(UsageError, match="15043"):
        generation_options(parsed("m.gguf", "-l", word))


def test_flags_are_not_abbreviated() -> None:
    with pytest.raises(UsageError, match="did you mean --top-k"):
        parsed("m.gguf", "--top", "4")


def test_the_model_is_a_path_or_a_name(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF")
    assert model_path(parsed(str(path))) == path
    assert model_path(parsed("-m", str(path))) == path
    assert model_path(parsed(str(path), "-m", str(path))) == path
    with pytest.raises(UsageError, match="two models"):
        model_path(parsed(str(path), "-m", "other"))
    with pytest.raises(UsageError, match="which model"):
        model_path(parsed())
    with pytest.raises(UnknownName, match="did you mean 'tiny'"):
        model_path(parsed("tinny"))
    for missing in ("tiny.gguf", "./tiny", str(tmp_path / "tiny")):
        with pytest.raises(FileNotFoundError):
            model_path(parsed(missing))


def test_a_name_is_pulled_on_first_use(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()  # a folder of that name is not the model
    assert model_path(parsed("tiny")).read_bytes() == shop.content["tiny"]
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("tiny is not in the cache yet\nfetching")
    assert model_path(parsed("tiny")) == shop.one.path
    assert capsys.readouterr() == ("", "")
    (tmp_path / "tiny-parts").write_bytes(b"GGUF")  # a file of that name is
    assert model_path(parsed("tiny-parts")) == Path("tiny-parts")


# --- constraints ------------------------------------------------------------------------------------------------------


def test_constraints(tmp_path: Path) -> None:
    files = {"g.gbnf": "gbnf", "g.ebnf": "ebnf", "g.cfg": "cfg", "g.XSD": "xsd", "g.json": "json_schema", "g": "gbnf"}
    for name, keyword in files.items():
        (tmp_path / name).write_text(f"text of {name} é", "utf-8")
        given = generation_options(parsed("m.gguf", "--grammar-file", str(tmp_path / name)))
        assert given == {keyword: f"text of {name} é"}
    named = generation_options(parsed("m.gguf", "--grammar-file", str(tmp_path / "g.ebnf"), "--ebnf-notation", "w3c"))
    assert named == {"ebnf": {"text": "text of g.ebnf é", "notation": "w3c"}}
    with pytest.raises(UsageError, match="--ebnf-notation goes with"):
        generation_options(parsed("m.gguf", "--grammar-file", str(tmp_path / "g.cfg"), "--ebnf-notation", "iso"))
    schema, file = '{"type": "object"}', str(tmp_path / "g.json")
    for words, expected in {
        ("-j", schema): {"json_schema": schema},
        ("--json-schema", " true "): {"json_schema": " true "},
        ("--json-schema", file): {"json_schema": "text of g.json é"},
        ("-jf", file): {"json_schema": "text of g.json é"},
        ("--grammar", 'root ::= "a"'): {"gbnf": 'root ::= "a"'},
        ("--regex", "a+"): {"regex": "a+"},
        ("--xsd", " <x/>"): {"xsd": " <x/>"},
        ("--xsd", str(tmp_path / "g.XSD")): {"xsd": "text of g.XSD é"},
    }.items():
        assert generation_options(parsed("m.gguf", *words)) == expected, words


def test_one_constraint_and_files_that_are_text(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not allowed with"):
        parsed("m.gguf", "--regex", "a", "--grammar", "b")
    (tmp_path / "latin").write_bytes(b"ab\xff")
    with pytest.raises(UsageError, match=r"not UTF-8 text \(byte 2\)"):
        generation_options(parsed("m.gguf", "--grammar-file", str(tmp_path / "latin")))
    with pytest.raises(FileNotFoundError):
        generation_options(parsed("m.gguf", "-j", str(tmp_path / "none.json")))
