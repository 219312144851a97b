"""BERT: one text, and two with a segment each; sizes as awkward as quant blocks permit."""

from __future__ import annotations

from typing import Any

from architecture_variants import Variant

BASE: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "attention_probs_dropout_prob": 0.0,
    "hidden_dropout_prob": 0.0,
}
REST: dict[str, Any] = {
    "lengths": (7, 64, 300),
    "output": "last_hidden_state",
    "prompt": 0,
    "idle": {r"\.key\.bias$": "softmax takes it out", r"pooler\.": "not part of the rows"},
}

VARIANTS = {
    "bert": Variant("BertModel", BASE, **REST),
    "bert-pairs": Variant(
        "BertModel",
        BASE | {"num_hidden_layers": 3, "num_attention_heads": 8, "type_vocab_size": 3, "layer_norm_eps": 1e-5},
        second=5,
        peer="llama.cpp takes every token to be of the first segment",
        **REST,
    ),
}
