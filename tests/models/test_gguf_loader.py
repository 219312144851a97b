"""Loading: what does not fit together is an error that names the key or the tensor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf_bytes
import numpy as np
import pytest
import small_models

from zigllama import errors
from zigllama.inference.model import Model
from zigllama.models import registry
from zigllama.models.gguf import GGUFLoader

Change = Callable[[dict[str, Any], dict[str, Any]], None]


def write(tmp_path: Path, change: Change, name: str = "llama-f32", **shape: Any) -> Path:
    """A small model whose metadata and tensors were changed."""
    made = replace(small_models.MODELS[name], **shape)
    meta: dict[str, Any] = dict(small_models.metadata(name, made))
    tensors: dict[str, Any] = dict(small_models.tensors(name, made, len(meta["tokenizer.ggml.tokens"])))
    change(meta, tensors)
    path = tmp_path / "model.gguf"
    gguf_bytes.write(path, meta, tensors)
    return path


def put(key: str, value: Any) -> Change:
    """Set a key."""
    return lambda meta, tensors: meta.__setitem__(key, value)


BAD_KEYS = [
    ("llama.block_count", 2**31),
    ("llama.block_count", 0),
    ("llama.block_count", 4),
    ("llama.attention.head_count", 0),
    ("llama.attention.head_count", 5),  # found as: 2 key/value heads do not divide 5
    ("llama.attention.head_count_kv", 4),
    ("llama.attention.head_count_kv", 0),
    ("llama.embedding_length", 0),
    ("llama.embedding_length", "wide"),
    ("llama.embedding_length", True),
    ("llama.feed_forward_length", 2**31),
    ("llama.context_length", 0),
    ("llama.attention.layer_norm_rms_epsilon", float("nan")),
    ("llama.rope.freq_base", float("inf")),
    ("llama.rope.dimension_count", 15),
    ("llama.rope.dimension_count", 18),
    ("llama.rope.scaling.type", "bent"),
    ("llama.attention.value_length", 8),
    ("general.architecture", 7),
]


@pytest.mark.parametrize(("key", "value"), BAD_KEYS)
def test_bad_hyper_parameters(tmp_path: Path, key: str, value: Any) -> None:
    """Each is named, or (where it only changes what shapes are expected) the first tensor that does not fit is."""
    with pytest.raises((errors.BadMetadata, errors.MissingTensor, errors.TensorShapeMismatch)) as e:
        GGUFLoader(write(tmp_path, put(key, value)))
    if isinstance(e.value, errors.BadMetadata):
        assert e.value.key.startswith(key)
    else:
        assert key in ("llama.block_count", "llama.attention.head_count_kv")


@pytest.mark.parametrize("key", ["feed_forward_length", "attention.head_count", "attention.head_count_kv"])
def test_sizes_that_differ_from_layer_to_layer(tmp_path: Path, key: str) -> None:
    """As OpenELM's files have them: refused, and the error says which key and why."""
    with pytest.raises(errors.BadMetadata, match="an array of 3: layers of different sizes are not read") as e:
        GGUFLoader(write(tmp_path, put(f"llama.{key}", [2, 4, 6])))
    assert e.value.key == f"llama.{key}"


@pytest.mark.parametrize("key", ["block_count", "embedding_length", "attention.head_count", "context_length"])
def test_missing_key(tmp_path: Path, key: str) -> None:
    with pytest.raises(errors.BadMetadata) as e:
        GGUFLoader(write(tmp_path, lambda meta, tensors: meta.pop(f"llama.{key}")))
    assert e.value.key == f"llama.{key}"


def test_tensors_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(errors.MissingTensor) as missing:
        GGUFLoader(write(tmp_path, lambda meta, tensors: tensors.pop("blk.1.ffn_up.weight")))
    assert missing.value.tensor == "blk.1.ffn_up.weight" and missing.value.shape == (176, 96)

    def narrow(meta: dict[str, Any], tensors: dict[str, Any]) -> None:
        kind, _, data = tensors["blk.0.attn_k.weight"]
        tensors["blk.0.attn_k.weight"] = (kind, (16, 96), data[: data.size // 2])

    with pytest.raises(errors.TensorShapeMismatch) as shape:
        GGUFLoader(write(tmp_path, narrow))
    assert (shape.value.expected, shape.value.found) == ((32, 96), (16, 96))

    def extra(meta: dict[str, Any], tensors: dict[str, Any]) -> None:
        tensors["blk.0.attn_sinks.weight"] = tensors["blk.0.attn_norm.weight"]

    with pytest.raises(errors.BadTensor, match="attn_sinks"):
        GGUFLoader(write(tmp_path, extra))


def test_vocabulary_and_embedding_differ(tmp_path: Path) -> None:
    def shorter(meta: dict[str, Any], tensors: dict[str, Any]) -> None:
        meta["tokenizer.ggml.tokens"] = meta["tokenizer.ggml.tokens"][:-1]

    with pytest.raises(errors.BadMetadata, match="token_embd"):
        GGUFLoader(write(tmp_path, shorter))


def test_unknown_architecture_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(errors.UnsupportedArchitecture) as e:
        GGUFLoader(write(tmp_path, put("general.architecture", "lama")))
    assert (e.value.name, e.value.nearest) == ("lama", "llama")


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_an_alias_changes_no_bit(tmp_path: Path, small_model: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that computes looks at the architecture's name: under another one the same file gives the same logits."""
    monkeypatch.setitem(registry._REGISTERED, "renamed", registry.architecture(name))

    def rename(meta: dict[str, Any], tensors: dict[str, Any]) -> None:
        meta["general.architecture"] = "renamed"
        for key in [k for k in meta if k.startswith(f"{name}.")]:
            meta[f"renamed.{key.removeprefix(f'{name}.')}"] = meta.pop(key)

    renamed = write(tmp_path, rename, f"{name}-f32")
    with Model(small_model(f"{name}-f32"), n_threads=1) as a, Model(renamed, n_threads=1) as b:
        np.testing.assert_array_equal(a.logits(list(range(3, 40))), b.logits(list(range(3, 40))))


def test_biases_are_inferred_from_the_tensors(tmp_path: Path) -> None:
    """Attention biases are optional; where they are, they count."""
    rng = np.random.default_rng(5)

    def biased(meta: dict[str, Any], tensors: dict[str, Any]) -> None:
        for label, size in (("attn_q", 96), ("attn_k", 32), ("attn_v", 32), ("attn_output", 96)):
            raw = rng.standard_normal(size).astype(np.float32).view(np.uint8)
            tensors[f"blk.0.{label}.bias"] = ("F32", (size,), raw)

    ids = list(range(3, 30))
    with Model(write(tmp_path, biased), n_threads=1) as m:
        native = m.logits(ids)
    with Model(tmp_path / "model.gguf", backend="reference") as m:
        np.testing.assert_allclose(native, m.logits(ids), rtol=0, atol=1e-4)
    with Model(write(tmp_path, lambda meta, tensors: None), n_threads=1) as m:
        assert np.abs(native - m.logits(ids)).max() > 0.1


@pytest.mark.parametrize("cls", ["MultiHeadAttention", "FeedForward", "TransformerBlock"])
def test_the_public_classes_are_what_runs(small_model: Any, cls: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Patching a class changes what a model does: there is no second implementation."""
    from zigllama.transformers import attention, feed_forward, transformer_block

    home = {"MultiHeadAttention": attention, "FeedForward": feed_forward, "TransformerBlock": transformer_block}[cls]
    calls: list[int] = []
    original = getattr(home, cls).__call__

    def counted(self: Any, *args: Any) -> Any:
        calls.append(1)
        return original(self, *args)

    monkeypatch.setattr(getattr(home, cls), "__call__", counted)
    with Model(small_model("llama-f32"), n_threads=1) as m:
        m.logits([3, 4])
    assert len(calls) == 3
