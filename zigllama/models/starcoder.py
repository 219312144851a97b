"""StarCoder 1 and 2 (Li et al., 2023, arXiv 2305.06161; Lozhkov et al., 2024, arXiv 2402.19173).

Against GPT-2:

    StarCoder    the same, but one key/value head for all query heads (multi-query attention, Shazeer, 2019)
    StarCoder 2  half-split rotation instead of learned positions, grouped key/value heads, q, k and v apart, and a
                 sliding window of 4,096, which llama.cpp ignores: beyond it we keep to the authors' logits
"""

from __future__ import annotations

from zigllama.models.config import HyperParameters
from zigllama.models.gpt2 import spec as gpt2_spec
from zigllama.models.registry import Architecture, register
from zigllama.models.tensors import decoder_tensors
from zigllama.neural_primitives.embeddings import ROPE_HALF_SPLIT
from zigllama.transformers.spec import LayerSpec, Spec


def spec2(h: HyperParameters, n_vocab: int) -> Spec:
    """StarCoder 2. Keys: the sizes, attention.layer_norm_epsilon, rope.*, attention.sliding_window."""
    sizes = h.sizes(n_vocab, "attention.layer_norm_epsilon")
    rope = h.rope(sizes["head_dim"], ROPE_HALF_SPLIT)
    return Spec(
        **sizes,
        layers=tuple(LayerSpec(window, rope) for window in h.windows(sizes["n_layer"])),
        norm="layer",
        activation="gelu_tanh",
        gated=False,
        biases=("attn_q", "attn_k", "attn_v", "attn_output", "ffn_up", "ffn_down"),
    )


register("starcoder", Architecture(gpt2_spec, decoder_tensors))
register("starcoder2", Architecture(spec2, decoder_tensors))
