"""Folders of Qwen's classes -> qwen, qwen2, qwen3. Both rotate half-split: nothing is permuted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zigllama.models.conversion.checkpoint import Config
from zigllama.models.conversion.recipes import Conversion, Recipe, register, take
from zigllama.models.conversion.rope import rope_keys
from zigllama.models.conversion.tables import activation, expect, head, head_dim, n_layer, named, sizes, window

W = ("weight",)
IGNORED = (r"\.rotary_emb\.inv_freq$", r"^lm_head\.weight$")  # a tied head, written out: it is the embedding


def metadata(config: Config) -> dict[str, Any]:
    """Qwen 2 and 3: older configs say from which layer on there is a window."""
    first = config.int("max_window_layers", default=28)
    return _metadata(config, lambda i: i >= first)


def _metadata(config: Config, windowed: Callable[[int], bool]) -> dict[str, Any]:
    """What all but Qwen 1 have. Windows count with use_sliding_window only; `windowed` says which layers have one where
    the config has no layer_types."""
    activation(config, "hidden_act", "silu")
    if not config.bool("use_sliding_window", default=False):
        config["sliding_window"] = None
    elif config.get("layer_types") is None:
        kinds = ("full_attention", "sliding_attention")
        config["layer_types"] = [kinds[windowed(i)] for i in range(n_layer(config))]
    return sizes(config) | rope_keys(config, head_dim(config)) | window(config, True)


def metadata2moe(config: Config) -> dict[str, Any]:
    """Qwen 2 with experts: every other layer has a window, the first one too, and only below max_window_layers."""
    first = config.int("max_window_layers", default=28)
    return _metadata(config, lambda i: i % 2 == 0 and i < first)


def metadata3moe(config: Config) -> dict[str, Any]:
    """Qwen 3 with experts: all layers have the window; its class knows neither layer_types nor max_window_layers."""
    config["layer_types"] = None
    return _metadata(config, lambda i: True)


def tensors(config: Config) -> dict[str, Recipe]:
    """Biases of q, k and v where the architecture has them, norms of q and k likewise: both by what the folder has."""
    out = named("", "model.", {"token_embd": "embed_tokens", "output_norm": "norm"}, W) | head(config, False)
    for i in range(n_layer(config)):
        new, old = f"blk.{i}.", f"model.layers.{i}."
        out |= named(new, old, BLOCK, W)
        out |= {f"{new}attn_{x}.bias": take(f"{old}self_attn.{x}_proj.bias", optional=True) for x in "qkv"}
        out |= {f"{new}attn_{x}_norm.weight": take(f"{old}self_attn.{x}_norm.weight", optional=True) for x in "qk"}
    return out


BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def metadata1(config: Config) -> dict[str, Any]:
    """Qwen 1. Dynamic NTK and the logarithm on queries act beyond seq_length only, which is the file's context."""
    expect(config, "no_bias", True)
    expect(config, "kv_channels", head_dim(config))
    context = config.int("seq_length", "max_position_embeddings", low=1, high=1 << 30)
    return sizes(config) | {"context_length": context} | rope_keys(config, head_dim(config))


def tensors1(config: Config) -> dict[str, Recipe]:
    """w1 is up, w2 the gate: the class multiplies w1's result with silu of w2's."""
    out = named("", "transformer.", {"token_embd": "wte", "output_norm": "ln_f"}, W) | head(config, False)
    for i in range(n_layer(config)):
        new, old = f"blk.{i}.", f"transformer.h.{i}."
        out |= named(new, old, BLOCK1, W) | named(new, old, {"attn_qkv": "attn.c_attn"})
    return out


BLOCK1 = {
    "attn_norm": "ln_1",
    "attn_output": "attn.c_proj",
    "ffn_norm": "ln_2",
    "ffn_gate": "mlp.w2",
    "ffn_up": "mlp.w1",
    "ffn_down": "mlp.c_proj",
}

WINDOW = {"sliding_window": 4096}  # where use_sliding_window says that there is one
register("Qwen2ForCausalLM", Conversion("qwen2", metadata, tensors, IGNORED, ("model.",), defaults=WINDOW))
DEFAULTS3 = WINDOW | {"head_dim": 128}
register("Qwen3ForCausalLM", Conversion("qwen3", metadata, tensors, IGNORED, ("model.",), defaults=DEFAULTS3))
register("QWenLMHeadModel", Conversion("qwen", metadata1, tensors1, IGNORED, ("transformer.",)))
