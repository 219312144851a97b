"""The one encoder: BERT and what is built like it (Devlin et al., 2018, arXiv 1810.04805).

    x = norm(token[id] + segment[s] + position[p])
    x = norm(x + attention(x))           every row sees the whole text, what follows it too
    x = norm(x + feed_forward(x))        post-norm, as in the first transformer (Vaswani et al., 2017)

An encoder writes nothing: what it gives is a row of channels per token, and (inference/embedding.py) one per text. A
text goes through in one step: in each layer its keys and values must be there before a row looks at them. So they live
in pages as a decoder's do, for the length of the step.

What it is not: a masked language model's head; files of that kind have it as tensors that no table here knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from zigllama.errors import WrongKindOfModel
from zigllama.foundation.runtime import F32, Step
from zigllama.linear_algebra.linear import Weight, embed
from zigllama.models.tensors import Shape, TensorTable
from zigllama.neural_primitives.arithmetic import add
from zigllama.neural_primitives.embeddings import lookup
from zigllama.neural_primitives.normalization import LayerNorm
from zigllama.transformers.attention import MultiHeadAttention
from zigllama.transformers.feed_forward import FeedForward
from zigllama.transformers.interfaces import Cache, CacheSpec
from zigllama.transformers.spec import Spec
from zigllama.transformers.transformer_block import TransformerBlock

SEGMENTS = 1  # the plane of step.positions that holds the segment of each row


@dataclass(frozen=True)
class EncoderSpec(Spec):
    """A `Spec` of which the encoder reads the sizes, norm_eps and activation; n_segments: rows of the segment table,
    where the file has one."""

    n_segments: int = 0


class Encoder:
    """An encoder with its weights: `weights` maps GGUF tensor names to `Weight` (matrices) and float32 vectors."""

    def __init__(self, spec: EncoderSpec, weights: Mapping[str, Any]) -> None:
        self.spec = spec
        self.token_embd: Weight = weights["token_embd.weight"]
        self.position_embd: Weight = weights["position_embd.weight"]
        self.token_types: Weight | None = weights.get("token_types.weight")
        self.embedding_norm = _norm(spec, weights, "token_embd_norm")
        self.blocks = [_block(spec, i, weights) for i in range(spec.n_layer)]

    def cache_spec(self) -> CacheSpec:
        """The cache that `hidden` takes."""
        return self.spec.cache_spec()

    def hidden(self, step: Step, cache: Cache) -> Any:
        """The rows after the last layer: (T, C). step.see_to is the last row of each one's text, step.positions has the
        positions and, where the model has segments, those in a second plane."""
        x = embed(step, self.token_embd)
        if self.token_types is not None:
            x = add(x, lookup(self.token_types, step, plane=SEGMENTS))
        x = self.embedding_norm(add(x, lookup(self.position_embd, step)))
        for block in self.blocks:
            x = block(x, step, cache)
        return x

    def forward(self, step: Step, cache: Cache) -> NoReturn:
        """There are no logits. Raises WrongKindOfModel."""
        raise WrongKindOfModel("logits", "an encoder, which has none", "`embed` texts and give `hidden` rows")

    def logits(self, x: Any) -> NoReturn:
        """There are no logits. Raises WrongKindOfModel."""
        raise WrongKindOfModel("logits", "an encoder, which has none", "`embed` texts and give `hidden` rows")


def _block(spec: EncoderSpec, i: int, weights: Mapping[str, Any]) -> TransformerBlock:
    """Layer i, from the tensors blk.i.*: post-norm, the sums are normalised, not what goes into the halves."""

    def w(name: str) -> Any:
        return weights.get(f"blk.{i}.{name}")

    cache_class, layer = spec.cache_spec().layers[i]
    attention = MultiHeadAttention.named(
        w,
        heads=spec.n_head,
        kv_heads=spec.n_head_kv,
        scale=spec.scale,
        rope=None,
        cache_class=cache_class,
        layer=layer,
    )
    feed_forward = FeedForward.named(w, spec.activation)
    attn_norm = _norm(spec, weights, f"blk.{i}.attn_output_norm")
    ffn_norm = _norm(spec, weights, f"blk.{i}.layer_output_norm")
    return TransformerBlock(attn_norm, attention, ffn_norm, feed_forward, norm_sums=True)


def encoder_tensors(spec: EncoderSpec) -> TensorTable:
    """The tensors of an encoder. Matrices are (rows, cols) = (out, in)."""
    c, f, q, kv = spec.n_embd, spec.n_ff, spec.n_head * spec.head_dim, spec.n_head_kv * spec.head_dim
    required: dict[str, Shape] = {
        "token_embd.weight": (spec.n_vocab, c),
        "position_embd.weight": (spec.n_ctx, c),
        "token_embd_norm.weight": (c,),
        "token_embd_norm.bias": (c,),
    }
    optional: dict[str, Shape] = {"token_types.weight": (spec.n_segments, c)} if spec.n_segments else {}
    products: dict[str, Shape] = {"attn_q": (q, c), "attn_k": (kv, c), "attn_v": (kv, c), "attn_output": (c, q)}
    for i in range(spec.n_layer):
        p = f"blk.{i}."
        for name, shape in (products | {"ffn_up": (f, c), "ffn_down": (c, f)}).items():
            required[f"{p}{name}.weight"] = shape
            optional[f"{p}{name}.bias"] = shape[:1]
        for name in ("attn_output_norm", "layer_output_norm"):
            required |= {f"{p}{name}.weight": (c,), f"{p}{name}.bias": (c,)}
    return TensorTable(required, optional)


def _norm(spec: EncoderSpec, weights: Mapping[str, Any], name: str) -> LayerNorm:
    weight: F32 = weights[f"{name}.weight"]
    return LayerNorm(weight, weights[f"{name}.bias"], spec.norm_eps)
