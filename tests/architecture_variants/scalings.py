"""LLaMA's rotation with every scaling, CodeLlama's base, and Mistral without its window."""

from __future__ import annotations

from typing import Any

from architecture_variants import Variant
from architecture_variants.llama import BASE

CONFIG = BASE | {"tie_word_embeddings": False}


def scaled(**parameters: Any) -> dict[str, Any]:
    """The config with these rope parameters."""
    return CONFIG | {"rope_parameters": {"rope_theta": 10000.0, "original_max_position_embeddings": 128} | parameters}


YARN = {"rope_type": "yarn", "factor": 4.0}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "rope_theta": 5e5}
VARIANTS = {
    "code-llama": Variant("LlamaForCausalLM", scaled(rope_type="default", rope_theta=1e6)),
    "llama-linear": Variant("LlamaForCausalLM", scaled(rope_type="linear", factor=4.0)),
    "llama-yarn": Variant("LlamaForCausalLM", scaled(**YARN)),
    "llama-yarn-attention": Variant("LlamaForCausalLM", scaled(**YARN, attention_factor=1.0)),
    "llama-yarn-betas": Variant(
        "LlamaForCausalLM",
        scaled(**YARN, beta_fast=8.0, beta_slow=2.0),
        peer="llama.cpp takes betas of 32 and 1 for this architecture, whatever the file says",
    ),
    "llama3": Variant("LlamaForCausalLM", scaled(**LLAMA3) | {"head_dim": 128}),
    "mistral-full": Variant("MistralForCausalLM", CONFIG | {"sliding_window": None}),
}
