"""Qwen 2 and 3 with experts (Yang et al., 2024, arXiv 2407.10671; 2025, arXiv 2505.09388). Mixtral is llama.py's.

Qwen 2's and 3's attention, and in the place of the feed-forward network a mixture of experts (Spec.experts):

    Qwen 2   weights are shares of a softmax over all experts, as they are: they sum to less than 1; beside the chosen
             experts every row goes to a shared one, weighted by the sigmoid of a logit of its own
    Qwen 3   the chosen ones' shares are divided by their sum, no shared expert; n_ff is that of dense layers, if any

A layer is dense where the file has no router for it.
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


def _gating(h: HyperParameters, normalised: bool) -> str:
    """The key expert_weights_norm, false or true: whether the chosen ones' shares are divided by their sum."""
    return "softmax_chosen" if h.flag("expert_weights_norm", normalised) else "softmax"


def spec2(h: HyperParameters, n_vocab: int) -> Spec:
    """Qwen 2. Keys: the sizes, rope.*, expert_count, expert_used_count, expert_feed_forward_length,
    expert_shared_feed_forward_length, expert_weights_norm (false)."""
    sizes = h.sizes(n_vocab)
    experts = h.experts(sizes, _gating(h, False), divided=True, shared=True)
    layers = _layers(h, sizes["n_layer"], sizes["head_dim"])
    return Spec(**sizes, layers=layers, experts=experts, biases=("attn_q", "attn_k", "attn_v"))


def spec3(h: HyperParameters, n_vocab: int) -> Spec:
    """Qwen 3. Keys: the sizes, rope.*, expert_count, expert_used_count, expert_feed_forward_length,
    expert_weights_norm (true)."""
    sizes = h.sizes(n_vocab)
    layers = _layers(h, sizes["n_layer"], sizes["head_dim"])
    return Spec(**sizes, layers=layers, experts=h.experts(sizes, _gating(h, True), divided=True), qk_norm=True)


register("qwen2moe", Architecture(spec2, decoder_tensors))
register("qwen3moe", Architecture(spec3, decoder_tensors))
