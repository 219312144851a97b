"""BERT (Devlin et al., 2018, arXiv 1810.04805), and what is built like it: MiniLM (Wang et al., 2020), BGE, E5.

Against LLaMA: an encoder. Every row sees the whole text; positions are learned rows, added to the token's and to that
of the segment (the first or the second of two texts); LayerNorm stands after each sum; the feed-forward is plain with
GELU, exact, by the error function; every product has a bias.

How the rows of a text become one is in the file (`pooling_type`) and done by inference/embedding.py.
"""

from __future__ import annotations

from zigllama.errors import BadMetadata
from zigllama.models.config import HyperParameters
from zigllama.models.encoder import Encoder, EncoderSpec, encoder_tensors
from zigllama.models.registry import Architecture, register
from zigllama.transformers.spec import LayerSpec


def spec(h: HyperParameters, n_vocab: int) -> EncoderSpec:
    """Keys: the sizes, attention.layer_norm_epsilon, attention.causal (false), and the tokenizer's token_type_count (2;
    0: the file has no segments)."""
    sizes = h.sizes(n_vocab, "attention.layer_norm_epsilon", causal=False)
    segments = h.metadata.get("tokenizer.ggml.token_type_count", 2)
    if isinstance(segments, bool) or not isinstance(segments, int) or not 0 <= segments <= 1 << 16:
        raise BadMetadata("tokenizer.ggml.token_type_count", f"{segments!r} is no number of segments")
    return EncoderSpec(
        **sizes,
        layers=(LayerSpec(0, None),) * sizes["n_layer"],
        norm="layer",
        activation="gelu",
        gated=False,
        learned_positions=True,
        causal=False,
        n_segments=segments,
    )


register("bert", Architecture(spec, encoder_tensors, Encoder))
