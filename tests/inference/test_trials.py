"""A trial is the model with one tensor replaced: the bits of a file that has it, and the model is as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import zigllama as zl
from zigllama.errors import ClosedError, ContextOverflow, InvalidArgument, NonFinite, ShapeError, UnsupportedType
from zigllama.inference import trials as module
from zigllama.inference.model import Model
from zigllama.inference.scoring import divergence
from zigllama.inference.trials import Trials

Small = Callable[[str], Path]
IDS = [5, 17, 3, 99, 41, 8, 8, 60, 2, 77, 31]


def kl(base: np.ndarray, other: np.ndarray) -> np.ndarray:
    """By the definition, from probabilities."""
    p, q = (x.astype(np.float64) - x.max(-1, keepdims=True) for x in (base, other))
    p, q = (np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in (p, q))
    return np.asarray((p * np.log(p / q)).sum(-1))


def test_divergence_by_its_definition() -> None:
    rng = np.random.Generator(np.random.PCG64(1))
    x = (4 * rng.standard_normal((20, 300))).astype(np.float32)
    y = (x + 0.1 * rng.standard_normal((20, 300))).astype(np.float32)
    found = np.array([divergence(a, b) for a, b in zip(x, y, strict=True)])
    assert np.allclose(found, kl(x, y), rtol=1e-9, atol=1e-13)
    assert divergence(x[0], x[0]) == 0.0
    assert all(0 <= divergence(a, a + np.float32(64)) < 1e-5 for a in x)  # a constant changes no probability


@pytest.mark.parametrize(
    ("name", "backend"), [("llama-f32", "native"), ("gemma3-f32", "native"), ("llama-f32", "reference")]
)
def test_the_same_bits_as_a_file_that_has_the_tensor(
    name: str, backend: str, small_model: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a tied embedding (Gemma's) in both places, of one that is only looked up in, of a matrix in a layer."""
    monkeypatch.setattr(module, "PIECE", 4)
    source = small_model(name)
    with Model(source, 32, 1, backend) as m:
        base = m.logits(IDS)
        trials = Trials(m, IDS)
        for tensor, kind in (
            ("token_embd.weight", "Q8_0"),
            ("blk.1.ffn_up.weight", "Q4_0"),
            ("blk.0.attn_v.weight", "F16"),
        ):
            if m.weights[tensor].cols % 32 and kind != "F16":
                kind = "F16"
            data = zl.quantize_rows(m.weights[tensor].dequantized(), kind)
            found = trials.divergences(tensor, kind, data)
            assert np.array_equal(m.logits(IDS), base)
            target = tmp_path / f"{tensor}.gguf"
            zl.quantize(source, target, "F32", tensor_types={f"^{tensor}$": kind})
            with Model(target, 32, 1, backend) as other:
                assert other.weights[tensor].type.name == kind
                logits = other.logits(IDS)
            expected = [divergence(a, b) for a, b in zip(base, logits, strict=True)]
            assert found.tolist() == expected
            assert max(expected) > 0


def test_nothing_changes_nothing(small_model: Small) -> None:
    with Model(small_model("llama-mix"), 64, 2) as m:
        trials = Trials(m, IDS)
        for name in ("blk.0.ffn_down.weight", "token_embd.weight"):
            w = m.weights[name]
            assert trials.divergences(name, w.type.name, w.data).tolist() == [0.0] * len(IDS)


def test_what_is_refused(small_model: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    m = Model(small_model("llama-f32"), 16, 1)
    with pytest.raises(InvalidArgument, match="at least one token"):
        Trials(m, [])
    with pytest.raises(ContextOverflow, match="17 positions are needed, the context has 16"):
        Trials(m, [1] * 17)
    with pytest.raises(InvalidArgument, match="outside the vocabulary"):
        Trials(m, [10**6])
    trials = Trials(m, IDS)
    name = "blk.0.ffn_up.weight"
    w = m.weights[name]
    with pytest.raises(InvalidArgument, match=r"'output_norm.weight' is no matrix"):
        trials.divergences("output_norm.weight", "F32", w.data)
    assert "no matrix" in (trials.refusal("output_norm.weight", "F32") or "")
    assert "no matrix" in (trials.refusal("rope_freqs.weight", "F32") or "")
    assert "of this type" in (trials.refusal(name, "I8") or "")
    assert trials.refusal(name, "F32") is trials.refusal(name, "Q4_0") is None
    with pytest.raises(UnsupportedType, match="I8"):
        trials.divergences(name, "I8", w.data[::4])
    with pytest.raises(ShapeError, match="take 67584 bytes, found 67583"):
        trials.divergences(name, "F32", w.data[:-1])
    with pytest.raises(NonFinite):
        trials.divergences(name, "F32", np.full(w.rows * w.cols, np.nan, np.float32).view(np.uint8))
    monkeypatch.setattr(module, "MOST", 4 * m.spec.n_vocab * 5)
    with pytest.raises(InvalidArgument, match="take 5 tokens"):
        Trials(m, IDS)
    m.close()
    with pytest.raises(ClosedError):
        trials.divergences(name, "F32", w.data)
