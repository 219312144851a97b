"""LLaMA (Touvron et al., 2023, arXiv 2302.13971), and what is built like it: SmolLM2, TinyLlama, Mistral with its
window (Jiang et al., 2023, arXiv 2310.06825) where the file has the key.

The reference point: RMSNorm, rotary positions on adjacent channel pairs (the converter has permuted q and k for that),
grouped key/value heads, SwiGLU, and no biases unless the file has them. Every field of `Spec` has LLaMA's value as its
default.
"""

from __future__ import annotations

from zigllama.models.config import HyperParameters
from zigllama.models.registry import Architecture, register
from zigllama.models.tensors import decoder_tensors
from zigllama.neural_primitives.embeddings import ROPE_INTERLEAVED, RoPE
from zigllama.transformers.spec import LayerSpec, Spec


def spec(h: HyperParameters, n_vocab: int) -> Spec:
    """Keys: the sizes, rope.freq_base (10000), rope.dimension_count, rope.scaling.*,
    attention.sliding_window (0: none)."""
    sizes = h.sizes(n_vocab)
    dim = h.rope_dim(sizes["head_dim"])
    rope = RoPE(dim, h.float("rope.freq_base", 10000.0), ROPE_INTERLEAVED, h.rope_factor())
    window = h.int("attention.sliding_window", 0, low=0, high=1 << 30)
    return Spec(**sizes, layers=(LayerSpec(window, rope),) * sizes["n_layer"])


register("llama", Architecture(spec, decoder_tensors))
