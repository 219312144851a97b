"""Importance matrices against llama-imatrix's own files: the same windows, the same sums, both file forms.

tools/make_imatrix_golden.py has llama-imatrix write the files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from zigllama.app.main import main
from zigllama.errors import InvalidArgument
from zigllama.models.importance import combined, read_importance

GOLDEN = Path(__file__).resolve().parent
FIGURES = json.loads((GOLDEN / "imatrix.json").read_text("utf-8"))
RUNS = FIGURES["runs"]
WINDOW = 32
# Logits of the float32 models are known to 1e-4 of their size of one in any float32 evaluation (test_small_models.py),
# and so is the stream that they are made of: a square has twice that relative error where x is of size one, and a sum
# of squares, in which the largest weigh most, no more. ggml reads GELU from a table: argument and result are rounded to
# half precision, 2^-11 each, the argument's part times x g'(x) / g(x) = 1 + x phi(x) / Phi(x) <= 1.3 for x > 0. What
# enters Gemma's ffn_down is that much off, its square twice.
EXACT, GELU = 2e-4, 2 * (1.3 + 1) * 2.0**-11


@pytest.mark.parametrize("name", RUNS)
def test_the_golden_file_is_the_oracle_s(name: str, small_model: Callable[[str], Path]) -> None:
    assert "llama-imatrix" in FIGURES["about"]["oracle"]
    assert hashlib.sha256((GOLDEN / name).read_bytes()).hexdigest() == RUNS[name]["sha256"]
    model = small_model(RUNS[name]["model"])
    assert hashlib.sha256(model.read_bytes()).hexdigest() == RUNS[name]["model_sha256"]


@pytest.mark.parametrize("name", RUNS)
def test_the_sums_are_the_oracle_s(
    name: str,
    small_model: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    figures, out = RUNS[name], tmp_path / name
    words = figures["flags"].split()
    del words[words.index("-fa") : words.index("-fa") + 2]  # flash attention: here there is one form of attention
    monkeypatch.chdir(GOLDEN / "texts")  # the text's name stands in the file
    assert main(["imatrix", "-m", str(small_model(figures["model"])), *words, "-o", str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    ours, theirs = read_importance(out), read_importance(GOLDEN / name)
    assert list(ours.entries) == list(theirs.entries)
    assert ours.datasets == theirs.datasets == ("psalm.txt",)
    assert (ours.n_chunks, ours.chunk_size, ours.per_call) == (theirs.n_chunks, theirs.chunk_size, theirs.per_call)
    assert said["chunk_count"] == theirs.n_chunks
    worst = 0.0
    for tensor, entry in theirs.entries.items():
        assert np.array_equal(ours.entries[tensor].counts, entry.counts)
        error = np.abs(ours.entries[tensor].sums.astype(np.float64) / entry.sums - 1).max()
        worst = max(worst, error)
    assert 0 < worst <= (EXACT if figures["model"].startswith("llama") else EXACT + GELU)
    assert said["perplexity"]["value"] == pytest.approx(figures["perplexity"][0], rel=1e-4)
    assert said["perplexity"]["error"] == pytest.approx(figures["perplexity"][1], rel=1e-3)


def test_both_forms_of_the_oracle_mean_the_same() -> None:
    """The older form, as windows are counted there, is the sum of its first three windows."""
    legacy, whole = (read_importance(GOLDEN / f"imatrix-llama.{x}") for x in ("dat", "gguf"))
    assert legacy.per_call and not whole.per_call
    parts = combined([legacy], WINDOW)
    assert (parts.n_chunks, parts.entries["blk.0.attn_q.weight"].counts.tolist()) == (3, [3 * WINDOW])
    both = combined([legacy, whole], WINDOW).entries["blk.1.ffn_down.weight"]
    assert both.counts.tolist() == [(3 + whole.n_chunks) * WINDOW]
    assert (parts.entries["blk.1.ffn_down.weight"].sums < whole.entries["blk.1.ffn_down.weight"].sums).all()
    assert (both.sums > whole.entries["blk.1.ffn_down.weight"].sums).all()
    with pytest.raises(InvalidArgument):
        combined([legacy], -1)
