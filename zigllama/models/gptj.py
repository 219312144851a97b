"""GPT-J (Wang and Komatsuzaki, 2021, "GPT-J-6B: a 6 billion parameter autoregressive language model").

The first with rotations and with a parallel block: one LayerNorm, and attention and feed-forward network (plain, GELU
in its tanh form) both read its rows. The rotation turns adjacent channels, and only the first 64 of a head's 256. The
feed-forward network and the output have biases, attention has none. llama.cpp has no forward pass for it: only
transformers tells whether this one is right.
"""

from __future__ import annotations

from zigllama.models.config import HyperParameters
from zigllama.models.registry import Architecture, register
from zigllama.models.tensors import decoder_tensors
from zigllama.neural_primitives.embeddings import ROPE_INTERLEAVED
from zigllama.transformers.spec import LayerSpec, Spec


def spec(h: HyperParameters, n_vocab: int) -> Spec:
    """Keys: the sizes, attention.layer_norm_epsilon, rope.dimension_count, rope.freq_base."""
    sizes = h.sizes(n_vocab, "attention.layer_norm_epsilon")
    return Spec(
        **sizes,
        layers=(LayerSpec(0, h.rope(sizes["head_dim"], ROPE_INTERLEAVED)),) * sizes["n_layer"],
        norm="layer",
        activation="gelu_tanh",
        gated=False,
        parallel=True,
        ffn_norm=False,
        biases=("ffn_up", "ffn_down", "output"),
    )


register("gptj", Architecture(spec, decoder_tensors))
