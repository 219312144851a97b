"""Gemma 1, 2 and 3 (Google, 2024, arXiv 2403.08295 and 2408.00118; 2025, arXiv 2503.19786).

Against LLaMA: embeddings are multiplied by sqrt(C), a head may be wider than C / H, GeGLU instead of SwiGLU,
half-split rotation, the output is the embedding. Norm weights are stored with their +1 added.

    Gemma 1   that is all
    Gemma 2   a norm before and after each half of a block; scores and logits pass c tanh(x / c) with c = 50 and 30;
              every other layer, the first one too, sees a sliding window only
    Gemma 3   queries and keys are normalised head by head instead of capped; five of six layers see a window and
              rotate with base 10,000, every sixth sees everything and rotates with the file's base (1,000,000), scaled
              linearly in the larger models
"""

from __future__ import annotations

from typing import Any

from zigllama.models.config import HyperParameters
from zigllama.models.registry import Architecture, register
from zigllama.models.tensors import decoder_tensors
from zigllama.neural_primitives.embeddings import ROPE_HALF_SPLIT, RoPE
from zigllama.transformers.spec import LayerSpec, Spec

LOCAL_BASE = 10000.0  # of Gemma 3's sliding layers; files carry no key for it


def _spec(sizes: dict[str, Any], layers: tuple[LayerSpec, ...], **different: Any) -> Spec:
    """What the three share."""
    scale = float(sizes["n_embd"] ** 0.5)
    return Spec(**sizes, layers=layers, activation="gelu_tanh", embedding_scale=scale, **different)


def _attn_scale(h: HyperParameters, sizes: dict[str, Any], n_layer_27b: int) -> float:
    """What scores are multiplied with: the key attention.scale, which llama.cpp does not read here. Without it the
    27B model, told by its layers, divides by the root of C / H, the others by that of a head's own size."""
    width = sizes["n_embd"] // sizes["n_head"] if sizes["n_layer"] == n_layer_27b else sizes["head_dim"]
    return h.float("attention.scale", float(width**-0.5))


def spec(h: HyperParameters, n_vocab: int) -> Spec:
    """Gemma 1. Keys: the sizes, rope.*"""
    sizes = h.sizes(n_vocab)
    return _spec(sizes, (LayerSpec(0, h.rope(sizes["head_dim"], ROPE_HALF_SPLIT)),) * sizes["n_layer"])


def spec2(h: HyperParameters, n_vocab: int) -> Spec:
    """Gemma 2. Keys: also attention.sliding_window, its pattern (2), attn_ and final_logit_softcapping."""
    sizes = h.sizes(n_vocab)
    rope = h.rope(sizes["head_dim"], ROPE_HALF_SPLIT)
    return _spec(
        sizes,
        tuple(LayerSpec(window, rope) for window in h.windows(sizes["n_layer"], 2)),
        attn_scale=_attn_scale(h, sizes, 46),
        attn_softcap=h.float("attn_logit_softcapping", 50.0),
        logit_softcap=h.float("final_logit_softcapping", 30.0),
        post_norm=True,
    )


def spec3(h: HyperParameters, n_vocab: int) -> Spec:
    """Gemma 3. Keys: the sizes, attention.sliding_window, its pattern (6), rope.* of the full layers, and
    rope.freq_base_swa of the others."""
    sizes = h.sizes(n_vocab)
    full = h.rope(sizes["head_dim"], ROPE_HALF_SPLIT, 1e6)
    local = RoPE(full.dim, h.float("rope.freq_base_swa", LOCAL_BASE), ROPE_HALF_SPLIT)
    windows = h.windows(sizes["n_layer"], 6)
    layers = tuple(LayerSpec(window, local if window else full) for window in windows)
    return _spec(sizes, layers, attn_scale=_attn_scale(h, sizes, 62), qk_norm=True, post_norm=True)


register("gemma", Architecture(spec, decoder_tensors))
register("gemma2", Architecture(spec2, decoder_tensors))
register("gemma3", Architecture(spec3, decoder_tensors))
