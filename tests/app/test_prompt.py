"""Where prompts come from, byte for byte."""

from __future__ import annotations

import argparse
import doctest
import io
import sys
from pathlib import Path

import pytest

from zigllama.app import prompt
from zigllama.app.console import UsageError
from zigllama.app.main import Parser
from zigllama.app.prompt import add_prompt, prompt_of


def parsed(*words: str) -> argparse.Namespace:
    parser = Parser(prog="test")
    add_prompt(parser)
    return parser.parse_all(words)


def stdin(monkeypatch: pytest.MonkeyPatch, data: bytes, terminal: bool = False) -> None:
    stream = io.TextIOWrapper(io.BytesIO(data))
    monkeypatch.setattr(stream, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "stdin", stream)


@pytest.mark.parametrize(
    ("raw", "text"),
    [(b"one", "one"), (b"one\n", "one"), (b"one\n\n", "one\n"), (b"one\r\n", "one"), (b"one\r", "one\r"), (b"", "")],
)
def test_one_line_break_at_the_end_is_dropped(
    raw: bytes, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "p.txt").write_bytes(raw)
    assert prompt_of(parsed("-f", str(tmp_path / "p.txt"))) == text
    for words in ((), ("-p", "-"), ("-f", "-")):
        stdin(monkeypatch, raw)
        assert prompt_of(parsed(*words)) == text


def test_text_on_the_command_line_is_taken_as_it_is() -> None:
    assert prompt_of(parsed("-p", r"a\n")) == r"a\n"
    assert prompt_of(parsed("-p", "a\n")) == "a\n"
    assert prompt_of(parsed("-p", r"a\n\x41\u00e9\q\\n", "-e")) == "a\nA\u00e9\\q\\n"
    assert prompt_of(parsed("-p", "")) == ""


def test_what_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, b"", terminal=True)
    with pytest.raises(UsageError, match="which prompt"):
        prompt_of(parsed())
    with pytest.raises(UsageError, match="two prompts"):
        prompt_of(parsed("-p", "a", "-f", "b"))
    stdin(monkeypatch, b"caf\xe9")
    with pytest.raises(UsageError, match=r"standard input is not UTF-8 text \(byte 3\)"):
        prompt_of(parsed())
    with pytest.raises(UsageError, match="the prompt is not UTF-8"):
        prompt_of(parsed("-p", "caf\udce9"))
    with pytest.raises(FileNotFoundError):
        prompt_of(parsed("-f", str(tmp_path / "none")))


def test_the_example_is_true() -> None:
    assert doctest.testmod(prompt).failed == 0
