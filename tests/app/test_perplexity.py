"""`zigllama perplexity`: the answer, the file of the reference, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zigllama.app.main import main
from zigllama.inference.model import Model

Small = Callable[[str], Path]
TEXT = "The first half of each window is only read; the second is scored, token by token. " * 4


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT + "\n")
    return path


def told(capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    assert main(["perplexity", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", ["llama-f16", "gemma3-f32"])
def test_the_answer(name: str, small_model: Small, text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Model(small_model(name), 64, 1) as m:
        ids = m.tokenizer.encode(TEXT)
        n = len(ids) // 32
        values = []
        for i in range(n):
            window = ids[32 * i : 32 * i + 32]
            if m.tokenizer.add_bos:
                window[0] = ids[0]
            values.append(-m.score(window).logprobs[16:].astype(np.float64))
    x = np.concatenate(values)
    got = told(capsys, small_model(name), "-f", text, "-c", 32)
    assert (got["n_ctx"], got["n_chunk"], got["n_scored"]) == (32, n, 15 * n)
    want, error = np.exp(x.mean()), np.exp(x.mean()) * x.std(ddof=1) / np.sqrt(len(x))
    assert got["perplexity"]["value"] == pytest.approx(want, rel=1e-6)
    assert got["perplexity"]["error"] == pytest.approx(error, rel=1e-5)

    assert main(["perplexity", str(small_model(name)), "-p", TEXT, "-c", "32", "-t", "2"]) == 0
    out, err = capsys.readouterr()
    assert out == f"PPL = {got['perplexity']['value']:.4f} +/- {got['perplexity']['error']:.5f}\n"
    assert f"{n} of {n} windows, PPL {got['perplexity']['value']:.4f}" in err
    assert told(capsys, small_model(name), "-f", text, "-c", 32, "--chunks", 2)["n_chunk"] == 2


def test_a_reference_is_saved_and_compared_with(
    small_model: Small, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "base.logits"
    plain = told(capsys, small_model("llama-f16"), "-f", text, "-c", 32)
    saved = told(capsys, small_model("llama-f16"), "-f", text, "-c", 32, "--kl-divergence-base", base)
    assert saved == plain

    compare = "--kl-divergence", "--kl-divergence-base", base
    same = told(capsys, small_model("llama-f16"), *compare)
    assert same["perplexity"] == plain["perplexity"]
    assert same["same_top"]["value"] == 1.0
    assert abs(same["kl"]["value"]) < 1e-4
    assert same["base_perplexity"]["value"] == pytest.approx(plain["perplexity"]["value"], rel=1e-3)

    other = told(capsys, small_model("llama-bf16"), *compare, "-f", text, "-c", 32)
    q = other["kl"]["quantiles"]
    assert 0.01 < q["0"] <= q["0.5"] <= q["0.9"] <= q["1"]
    assert q["0"] < other["kl"]["value"] < q["1"]
    ratio = other["perplexity"]["value"] / other["base_perplexity"]["value"]
    assert other["ratio"]["value"] == pytest.approx(ratio)
    assert told(capsys, small_model("llama-bf16"), *compare, "--chunks", 1)["n_scored"] == 15

    assert main(["perplexity", str(small_model("llama-bf16")), *map(str, compare)]) == 0
    out = capsys.readouterr().out
    for name in ("PPL of the reference", "mean KL", "RMS delta p", "same top token", "99.9 %", "median", "maximum"):
        assert name in out
    assert f"{other['kl']['value']:.6f} +/- {other['kl']['error']:.6f}" in out


def refused(capsys: pytest.CaptureFixture[str], code: int, message: str, *words: object) -> None:
    assert main(["perplexity", *map(str, words)]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err


def test_what_is_refused(small_model: Small, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, base = small_model("llama-f16"), tmp_path / "base.logits"
    refused(capsys, 2, "windows of 512 take at least two, 1024", model, "-f", text)
    refused(capsys, 2, "windows of 2 tokens", model, "-f", text, "-c", 2)
    refused(capsys, 2, "windows of 1024 take", model, "-f", text, "-c", 0)  # the model's own context
    refused(capsys, 2, "--chunks 0", model, "-f", text, "--chunks", 0)
    refused(capsys, 2, "--kl-divergence with what?", model, "-f", text, "--kl-divergence")
    compare = "--kl-divergence", "--kl-divergence-base", base
    refused(capsys, 3, "no such file", model, *compare)
    refused(capsys, 3, "not a regular file", model, "-f", text, "-c", 32, "--kl-divergence-base", tmp_path)
    base.write_bytes(b"GGUF and more")
    refused(capsys, 3, "it begins with b'GGUF and'", model, *compare)

    told(capsys, model, "-f", text, "-c", 32, "--kl-divergence-base", base)
    refused(capsys, 2, f"-c 64: {base} has windows of 32", model, *compare, "-c", 64)
    refused(capsys, 2, "token 0 is", model, *compare, "-p", "x" + TEXT)
    refused(capsys, 2, "tokens, that of", model, *compare, "-p", "The first half of each window is only")
    refused(capsys, 3, "its vocabulary has", small_model("gemma3-f32"), *compare)
    base.write_bytes(base.read_bytes()[:-1])
    refused(capsys, 3, "file is truncated", model, *compare)
