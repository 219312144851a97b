"""GPT-2 (Radford et al., 2019, "Language models are unsupervised multitask learners").

Before rotations: each position has a row of its own, learned with the rest and added to the token's, so that there are
as many positions as rows and not one more. LayerNorm with scale and shift, a plain feed-forward network with GELU
(tanh form), biases everywhere; q, k and v are one matrix in the file.
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
        learned_positions=True,
        fused_qkv=True,
        biases=("attn_qkv", "attn_output", "ffn_up", "ffn_down"),
    )


register("gpt2", Architecture(spec, decoder_tensors))
