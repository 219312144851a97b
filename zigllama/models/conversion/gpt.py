"""Folders of the GPT family -> gpt2, gptj, gptneox, starcoder, starcoder2."""

from __future__ import annotations

from typing import Any

from zigllama.models.conversion.checkpoint import Config
from zigllama.models.conversion.recipes import Conversion, Recipe, register, transposed
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
    window,
)

W = ("weight",)
# masks that old classes saved as tensors; a tied head, written out
MASKS, TIED = (r"\.attn\.(masked_)?bias$", r"\.attention\.(masked_)?bias$", r"\.inv_freq$"), (r"^lm_head\.weight$",)


# --- GPT-2 and StarCoder ----------------------------------------------------------------------------------------------

NORMS = {"attn_norm": "ln_1", "ffn_norm": "ln_2"}
PRODUCTS = {"attn_qkv": "attn.c_attn", "attn_output": "attn.c_proj", "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"}


def _gpt2_keys(config: Config, kv_heads: int | None) -> dict[str, Any]:
    activation(config, "activation_function", "gelu_tanh")
    expect(config, "scale_attn_weights", True)
    for key in ("scale_attn_by_inverse_layer_idx", "add_cross_attention"):
        expect(config, key, False)
    return sizes(config, kv_heads, layer_norm=True)


def _gpt2_outside(config: Config) -> dict[str, Recipe]:
    out = named("", "transformer.", {"token_embd": "wte", "position_embd": "wpe"}, W) | head(config, True)
    return out | named("", "transformer.", {"output_norm": "ln_f"})


def gpt2(config: Config) -> dict[str, Any]:
    """GPT-2."""
    return _gpt2_keys(config, None)


def gpt2_tensors(config: Config) -> dict[str, Recipe]:
    """Matrices are (in, out) in the folder."""
    out = _gpt2_outside(config)
    for i in range(n_layer(config)):
        new, old = f"blk.{i}.", f"transformer.h.{i}."
        out |= named(new, old, NORMS) | named(new, old, PRODUCTS, ("bias",))
        out |= {f"{new}{a}.weight": transposed(f"{old}{b}.weight") for a, b in PRODUCTS.items()}
    return out


def starcoder(config: Config) -> dict[str, Any]:
    """StarCoder, with one key/value head, or with as many as there are query heads."""
    return _gpt2_keys(config, _kv_heads(config))


def _kv_heads(config: Config) -> int:
    return 1 if config.bool("multi_query", default=True) else config.int(*HEADS, low=1)


def starcoder_tensors(config: Config) -> dict[str, Recipe]:
    """With one key/value head q, k and v lie one after the other; otherwise head by head."""
    out, heads = _gpt2_outside(config), config.int(*HEADS, low=1)
    for i in range(n_layer(config)):
        new, old = f"blk.{i}.", f"transformer.h.{i}."
        out |= named(new, old, NORMS) | named(new, old, PRODUCTS)
        for kind in BOTH:
            out[f"{new}attn_qkv.{kind}"] = sorted_qkv(f"{old}attn.c_attn.{kind}", heads, _kv_heads(config))
    return out


register("GPT2LMHeadModel", Conversion("gpt2", gpt2, gpt2_tensors, MASKS + TIED, ("transformer.",)))
STARCODER = Conversion("starcoder", starcoder, starcoder_tensors, MASKS + TIED, ("transformer.",))
register("GPTBigCodeForCausalLM", STARCODER)


# --- StarCoder 2 ------------------------------------------------------------------------------------------------------

STARCODER2 = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_up": "mlp.c_fc",
    "ffn_down": "mlp.c_proj",
}


def starcoder2(config: Config) -> dict[str, Any]:
    """StarCoder 2."""
    activation(config, "hidden_act", "gelu_tanh")
    expect(config, "use_bias", True)
    return sizes(config, layer_norm=True) | rope_keys(config, head_dim(config)) | window(config)


def starcoder2_tensors(config: Config) -> dict[str, Recipe]:
    """Biases everywhere but at the output."""
    out = named("", "model.", {"token_embd": "embed_tokens"}, W) | named("", "model.", {"output_norm": "norm"})
    for i in range(n_layer(config)):
        out |= named(f"blk.{i}.", f"model.layers.{i}.", STARCODER2)
    return out | head(config, True)


register("Starcoder2ForCausalLM", Conversion("starcoder2", starcoder2, starcoder2_tensors, MASKS + TIED, ("model.",)))


# --- GPT-J ------------------------------------------------------------------------------------------------------------

GPTJ = {
    "attn_q": "attn.q_proj",
    "attn_k": "attn.k_proj",
    "attn_v": "attn.v_proj",
    "attn_output": "attn.out_proj",
}


def gptj(config: Config) -> dict[str, Any]:
    """GPT-J."""
    activation(config, "activation_function", "gelu_tanh")
    expect(config, "tie_word_embeddings", False)
    return sizes(config, layer_norm=True) | rope_keys(config, head_dim(config))


def gptj_tensors(config: Config) -> dict[str, Recipe]:
    """The folder rotates adjacent channels, as the file does."""
    out = named("", "transformer.", {"token_embd": "wte"}, W) | named("", "transformer.", {"output_norm": "ln_f"})
    for i in range(n_layer(config)):
        new, old = f"blk.{i}.", f"transformer.h.{i}."
        out |= named(new, old, GPTJ, W)
        out |= named(new, old, {"attn_norm": "ln_1", "ffn_up": "mlp.fc_in", "ffn_down": "mlp.fc_out"})
    return out | named("", "", {"output": "lm_head"})


GPTJ_DEFAULTS = {"rotary_dim": 64}
register("GPTJForCausalLM", Conversion("gptj", gptj, gptj_tensors, MASKS, ("transformer.",), defaults=GPTJ_DEFAULTS))
