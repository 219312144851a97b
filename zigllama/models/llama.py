"""LLaMA 1, 2 and 3 (Touvron et al., 2023, arXiv 2302.13971 and 2307.09288; Dubey et al., 2024, arXiv 2407.21783), and
what is built like it: SmolLM2, TinyLlama, CodeLlama (code_llama.py), Mistral (mistral.py).

The reference point: RMSNorm, rotary positions on adjacent channel pairs (the converter has permuted q and k for
that), grouped key/value heads, SwiGLU, and no biases unless the file has them. Every field of `Spec` has LLaMA's
value as its default. With expert_count it is Mixtral (Jiang et al., 2024, arXiv 2401.04088): each row goes to some of
the experts, weighted by the softmax of the chosen ones' logits. Longer contexts come by scaled rotations
(neural_primitives/rope_scaling.py): linear and YaRN by keys, another base, Llama 3.1's as the tensor
rope_freqs.weight, one divisor per pair of channels.
"""

from __future__ import annotations

from zigllama.models.config import HyperParameters
from zigllama.models.registry import Architecture, register
from zigllama.models.tensors import decoder_tensors
from zigllama.neural_primitives.embeddings import ROPE_INTERLEAVED
from zigllama.transformers.spec import LayerSpec, Spec


def spec(h: HyperParameters, n_vocab: int) -> Spec:
    """Keys: the sizes, rope.freq_base (10000), rope.dimension_count, rope.scaling.*, attention.sliding_window,
    expert_count and expert_used_count."""
    sizes = h.sizes(n_vocab)
    rope = h.rope(sizes["head_dim"], ROPE_INTERLEAVED)
    layers = tuple(LayerSpec(window, rope) for window in h.windows(sizes["n_layer"]))
    return Spec(**sizes, layers=layers, rope_divisors=h.rope_divisors(), experts=h.experts(sizes))


register("llama", Architecture(spec, decoder_tensors))
