"""Gemma 1, 2 and 3: with caps low enough to matter, windows, another divisor than the head's size, scaled positions."""

from __future__ import annotations

from typing import Any

from architecture_variants import Variant
from architecture_variants.llama import BASE

RANGES = {r"norm\.weight": (0.0, 0.3)}  # what is multiplied is 1 + weight
GAINS = {"embed_tokens": 1.0, "o_proj|down_proj": 2.5}  # embeddings are multiplied by sqrt(C)
CAPS = {"attn_logit_softcapping": 4.0, "final_logit_softcapping": 5.0}
SCALE = "llama.cpp divides q . k by the root of the head's size, whatever query_pre_attn_scalar is"


def variant(name: str, config: dict[str, Any], peer: str = "") -> Variant:
    """A variant of the class of that name."""
    return Variant(f"{name}ForCausalLM", BASE | config, ranges=RANGES, gains=GAINS, peer=peer)


def rope3(kind: dict[str, Any]) -> dict[str, Any]:
    """Gemma 3's two rotations."""
    local = {"rope_type": "default", "rope_theta": 10000.0}
    return {"full_attention": {"rope_theta": 1e6} | kind, "sliding_attention": local}


GEMMA2: dict[str, Any] = CAPS | {
    "head_dim": 64,
    "num_hidden_layers": 3,
    "sliding_window": 24,
    "query_pre_attn_scalar": 64,
}
GEMMA3: dict[str, Any] = {"head_dim": 96, "num_hidden_layers": 6, "sliding_window": 24, "query_pre_attn_scalar": 96}
VARIANTS = {
    "gemma": variant("Gemma", {"head_dim": 128, "num_key_value_heads": 1}),
    "gemma2": variant("Gemma2", GEMMA2),
    "gemma2-scalar": variant("Gemma2", GEMMA2 | {"query_pre_attn_scalar": 144}, SCALE),
    "gemma3": variant("Gemma3", GEMMA3),
    "gemma3-linear": variant("Gemma3", GEMMA3 | {"rope_parameters": rope3({"rope_type": "linear", "factor": 8.0})}),
    "gemma3-scalar": variant("Gemma3", GEMMA3 | {"query_pre_attn_scalar": 168}, SCALE),
}
