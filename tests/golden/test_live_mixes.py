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
from golden_measures import kl

import zigllama as zl
from zigllama.app.mixes import MIXES

# Both engines round activations to 8 bits, each in its own blocks: with KL half a squared distance, two that are at
# most sqrt(1.1) d from the float evaluation of the same file are at most (1 + sqrt(1.1)) d apart (test_live_peer.py);
# the factor 1.25 is for chance (test_small_models.py).
APART = 1.25 * (1.0 + 1.1**0.5) ** 2
# float evaluations of one file in two engines: f32 sums in different order
EXACT = 1e-6
IDS = [(7 * i * i + 3 * i) % 250 + 3 for i in range(96)]
SHAPE = small_models.Shape("llama", "F32", n_layer=4)
NAMES = sorted(set(MIXES) - {"MXFP4_MOE"})  # of a model without experts that is Q8_0


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


def peer_logits(path: Path) -> Any:
    """llama.cpp's logits of every position."""
    llama_cpp: Any = importlib.import_module("llama_cpp")
    n = len(IDS)
    peer = llama_cpp.Llama(str(path), n_ctx=128, n_batch=128, n_ubatch=128, n_threads=1, logits_all=True, verbose=False)
    try:
        peer.eval(IDS)
        return np.array(peer.scores[:n])
    finally:
        peer.close()


@pytest.mark.parametrize("mix", NAMES)
def test_both_run_both(mix: str, source: Path, tmp_path: Path) -> None:
    """The same file gives the same logits, within what the rounding of activations costs each engine."""
    ours, theirs = tmp_path / "ours.gguf", tmp_path / "theirs.gguf"
    importance = source.parent / quantize_files.IMPORTANCE
    zl.quantize(source, ours, mix, imatrix=importance)
    words = [os.environ["ZIGLLAMA_LLAMA_QUANTIZE"], "--imatrix", str(importance), str(source), str(theirs), mix, "1"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    for path in (ours, theirs):
        with zl.Model(path, n_ctx=128, dequantize=True) as model:
            exact = model.logits(IDS)
        with zl.Model(path, n_ctx=128) as model:
            here = model.logits(IDS)
        there = peer_logits(path)
        own, apart = float(kl(exact, there).mean()), float(kl(here, there).mean())
        print(f"{mix} {path.stem}: llama.cpp from the float evaluation {own:.3g}, from ours {apart:.3g}")
        assert own < 0.05, "the two do not read the file alike"
        assert apart <= APART * max(own, EXACT)
