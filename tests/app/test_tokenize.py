"""`tokenize`: ids as the tokenizer gives them, places that are really the text's, and nothing lost."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import small_models
from hypothesis import given
from hypothesis import strategies as st

from zigllama.app.main import main
from zigllama.app.verbs.tokenize import locate
from zigllama.models.tokenizer import Tokenizer

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


def test_every_text_has_places(model: str) -> None:
    tokenizer = Tokenizer(model)

    @given(st.text(max_size=30), st.booleans())
    def check(text: str, added: bool) -> None:
        ids = tokenizer.encode(text, add_special=added)
        tokens, whole = locate(tokenizer, text.encode(), ids, added)
        assert whole
        placed = [(t.start, t.end) for t in tokens if t.start is not None]
        assert [a for a, _ in placed[1:]] == [b for _, b in placed[:-1]]

    check()


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


def test_an_unknown_token_has_no_place_and_is_told() -> None:
    pieces = {0: b"<unk>", 1: b"a", 2: b"b"}
    tokenizer: Any = SimpleNamespace(add_bos=False, add_eos=False, piece=pieces.__getitem__)
    tokens, whole = locate(tokenizer, b"a?b", [1, 0, 2], added=True)
    assert not whole
    assert [(t.start, t.end) for t in tokens] == [(0, 1), (None, None), (None, None)]
    assert locate(tokenizer, b"ab?", [1, 2], added=True)[1] is False
