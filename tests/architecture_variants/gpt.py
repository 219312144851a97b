"""The GPT family: GPT-2, StarCoder 1 and 2, GPT-J, GPT-NeoX, BLOOM and Falcon."""

from __future__ import annotations

from typing import Any

from architecture_variants import Variant
from architecture_variants.llama import BASE

GPT2 = {"vocab_size": 300, "n_positions": 320, "n_embd": 256, "n_layer": 2, "n_head": 4}
NEOX = {k: v for k, v in BASE.items() if k not in ("num_key_value_heads", "rms_norm_eps")} | {"layer_norm_eps": 1e-5}
STARCODER2 = {k: v for k, v in BASE.items() if k != "rms_norm_eps"} | {"norm_epsilon": 1e-5}
BLOOM = {"vocab_size": 300, "hidden_size": 256, "n_layer": 2, "n_head": 4}
FALCON = {"vocab_size": 300, "hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4, "alibi": False}
NEW = {"new_decoder_architecture": True, "num_kv_heads": 2}
SMALL = {r"word_embeddings_layernorm\.weight": (0.3, 0.1)}  # or the last token would always be the next one too


def neox(**rope: Any) -> dict[str, Any]:
    """GPT-NeoX with these rope parameters."""
    return NEOX | {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0} | rope}


VARIANTS = {
    "gpt2": Variant("GPT2LMHeadModel", GPT2),
    "starcoder": Variant("GPTBigCodeForCausalLM", GPT2 | {"multi_query": True}),
    "starcoder-heads": Variant("GPTBigCodeForCausalLM", GPT2 | {"multi_query": False}),
    "starcoder2": Variant("Starcoder2ForCausalLM", STARCODER2 | {"sliding_window": None, "tie_word_embeddings": True}),
    "starcoder2-window": Variant(
        "Starcoder2ForCausalLM",
        STARCODER2 | {"sliding_window": 29, "tie_word_embeddings": False},
        peer="llama.cpp runs StarCoder 2 without its window",
    ),
    "gptj": Variant("GPTJForCausalLM", GPT2 | {"rotary_dim": 24}, peer="llama.cpp has no GPT-J"),
    "gptneox": Variant("GPTNeoXForCausalLM", neox(partial_rotary_factor=0.25)),
    "gptneox-sequential": Variant(
        "GPTNeoXForCausalLM", neox(partial_rotary_factor=1.0) | {"use_parallel_residual": False}
    ),
    "gptneox-20b": Variant("GPTNeoXForCausalLM", neox(partial_rotary_factor=0.25) | {"hidden_act": "gelu_fast"}),
    "bloom": Variant("BloomForCausalLM", BLOOM, ranges=SMALL),
    "bloom-12-heads": Variant("BloomForCausalLM", BLOOM | {"hidden_size": 768, "n_head": 12}, ranges=SMALL),
    "falcon-7b": Variant("FalconForCausalLM", FALCON | {"multi_query": True}),
    "falcon-40b": Variant("FalconForCausalLM", FALCON | NEW | {"tie_word_embeddings": False}),
    "falcon-11b": Variant("FalconForCausalLM", FALCON | NEW | {"num_ln_in_parallel_attn": 1}),
}
