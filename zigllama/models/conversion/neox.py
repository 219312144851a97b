"""Folders of GPT-NeoX, BLOOM and Falcon -> gptneox, bloom, falcon: q, k and v are one matrix, head by head in the
folder, one after the other in the file."""

from __future__ import annotations

from typing import Any

from zigllama.models.conversion.checkpoint import Config
from zigllama.models.conversion.recipes import Conversion, Recipe, register
from zigllama.models.conversion.rope import rope_keys
from zigllama.models.conversion.tables import (
    BOTH,
    HEADS,
    activation,
    expect,
    head,
    head_dim,
    n_layer,
    named,
    sizes,
    sorted_qkv,
)

W = ("weight",)
IGNORED = (r"\.attention\.(masked_)?bias$", r"\.inv_freq$")


def gptneox(config: Config) -> dict[str, Any]:
    """Pythia, whose GELU is exact, and GPT-NeoX 20B, whose is not ("gelu_fast"): the file says so by llama.cpp's key of
    other architectures, since there it has the tanh form in any case."""
    expect(config, "attention_bias", True)
    parallel = {"use_parallel_residual": config.bool("use_parallel_residual", default=True)}
    keys = sizes(config, layer_norm=True) | parallel | rope_keys(config, head_dim(config))
    tanh = activation(config, "hidden_act", "gelu", "gelu_tanh") == "gelu_tanh"
    return keys | ({"hidden_activation": "gelu_pytorch_tanh"} if tanh else {})


def gptneox_tensors(config: Config) -> dict[str, Recipe]:
    """Biases everywhere but at the output."""
    heads = config.int(*HEADS, low=1)
    out = named("", "gpt_neox.", {"token_embd": "embed_in"}, W) | head(config, False, "embed_out")
    out |= named("", "gpt_neox.", {"output_norm": "final_layer_norm"})
    for i in range(n_layer(config)):
        new, old = f"blk.{i}.", f"gpt_neox.layers.{i}."
        out |= named(new, old, NEOX)
        for kind in BOTH:
            out[f"{new}attn_qkv.{kind}"] = sorted_qkv(f"{old}attention.query_key_value.{kind}", heads, heads)
    return out


NEOX = {
    "attn_norm": "input_layernorm",
    "attn_output": "attention.dense",
    "ffn_norm": "post_attention_layernorm",
    "ffn_up": "mlp.dense_h_to_4h",
    "ffn_down": "mlp.dense_4h_to_h",
}
BLOOM = NEOX | {"attn_output": "self_attention.dense"}


def bloom(config: Config) -> dict[str, Any]:
    """BLOOM; trained with 2,048 positions where the config is silent."""
    for key in ("apply_residual_connection_post_layernorm", "slow_but_exact"):
        expect(config, key, False)
    return sizes(config, layer_norm=True, context=2048)


def bloom_tensors(config: Config) -> dict[str, Recipe]:
    """Biases everywhere but at the output, which is the embedding."""
    heads = config.int(*HEADS, low=1)
    out = named("", "transformer.", {"token_embd": "word_embeddings"}, W) | head(config, True)
    out |= named("", "transformer.", {"token_embd_norm": "word_embeddings_layernorm", "output_norm": "ln_f"})
    for i in range(n_layer(config)):
        new, old = f"blk.{i}.", f"transformer.h.{i}."
        out |= named(new, old, BLOOM)
        for kind in BOTH:
            out[f"{new}attn_qkv.{kind}"] = sorted_qkv(f"{old}self_attention.query_key_value.{kind}", heads, heads)
    return out


def _falcon(config: Config) -> tuple[int, int, bool]:
    """Heads, key/value heads, and whether attention has a norm of its own."""
    heads = config.int(*HEADS, low=1)
    if not config.bool("new_decoder_architecture", default=False):
        return heads, 1 if config.bool("multi_query", default=True) else heads, False
    norms = config.int("num_ln_in_parallel_attn", default=2)
    return heads, config.int("num_kv_heads", "n_head_kv", default=heads, low=1), norms == 2


def falcon(config: Config) -> dict[str, Any]:
    """Falcon, but falcon-rw: GGUF's falcon has no ALiBi, no sequential block and no biases."""
    expect(config, "alibi", False)
    expect(config, "bias", False)
    expect(config, "parallel_attn", True)
    activation(config, "activation", "gelu")
    return sizes(config, _falcon(config)[1], layer_norm=True, context=2048) | rope_keys(config, head_dim(config))


def falcon_tensors(config: Config) -> dict[str, Recipe]:
    """No biases; ln_mlp is attn_norm and ln_attn is attn_norm_2."""
    heads, kv_heads, two = _falcon(config)
    out = named("", "transformer.", {"token_embd": "word_embeddings"}, W) | head(config, True)
    out |= named("", "transformer.", {"output_norm": "ln_f"})
    norms = {"attn_norm": "ln_mlp", "attn_norm_2": "ln_attn"} if two else {"attn_norm": "input_layernorm"}
    for i in range(n_layer(config)):
        new, old = f"blk.{i}.", f"transformer.h.{i}."
        out |= named(new, old, norms)
        out |= named(new, old, {k: v for k, v in BLOOM.items() if "norm" not in k}, W)
        out[f"{new}attn_qkv.weight"] = sorted_qkv(f"{old}self_attention.query_key_value.weight", heads, kv_heads)
    return out


TIED = (*IGNORED, r"^lm_head\.weight$")  # a tied head, written out: it is the embedding
OTHER = {"embed_out.weight": "lm_head.weight"}  # as transformers 5 calls it in memory
NEOX_DEFAULTS = {"rotary_pct": 0.25}
register(
    "GPTNeoXForCausalLM",
    Conversion("gptneox", gptneox, gptneox_tensors, IGNORED, ("gpt_neox.",), OTHER, defaults=NEOX_DEFAULTS),
)
register("BloomForCausalLM", Conversion("bloom", bloom, bloom_tensors, TIED, ("transformer.",)))
register("FalconForCausalLM", Conversion("falcon", falcon, falcon_tensors, TIED, ("transformer.",)))
