"""GPT-NeoX and Pythia (Black et al., 2022, arXiv 2204.06745; Biderman et al., 2023, arXiv 2304.01373).

A parallel block with two LayerNorms, one for each half; the key use_parallel_residual = false makes it GPT-2's
sequential one. Half-split rotation of the first quarter of a head's channels; a plain feed-forward network with the
exact GELU, or with its tanh form where the key hidden_activation says so, as it does for the 20B model (llama.cpp takes
the tanh form in any case, up to 5e-4 beside the exact one); biases everywhere but at the output. q, k and v are one
matrix, which the converter has sorted: the original has them head by head.
"""

from __future__ import annotations

from zigllama.models.config import HyperParameters
from zigllama.models.registry import Architecture, register
from zigllama.models.tensors import decoder_tensors
from zigllama.neural_primitives.embeddings import ROPE_HALF_SPLIT
from zigllama.transformers.spec import LayerSpec, Spec

ACTIVATIONS = {"gelu": "gelu", "gelu_pytorch_tanh": "gelu_tanh"}  # values of hidden_activation


def spec(h: HyperParameters, n_vocab: int) -> Spec:
    """Keys: the sizes, attention.layer_norm_epsilon, use_parallel_residual, hidden_activation, rope.*"""
    sizes = h.sizes(n_vocab, "attention.layer_norm_epsilon")
    return Spec(
        **sizes,
        layers=(LayerSpec(0, h.rope(sizes["head_dim"], ROPE_HALF_SPLIT)),) * sizes["n_layer"],
        norm="layer",
        activation=ACTIVATIONS[h.string("hidden_activation", "gelu", ACTIVATIONS)],
        gated=False,
        parallel=h.flag("use_parallel_residual", True),
        fused_qkv=True,
        biases=("attn_qkv", "attn_output", "ffn_up", "ffn_down"),
    )


register("gptneox", Architecture(spec, decoder_tensors))
