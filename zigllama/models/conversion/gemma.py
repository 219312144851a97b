"""Folders of Gemma's classes -> gemma, gemma2, gemma3. Norms multiply with 1 + weight there: the file has the sum."""

from __future__ import annotations

from typing import Any

from zigllama.errors import BadCheckpoint
from zigllama.models.conversion.checkpoint import Config
from zigllama.models.conversion.recipes import Conversion, Recipe, plus_one, register, rope_parameters
from zigllama.models.conversion.rope import rope_keys
from zigllama.models.conversion.tables import activation, expect, head, head_dim, n_layer, named, sizes, window

PRODUCTS = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
NORMS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
NORMS2 = {
    "attn_norm": "input_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
NORMS3 = NORMS2 | {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}


def metadata(config: Config) -> dict[str, Any]:
    """Gemma 1."""
    activation(config, "hidden_activation", "gelu_tanh")  # it counts; hidden_act says "gelu" in old configs
    activation(config, "hidden_act", "gelu_tanh", "gelu")
    for key in ("attention_bias", "use_bidirectional_attention"):
        expect(config, key, False)
    lengths = {"attention.key_length": head_dim(config), "attention.value_length": head_dim(config)}
    return sizes(config) | lengths | rope_keys(config, head_dim(config), "full_attention")


def metadata2(config: Config) -> dict[str, Any]:
    """Gemma 2: caps, windows, and what q . k is divided by where that is not the head's size."""
    caps = {name: config.float(name) for name in ("attn_logit_softcapping", "final_logit_softcapping")}
    return metadata(config) | caps | window(config, config.get("layer_types") is not None) | _scale(config)


def metadata3(config: Config) -> dict[str, Any]:
    """Gemma 3: windows, and another base for the layers that have one."""
    for key in ("attn_logit_softcapping", "final_logit_softcapping"):
        expect(config, key)
    base = rope_parameters(config, "sliding_attention").float("rope_theta", default=10000.0)
    if config.get("rope_parameters") is None:
        base = config.float("rope_local_base_freq", default=10000.0)
    windows = window(config, config.get("layer_types") is not None)
    if windows and config.get("layer_types") is None:  # older configs: every p-th layer sees everything
        windows["attention.sliding_window_pattern"] = config.int("sliding_window_pattern", default=6, low=1)
    return metadata(config) | windows | {"rope.freq_base_swa": base} | _scale(config)


def _scale(config: Config) -> dict[str, Any]:
    divisor = config.float("query_pre_attn_scalar", default=float(head_dim(config)))
    if divisor <= 0:
        raise BadCheckpoint(config.path, f"query_pre_attn_scalar: {divisor} is not above 0")
    return {} if divisor == head_dim(config) else {"attention.scale": divisor**-0.5}


def _tensors(norms: dict[str, str]) -> Any:
    def tensors(config: Config) -> dict[str, Recipe]:
        out = named("", "model.", {"token_embd": "embed_tokens"}, ("weight",)) | head(config, True)
        out["output_norm.weight"] = plus_one("model.norm.weight")
        for i in range(n_layer(config)):
            new, old = f"blk.{i}.", f"model.layers.{i}."
            out |= named(new, old, PRODUCTS, ("weight",))
            out |= {f"{new}{a}.weight": plus_one(f"{old}{b}.weight") for a, b in norms.items()}
        return out

    return tensors


IGNORED = (r"\.rotary_emb\.inv_freq$", r"^lm_head\.weight$")  # a tied head, written out: it is the embedding
DEFAULTS: dict[str, Any] = {"head_dim": 256}
SCALED = DEFAULTS | {"query_pre_attn_scalar": 256, "sliding_window": 4096}
DEFAULTS2 = SCALED | {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}
DEFAULTS3 = SCALED | {"rope_theta": 1e6}
register("GemmaForCausalLM", Conversion("gemma", metadata, _tensors(NORMS), IGNORED, ("model.",), defaults=DEFAULTS))
register(
    "Gemma2ForCausalLM", Conversion("gemma2", metadata2, _tensors(NORMS2), IGNORED, ("model.",), defaults=DEFAULTS2)
)
register(
    "Gemma3ForCausalLM", Conversion("gemma3", metadata3, _tensors(NORMS3), IGNORED, ("model.",), defaults=DEFAULTS3)
)
