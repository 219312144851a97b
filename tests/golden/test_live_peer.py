"""The real models against llama-cpp-python itself, where it is installed: ids, logits, greedy text on the same file.

Golden files hold what llama.cpp said once; this asks the one on this machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_measures import first_departure, kl

TEXTS = Path(__file__).resolve().parent / "texts"
NAMES = ("capital", "code", "languages", "psalm", "story")
# KL of nearby distributions is half a squared distance.  If ours is at most sqrt(1.1) of the peer's own distance d
# from the truth, the two are at most (1 + sqrt(1.1)) d apart, whichever way their errors point (triangle inequality):
# 4.2 times its KL.
APART = (1.0 + 1.1**0.5) ** 2


@pytest.fixture(scope="module", params=["smollm2", "gemma3-270m"])
def pair(request: pytest.FixtureRequest, model_class: Any, load_golden: Any) -> Iterator[tuple[Any, Any, Any]]:
    """The engine, llama.cpp, and the golden figures of one model."""
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    path = request.getfixturevalue("smollm2_path" if request.param == "smollm2" else "gemma3_path")
    peer = llama_cpp.Llama(str(path), n_ctx=256, n_batch=256, n_ubatch=256, logits_all=True, verbose=False)
    with model_class(path) as model:
        yield model, peer, load_golden(request.param)[0]
    peer.close()


def peer_logits(peer: Any, ids: list[int]) -> Any:
    """llama.cpp's logits at every position."""
    peer.reset()
    peer.eval(ids)
    return np.array(peer.scores[: len(ids)])


@pytest.mark.parametrize("name", NAMES)
def test_token_ids(pair: tuple[Any, Any, Any], name: str) -> None:
    """Both tokenise alike, and decode alike."""
    model, peer, _ = pair
    raw = (TEXTS / f"{name}.txt").read_text(encoding="utf-8")
    ids = peer.tokenize(raw.encode(), add_bos=True, special=False)
    assert model.tokenizer.encode(raw) == ids
    assert model.tokenizer.decode_bytes(ids) == peer.detokenize(ids)


def test_divergence(pair: tuple[Any, Any, Any]) -> None:
    """Mean KL between the two, over all texts: no more than their distances from the truth allow."""
    model, peer, golden = pair
    between, own = [], 0.0
    for name in NAMES:
        text = golden["texts"][name]
        between.append(kl(peer_logits(peer, text["ids"]), model.logits(text["ids"])))
        own += text["peer_mean_kl_full"] * len(text["ids"])
    mean = float(np.concatenate(between).mean())
    own /= sum(len(part) for part in between)
    print(f"mean KL between llama.cpp and the engine {mean:.5f}, llama.cpp from the float evaluation {own:.5f}")
    assert mean <= APART * own


@pytest.mark.parametrize("name", NAMES)
def test_greedy(pair: tuple[Any, Any, Any], name: str) -> None:
    """64 greedy tokens alike, or parting at a close call: both err, so twice the measured change of the distance."""
    model, peer, golden = pair
    text = golden["texts"][name]
    ids, theirs, gaps = text["ids"][: text["prompt_length"]], [], []
    peer.reset()
    chunk = list(ids)
    for _ in text["greedy"]:
        peer.eval(chunk)
        row = np.array(peer.scores[peer.n_tokens - 1])
        second, first = np.partition(row, -2)[-2:]
        theirs.append(int(row.argmax()))
        gaps.append(float(first - second))
        chunk = theirs[-1:]
    result = model.generate(ids, max_tokens=len(theirs), temperature=0.0, ignore_eos=True)
    departed = first_departure(list(result.token_ids), theirs)
    assert departed is None or gaps[departed] <= 2 * golden["peer"]["p99_gap_change"], (departed, gaps[departed])
