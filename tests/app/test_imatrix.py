"""`zigllama imatrix`: the answer, the files, what happens when it ends early, and what is refused."""

from __future__ import annotations

import argparse
import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zigllama as zl
from zigllama.app.main import main
from zigllama.app.verbs.imatrix import OF_MODEL, configure
from zigllama.errors import NonFinite
from zigllama.inference.calibration import Collector
from zigllama.inference.perplexity import Mean, RunningMean
from zigllama.models.importance import read_importance

Small = Callable[[str], Path]
TEXT = "Each window of the text begins anew, and every token of it is read. " * 6


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "text.txt"
    path.write_text(TEXT + "\n")
    return path


def told(capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    assert main(["imatrix", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def same(a: Path, b: Path) -> bool:
    """The same sums, whatever the texts are called."""
    x, y = read_importance(a).entries, read_importance(b).entries
    return list(x) == list(y) and all(
        np.array_equal(x[n].sums, y[n].sums) and np.array_equal(x[n].counts, y[n].counts) for n in x
    )


@pytest.mark.parametrize("name", ["llama-q4_k", "gemma3-f32"])
def test_the_answer(name: str, small_model: Small, text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = small_model(name)
    with zl.Model(model) as m:
        want = zl.importance(m, TEXT, n_ctx=32)
    got = told(capsys, "-m", model, "-f", "text.txt", "-c", 32)
    assert (got["path"], got["datasets"], got["chunk_size"]) == ("imatrix.gguf", ["text.txt"], 32)
    assert got["chunk_count"] == got["n_chunk"] == want.n_chunks >= 4
    found = read_importance("imatrix.gguf")
    assert got["matrices"] == len(found.entries) == len(want.entries)
    for tensor, entry in want.entries.items():
        assert np.array_equal(found.entries[tensor].sums, entry.sums)
    assert main(["perplexity", str(model), "-f", "text.txt", "-c", "32", "--json"]) == 0
    ppl = json.loads(capsys.readouterr().out)["perplexity"]
    assert got["perplexity"] == ppl
    assert len(got["perplexities"]) == want.n_chunks
    assert got["perplexities"][-1] == ppl["value"]
    first = told(capsys, "-m", model, "-f", "text.txt", "-c", 32, "--chunks", 3, "-o", "3.gguf")["perplexities"]
    assert got["perplexities"][:2] == first[:2]
    assert got["perplexities"][2] == pytest.approx(first[2], rel=1e-13)

    assert main(["imatrix", str(model), "-f", "text.txt", "-c", "32", "-o", "2.gguf"]) == 0
    out, err = capsys.readouterr()
    n = want.n_chunks
    figures = f"PPL = {ppl['value']:.4f} +/- {ppl['error']:.5f}"
    assert out == f"2.gguf: {len(want.entries)} matrices, {n} windows of 32 tokens; {figures}\n"
    assert f"{n} of {n} windows, PPL {ppl['value']:.4f}" in err
    assert Path("imatrix.gguf").read_bytes() == Path("2.gguf").read_bytes()


def test_scores_are_read_once_however_many_windows_there_are(
    small_model: Small, text: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    taken: list[int] = []

    def counted(self: RunningMean, x: np.ndarray, run: Any = RunningMean.add) -> Mean:
        taken.append(len(x))
        return run(self, x)  # type: ignore[no-any-return]

    def joined(parts: Any, run: Any = np.concatenate) -> Any:
        if len(parts) and isinstance(parts[0], np.ndarray) and parts[0].dtype == np.float64:
            taken.append(sum(map(len, parts)))
        return run(parts)

    monkeypatch.setattr(RunningMean, "add", counted)
    monkeypatch.setattr("zigllama.app.verbs.imatrix.np.concatenate", joined)
    n = told(capsys, "-m", small_model("llama-f16"), "-f", text, "-c", 32)["n_chunk"]
    assert taken == [15] * n + [15 * n]


def test_windows_can_be_left_out(small_model: Small, text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = small_model("llama-f16")
    whole = told(capsys, "-m", model, "-f", text, "-c", 32, "--no-ppl")
    assert whole["perplexity"] is None
    n = whole["chunk_count"]
    first = told(capsys, "-m", model, "-f", text, "-c", 32, "--chunks", 2, "-o", "a.gguf")
    rest = told(capsys, "-m", model, "-f", text, "-c", 32, "--from-chunk", 2, "-o", "b.gguf", "--in-file", "a.gguf")
    assert (first["chunk_count"], rest["n_chunk"], rest["chunk_count"]) == (2, n - 2, n)
    assert rest["datasets"] == [str(text)] * 2
    a, b = read_importance("imatrix.gguf").entries, read_importance("b.gguf").entries
    for name, entry in a.items():
        np.testing.assert_allclose(b[name].sums, entry.sums, rtol=2.0**-22)
        assert np.array_equal(b[name].counts, entry.counts)
    # from standard input, or a text of -p, there is no name
    assert told(capsys, "-m", model, "-p", TEXT, "-c", 32, "-o", "c.gguf", "--output-frequency", 1)["datasets"] == []
    assert same(Path("imatrix.gguf"), Path("c.gguf"))


def test_special_tokens_in_the_text(small_model: Small, text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = small_model("gemma3-f32")
    with zl.gguf.open(model) as r:
        known: Any = r.metadata
        special: str = known["tokenizer.ggml.tokens"][known["tokenizer.ggml.bos_token_id"]]
    text.write_text(special * 40 + TEXT)
    plain = told(capsys, "-m", model, "-f", text, "-c", 32)["n_chunk"]
    parsed = told(capsys, "-m", model, "-f", text, "-c", 32, "--parse-special", "--force")["n_chunk"]
    assert parsed < plain


def test_forms_and_files_together(small_model: Small, text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = small_model("llama-f16")
    told(capsys, "-m", model, "-f", text, "-c", 32, "--process-output")
    assert (
        main(["imatrix", "-m", str(model), "-f", str(text), "-c", "32", "-o", "a.dat", "--output-format", "dat"]) == 0
    )
    assert "GGUF" not in capsys.readouterr().err
    old, new = read_importance("a.dat"), read_importance("imatrix.gguf")
    assert old.per_call and set(new.entries) - set(old.entries) == {"token_embd.weight"}
    # without a model: one form becomes the other, and files are added up
    back = told(capsys, "--in-file", "imatrix.gguf", "--output-format", "dat", "-o", "b.dat")
    assert back["chunk_size"] == 32 and "model" not in back
    assert read_importance("b.dat").per_call
    both = told(capsys, "--in-file", "a.dat", "--in-file", "imatrix.gguf", "-o", "both.gguf")
    assert (both["chunk_count"], both["datasets"]) == (2 * new.n_chunks, [str(text)] * 2)
    sums = read_importance("both.gguf").entries["blk.0.attn_q.weight"].sums
    np.testing.assert_allclose(sums, 2 * new.entries["blk.0.attn_q.weight"].sums, rtol=2.0**-21)
    assert told(capsys, "--in-file", "a.dat", "-o", "c.gguf", "-c", 64)["chunk_size"] == 64
    # a file may be replaced by the sum it is part of
    told(capsys, "--in-file", "imatrix.gguf", "--in-file", "a.dat", "-o", "imatrix.gguf", "--force")
    assert read_importance("imatrix.gguf").n_chunks == 2 * new.n_chunks
    assert main(["imatrix", "--in-file", "a.dat", "-o", "odd.imatrix"]) == 0
    assert "odd.imatrix will be a GGUF file" in capsys.readouterr().err


def test_quantize_takes_it(small_model: Small, text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = small_model("llama-q8_0")
    told(capsys, "-m", model, "-f", text, "-c", 32)
    more: dict[str, Any] = {"token_embedding_type": "Q8_0", "output_tensor_type": "Q8_0", "allow_requantize": True}
    zl.quantize(model, "q.gguf", "IQ2_XXS", imatrix="imatrix.gguf", pure=True, **more)
    with zl.gguf.open("q.gguf") as r:
        assert r.tensors["blk.0.attn_q.weight"].type.name == "IQ2_XXS"
        assert r.metadata["quantize.imatrix.dataset"] == str(text)


def interrupted(monkeypatch: pytest.MonkeyPatch, window: int, error: BaseException) -> None:
    """From now on the reading of a window, counted from 0, ends with an error."""

    def add(self: Collector, *args: Any, run: Any = Collector.add, **more: Any) -> Any:
        if self.n_windows == window:
            raise error
        return run(self, *args, **more)

    monkeypatch.setattr(Collector, "add", add)


def test_ctrl_c_saves_whole_windows(
    small_model: Small, text: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(small_model("llama-f16"))
    words = ["imatrix", "-m", model, "-f", str(text), "-c", "32"]
    told(capsys, *words[1:], "--chunks", 2, "-o", "two.gguf")
    with monkeypatch.context() as patched:
        interrupted(patched, 2, KeyboardInterrupt())
        assert main(words) == 130
    out, err = capsys.readouterr()
    assert out == ""
    assert "imatrix.gguf holds the first 2 of" in err and "interrupted" in err
    assert same(Path("imatrix.gguf"), Path("two.gguf"))
    with monkeypatch.context() as patched:
        interrupted(patched, 0, KeyboardInterrupt())
        assert main([*words, "-o", "none.gguf"]) == 130
    assert "none.gguf was not written" in capsys.readouterr().err
    assert not Path("none.gguf").exists()
    # an error is no wish to save; what was saved before stays, and is said
    with monkeypatch.context() as patched:
        interrupted(patched, 3, NonFinite("linear", 1))
        assert main([*words, "-o", "error.gguf", "-ofreq", "2"]) == 3
    assert "error.gguf holds the first 2 of" in capsys.readouterr().err
    assert same(Path("error.gguf"), Path("two.gguf"))
    with monkeypatch.context() as patched:
        interrupted(patched, 3, NonFinite("linear", 1))
        assert main([*words, "-o", "none.gguf", "-ofreq", "0"]) == 3
    assert not Path("none.gguf").exists()


def test_sigterm_saves_too(small_model: Small, text: Path, tmp_path: Path) -> None:
    """A real process, ended from outside once it has read some windows."""
    long = tmp_path / "long.txt"
    long.write_text(TEXT * 400)
    words = ["-m", str(small_model("llama-q4_k")), "-f", str(long), "-c", "32", "-ofreq", "1", "-t", "1"]
    run = "import sys; from zigllama.app.main import main; sys.exit(main(sys.argv[1:]))"
    with subprocess.Popen(
        [sys.executable, "-P", "-c", run, "imatrix", *words], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as process:
        while not (tmp_path / "imatrix.gguf").exists() and process.poll() is None:
            pass
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
        assert process.stderr is not None
        err = process.stderr.read()
    n = read_importance(tmp_path / "imatrix.gguf").n_chunks
    assert n >= 1 and f"imatrix.gguf holds the first {n} of" in err
    assert not list(tmp_path.glob(".*.tmp"))


def test_every_flag_is_of_a_model_or_of_files() -> None:
    """So that none is ignored where there is no model."""
    parser = argparse.ArgumentParser()
    configure(parser)
    given = vars(parser.parse_args([]))
    of_files = {"in_file", "out", "output_format", "force", "json", "n_ctx"}
    assert set(given) == set(OF_MODEL) | of_files | {"model", "model_flag", "prompt", "file"}
    assert {name: given[name] for name in OF_MODEL} == {name: default for name, (_, default) in OF_MODEL.items()}


def refused(capsys: pytest.CaptureFixture[str], code: int, message: str, *words: object) -> None:
    assert main(["imatrix", *map(str, words)]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err


def test_what_is_refused(
    small_model: Small, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(small_model("llama-f16").read_bytes())
    before = model.read_bytes()
    m = "-m", model, "-f", text
    refused(capsys, 2, "windows of 512 take at least two, 1024", *m)
    refused(capsys, 2, "windows of 32 take at least two, 64", *m, "-c", 32, "--chunk", 1000)
    refused(capsys, 2, "--chunks 0", *m, "--chunks", 0)
    refused(capsys, 2, "--chunk -1", *m, "--chunk", -1)
    refused(capsys, 2, "--output-frequency -1", *m, "-ofreq", -1)
    refused(capsys, 2, "which model?", "-f", text)
    refused(capsys, 3, "nothing.txt: no such file", "-m", model, "-f", "nothing.txt")
    refused(capsys, 3, "nothing.gguf", "-m", "nothing.gguf", "-f", text)
    refused(capsys, 3, "nothing.dat", *m, "-c", 32, "--in-file", "nothing.dat")
    refused(capsys, 2, "is the input", *m, "-c", 32, "-o", model, "--force")
    refused(capsys, 2, "is the input", *m, "-c", 32, "-o", text, "--force")
    refused(capsys, 2, "there is no folder", *m, "-c", 32, "-o", tmp_path / "no" / "i.gguf")
    refused(capsys, 3, "importance file", *m, "-c", 32, "--in-file", text)
    refused(capsys, 2, "a model and no text", "-m", model, "--in-file", text)
    for flag, *value in (
        *(("--chunks", 2), ("--chunk", 1), ("--process-output",), ("--no-ppl",), ("--parse-special",), ("-e",)),
        *(("--output-frequency", 0), ("-t", 0), ("-ctk", "f16"), ("-ctv", "f16"), ("--backend", "native")),
        *(("--isa", "auto"), ("--blas", "generic"), ("--float-compute", "f32")),
    ):
        refused(capsys, 2, f"{flag}: how a model reads", "--in-file", "a.dat", flag, *value)
    refused(capsys, 2, "--chunks, --no-ppl: how a model reads", "--in-file", "a.dat", "--no-ppl", "--chunks", 3)
    assert not Path("imatrix.gguf").exists()
    told(capsys, *m, "-c", 32)
    refused(capsys, 2, "imatrix.gguf exists", *m, "-c", 32)
    other = "-m", small_model("llama-mix"), "-f", text, "-c", 32, "-o", "other.gguf"
    refused(capsys, 3, "sums, the model's has", *other, "--in-file", "imatrix.gguf")
    assert model.read_bytes() == before
    assert not Path("other.gguf").exists()

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("zigllama.app.verbs.imatrix.write_importance", full)
    refused(capsys, 4, "No space left on device; nothing half is left", *m, "-c", 32, "-o", "full.gguf")
