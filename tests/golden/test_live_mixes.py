"""Files of every mix run in both engines, whoever quantised them: llama-quantize's files here, ours in llama.cpp.

Runs where llama-cpp-python is installed and ZIGLLAMA_LLAMA_QUANTIZE names a llama-quantize of the same llama.cpp.
"""

from __future__ import annotations

import importlib
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import quantize_files
import small_models
from architecture_models import Subject, with_words
from golden_measures import kl

import zigllama as zl
from zigllama.app.mixes import MIXES
from zigllama.foundation.gguf_format import GGUFReader

# Both engines round activations to 8 bits, each in its own blocks: with KL half a squared distance, two that are at
# most sqrt(1.1) d from the float evaluation of the same file are at most (1 + sqrt(1.1)) d apart (test_live_peer.py);
# the factor 1.25 is for chance (test_small_models.py).
APART = 1.25 * (1.0 + 1.1**0.5) ** 2
# float evaluations of one file in two engines: f32 sums in different order
EXACT = 1e-6
IDS = [(7 * i * i + 3 * i) % 250 + 3 for i in range(96)]
SHAPE = small_models.Shape("llama", "F32", n_layer=4)
NAMES = sorted(set(MIXES) - {"MXFP4_MOE"})  # of a model without experts that is Q8_0
MIXTURES = ("mixtral", "qwen2moe", "qwen3moe")  # of tests/architecture_variants/


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float32 model whose rows every number format divides, and importances of its matrices beside it."""
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    if not os.environ.get("ZIGLLAMA_LLAMA_QUANTIZE"):
        pytest.skip("llama-quantize is not named by ZIGLLAMA_LLAMA_QUANTIZE")
    folder = tmp_path_factory.mktemp("mixes")
    small_models.MODELS["wide"] = SHAPE
    try:
        path = small_models.build("wide", folder)
    finally:
        del small_models.MODELS["wide"]
    quantize_files.write_importance(folder / quantize_files.IMPORTANCE, "wide", SHAPE)
    return path


def peer_logits(path: Path, ids: list[int]) -> Any:
    """llama.cpp's logits of every position."""
    llama_cpp: Any = importlib.import_module("llama_cpp")
    n = len(ids)
    peer = llama_cpp.Llama(str(path), n_ctx=128, n_batch=128, n_ubatch=128, n_threads=1, logits_all=True, verbose=False)
    try:
        peer.eval(ids)
        return np.array(peer.scores[:n])
    finally:
        peer.close()


@pytest.mark.parametrize("mix", NAMES)
def test_both_run_both(mix: str, source: Path, tmp_path: Path) -> None:
    """The same file gives the same logits, within what the rounding of activations costs each engine."""
    ours, theirs = tmp_path / "ours.gguf", tmp_path / "theirs.gguf"
    importance = source.parent / quantize_files.IMPORTANCE
    zl.quantize(source, ours, mix, imatrix=importance)
    peer_quantizes("--imatrix", str(importance), str(source), str(theirs), mix, "1")
    check(mix, IDS, ours, theirs)


def peer_quantizes(*words: str) -> None:
    """Run llama-quantize."""
    done = subprocess.run([os.environ["ZIGLLAMA_LLAMA_QUANTIZE"], *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def check(mix: str, ids: list[int], *paths: Path) -> None:
    """The two engines agree on each file."""
    for path in paths:
        with zl.Model(path, n_ctx=128, dequantize=True) as model:
            exact = model.logits(ids)
        with zl.Model(path, n_ctx=128) as model:
            here = model.logits(ids)
        there = peer_logits(path, ids)
        own, apart = float(kl(exact, there).mean()), float(kl(here, there).mean())
        print(f"{mix} {path.stem}: llama.cpp from the float evaluation {own:.3g}, from ours {apart:.3g}")
        assert own < 0.05, "the two do not read the file alike"
        assert apart <= APART * max(own, EXACT)


@pytest.mark.parametrize("name", MIXTURES)
def test_experts_in_mxfp4(name: str, tmp_path: Path) -> None:
    """A mixture's experts in MXFP4: llama-quantize's types and bytes, and the same logits here and there."""
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    if not os.environ.get("ZIGLLAMA_LLAMA_QUANTIZE"):
        pytest.skip("llama-quantize is not named by ZIGLLAMA_LLAMA_QUANTIZE")
    subject = Subject(name, tmp_path)
    source, ours, theirs = with_words(subject), tmp_path / "ours.gguf", tmp_path / "theirs.gguf"
    plan = zl.quantize(source, ours, "MXFP4_MOE")
    peer_quantizes(source, str(theirs), "MXFP4_MOE", "1")
    with GGUFReader(ours) as a, GGUFReader(theirs) as b:
        types = [{t.name: t.type.name for t in reader.tensors.values()} for reader in (a, b)]
        differ = [t for t in a.tensors if a.tensor_bytes(t).tobytes() != b.tensor_bytes(t).tobytes()]
    assert types[0] == types[1] == {s.name: s.target.name for s in plan.steps} and not differ
    assert sorted(t for t, kind in types[0].items() if kind == "MXFP4") == sorted(t for t in types[0] if "_exps" in t)
    check("MXFP4_MOE", subject.ids[:96], ours)
