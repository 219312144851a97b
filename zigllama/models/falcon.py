"""Falcon 7B, 40B and 180B (Almazrouei et al., 2023, arXiv 2311.16867).

A parallel block with half-split rotation and a plain feed-forward network with the exact GELU (llama.cpp takes the
tanh form); LayerNorm, no biases. q, k and v are one matrix, which the converter has sorted: the original has them in
groups of query heads, each with its key and its value.

    7B          one norm for both halves, one key/value head for all query heads
    40B, 180B   a norm for each half, several key/value heads; in the file attn_norm_2 is the one before attention, and
                attn_norm the one before the feed-forward network
    11B         several key/value heads and one norm: it is the tensors that tell

falcon-rw (1B, 7.5B), which has ALiBi instead of the rotation and a sequential block, has no form in GGUF: it is
refused by the converter, and here by its key.
"""

from __future__ import annotations

from zigllama.errors import BadMetadata
from zigllama.models.config import HyperParameters
from zigllama.models.registry import Architecture, register
from zigllama.models.tensors import decoder_tensors
from zigllama.neural_primitives.embeddings import ROPE_HALF_SPLIT
from zigllama.transformers.spec import LayerSpec, Spec


def spec(h: HyperParameters, n_vocab: int) -> Spec:
    """Keys: the sizes, attention.layer_norm_epsilon, rope.*; whether there is a tensor attn_norm_2."""
    if h.has("attention.max_alibi_bias"):
        raise BadMetadata(f"{h.prefix}.attention.max_alibi_bias", "Falcon with ALiBi (falcon-rw) is not supported")
    sizes = h.sizes(n_vocab, "attention.layer_norm_epsilon")
    two = any(name.endswith(".attn_norm_2.weight") for name in h.tensors)
    return Spec(
        **sizes,
        layers=(LayerSpec(0, h.rope(sizes["head_dim"], ROPE_HALF_SPLIT)),) * sizes["n_layer"],
        norm="layer",
        activation="gelu",
        gated=False,
        parallel=True,
        ffn_norm=two,
        norm_names=("attn_norm_2", "attn_norm") if two else ("attn_norm", ""),
        fused_qkv=True,
    )


register("falcon", Architecture(spec, decoder_tensors))
