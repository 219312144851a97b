"""Folders of LLaMA's and Mistral's classes -> the architecture `llama`.

The folder rotates q and k half-split, the file interleaved: their rows are permuted, biases too.
"""

from __future__ import annotations

from typing import Any

from zigllama.models.conversion.checkpoint import Config
from zigllama.models.conversion.recipes import (
    Conversion,
    Recipe,
    decoder_metadata,
    permuted,
    register,
    take,
)
from zigllama.models.conversion.rope import rope_keys, rope_tensors
from zigllama.models.conversion.tables import activation, head_dim, window


def metadata(config: Config) -> dict[str, Any]:
    """LLaMA's keys. Its class has no window, whatever a config says that was another class's before."""
    activation(config, "hidden_act", "silu")
    keys = decoder_metadata(config)
    keys["attention.layer_norm_rms_epsilon"] = config.float("rms_norm_eps", default=1e-6)
    return keys | rope_keys(config, head_dim(config), divisors=True)


def windowed(config: Config) -> dict[str, Any]:
    """Mistral's: a window where the config has one."""
    return metadata(config) | window(config)


def tensors(config: Config) -> dict[str, Recipe]:
    """Biases, where attention_bias and mlp_bias say so; `lm_head` unless it is tied."""
    heads = config.int("num_attention_heads", low=1)
    kv_heads = config.int("num_key_value_heads", default=heads, low=1)
    out = {"token_embd.weight": take("model.embed_tokens.weight"), "output_norm.weight": take("model.norm.weight")}
    if not config.bool("tie_word_embeddings", default=False):
        out["output.weight"] = take("lm_head.weight")
    out |= rope_tensors(config, head_dim(config))
    attn = ("weight", "bias") if config.bool("attention_bias", default=False) else ("weight",)
    mlp = ("weight", "bias") if config.bool("mlp_bias", default=False) else ("weight",)
    for i in range(config.layers("num_hidden_layers")):
        a, m, p = f"model.layers.{i}.self_attn.", f"model.layers.{i}.mlp.", f"blk.{i}."
        out[p + "attn_norm.weight"] = take(f"model.layers.{i}.input_layernorm.weight")
        for kind in attn:
            out[f"{p}attn_q.{kind}"] = permuted(f"{a}q_proj.{kind}", heads)
            out[f"{p}attn_k.{kind}"] = permuted(f"{a}k_proj.{kind}", kv_heads)
            out[f"{p}attn_v.{kind}"] = take(f"{a}v_proj.{kind}")
            out[f"{p}attn_output.{kind}"] = take(f"{a}o_proj.{kind}")
        out[p + "ffn_norm.weight"] = take(f"model.layers.{i}.post_attention_layernorm.weight")
        for kind in mlp:
            for name in ("gate", "up", "down"):
                out[f"{p}ffn_{name}.{kind}"] = take(f"{m}{name}_proj.{kind}")
    return out


IGNORED = (r"\.rotary_emb\.inv_freq$", r"^lm_head\.weight$")  # a tied head, written out: it is the embedding
register("LlamaForCausalLM", Conversion("llama", metadata, tensors, IGNORED, ("model.",)))
MISTRAL = Conversion("llama", windowed, tensors, IGNORED, ("model.",), defaults={"sliding_window": 4096})
register("MistralForCausalLM", MISTRAL)
