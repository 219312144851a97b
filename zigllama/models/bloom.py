"""BLOOM (BigScience, 2022, arXiv 2211.05100).

No positions anywhere: each head's scores fall with the distance, at a slope of its own (ALiBi, Press et al., 2021,
arXiv 2108.12409; embeddings.alibi_slopes, for head counts that are no power of two as well). The embeddings pass a
LayerNorm before the first block. Otherwise GPT-2's block: LayerNorm, a plain feed-forward network with GELU (tanh
form), biases everywhere. q, k and v are one matrix, which the converter has sorted: the original has them head by
head.
"""

from __future__ import annotations

from zigllama.models.config import HyperParameters
from zigllama.models.registry import Architecture, register
from zigllama.models.tensors import decoder_tensors
from zigllama.transformers.spec import LayerSpec, Spec


def spec(h: HyperParameters, n_vocab: int) -> Spec:
    """Keys: the sizes, attention.layer_norm_epsilon."""
    sizes = h.sizes(n_vocab, "attention.layer_norm_epsilon")
    return Spec(
        **sizes,
        layers=(LayerSpec(0, None),) * sizes["n_layer"],
        norm="layer",
        activation="gelu_tanh",
        gated=False,
        embedding_norm=True,
        alibi=True,
        fused_qkv=True,
        biases=("attn_qkv", "attn_output", "ffn_up", "ffn_down"),
    )


register("bloom", Architecture(spec, decoder_tensors))
