"""`ModelConfig`, its parameter counter, and `LLaMAModel`: against published sizes, against files, and against
sums made by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import zigllama as zl
from zigllama.errors import (
    BadMetadata,
    BadTensor,
    ContextOverflow,
    InvalidArgument,
    MissingTensor,
    OutOfMemory,
    ShapeError,
    TensorShapeMismatch,
    UnknownName,
    UnsupportedArchitecture,
)
from zigllama.foundation.gguf_format import GGUFReader
from zigllama.models.gguf import GGUFLoader
from zigllama.models.llama_model import LLaMAModel, config_of
from zigllama.models.model_config import Activation, ModelConfig, ModelSize, Normalization, Position
from zigllama.models.parameters import PARTS, count_parameters
from zigllama.neural_primitives.activations import ACTIVATIONS

TINY = ModelConfig(n_layer=2, n_embd=32, n_head=4, n_head_kv=2, n_ff=48, n_vocab=50, n_ctx=160)


@pytest.mark.parametrize(
    ("size", "n_params"),  # as published: the models' cards, in full
    [
        (ModelSize.LLAMA_7B, 6_738_415_616),
        (ModelSize.LLAMA_13B, 13_015_864_320),
        (ModelSize.LLAMA_30B, 32_528_943_616),
        (ModelSize.LLAMA_65B, 65_285_660_672),
        (ModelSize.CODELLAMA_7B, 6_738_546_688),
        (ModelSize.CODELLAMA_13B, 13_016_028_160),
        (ModelSize.CODELLAMA_34B, 33_743_970_304),
    ],
)
def test_published_sizes(size: ModelSize, n_params: int) -> None:
    config = ModelConfig.preset(size)
    assert config.n_params == n_params
    assert config == ModelConfig.preset(size.value)
    assert (config.activation, config.normalization, config.position) == ("silu", "rms", "rope")


def test_every_size_is_a_preset() -> None:
    assert {ModelConfig.preset(size).name for size in ModelSize} == {size.value for size in ModelSize}
    code = ModelConfig.preset("codellama-34b")
    assert code.spec.layers[0].rope.base == 1e6
    assert (code.spec.n_ctx, code.spec.n_head_kv, code.spec.head_dim) == (16_384, 8, 128)
    assert ModelConfig.preset("llama-7b", n_ctx=4096).spec.n_ctx == 4096


def test_the_parts_by_hand() -> None:
    """Every matrix of a LLaMA, multiplied out."""
    parts = ModelConfig.preset("llama-13b").parameters
    c, f, n, v = 5120, 13_824, 40, 32_000
    assert parts == dict.fromkeys(PARTS, 0) | {
        "embedding": v * c,
        "attention": n * 4 * c * c,
        "feed-forward": n * 3 * c * f,
        "norms": (2 * n + 1) * c,
        "output": v * c,
    }
    assert dataclasses.replace(TINY, tied=True).parameters["output"] == 0


@pytest.mark.parametrize("name", ["llama-f32", "llama-mix", "gemma3-f32"])
def test_a_file_and_its_config_count_the_same(name: str, small_model: Callable[[str], Path]) -> None:
    with GGUFLoader(small_model(name)) as loader, GGUFReader(small_model(name)) as reader:
        config = config_of(loader)
        assert config.spec == loader.spec
        assert config.tensors == {n: t.shape for n, t in reader.tensors.items()}
        assert config.parameters == count_parameters({n: t.shape for n, t in reader.tensors.items()})


def test_the_enums_are_the_names_that_the_code_knows() -> None:
    assert {a.value for a in Activation} == set(ACTIVATIONS) - {"exp"}
    gemma = ModelConfig(
        n_layer=6, n_embd=64, n_head=4, n_ff=96, n_vocab=50, architecture="gemma3",
        extra={"attention.sliding_window": 16},
    )  # fmt: skip
    assert gemma.activation is Activation.GELU_TANH
    assert gemma.normalization is Normalization.RMS
    assert gemma.position is Position.ROPE
    assert gemma.spec.layers[0].window == 16


@pytest.mark.parametrize(
    ("architecture", "position", "norm", "activation"),
    [
        ("bloom", Position.ALIBI, Normalization.LAYER, Activation.GELU_TANH),
        ("falcon", Position.ROPE, Normalization.LAYER, Activation.GELU),
        ("gpt2", Position.LEARNED, Normalization.LAYER, Activation.GELU_TANH),
        ("gptneox", Position.ROPE, Normalization.LAYER, Activation.GELU),
        ("phi3", Position.ROPE, Normalization.RMS, Activation.SILU),
        ("qwen2", Position.ROPE, Normalization.RMS, Activation.SILU),
    ],
)
def test_other_architectures(
    architecture: str, position: Position, norm: Normalization, activation: Activation
) -> None:
    config = dataclasses.replace(TINY, n_head_kv=0, architecture=architecture)
    assert (config.position, config.normalization, config.activation) == (position, norm, activation)
    assert config.n_params == sum(int(np.prod(shape)) for shape in config.tensors.values())
    model = LLaMAModel(config, seed=1)  # joined matrices are taken apart
    assert np.isfinite(model.logits([1, 2, 3])).all()
    assert zl.estimate(config).n_params == config.n_params


def test_what_cannot_be() -> None:
    with pytest.raises(UnknownName) as caught:
        ModelConfig.preset("lama-7b")
    assert caught.value.nearest == "llama-7b"
    with pytest.raises(TypeError):
        ModelConfig.preset("llama-7b", n_heads=3)
    with pytest.raises(UnsupportedArchitecture):
        _ = dataclasses.replace(TINY, architecture="lama").spec
    with pytest.raises(BadMetadata, match="5 does not divide 32"):
        _ = dataclasses.replace(TINY, n_head=5, n_head_kv=0).n_params
    with pytest.raises(InvalidArgument, match="n_vocab is 0"):
        _ = dataclasses.replace(TINY, n_vocab=0).spec


# --- LLaMAModel -------------------------------------------------------------------------------------------------------


def test_a_file_as_a_llama_model_gives_the_engines_logits(small_model: Callable[[str], Path]) -> None:
    ids = [1, 5, 9, 2, 7]
    with zl.Model(small_model("llama-f32"), backend="reference") as model:
        wanted = model.logits(ids)
    found = LLaMAModel.from_file(small_model("llama-f32"))
    np.testing.assert_array_equal(found.logits(ids), wanted)
    with GGUFLoader(small_model("llama-f32")) as loader:
        given = {name: loader.tensor(name).array for name in loader.reader.tensors}
        again = LLaMAModel(config_of(loader), given)
    np.testing.assert_array_equal(again.logits(ids), wanted)


def test_random_weights_come_from_the_seed() -> None:
    one, same, other = LLaMAModel(TINY, seed=1), LLaMAModel(TINY, seed=1), LLaMAModel(TINY, seed=2)
    ids = [3, 1, 4, 1, 5]
    assert one.logits(ids).shape == (5, 50)
    np.testing.assert_array_equal(one.logits(ids), same.logits(ids))
    assert not np.array_equal(one.logits(ids), other.logits(ids))
    assert 0.2 < one.logits(ids).std() < 5
    assert one.n_params == TINY.n_params == 2 * 50 * 32 + 2 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 32 * 48) + 5 * 32


def test_cached_and_whole_passes_agree() -> None:
    model, ids = LLaMAModel(TINY, seed=3), [int(i) for i in np.arange(70) * 7 % 50]
    whole, cache = model.logits(ids), model.cache()
    parts = [model.logits(ids[a:b], cache) for a, b in ((0, 1), (1, 66), (66, 70))]
    np.testing.assert_allclose(np.vstack(parts), whole, atol=2e-5)
    written = list(model.generate(ids[:5], 4))
    for i, token in enumerate(written):
        assert token == model.logits([*ids[:5], *written[:i]])[-1].argmax()


def test_weights_that_do_not_fit() -> None:
    good = {name: np.zeros(shape, np.float32) for name, shape in TINY.tensors.items()}
    with pytest.raises(MissingTensor, match=r"blk\.1\.attn_k\.weight"):
        LLaMAModel(TINY, {k: v for k, v in good.items() if k != "blk.1.attn_k.weight"})
    with pytest.raises(TensorShapeMismatch, match=r"\(16, 32\), found \(32, 32\)"):
        LLaMAModel(TINY, good | {"blk.0.attn_v.weight": np.zeros((32, 32))})
    with pytest.raises(BadTensor, match=r"blk\.2"):
        LLaMAModel(TINY, good | {"blk.2.attn_v.weight": np.zeros((16, 32))})
    with pytest.raises(OutOfMemory) as caught:
        LLaMAModel(ModelConfig.preset("llama-65b", n_layer=4000))
    assert caught.value.need > 10**13
    with pytest.raises(InvalidArgument, match="no token"):
        LLaMAModel(TINY, good).logits([])


def test_the_cache_has_an_end() -> None:
    model = LLaMAModel(TINY, seed=1)
    cache = model.cache(65)
    model.logits([1] * 60, cache)
    with pytest.raises(ContextOverflow) as caught:
        model.logits([1] * 6, cache)
    assert (caught.value.need, caught.value.have) == (66, 65)
    with pytest.raises(ShapeError, match="50"):
        model.logits([50], cache)
    assert cache.length == 60


# --- GGUFLoader.tensor ------------------------------------------------------------------------------------------------


def test_every_tensor_of_a_file_as_numbers(small_model: Callable[[str], Path]) -> None:
    with GGUFLoader(small_model("llama-mix")) as loader:
        for name, info in loader.reader.tensors.items():
            tensor = loader.tensor(name)
            assert (tensor.dtype, tensor.shape) == ("f32", info.shape)
            blocks = loader.reader.tensor_bytes(name).reshape(-1, info.type.block_bytes)
            np.testing.assert_array_equal(tensor.array.reshape(-1), zl.dequantize(blocks, info.type.name).reshape(-1))
        tensor[0] = 5.0  # its own memory: the file is mapped for reading only
        with pytest.raises(MissingTensor, match="no_such"):
            loader.tensor("no_such.weight")
