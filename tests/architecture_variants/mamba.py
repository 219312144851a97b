"""Mamba and Mamba 2."""

from __future__ import annotations

from typing import Any

from architecture_variants import Variant

MAMBA: dict[str, Any] = {"vocab_size": 300, "hidden_size": 256, "num_hidden_layers": 2, "state_size": 11}
MAMBA2: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 256,
    "num_hidden_layers": 2,
    "num_heads": 16,
    "head_dim": 32,
    "state_size": 48,
    "n_groups": 2,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
# decays of one to some tens of positions, and steps that the input moves
RANGES = {r"A_log": (0.5, 0.6), r"dt_proj\.bias|dt_bias": (-2.0, 1.0), r"\.D$": (1.0, 0.3)}

VARIANTS = {
    "mamba": Variant("MambaForCausalLM", MAMBA, ranges=RANGES),
    "falcon-mamba": Variant("FalconMambaForCausalLM", MAMBA | {"tie_word_embeddings": False}, ranges=RANGES),
    "mamba2": Variant("Mamba2ForCausalLM", MAMBA2, ranges=RANGES),
    "mamba2-one-group": Variant(
        "Mamba2ForCausalLM", MAMBA2 | {"n_groups": 1, "tie_word_embeddings": False}, ranges=RANGES
    ),
}
