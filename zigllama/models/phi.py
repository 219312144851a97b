"""Phi-2 and Phi-3 (Microsoft, 2023, "Phi-2: The surprising power of small language models"; Abdin et al., 2024, arXiv
2404.14219), Phi-4 too.

    Phi-2   a parallel block: one LayerNorm, attention and a plain feed-forward network with GELU (tanh form) read the
            same rows; biases everywhere, at the output too; only the first channels of a head are rotated
    Phi-3   LLaMA's block with half-split rotation; q, k and v are one matrix in the file, gate and up are another; a
            sliding window; long contexts by LongRoPE (rope_scaling.py), whose two sets of divisors are tensors

LongRoPE: transformers picks a set by the length of what it is given, anew in each step, so that a text which grows
past the original context meets cached keys that were turned by other rates. Here the context that the model is opened
with decides (n_ctx, as llama.cpp does it): equal to transformers for n_ctx within the original context, and, opened
for more, for texts longer than that. llama.cpp ignores the window.
"""

from __future__ import annotations

from zigllama.models.config import HyperParameters
from zigllama.models.registry import Architecture, register
from zigllama.models.tensors import decoder_tensors
from zigllama.neural_primitives.embeddings import ROPE_HALF_SPLIT
from zigllama.transformers.spec import LayerSpec, Spec


def spec2(h: HyperParameters, n_vocab: int) -> Spec:
    """Phi-2. Keys: the sizes, attention.layer_norm_epsilon, rope.*; q, k and v are one matrix in some files."""
    sizes = h.sizes(n_vocab, "attention.layer_norm_epsilon")
    fused = any(name.endswith(".attn_qkv.weight") for name in h.tensors)
    products = ("attn_qkv",) if fused else ("attn_q", "attn_k", "attn_v")
    return Spec(
        **sizes,
        layers=(LayerSpec(0, h.rope(sizes["head_dim"], ROPE_HALF_SPLIT)),) * sizes["n_layer"],
        norm="layer",
        activation="gelu_tanh",
        gated=False,
        parallel=True,
        ffn_norm=False,
        fused_qkv=fused,
        biases=(*products, "attn_output", "ffn_up", "ffn_down", "output"),
    )


def spec3(h: HyperParameters, n_vocab: int) -> Spec:
    """Phi-3. Keys: the sizes, attention.sliding_window, rope.*, rope.scaling.original_context_length, attn_factor."""
    sizes = h.sizes(n_vocab)
    rope = h.rope(sizes["head_dim"], ROPE_HALF_SPLIT)
    layers = tuple(LayerSpec(window, rope) for window in h.windows(sizes["n_layer"]))
    return Spec(**sizes, layers=layers, fused_qkv=True, fused_gate=True, rope_divisors=h.rope_divisors())


register("phi2", Architecture(spec2, decoder_tensors))
register("phi3", Architecture(spec3, decoder_tensors))
