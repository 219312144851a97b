"""Folders of BERT's class, sentence-transformers' among them -> the architecture `bert`.

How rows become one row is in a folder of its own (pooling.py), the vocabulary in tokenizer files (vocabulary_files.py).
"""

from __future__ import annotations

from typing import Any

from zigllama.errors import BadCheckpoint
from zigllama.models.conversion.checkpoint import Config
from zigllama.models.conversion.recipes import Conversion, Recipe, register, take
from zigllama.models.conversion.tables import activation, expect

NAMES = {  # of a layer
    "attn_q": "attention.self.query",
    "attn_k": "attention.self.key",
    "attn_v": "attention.self.value",
    "attn_output": "attention.output.dense",
    "attn_output_norm": "attention.output.LayerNorm",
    "ffn_up": "intermediate.dense",
    "ffn_down": "output.dense",
    "layer_output_norm": "output.LayerNorm",
}


def metadata(config: Config) -> dict[str, Any]:
    """The sizes. Raises BadCheckpoint for what the encoder does not do: other activations, other positions."""
    activation(config, "hidden_act", "gelu")
    expect(config, "position_embedding_type", "absolute")
    if config.bool("is_decoder", default=False):
        raise BadCheckpoint(config.path, "is_decoder: a BERT that sees only what came before is not supported")
    return {
        "context_length": config.int("max_position_embeddings", low=1),
        "embedding_length": config.int("hidden_size", low=1),
        "block_count": config.layers("num_hidden_layers"),
        "feed_forward_length": config.int("intermediate_size", low=1),
        "attention.head_count": config.int("num_attention_heads", low=1),
        "attention.layer_norm_epsilon": config.float("layer_norm_eps", default=1e-12),
        "attention.causal": False,
        "tokenizer.ggml.token_type_count": config.int("type_vocab_size", default=2),
    }


def tensors(config: Config) -> dict[str, Recipe]:
    """All but the pooler, which made one row for the task that BERT was trained with, and nobody's embedding."""
    out = {
        "token_embd.weight": take("embeddings.word_embeddings.weight"),
        "position_embd.weight": take("embeddings.position_embeddings.weight"),
        "token_types.weight": take("embeddings.token_type_embeddings.weight"),
    }
    for kind in ("weight", "bias"):
        out[f"token_embd_norm.{kind}"] = take(f"embeddings.LayerNorm.{kind}")
        for i in range(config.layers("num_hidden_layers")):
            for name, source in NAMES.items():
                out[f"blk.{i}.{name}.{kind}"] = take(f"encoder.layer.{i}.{source}.{kind}")
    return out


IGNORED = (r"^(bert\.)?pooler\.", r"(^|\.)embeddings\.position_ids$")
# What attention averages goes straight into the rows that are pooled, and a text of three tokens averages little: with
# these in 8 bits too, MiniLM's embedding of "?" is off by a cosine of 0.9976, with them in F16 by what is asked, 0.999.
WIDER = r"attn_(v|output)\.weight$"
register("BertModel", Conversion("bert", metadata, tensors, IGNORED, wider=WIDER))
