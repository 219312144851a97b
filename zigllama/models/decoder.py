"""The one decoder: runs every decoder-only transformer that a `Spec` describes.

    x = embed(tokens)
    x = block(x)                for every layer
    logits = W_out norm(x)      for the rows that are wanted

It is written once and runs in every runtime: on NumPy arrays it is the reference, under the eager runtime one C call
per op, under the recorder it becomes the tape.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zigllama.foundation.runtime import F32, Step
from zigllama.linear_algebra.linear import Weight, embed, linear
from zigllama.neural_primitives.arithmetic import gather
from zigllama.neural_primitives.normalization import RMSNorm
from zigllama.neural_primitives.softmax import softcap
from zigllama.transformers.attention import MultiHeadAttention
from zigllama.transformers.feed_forward import FeedForward
from zigllama.transformers.interfaces import Cache, CacheSpec
from zigllama.transformers.spec import Spec
from zigllama.transformers.transformer_block import TransformerBlock


class Decoder:
    """A decoder with its weights: `weights` maps GGUF tensor names to `Weight` (matrices) and float32 vectors."""

    def __init__(self, spec: Spec, weights: Mapping[str, Any]) -> None:
        self.spec = spec
        self.token_embd: Weight = weights["token_embd.weight"]
        self.output: Weight = weights["output.weight"]
        self.output_norm = RMSNorm(weights["output_norm.weight"], spec.norm_eps)
        self.blocks = [_block(spec, i, weights) for i in range(spec.n_layer)]

    def cache_spec(self) -> CacheSpec:
        """The cache that `forward` takes."""
        return self.spec.cache_spec()

    def hidden(self, step: Step, cache: Cache) -> Any:
        """The stream after the last block, normalised: (T, C)."""
        x = embed(step, self.token_embd, scale=self.spec.embedding_scale)
        for block in self.blocks:
            x = block(x, step, cache)
        return self.output_norm(x)

    def forward(self, step: Step, cache: Cache) -> Any:
        """Logits (R, V) of the rows step.out_rows."""
        x = embed(step, self.token_embd, scale=self.spec.embedding_scale)
        for block in self.blocks:
            x = block(x, step, cache)
        return self.logits(self.output_norm(gather(x, step)))

    def logits(self, x: Any) -> Any:
        """Logits (R, V) of normalised rows (R, C) of the stream."""
        logits = linear(x, self.output)
        return softcap(logits, cap=self.spec.logit_softcap) if self.spec.logit_softcap else logits


def _block(spec: Spec, i: int, weights: Mapping[str, Any]) -> TransformerBlock:
    """Layer i of the decoder, from the tensors blk.i.*"""

    def w(name: str) -> Any:
        return weights.get(f"blk.{i}.{name}")

    def norm(name: str) -> RMSNorm:
        weight: F32 = weights[f"blk.{i}.{name}.weight"]
        return RMSNorm(weight, spec.norm_eps)

    cache_class, layer = spec.cache_spec().layers[i]
    attention = MultiHeadAttention(
        w("attn_q.weight"),
        w("attn_k.weight"),
        w("attn_v.weight"),
        w("attn_output.weight"),
        heads=spec.n_head,
        kv_heads=spec.n_head_kv,
        scale=spec.scale,
        rope=spec.layers[i].rope,
        cache_class=cache_class,
        layer=layer,
        window=spec.layers[i].window,
        softcap=spec.attn_softcap,
        q_bias=w("attn_q.bias"),
        k_bias=w("attn_k.bias"),
        v_bias=w("attn_v.bias"),
        out_bias=w("attn_output.bias"),
        q_norm=w("attn_q_norm.weight"),
        k_norm=w("attn_k_norm.weight"),
        norm_eps=spec.norm_eps,
    )
    feed_forward = FeedForward(w("ffn_gate.weight"), w("ffn_up.weight"), w("ffn_down.weight"), spec.activation)
    return TransformerBlock(
        norm("attn_norm"),
        attention,
        norm("ffn_norm"),
        feed_forward,
        norm("post_attention_norm") if spec.post_norm else None,
        norm("post_ffw_norm") if spec.post_norm else None,
    )
