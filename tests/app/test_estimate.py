"""`estimate`: the parts are the file's own bytes and the published sizes of LLaMA, and what cannot be is refused."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_models

import zigllama as zl
from zigllama.app.estimate import Estimate, estimate_tensors, tensor_infos
from zigllama.app.main import main
from zigllama.errors import BadMetadata, ContextOverflow, InvalidArgument, NotGGUF, ShapeError
from zigllama.foundation.ggml_types import row_bytes, type_by_name
from zigllama.foundation.gguf_format import GGUFReader, TensorInfo
from zigllama.foundation.tape import record
from zigllama.inference.engine import CHUNK
from zigllama.inference.kv_cache import ModelKVCache
from zigllama.models import registry
from zigllama.models.config import HyperParameters
from zigllama.models.gguf import GGUFLoader
from zigllama.models.model_config import ModelConfig
from zigllama.models.parameters import part_of
from zigllama.neural_primitives.fusion import FUSIONS


def llama(name: str, type_name: str) -> tuple[dict[str, Any], list[TensorInfo]]:
    """Metadata and tensor list of a LLaMA with every matrix in one type."""
    config = ModelConfig.preset(f"llama-{name.lower()}")
    return config.metadata(), tensor_infos(config, type_name)


@pytest.mark.parametrize(
    ("name", "billions", "cache_gb"), [("7B", 6.7, 1.07), ("13B", 13.0, 1.68), ("30B", 32.5, 3.27), ("65B", 65.2, 5.37)]
)
def test_llamas_memory_is_what_arithmetic_gives(name: str, billions: float, cache_gb: float) -> None:
    by_type = {kind: estimate_tensors(*llama(name, kind)) for kind in ("F32", "F16", "Q8_0", "Q4_0")}
    n_params = by_type["F32"].n_params
    assert n_params / 1e9 == pytest.approx(billions, abs=0.09)
    # Norms stay in float32: 2 * n_layer + 1 rows of n_embd, a fiftieth of a percent.
    for kind, bytes_per_weight in {"F32": 4, "F16": 2, "Q8_0": 34 / 32, "Q4_0": 18 / 32}.items():
        assert by_type[kind].weights == pytest.approx(n_params * bytes_per_weight, rel=3e-4)
    assert by_type["F16"]["KV cache"] / 1e9 == pytest.approx(cache_gb, abs=0.005)
    assert estimate_tensors(*llama(name, "F16"), cache_type="f32")["KV cache"] == 2 * by_type["F16"]["KV cache"]


def test_the_parts_of_7b_in_q4_0() -> None:
    e = estimate_tensors(*llama("7B", "Q4_0"))
    assert e["embedding"] == e["output"] == 32_000 * 4096 * 18 // 32
    assert e["attention"] == 32 * 4 * 4096 * 4096 * 18 // 32
    assert e["feed-forward"] == 32 * 3 * 4096 * 11008 * 18 // 32
    assert e["norms"] == 65 * 4096 * 4
    assert e["other"] == e["state space"] == 0
    assert e["KV cache"] == 2048 * 32 * 2 * 4096 * 2
    assert e.total == sum(p.n_bytes for p in e.parts)


@pytest.mark.parametrize("name", ["llama-f32", "llama-mix", "gemma3-f32", "gemma3-mix"])
def test_every_byte_of_a_file_is_in_a_part(name: str, tmp_path: Path) -> None:
    path = small_models.build(name, tmp_path)
    e = zl.estimate(path, n_ctx=100)
    with GGUFReader(path) as reader:
        assert e.weights == sum(t.n_bytes for t in reader.tensors.values())
        assert e.n_params == sum(math.prod(t.shape) for t in reader.tensors.values())
    shape = small_models.MODELS[name]
    assert e["other"] == 0
    assert (e["output"] == 0) == shape.tied
    assert ("serves as the output" in str(e)) == shape.tied


def test_the_cache_is_counted_in_pages() -> None:
    metadata = {
        "general.architecture": "x",
        "x.block_count": 6,
        "x.context_length": 4096,
        "x.embedding_length": 512,
        "x.attention.head_count": 8,
        "x.attention.head_count_kv": 2,
        "x.attention.key_length": 96,
        "x.attention.value_length": 32,
    }
    per_position = 2 * (96 + 32) * 2
    assert estimate_tensors(metadata, [], 1)["KV cache"] == 6 * 64 * per_position
    assert estimate_tensors(metadata, [], 65)["KV cache"] == 6 * 128 * per_position
    # A list of key/value heads, one per layer: 0 heads, no cache.
    mixed = metadata | {"x.attention.head_count_kv": [2, 0, 2, 0, 0, 0]}
    assert estimate_tensors(mixed, [], 64)["KV cache"] == 2 * 64 * per_position


def info(name: str, *shape: int, kind: str = "F32") -> TensorInfo:
    k = type_by_name(kind)
    return TensorInfo(name, shape, k, 0, math.prod(shape[:-1]) * row_bytes(k, shape[-1]))


def test_experts_of_which_a_token_reads_a_few() -> None:
    metadata = {
        "general.architecture": "x",
        "x.block_count": 1,
        "x.context_length": 512,
        "x.embedding_length": 64,
        "x.attention.head_count": 4,
        "x.attention.head_count_kv": 1,
        "x.feed_forward_length": 128,
        "x.expert_count": 8,
        "x.expert_used_count": 2,
        "x.expert_feed_forward_length": 32,
        "x.expert_shared_feed_forward_length": 48,
    }
    experts = [info(f"blk.0.ffn_{part}_exps.weight", 8, 32, 64, kind="Q8_0") for part in ("gate", "up")]
    experts.append(info("blk.0.ffn_down_exps.weight", 8, 64, 32, kind="Q8_0"))
    shared = [info("blk.0.ffn_gate_inp.weight", 8, 64), info("blk.0.ffn_up_shexp.weight", 48, 64)]
    e = estimate_tensors(metadata, [*experts, *shared])
    stacked, rest = 3 * 8 * 32 * 64 * 34 // 32, 4 * 64 * (8 + 48)
    assert e["feed-forward"] == stacked + rest
    note = next(p.note for p in e.parts if p.name == "feed-forward")
    assert note == f"2 of 8 experts a token: {(stacked / 4 + rest) / 1000:.1f} kB are read"
    # a row has gate and up of its two experts and of the shared one at once, no dense 128
    assert e["activations"] == 4 * 512 * (2 * 64 + 2 * (2 * 32 + 48))
    dense = {k: v for k, v in metadata.items() if "expert" not in k}
    assert estimate_tensors(dense, shared)["activations"] == 4 * 512 * (2 * 64 + 2 * 128)


def test_a_state_does_not_grow_with_the_context() -> None:
    metadata = {
        "general.architecture": "x",
        "x.block_count": 3,
        "x.context_length": 1 << 20,
        "x.embedding_length": 64,
        "x.ssm.inner_size": 128,
        "x.ssm.state_size": 16,
        "x.ssm.conv_kernel": 4,
        "x.ssm.time_step_rank": 4,
    }
    e = estimate_tensors(metadata, [info("blk.0.ssm_in.weight", 256, 64)], 1 << 20)
    assert e["KV cache"] == 0
    state = 3 * 4 * (128 * 16 + 3 * 128)
    assert e["state"] == estimate_tensors(metadata, [], 512 + 64)["state"] == 10 * state
    assert estimate_tensors(metadata, [], 64)["state"] == 2 * state
    assert e["state space"] == 4 * 256 * 64
    assert e.weights + e["state"] + e["activations"] == e.total
    second = metadata | {"x.ssm.group_count": 2, "x.attention.head_count": 0}
    assert estimate_tensors(second, [], 64)["state"] == 2 * 3 * 4 * (128 * 16 + 3 * (128 + 2 * 2 * 16))


@pytest.mark.parametrize("architecture", ["mamba", "mamba2"])
@pytest.mark.parametrize("n_ctx", [1, 100, 5000])
def test_the_states_are_as_large_as_the_engine_makes_them(architecture: str, n_ctx: int) -> None:
    own = {
        "block_count": 3,
        "context_length": 8192,
        "embedding_length": 64,
        "ssm.inner_size": 128,
        "ssm.state_size": 16,
        "ssm.conv_kernel": 4,
        "ssm.time_step_rank": 4,
    }
    own |= {"ssm.group_count": 2} if architecture == "mamba2" else {}
    metadata = {"general.architecture": architecture} | {f"{architecture}.{k}": v for k, v in own.items()}
    spec = registry.architecture(architecture).spec(HyperParameters(metadata), 100).cache_spec()
    cache = ModelKVCache(spec, n_ctx, chunk=CHUNK)
    (states,) = cache.classes
    assert estimate_tensors(metadata, [], n_ctx)["state"] == states.pages_for(n_ctx) * states.page_bytes


def test_learned_positions_end() -> None:
    metadata, tensors = llama("7B", "F16")
    tensors.append(info("position_embd.weight", 1024, 4096))
    assert estimate_tensors(metadata, tensors, 1024)["embedding"] == 32_000 * 4096 * 2 + 1024 * 4096 * 4
    with pytest.raises(ContextOverflow, match="1025 positions are needed, the context has 1024"):
        estimate_tensors(metadata, tensors, 1025)


@pytest.mark.parametrize("name", ["llama-mix", "gemma3-mix"])
@pytest.mark.parametrize("cache_type", ["f16", "f32", "q8_0"])
@pytest.mark.parametrize("n_ctx", [1, 64, 100, 1000])
def test_the_cache_is_as_large_as_the_engine_makes_it(name: str, cache_type: str, n_ctx: int, tmp_path: Path) -> None:
    path = small_models.build(name, tmp_path)
    with GGUFLoader(path) as loader:
        cache = ModelKVCache(loader.spec.cache_spec(), n_ctx, type_name=cache_type.upper())
    assert zl.estimate(path, n_ctx, cache_type)["KV cache"] == sum(c.pages.n_bytes for c in cache.classes)


def test_activations_are_about_what_the_tape_plans(smollm2_path: Path, gemma3_path: Path) -> None:
    for path in (smollm2_path, gemma3_path):
        with zl.Model(path, n_ctx=1024, n_threads=1, repack=False) as model:
            tape = record(partial(model.decoder.forward, cache=model.engine.cache), FUSIONS)
            n_vocab = model.info.n_vocab
        ends = (tape.offsets[v.slot] + v.cols for row in tape.ops for v in row.outs if v.cols != n_vocab)
        planned = 4 * (CHUNK * max(ends) + n_vocab)  # of the logits one row is touched
        assert zl.estimate(path, 1024)["activations"] == pytest.approx(planned, rel=0.2)


@pytest.mark.parametrize(
    ("tensor", "part"),
    [
        ("token_embd.weight", "embedding"),
        ("token_embd_norm.weight", "norms"),
        ("position_embd.weight", "embedding"),
        ("output.weight", "output"),
        ("output.bias", "output"),
        ("output_norm.weight", "norms"),
        ("blk.3.attn_qkv.bias", "attention"),
        ("blk.3.attn_k_norm.weight", "norms"),
        ("blk.3.post_ffw_norm.weight", "norms"),
        ("blk.12.ffn_gate_exps.weight", "feed-forward"),
        ("blk.0.ssm_in.weight", "state space"),
        ("rope_freqs.weight", "other"),
    ],
)
def test_parts_by_name(tensor: str, part: str) -> None:
    assert part_of(tensor) == part


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"general.architecture": None}, "general.architecture"),
        ({"llama.block_count": None}, "llama.block_count"),
        ({"llama.block_count": 1 << 31}, "llama.block_count"),
        ({"llama.block_count": 1_000_000}, "llama.block_count"),
        ({"llama.embedding_length": "wide"}, "llama.embedding_length"),
        ({"llama.attention.head_count_kv": [1, 2, 3]}, "llama.attention.head_count_kv"),
        ({"llama.attention.head_count_kv": [8] * 31 + [-8]}, "llama.attention.head_count_kv"),
        ({"llama.attention.head_count_kv": ["8"] * 31 + ["many"]}, "llama.attention.head_count_kv"),
        ({"llama.attention.head_count": np.full(32, np.nan)}, "llama.attention.head_count"),
        ({"llama.context_length": -1}, "llama.context_length"),
    ],
)
def test_bad_metadata(change: dict[str, Any], key: str) -> None:
    metadata, tensors = llama("7B", "Q4_0")
    metadata = {k: v for k, v in (metadata | change).items() if v is not None}
    with pytest.raises(BadMetadata) as caught:
        estimate_tensors(metadata, tensors)
    assert caught.value.key == key


def test_bad_arguments(tmp_path: Path) -> None:
    metadata, tensors = llama("7B", "Q4_0")
    with pytest.raises(InvalidArgument, match="n_ctx is 0"):
        estimate_tensors(metadata, tensors, 0)
    with pytest.raises(InvalidArgument, match="'f8'"):
        estimate_tensors(metadata, tensors, cache_type="f8")
    heads = {"llama.attention.key_length": 80, "llama.attention.value_length": 80}
    with pytest.raises(ShapeError, match="blocks of 32 channels, its heads have 80 and 80"):
        estimate_tensors(metadata | heads, tensors, cache_type="q8_0")
    (tmp_path / "no.gguf").write_bytes(b"not a model at all")
    with pytest.raises(NotGGUF):
        zl.estimate(tmp_path / "no.gguf")
    with pytest.raises(KeyError):
        Estimate((), "x", 0, 1, "f16")["attention"]


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(small_models.build("gemma3-mix", tmp_path))
    assert main(["estimate", path, "-c", "512"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "context 512" in out
    assert "comfortable" in out
    assert main(["estimate", "-m", path, "-c", "512", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["total"] == zl.estimate(path, 512).total
    assert told["available"] > 0
    assert main(["estimate", path, "-c", "-3"]) == 2
    assert main(["estimate", path, "-ctk", "q3"]) == 2


def test_real_models(smollm2_path: Path, gemma3_path: Path) -> None:
    smollm2 = zl.estimate(smollm2_path, n_ctx=2048)
    assert smollm2["KV cache"] == 30 * 2048 * 3 * 2 * 64 * 2
    assert smollm2["embedding"] == 30_081_024
    assert smollm2.n_params == 134_515_008
    gemma = zl.estimate(gemma3_path, n_ctx=2048)
    assert gemma["embedding"] == 178_257_920
    assert gemma.weights < gemma3_path.stat().st_size < gemma.total
