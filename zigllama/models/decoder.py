"""The one decoder: runs every decoder-only transformer that a `Spec` describes.

    x = embed(tokens)           + a row per position, where positions are learned
    x = block(x)                for every layer
    logits = W_out norm(x)      for the rows that are wanted

It is written once and runs in every runtime: on NumPy arrays it is the reference, under the eager runtime one C call
per op, under the recorder it becomes the tape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from zigllama.errors import BadTensor, InvalidArgument
from zigllama.foundation.runtime import F32, Step
from zigllama.linear_algebra.linear import Weight, embed, linear
from zigllama.neural_primitives.arithmetic import add, gather
from zigllama.neural_primitives.embeddings import RoPE, lookup
from zigllama.neural_primitives.normalization import LayerNorm, RMSNorm
from zigllama.neural_primitives.softmax import softcap
from zigllama.transformers.attention import MultiHeadAttention
from zigllama.transformers.feed_forward import FeedForward
from zigllama.transformers.interfaces import Cache, CacheSpec
from zigllama.transformers.mixture_of_experts import MixtureOfExperts
from zigllama.transformers.spec import ExpertSpec, Spec
from zigllama.transformers.transformer_block import Norm, TransformerBlock


class Decoder:
    """A decoder with its weights: `weights` maps GGUF tensor names to `Weight` (matrices) and float32 vectors."""

    def __init__(self, spec: Spec, weights: Mapping[str, Any]) -> None:
        self.spec = spec
        self.token_embd: Weight = weights["token_embd.weight"]
        self.output: Weight = weights["output.weight"]
        self.output_bias: F32 | None = weights.get("output.bias")
        self.position_embd: Weight | None = weights["position_embd.weight"] if spec.learned_positions else None
        self.embedding_norm = _norm(spec, weights, "token_embd_norm") if spec.embedding_norm else None
        self.output_norm = _norm(spec, weights, "output_norm")
        self.blocks = [_block(spec, i, weights) for i in range(spec.n_layer)]

    def cache_spec(self) -> CacheSpec:
        """The cache that `forward` takes."""
        return self.spec.cache_spec()

    def hidden(self, step: Step, cache: Cache) -> Any:
        """The stream after the last block, normalised: (T, C)."""
        return self.output_norm(self._stream(step, cache))

    def forward(self, step: Step, cache: Cache) -> Any:
        """Logits (R, V) of the rows step.out_rows."""
        return self.logits(self.wanted_rows(step, cache))

    def wanted_rows(self, step: Step, cache: Cache) -> Any:
        """`hidden` of the rows step.out_rows: (R, C)."""
        return self.output_norm(gather(self._stream(step, cache), step))

    def _stream(self, step: Step, cache: Cache) -> Any:
        """The stream after the last block: (T, C)."""
        x = embed(step, self.token_embd, scale=self.spec.embedding_scale)
        if self.position_embd is not None:
            x = add(x, lookup(self.position_embd, step))
        if self.embedding_norm is not None:
            x = self.embedding_norm(x)
        for block in self.blocks:
            x = block(x, step, cache)
        return x

    def logits(self, x: Any) -> Any:
        """Logits (R, V) of normalised rows (R, C) of the stream."""
        logits = linear(x, self.output, self.output_bias)
        return softcap(logits, cap=self.spec.logit_softcap) if self.spec.logit_softcap else logits


def _norm(spec: Spec, weights: Mapping[str, Any], name: str) -> Norm:
    """The norm of that name, of the spec's kind."""
    weight: F32 = weights[f"{name}.weight"]
    if spec.norm == "layer":
        return LayerNorm(weight, weights[f"{name}.bias"], spec.norm_eps)
    return RMSNorm(weight, spec.norm_eps)


def _rope(spec: Spec, i: int, weights: Mapping[str, Any]) -> RoPE | None:
    """Layer i's rotation, its rates divided by what the file has for them. Raises BadTensor."""
    rope = spec.layers[i].rope
    if rope is None or not spec.rope_divisors:
        return rope
    name = spec.rope_divisors[0]
    try:
        return rope.divided(weights[name])
    except InvalidArgument as e:
        raise BadTensor(name, str(e)) from None


def _experts(spec: Spec, experts: ExpertSpec, w: Callable[[str], Any]) -> MixtureOfExperts:
    """The mixture of a layer, `w` gives its tensors."""
    shared = None
    if experts.n_ff_shared:
        gate, up, down = (w(f"ffn_{name}_shexp.weight") for name in ("gate", "up", "down"))
        shared = MixtureOfExperts(w("ffn_gate_inp_shexp.weight"), gate, up, down, 1, spec.activation, "sigmoid")
    gate, up, down = (w(f"ffn_{name}_exps.weight") for name in ("gate", "up", "down"))
    router = w("ffn_gate_inp.weight")
    return MixtureOfExperts(router, gate, up, down, experts.n_used, spec.activation, experts.gating, shared)


def _block(spec: Spec, i: int, weights: Mapping[str, Any]) -> TransformerBlock:
    """Layer i of the decoder, from the tensors blk.i.*"""

    def w(name: str) -> Any:
        return weights.get(f"blk.{i}.{name}")

    def norm(name: str) -> Norm:
        return _norm(spec, weights, f"blk.{i}.{name}")

    cache_class, layer = spec.cache_spec().layers[i]
    attention = MultiHeadAttention.named(
        w,
        heads=spec.n_head,
        kv_heads=spec.n_head_kv,
        scale=spec.scale,
        rope=_rope(spec, i, weights),
        cache_class=cache_class,
        layer=layer,
        window=spec.layers[i].window,
        softcap=spec.attn_softcap,
        q_norm=w("attn_q_norm.weight"),
        k_norm=w("attn_k_norm.weight"),
        norm_eps=spec.norm_eps,
        slopes=spec.slopes,
    )
    first, second = spec.norm_names
    feed_forward: FeedForward | MixtureOfExperts
    if spec.experts is not None and i not in spec.experts.dense:
        feed_forward = _experts(spec, spec.experts, w)
    else:
        feed_forward = FeedForward.named(w, spec.activation, gated=spec.gated)
    return TransformerBlock(
        norm(first),
        attention,
        norm(second) if spec.ffn_norm else None,
        feed_forward,
        norm("post_attention_norm") if spec.post_norm else None,
        norm("post_ffw_norm") if spec.post_norm else None,
        spec.parallel,
    )
