"""The real models against the float64 evaluation of their weights, with llama.cpp's own distance as the measure.

tools/make_golden_logits.py makes the golden files and says what is in them.  Two engines are judged: the native one,
whose int8 activations may cost as much as llama.cpp's do; and the one with dequantised weights, which has nothing to
lose but rounding.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_measures import coarse_kl, first_departure, signs

KL_RATIO = 1.1
EXACT = 1e-3
TEXTS = Path(__file__).resolve().parent / "texts"
NAMES = sorted(path.stem for path in TEXTS.glob("*.txt"))


class Subject:
    """One model under test: its golden figures and arrays, and the engine both ways, loaded when first used."""

    def __init__(self, path: Path, golden: Any, model_class: Any) -> None:
        self.path, self.model_class = path, model_class
        self.figures, self.arrays = golden
        self.signs = signs(16, self.figures["about"]["n_vocab"])
        self.loaded: dict[bool, Any] = {}

    def model(self, dequantize: bool) -> Any:
        """The engine; only one of the two is held, the float32 weights being large."""
        if dequantize not in self.loaded:
            self.close()
            self.loaded[dequantize] = self.model_class(self.path, dequantize=dequantize)
        return self.loaded[dequantize]

    def greedy(self, name: str, dequantize: bool = False) -> Any:
        """The handle of a text's greedy continuation."""
        text = self.figures["texts"][name]
        prompt, n = text["ids"][: text["prompt_length"]], len(text["greedy"])
        return self.model(dequantize).submit(prompt, max_tokens=n, temperature=0.0, ignore_eos=True)

    @cached_property
    def greedy_together(self) -> dict[str, list[int]]:
        """On float32 weights, all texts in one batch: a step reads half a gigabyte and more, once for all of them."""
        handles = {name: self.greedy(name, dequantize=True) for name in NAMES}
        return {name: handle.result().token_ids for name, handle in handles.items()}

    def close(self) -> None:
        """Close whatever is loaded."""
        while self.loaded:
            self.loaded.popitem()[1].close()


@pytest.fixture(scope="module", params=["smollm2", "gemma3-270m"])
def subject(request: pytest.FixtureRequest, model_class: Any, load_golden: Any) -> Iterator[Subject]:
    """Each real model that the cache has."""
    path = request.getfixturevalue("smollm2_path" if request.param == "smollm2" else "gemma3_path")
    it = Subject(path, load_golden(request.param), model_class)
    yield it
    it.close()


@pytest.mark.parametrize("name", ["smollm2", "gemma3-270m"])
def test_golden_is_from_outside(name: str, load_golden: Any) -> None:
    """The files say who computed them, on which file and which texts; the engine is not among them."""
    figures, arrays = load_golden(name)
    about = figures["about"]
    assert about["oracle"].startswith("tools/oracle/") and about["peer"].startswith("llama-cpp-python ")
    assert about["command"] and len(about["model_sha256"]) == 64 and "zigllama" not in str(figures)
    assert sorted(figures["texts"]) == NAMES
    lengths = [len(text["ids"]) for text in figures["texts"].values()]
    assert len(lengths) >= 5 and min(lengths) <= 6 and max(lengths) == 600
    for text_name, text in figures["texts"].items():
        assert hashlib.sha256((TEXTS / f"{text_name}.txt").read_bytes()).hexdigest() == text["sha256"]
        assert arrays[f"{text_name}.top_logits"].shape == (len(text["ids"]), 128)


def test_the_oracle_does_not_know_the_engine() -> None:
    """No file of tools/oracle/, and no tool that makes golden files, imports zigllama."""
    tools = TEXTS.parents[2] / "tools"
    files = [*(tools / "oracle").glob("*.py"), *tools.glob("make_*golden*.py"), tools / "evaluate_float.py"]
    assert len(files) >= 8
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] == "zigllama" for name in names), path


@pytest.mark.parametrize("name", NAMES)
def test_token_ids(subject: Subject, name: str) -> None:
    """The texts' token ids are llama.cpp's."""
    text = subject.figures["texts"][name]
    ids = subject.model(False).tokenizer.encode((TEXTS / f"{name}.txt").read_text(encoding="utf-8"))
    assert len(ids) == text["encoded_length"]
    assert ids[: len(text["ids"])] == text["ids"]


def test_divergence_at_most_the_peers(subject: Subject) -> None:
    """Mean KL from the float evaluation over every position of every text: at most 1.1 times llama.cpp's own."""
    divergences = {}
    for name, text in subject.figures["texts"].items():
        logits = np.asarray(subject.model(False).logits(text["ids"]))
        top, top_ids, rest = (subject.arrays[f"{name}.{part}"] for part in ("top_logits", "top_ids", "rest"))
        divergences[name] = coarse_kl(top, top_ids, rest, logits)
    mean = float(np.concatenate(list(divergences.values())).mean())
    per_text = ", ".join(
        f"{name} {kl.mean():.5f} (peer {subject.figures['texts'][name]['peer_mean_kl']:.5f})"
        for name, kl in divergences.items()
    )
    print(f"mean KL {mean:.5f}, peer {subject.figures['peer']['mean_kl']:.5f}: {per_text}")
    assert mean <= KL_RATIO * subject.figures["peer"]["mean_kl"], per_text


@pytest.mark.parametrize("name", NAMES)
def test_logits_on_float32_weights(subject: Subject, name: str) -> None:
    """Dequantised weights: 128 best logits of every position, scattered columns, random projections of whole rows."""
    arrays = {
        key.removeprefix(f"{name}."): value for key, value in subject.arrays.items() if key.startswith(f"{name}.")
    }
    logits = np.asarray(subject.model(True).logits(subject.figures["texts"][name]["ids"]))
    top = np.take_along_axis(logits, arrays["top_ids"].astype(np.int64), -1)
    columns = logits[np.ix_(arrays["rows"], subject.figures["about"]["columns"])]
    projections = logits[arrays["rows"]].astype(np.float64) @ subject.signs.T / np.sqrt(logits.shape[-1])
    # The mean square over 16 random projections estimates the mean square over the row: one entry off by 1 shows as
    # 2e-3.
    row_rms = np.sqrt(np.mean((projections - arrays["projections"]) ** 2, axis=-1)).max()
    print(f"largest difference {np.abs(top - arrays['top_logits']).max():.2g}, rms of a row {row_rms:.2g}")
    np.testing.assert_allclose(top, arrays["top_logits"], rtol=0, atol=EXACT)
    np.testing.assert_allclose(columns, arrays["columns"], rtol=0, atol=EXACT)
    assert row_rms <= EXACT


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dequantize", [True, False], ids=["float32", "native"])
def test_greedy(subject: Subject, dequantize: bool, name: str) -> None:
    """64 greedy tokens as the float evaluation has them, or parting where its two best logits were a close call.

    Close is, on float32 weights, twice the bound on a logit; on the native path, what llama.cpp's own error does to
    the distance of two best logits in 99 of 100 positions.
    """
    text = subject.figures["texts"][name]
    tokens = subject.greedy_together[name] if dequantize else subject.greedy(name).result().token_ids
    close = 2 * EXACT if dequantize else subject.figures["peer"]["p99_gap_change"]
    departed = first_departure(list(tokens), text["greedy"])
    assert departed is None or text["greedy_gaps"][departed] <= close, (departed, text["greedy_gaps"][departed])
