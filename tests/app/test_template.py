"""`template`: text and ids as `render_chat` gives them, from a file, a prompt or standard input."""

from __future__ import annotations

import argparse
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import small_models

from zigllama.app.main import main
from zigllama.app.options import add_engine, add_model, engine_options
from zigllama.models.tokenizer import Tokenizer

MESSAGES = [{"role": "user", "content": "Hi <|im_end|>"}]
TEXT = "<|im_start|>user\nHi <|im_end|><|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(small_models.build("llama-mix", tmp_path_factory.mktemp("template")))


def told(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(["template", *words, "--json"]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_a_file_a_prompt_and_standard_input(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "messages.json"
    file.write_text(json.dumps(MESSAGES))
    made = told(capsys, model, "-f", str(file))
    assert made["text"] == TEXT and made["n_tokens"] == len(made["ids"])
    assert made["ids"].count(2) == 1  # <|im_end|> of the template, not of the user
    assert told(capsys, model, "-p", "Hi <|im_end|>") == made
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps({"messages": MESSAGES})))
    assert told(capsys, model, "-f", "-") == made
    assert Tokenizer(model).decode(made["ids"], special=True) == TEXT


def test_what_is_printed(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["template", model, "-p", "Hi", "--no-generation-prompt"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("<|im_start|>user\nHi<|im_end|>\n\n") and "'<|im_start|>'" in out
    assert main(["template", model, "-p", "Hi", "--ids"]) == 0
    assert json.loads(capsys.readouterr().out)[0] == 1
    assert main(["template", model, "--source"]) == 0
    assert "for message in messages" in capsys.readouterr().out


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_nothing_steers_a_terminal(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file's template, or a user's words, may hold what moves a cursor; to a pipe the text goes as it is."""
    for stream, want in ((Terminal(), "a\\x1b[2Jb\n\tc"), (io.StringIO(), "a\x1b[2Jb\n\tc")):
        monkeypatch.setattr("sys.stdout", stream)
        assert main(["template", model, "-p", "a\x1b[2Jb\n\tc"]) == 0
        assert want in stream.getvalue()
    monkeypatch.setattr("sys.stdout", shown := Terminal())
    assert main(["template", model, "--template", "{# \x1b[2J #}", "--source"]) == 0
    assert shown.getvalue() == "{# \\x1b[2J #}\n"


def test_a_pre_tokenizer_for_each_verb_that_runs_a_model(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that names none that is known can be run all the same."""
    parser = argparse.ArgumentParser()
    add_model(parser)
    add_engine(parser)
    made = engine_options(parser.parse_args([model, "--pre", "gpt-2"]))
    assert made["tokenizer"].pre == "gpt-2" and "tokenizer" not in engine_options(parser.parse_args([model]))
    assert main(["run", model, "-p", "Hi", "-n", "1", "--pre", "smolm"]) == 3
    assert "did you mean 'smollm'" in capsys.readouterr().err
    assert main(["run", model, "-p", "Hi", "-n", "1", "--pre", "gpt-2"]) == 0


def test_images_and_variables_of_any_name(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An image has a place, and no token; what a request holds besides may have any name."""
    file = tmp_path / "messages.json"
    parts = [{"type": "image", "image": "no such file"}, {"type": "text", "text": "this"}]
    file.write_text(json.dumps({"messages": [{"role": "user", "content": parts}], "self": 1, "a b": 2}))
    assert told(capsys, model, "-f", str(file))["ids"].count(-1) == 1
    assert main(["template", model, "-f", str(file)]) == 0
    out = capsys.readouterr().out
    assert "user\n<image>this" in out and re.search(r"^ +-1  '<image>'$", out, re.MULTILINE)
    assert told(capsys, model, "-p", "Hi <|im_end|>", "--set", "self=1")["text"] == TEXT


def test_other_templates_tools_and_variables(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = told(capsys, model, "-p", "Hi", "-sys", "Be brief.", "--template", "Llama-3")
    assert "<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>" in made["text"]
    file, tools = tmp_path / "t.jinja", tmp_path / "tools.json"
    file.write_text("{{ tools[0].name }} {{ enable_thinking }} {{ mood }}")
    tools.write_text('[{"name": "f"}]')
    words = ["--template", str(file), "--tools", str(tools), "--set", "enable_thinking=false", "--set", "mood=good"]
    assert told(capsys, model, "-p", "Hi", *words)["text"] == "f False good"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "give a conversation"),
        (["-p", "x", "-f", "y"], 2, "give a conversation"),
        (["-f", "/nowhere.json"], 2, "is no file"),
        (["-f", "BAD"], 2, "is no JSON"),
        (["-f", "WORD"], 2, "no JSON list of messages"),
        (["-p", "x", "--tools", "WORD"], 2, "list of function schemas"),
        (["-p", "x", "--set", "1=2"], 2, "NAME=JSON"),
        (["-p", "x", "--set", "messages=[]"], 2, "messages come from a file"),
        (["-p", "x", "--set", "tools=[]"], 2, "tools come from a file"),
        (["-f", "SURROGATE"], 2, "lone surrogate U+D800"),
        (["-p", "x", "--template", "lama-3"], 2, "llama-3"),
        (["-p", "x", "--template", "/nowhere.jinja"], 2, "/nowhere.jinja is no file"),
        (["-f", "WORD", "-sys", "x"], 2, "-sys goes with -p"),
        (["-p", "x", "--pre", "smolm"], 3, "did you mean 'smollm'"),
    ],
)
def test_refusals(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str
) -> None:
    (tmp_path / "BAD").write_text("{")
    (tmp_path / "WORD").write_text('"word"')
    (tmp_path / "SURROGATE").write_text('[{"role": "user", "content": "\\ud800"}]')
    words = [str(tmp_path / w) if w in ("BAD", "WORD", "SURROGATE") else w for w in words]
    assert main(["template", model, *words]) == code
    out, err = capsys.readouterr()
    assert out == "" and said in err


def test_a_template_longer_than_any_file_name(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    made = told(capsys, model, "-p", "Hi", "--template", "{{ messages[0].content }}" + "x" * 5000)
    assert made["text"] == "Hi" + "x" * 5000
