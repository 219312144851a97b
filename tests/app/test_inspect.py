"""`inspect`: the file's own metadata and tensors, and no control character of a hostile file on the terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf_bytes
import numpy as np
import pytest
import small_models

from zigllama.app.main import main


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(small_models.build("llama-mix", tmp_path_factory.mktemp("inspect")))


def told(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Runs the verb; what it says on stdout, after checking that it succeeded and said nothing on stderr."""
    assert main(["inspect", *words]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_everything(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = told([model], capsys)
    for part in ("llama.block_count", "blk.1.ffn_down.weight", "Q8_0", "architecture llama", "192 x 320", "GGUF v3"):
        assert part in out


def test_one_half(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    metadata = told([model, "--metadata"], capsys)
    assert "llama.block_count" in metadata
    assert "blk.0" not in metadata
    tensors = told(["-m", model, "--tensors"], capsys)
    assert "llama.block_count" not in tensors
    assert tensors.count("blk.0.attn_q.weight") == 1


def test_json(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    all_of_it: dict[str, Any] = json.loads(told([model, "--json"], capsys))
    assert all_of_it["metadata"]["llama.block_count"] == 2
    assert set(all_of_it["metadata"]["tokenizer.ggml.tokens"]) == {"length"}
    embedding = next(t for t in all_of_it["tensors"] if t["name"] == "token_embd.weight")
    assert embedding["type"] == "Q8_0"
    assert embedding["shape"][1] == 192
    assert embedding["bytes"] == embedding["shape"][0] * 192 // 32 * 34
    assert "tensors" not in json.loads(told([model, "--json", "--metadata"], capsys))


def test_one_key(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert told([model, "--key", "general.architecture"], capsys) == "llama\n"
    tokens = told([model, "--key", "tokenizer.ggml.tokens", "--json"], capsys)
    assert len(json.loads(tokens)) > 64
    assert main(["inspect", model, "--key", "general.architectur"]) == 2
    assert "did you mean 'general.architecture'?" in capsys.readouterr().err


def test_control_characters_do_not_reach_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "hostile.gguf"
    evil = "red \x1b[31m\r\n\x07 \u202e end"
    data = np.zeros(4, np.uint8)
    gguf_bytes.write(
        path,
        {"general.architecture": evil, "x.list": [evil] * 3, f"x.{evil}": float("nan")},
        {f"w{evil}": ("F32", (1,), data)},
    )
    out = told([str(path)], capsys)
    assert not any(c in out for c in "\x1b\r\x07\u202e")
    assert "red \\x1b[31m" in out
    strict = json.loads(
        told([str(path), "--json"], capsys), parse_constant=lambda name: pytest.fail(f"{name} is not JSON")
    )
    assert strict["metadata"]["general.architecture"] == evil


def test_what_is_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.gguf").write_text("this is a text, long enough for a header")
    assert main(["inspect", str(tmp_path / "text.gguf")]) == 3
    assert main(["inspect", str(tmp_path / "missing.gguf")]) == 3
    assert main(["inspect", str(tmp_path)]) == 3
    assert main(["inspect", "smolm2"]) == 2
    assert main(["inspect"]) == 2
    assert main(["inspect", "a.gguf", "-m", "b.gguf"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 6
    assert "did you mean 'smollm2'?" in err
    assert "Traceback" not in err


def test_a_real_model_by_name(smollm2_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = told(["smollm2"], capsys)
    assert str(smollm2_path) in out
    assert "134.5 M parameters" in out
    assert "apache-2.0" in out
