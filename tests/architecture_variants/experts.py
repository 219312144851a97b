"""Mixtures of experts: Mixtral, Qwen 2 with a shared expert, Qwen 3; a layer without experts among them."""

from __future__ import annotations

from architecture_variants import Variant
from architecture_variants.llama import BASE

CONFIG = BASE | {"tie_word_embeddings": False, "num_experts_per_tok": 2, "intermediate_size": 256}
QWEN = {"num_experts": 7, "num_experts_per_tok": 3, "moe_intermediate_size": 256, "intermediate_size": 512}
SHARED = {"shared_expert_intermediate_size": 512, "norm_topk_prob": False, "rope_theta": 1e6}
SPARSE = {"num_hidden_layers": 3, "mlp_only_layers": [1]}

VARIANTS = {
    "mixtral": Variant("MixtralForCausalLM", CONFIG | {"num_local_experts": 5, "rope_theta": 1e6}),
    "qwen2moe": Variant("Qwen2MoeForCausalLM", CONFIG | QWEN | SHARED),
    "qwen3moe": Variant("Qwen3MoeForCausalLM", CONFIG | QWEN | {"norm_topk_prob": True, "head_dim": 96}),
    "qwen3moe-dense-layer": Variant(
        "Qwen3MoeForCausalLM",
        CONFIG | QWEN | SPARSE | {"norm_topk_prob": False, "head_dim": 64},
        peer="llama.cpp wants experts in every layer of Qwen 3",
    ),
}
