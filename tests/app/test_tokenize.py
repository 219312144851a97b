"""`tokenize`: ids as the tokenizer gives them, places that are really the text's, and nothing lost."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import small_models

import zigllama as zl
from zigllama.app.main import main
from zigllama.app.verbs.tokenize import Token, painted
from zigllama.models.conversion import vocabulary_files
from zigllama.models.tokenizer import Tokenizer

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
TEXTS = ["", "a", "Hello, world", " two  spaces ", "wörld 🙂 <|im_end|>", "line\nbreak\ttab", "\x00\x1b"]


@pytest.fixture(scope="module", params=["llama-mix", "gemma3-mix"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(small_models.build(request.param, tmp_path_factory.mktemp("tokenize")))


def told(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(["tokenize", *words, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    result: dict[str, Any] = json.loads(out)
    return result


@pytest.mark.parametrize("text", TEXTS)
def test_places_are_the_texts(model: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = Tokenizer(model)
    report = told(capsys, model, "-p", text)
    tokens = report["tokens"]
    assert [t["id"] for t in tokens] == tokenizer.encode(text)
    assert report["n_tokens"] == len(tokens)
    at = 0
    for t in tokens:
        if t["start"] is not None:
            assert t["start"] == at
            assert (
                bytes.fromhex(t["bytes"]).removeprefix(b" ").endswith(text.encode()[at : t["end"]].removeprefix(b" "))
            )
            at = t["end"]
    assert at == len(text.encode())


def test_forms(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    ids = Tokenizer(model).encode("Hello, world")
    assert main(["tokenize", model, "-p", "Hello, world", "--ids"]) == 0
    assert json.loads(capsys.readouterr().out) == ids
    assert main(["tokenize", model, "-p", "Hello, world", "--show-count"]) == 0
    assert capsys.readouterr().out == f"{len(ids)}\n"
    assert main(["tokenize", model, "-p", "a\x1bb"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert out.splitlines()[0].split() == ["id", "bytes", "piece"]
    bare = told(capsys, model, "-p", "Hello", "--no-bos")
    assert [t["id"] for t in bare["tokens"]] == Tokenizer(model).encode("Hello", add_special=False)


def test_errors(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tokenize", model, "-p", "x", "--nobos"]) == 2
    assert main(["tokenize", "missing.gguf", "-p", "x"]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert "did you mean --no-bos?" in err


def test_a_pre_tokenizer_that_does_not_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(small_models.build("llama-mix", tmp_path))
    assert main(["tokenize", path, "-p", "x", "--pre", "smolm"]) == 3
    assert "smolm" in capsys.readouterr().err


def test_real_models(smollm2_path: Path, gemma3_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "Hello, wörld 🙂 <|im_end|>"
    plain = told(capsys, str(smollm2_path), "-p", text)["tokens"]
    assert [t["id"] for t in plain][:2] == [19556, 28]
    parsed = told(capsys, str(smollm2_path), "-p", text, "--parse-special")["tokens"]
    assert parsed[-1] == {"id": 2, "piece": "<|im_end|>", "bytes": b"<|im_end|>".hex(), "start": 19, "end": 29}
    gemma = told(capsys, "-m", str(gemma3_path), "-p", text)["tokens"]
    assert gemma[0] == {"id": 2, "piece": "<bos>", "bytes": b"<bos>".hex(), "start": None, "end": None}


def test_a_text_that_does_not_come_back_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "unigram.gguf"
    raw = base64.b64decode(
        json.loads((GOLDEN / "tokenizer_unigram.json").read_text("utf-8"))["models"]["rules"]["model"]
    )
    words = vocabulary_files._sentencepiece(raw, "tokenizer.model")
    zl.gguf.write(path, {"general.architecture": "llama"} | words.metadata(len(words.tokens)), {})
    assert main(["tokenize", str(path), "-p", "the light"]) == 0
    capsys.readouterr()
    assert main(["tokenize", str(path), "-p", "the \u4e16 light", "--json"]) == 1
    out, err = capsys.readouterr()
    assert "do not give the text back" in err
    unknown = next(t for t in json.loads(out)["tokens"] if t["piece"] == "<unk>")
    assert (unknown["start"], unknown["end"]) == (4, 7)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colours_on_a_terminal_only(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The text, its tokens on colours in turn, before the table; without them where NO_COLOR is set or nobody looks."""
    for no_color, stream, want in (("", Terminal(), True), ("1", Terminal(), False), ("", io.StringIO(), False)):
        monkeypatch.setenv("NO_COLOR", no_color)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr("sys.stdout", stream)
        assert main(["tokenize", model, "-p", "Hello, w\u00f6rld\x1b[31m\nx"]) == 0
        shown = stream.getvalue()
        assert ("\x1b[30;" in shown) is want and "\x1b[31m" not in shown
        if want:
            text = re.sub(r"\x1b\[[0-9;]*m", "", shown).split("\n\n")[0]
            assert text.replace("\\xc3\\xb6", "\u00f6") == "Hello, w\u00f6rld\\x1b[31m\\n\nx"


def test_a_character_of_several_tokens_is_shown_once() -> None:
    """WordPiece takes a Hangul syllable apart, and each part lies where the syllable does."""
    places = [(0, 3), (0, 3), (0, 3), (3, 4), None, (4, 5)]
    tokens = [Token(i, b"", *(place or (None, None))) for i, place in enumerate(places)]
    shown = painted("\ud55cab".encode(), tokens)
    assert re.sub(r"\x1b\[[0-9;]*m", "", shown) == "\ud55cab" and shown.count("\x1b[30;") == 3
