"""Qwen 2 and 3. transformers has no class for Qwen 1: tests/models/test_qwen1.py says how that is held against it."""

from __future__ import annotations

from architecture_variants import Variant
from architecture_variants.llama import BASE

CONFIG = BASE | {"tie_word_embeddings": False, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}
WINDOW = {"use_sliding_window": True, "sliding_window": 24, "max_window_layers": 1, "num_hidden_layers": 3}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128, "rope_theta": 1e6}
NO_WINDOW = "llama.cpp runs Qwen without windows"

VARIANTS = {
    "qwen2": Variant("Qwen2ForCausalLM", CONFIG),
    "qwen2-heads": Variant("Qwen2ForCausalLM", CONFIG | {"num_key_value_heads": 4}),
    "qwen2-window": Variant("Qwen2ForCausalLM", CONFIG | WINDOW | {"tie_word_embeddings": True}, peer=NO_WINDOW),
    "qwen2-yarn": Variant("Qwen2ForCausalLM", CONFIG | {"rope_parameters": YARN}),
    "qwen3": Variant("Qwen3ForCausalLM", CONFIG | {"head_dim": 96}),
    "qwen3-window": Variant("Qwen3ForCausalLM", CONFIG | WINDOW | {"head_dim": 64}, peer=NO_WINDOW),
}
