"""LLaMA as it is published and with the options of its config, and Mistral with its window."""

from __future__ import annotations

from typing import Any

from architecture_variants import Variant

BASE: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
}

VARIANTS = {
    "llama": Variant("LlamaForCausalLM", BASE | {"tie_word_embeddings": False, "rope_theta": 20000.0}),
    "llama-biases": Variant(
        "LlamaForCausalLM",
        BASE
        | {
            "attention_bias": True,
            "mlp_bias": True,
            "tie_word_embeddings": True,
            "head_dim": 48,
            "num_hidden_layers": 3,
        },
    ),
    "mistral": Variant(
        "MistralForCausalLM",
        BASE | {"sliding_window": 24, "tie_word_embeddings": False, "num_attention_heads": 8},
        peer="llama.cpp runs Mistral without its window",
    ),
}
