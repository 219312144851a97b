"""Folders of Phi's classes -> phi2 (Phi-1, Phi-1.5 and Phi-2) and phi3 (Phi-3 and Phi-4)."""

from __future__ import annotations

from typing import Any

from zigllama.models.conversion.checkpoint import Config
from zigllama.models.conversion.recipes import Conversion, Recipe, register
from zigllama.models.conversion.rope import rope_keys, rope_tensors
from zigllama.models.conversion.tables import BOTH, activation, expect, head, head_dim, n_layer, named, sizes, window

W = ("weight",)


def metadata2(config: Config) -> dict[str, Any]:
    """Phi-2."""
    activation(config, "hidden_act", "gelu_tanh")
    expect(config, "qk_layernorm", False)
    return sizes(config, layer_norm=True) | rope_keys(config, head_dim(config))


def tensors2(config: Config) -> dict[str, Recipe]:
    """Biases everywhere."""
    out = named("", "model.", {"token_embd": "embed_tokens"}, W)
    out |= named("", "model.", {"output_norm": "final_layernorm"})
    for i in range(n_layer(config)):
        out |= named(f"blk.{i}.", f"model.layers.{i}.", BLOCK2)
    return out | head(config, False, kinds=BOTH)


BLOCK2 = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.dense",
    "ffn_up": "mlp.fc1",
    "ffn_down": "mlp.fc2",
}


def metadata3(config: Config) -> dict[str, Any]:
    """Phi-3."""
    activation(config, "hidden_act", "silu")
    return sizes(config) | rope_keys(config, head_dim(config), divisors=True) | window(config)


def tensors3(config: Config) -> dict[str, Recipe]:
    """q, k and v in one matrix, gate and up in one; the divisors of LongRoPE."""
    out = named("", "model.", {"token_embd": "embed_tokens", "output_norm": "norm"}, W) | head(config, False)
    for i in range(n_layer(config)):
        out |= named(f"blk.{i}.", f"model.layers.{i}.", BLOCK3, W)
    return out | rope_tensors(config, head_dim(config))


BLOCK3 = {
    "attn_norm": "input_layernorm",
    "attn_qkv": "self_attn.qkv_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_up": "mlp.gate_up_proj",
    "ffn_down": "mlp.down_proj",
}

IGNORED = (r"\.rotary_emb\.inv_freq$", r"^lm_head\.weight$")  # a tied head, written out: it is the embedding
PHI2 = Conversion("phi2", metadata2, tensors2, IGNORED[:1], ("model.",), defaults={"partial_rotary_factor": 0.5})
register("PhiForCausalLM", PHI2)
PHI3 = Conversion("phi3", metadata3, tensors3, IGNORED, ("model.",), defaults={"rms_norm_eps": 1e-5})
register("Phi3ForCausalLM", PHI3)
