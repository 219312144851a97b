"""Gemma 3 (Google, 2025, arXiv 2503.19786).

Against LLaMA: embeddings are multiplied by sqrt(C); GeGLU instead of SwiGLU; a norm before and after each half of a
block; queries and keys are normalised head by head; half-split rotation; and five of six layers see a sliding window
only and rotate with base 10,000, while every sixth sees everything and rotates with the file's base (1,000,000). Norm
weights are stored with their +1 added.
"""

from __future__ import annotations

from zigllama.models.config import HyperParameters
from zigllama.models.registry import Architecture, register
from zigllama.models.tensors import decoder_tensors
from zigllama.neural_primitives.embeddings import ROPE_HALF_SPLIT, RoPE
from zigllama.transformers.spec import LayerSpec, Spec

PATTERN = 6  # every sixth layer sees everything
LOCAL_BASE = 10000.0  # of the sliding layers; files carry no key for it


def spec(h: HyperParameters, n_vocab: int) -> Spec:
    """Keys: the sizes, attention.sliding_window, its optional pattern, rope.freq_base and rope.scaling.factor of the
    full layers."""
    sizes = h.sizes(n_vocab)
    n_layer, head_dim = sizes["n_layer"], sizes["head_dim"]
    dim = h.rope_dim(head_dim)
    window = h.int("attention.sliding_window", high=1 << 30)
    pattern = h.int("attention.sliding_window_pattern", PATTERN)
    local = LayerSpec(window, RoPE(dim, h.float("rope.freq_base_swa", LOCAL_BASE), ROPE_HALF_SPLIT))
    full = LayerSpec(0, RoPE(dim, h.float("rope.freq_base", 1e6), ROPE_HALF_SPLIT, h.rope_factor()))
    # The 27B model (62 layers) divides by the width of a head as the stream would be cut, the smaller ones by the
    # head's own size.
    width = sizes["n_embd"] // sizes["n_head"] if n_layer == 62 else head_dim
    return Spec(
        **sizes,
        layers=tuple(full if (i + 1) % pattern == 0 else local for i in range(n_layer)),
        activation="gelu_tanh",
        attn_scale=float(width**-0.5),
        qk_norm=True,
        post_norm=True,
        embedding_scale=float(sizes["n_embd"] ** 0.5),
    )


register("gemma3", Architecture(spec, decoder_tensors))
