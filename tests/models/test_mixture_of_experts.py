"""Files of mixtures of experts: what their keys say, what is refused, their importance matrices, their folders' two
forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors_folder
from architecture_models import Subject, plain_tokenizer

import zigllama as zl
from zigllama.errors import BadMetadata, BadTensor, MissingTensor
from zigllama.inference.calibration import importance
from zigllama.inference.model import Model
from zigllama.linear_algebra.linear import Weight
from zigllama.models.config import HyperParameters
from zigllama.models.conversion.convert import convert
from zigllama.models.gguf import GGUFLoader
from zigllama.models.llama_model import LLaMAModel

SIZES = {"n_layer": 2, "n_ff": 512}


def keys(**values: object) -> HyperParameters:
    tensors = values.pop("tensors", ())
    metadata = {f"m.{k}": v for k, v in values.items()} | {"general.architecture": "m"}
    return HyperParameters(metadata, tensors)  # type: ignore[arg-type]


def test_keys() -> None:
    assert keys().experts(SIZES) is None and keys(expert_count=0).experts(SIZES) is None
    plain = keys(expert_count=8, expert_used_count=2).experts(SIZES)
    assert plain is not None and (plain.n_expert, plain.n_used, plain.n_ff, plain.dense) == (8, 2, 512, ())
    divided = keys(expert_count=8, expert_used_count=2).experts(SIZES, "softmax", divided=True, shared=True)
    assert divided is not None and (divided.n_ff, divided.n_ff_shared, divided.gating) == (256, 512, "softmax")
    own = keys(
        expert_count=8, expert_used_count=2, expert_feed_forward_length=96, tensors=["blk.1.ffn_gate_inp.weight"]
    )
    found = own.experts(SIZES)
    assert found is not None and (found.n_ff, found.dense) == (96, (0,))


def test_refused() -> None:
    with pytest.raises(BadMetadata, match="9 is not within 1 and 8"):
        keys(expert_count=8, expert_used_count=9).experts(SIZES)
    with pytest.raises(BadMetadata, match="missing"):
        keys(expert_count=8).experts(SIZES)
    with pytest.raises(BadTensor, match="one expert's; only ffn_gate_exps"):
        keys(expert_count=8, expert_used_count=2, tensors=["blk.0.ffn_gate.0.weight"]).experts(SIZES)
    with pytest.raises(MissingTensor, match="ffn_gate_inp"):
        keys(expert_count=8, expert_used_count=2, tensors=["token_embd.weight"]).experts(SIZES)


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return Subject("qwen2moe", tmp_path_factory.mktemp("qwen2moe"))


def test_both_forms_of_a_folder_make_the_same_file(qwen: Subject, tmp_path: Path) -> None:
    """A tensor per expert, or gate above up in a stack."""
    from zigllama.models.conversion.checkpoint import Checkpoint

    with Checkpoint(qwen.folder) as checkpoint:
        tensors = {name: np.array(checkpoint.tensor(name)) for name in checkpoint.names}
    other: dict[str, np.ndarray] = {}
    for name, x in tensors.items():
        base, _, last = name.rpartition(".")
        if last == "gate_up_proj":
            for e in range(len(x)):
                gate, up = np.split(x[e], 2)
                other |= {f"{base}.{e}.gate_proj.weight": gate, f"{base}.{e}.up_proj.weight": up}
        elif last == "down_proj" and x.ndim == 3:
            other |= {f"{base}.{e}.down_proj.weight": x[e] for e in range(len(x))}
        elif ".experts." in name and last == "weight":
            base = name.rsplit(".", 3)[0]
            n = 1 + max(int(k.rsplit(".", 3)[1]) for k in tensors if k.startswith(base + "."))
            parts = {
                p: np.stack([tensors[f"{base}.{i}.{p}.weight"] for i in range(n)]) for p in ("gate_proj", "up_proj")
            }
            other[f"{base}.gate_up_proj"] = np.concatenate([parts["gate_proj"], parts["up_proj"]], 1)
            other[f"{base}.down_proj"] = np.stack([tensors[f"{base}.{i}.down_proj.weight"] for i in range(n)])
        else:
            other[name] = x
    assert other.keys() != tensors.keys()
    folder = safetensors_folder.folder(tmp_path / "other", qwen.about["config"], other)
    convert(folder, tmp_path / "other.gguf", "F32", vocabulary=False)
    with GGUFLoader(qwen.path) as a, GGUFLoader(tmp_path / "other.gguf") as b:
        assert a.reader.tensors.keys() == b.reader.tensors.keys()
        for name in a.reader.tensors:
            np.testing.assert_array_equal(a.reader.tensor_bytes(name), b.reader.tensor_bytes(name), name)


def test_loaded_in_float32_says_the_same(qwen: Subject, tmp_path: Path) -> None:
    """Quantised experts keep their stack when they are read as float32."""
    zl.quantize(qwen.path, tmp_path / "q8.gguf", "Q8_0")
    with GGUFLoader(tmp_path / "q8.gguf", dequantize=True) as loader:
        stacks = {n: w.stack for n, w in loader.weights() if n.endswith("_exps.weight")}
        assert set(stacks.values()) == {7} and len(stacks) == 6


def test_importance_counts_the_rows_that_chose_each_expert(qwen: Subject) -> None:
    """Every row goes to k experts; the sums of all experts are k times what one matrix of the whole layer would see."""
    with Model(qwen.path, n_threads=2, tokenizer=plain_tokenizer(300), n_ctx=64) as m:
        found = importance(m, qwen.ids[:130], n_ctx=64)
    for i in range(2):
        gate, up, down, shared = (
            found.entries[f"blk.{i}.ffn_{x}.weight"] for x in ("gate_exps", "up_exps", "down_exps", "up_shexp")
        )
        router = found.entries[f"blk.{i}.ffn_gate_inp.weight"]
        assert gate.sums.shape == (7, 256) and down.sums.shape == (7, 256) and gate.counts.sum() == 3 * 128
        np.testing.assert_array_equal(gate.sums, up.sums)
        np.testing.assert_array_equal(gate.counts, down.counts)
        np.testing.assert_allclose(gate.sums.sum(0), 3 * router.sums[0], rtol=1e-5)
        assert shared.counts.tolist() == [128]
        assert len(set(gate.counts.tolist())) > 1


def test_the_shared_experts_router_is_a_weight_of_the_model(qwen: Subject) -> None:
    """In the file a vector; multiplied by like a matrix of one row. Closing the model gives all native forms back."""
    m = Model(qwen.path, n_threads=1, tokenizer=plain_tokenizer(300), n_ctx=64)
    blocks: list[Any] = m.decoder.blocks
    routers = [block.feed_forward.shared.router for block in blocks]
    assert [m.weights[f"blk.{i}.ffn_gate_inp_shexp.weight"] for i in range(len(routers))] == routers
    m.logits(qwen.ids[:3])
    assert all((w.rows, w.cols) == (1, 256) and w._native for w in routers)
    m.close()
    assert not any(w._native for w in m.weights.values() if isinstance(w, Weight))
    with GGUFLoader(qwen.path, dequantize=True) as loader:
        assert dict(loader.weights())["blk.0.ffn_gate_inp_shexp.weight"].rows == 1


def test_a_mixture_as_numpy_arrays(qwen: Subject) -> None:
    """`LLaMAModel` has stacks of experts, and the shared one's router, too."""
    model = LLaMAModel.from_file(qwen.path)
    assert model.weights["blk.0.ffn_up_exps.weight"].stack == 7
    want = next(iter(qwen.arrays.values()))
    np.testing.assert_allclose(model.logits(qwen.ids[:8])[[0, 1, 6]], want[:3], rtol=0, atol=qwen.variant.atol)
    values = {name: np.array(getattr(w, "dequantized", lambda w=w: w)()) for name, w in model.weights.items()}
    given = {name: values[name].reshape(shape) for name, shape in model.config.tensors.items()}
    np.testing.assert_array_equal(LLaMAModel(model.config, given).logits([1, 2]), model.logits([1, 2]))
