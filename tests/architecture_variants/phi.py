"""Phi-2, and Phi-3 with its window and with LongRoPE, opened for long contexts and for short ones."""

from __future__ import annotations

from typing import Any

from architecture_variants import Variant
from architecture_variants.llama import BASE

PHI3 = BASE | {"tie_word_embeddings": False, "pad_token_id": 0, "original_max_position_embeddings": 512}


def longrope(original: int) -> dict[str, Any]:
    """24 pairs of a head of 64 channels are rotated."""
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "partial_rotary_factor": 0.75,
        "short_factor": [round(1 + 0.02 * i, 2) for i in range(24)],
        "long_factor": [round(1 + 0.3 * i, 2) for i in range(24)],
        "original_max_position_embeddings": original,
    }
    more = {"max_position_embeddings": 1024, "original_max_position_embeddings": original}
    return PHI3 | more | {"rope_parameters": rope}


PARTIAL = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.375}
VARIANTS = {
    "phi2": Variant(
        "PhiForCausalLM",
        BASE | {"tie_word_embeddings": False, "num_key_value_heads": 4, "rope_parameters": PARTIAL},
    ),
    "phi3": Variant("Phi3ForCausalLM", PHI3),
    "phi3-window": Variant(
        "Phi3ForCausalLM", PHI3 | {"sliding_window": 24}, peer="llama.cpp runs Phi-3 without its window"
    ),
    # 300 ids are beyond 256, where transformers takes the long set, and so is the context of 1,024; the prompt too
    "phi3-longrope-long": Variant("Phi3ForCausalLM", longrope(256), prompt=260),
    "phi3-longrope-short": Variant("Phi3ForCausalLM", longrope(256), n_ctx=256, lengths=(7, 64, 256)),
}
