"""Qwen 1, 2 and 3 (Bai et al., 2023, arXiv 2309.16609; Yang et al., 2024, arXiv 2407.10671; 2025, arXiv 2505.09388).

LLaMA's block with half-split rotation, and:

    Qwen 1   q, k and v are one matrix with a bias; the file's feed_forward_length counts gate and up together, and each
             has half of it
    Qwen 2   q, k and v have biases; fewer key/value heads; where the file has a window, upper layers see that only
    Qwen 3   no biases, but queries and keys are normalised head by head, and a head may be wider than C / H

Qwen 1 was trained for 2,048 or 8,192 positions and went beyond them by changing the base with the text's length
(dynamic NTK) and multiplying queries by a logarithm of it. Neither is in GGUF files, and nothing here does it: within
the trained context, which the file states, both are without effect.
"""

from __future__ import annotations

from zigllama.models.config import HyperParameters
from zigllama.models.registry import Architecture, register
from zigllama.models.tensors import decoder_tensors
from zigllama.neural_primitives.embeddings import ROPE_HALF_SPLIT
from zigllama.transformers.spec import LayerSpec, Spec


def _layers(h: HyperParameters, n_layer: int, head_dim: int) -> tuple[LayerSpec, ...]:
    """Keys: rope.*, attention.sliding_window and its pattern, a flag per layer."""
    rope = h.rope(head_dim, ROPE_HALF_SPLIT)
    return tuple(LayerSpec(window, rope) for window in h.windows(n_layer))


def spec(h: HyperParameters, n_vocab: int) -> Spec:
    """Qwen 1. Keys: the sizes, rope.*"""
    sizes = h.sizes(n_vocab)
    sizes["n_ff"] //= 2
    layers = _layers(h, sizes["n_layer"], sizes["head_dim"])
    return Spec(**sizes, layers=layers, fused_qkv=True, biases=("attn_qkv",))


def spec2(h: HyperParameters, n_vocab: int) -> Spec:
    """Qwen 2. Keys: the sizes, rope.*, attention.sliding_window."""
    sizes = h.sizes(n_vocab)
    layers = _layers(h, sizes["n_layer"], sizes["head_dim"])
    return Spec(**sizes, layers=layers, biases=("attn_q", "attn_k", "attn_v"))


def spec3(h: HyperParameters, n_vocab: int) -> Spec:
    """Qwen 3. Keys: the sizes, rope.*, attention.sliding_window."""
    sizes = h.sizes(n_vocab)
    return Spec(**sizes, layers=_layers(h, sizes["n_layer"], sizes["head_dim"]), qk_norm=True)


register("qwen", Architecture(spec, decoder_tensors))
register("qwen2", Architecture(spec2, decoder_tensors))
register("qwen3", Architecture(spec3, decoder_tensors))
