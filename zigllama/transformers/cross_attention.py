"""Cross-attention: the rows of one text ask what another one holds (Vaswani et al., 2017, arXiv 1706.03762).

Keys and values are made of a memory, an encoder's result, and stay the same for as long as the other text is written:
`store` puts them into a cache class of their own, once; each call then only makes queries. Every row sees the whole
memory of its sequence, whose last position stands in a plane of step.positions.

    cross.store(memory, step of the memory, cache)          k, v = W_k memory, W_v memory
    y = cross(x, step of the rows, cache)                   W_out attention(W_q x, k, v)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zigllama.foundation.runtime import F32, Step
from zigllama.linear_algebra.linear import Weight, linear
from zigllama.transformers.attention import attention, head_weights, kv_store
from zigllama.transformers.interfaces import Cache, CacheClass


@dataclass
class CrossAttention:
    """q (H*dk, C), k (G*dk, M), v (G*dv, M), out (C, H*dv) are weights, the biases vectors or None; M are the channels
    of the memory. `cache_class` and `layer` say where its keys are, `plane` of step.positions where they end (-1: there
    are none, and the row gets zeros)."""

    q: Weight
    k: Weight
    v: Weight
    out: Weight
    heads: int
    kv_heads: int
    scale: float
    cache_class: int
    layer: int
    plane: int = 1
    softcap: float = 0.0
    q_bias: F32 | None = None
    k_bias: F32 | None = None
    v_bias: F32 | None = None
    out_bias: F32 | None = None

    @classmethod
    def from_arrays(
        cls, q: Any, k: Any, v: Any, out: Any, *, heads: int, kv_heads: int = 0, scale: float | None = None, **rest: Any
    ) -> CrossAttention:
        """From float arrays; the class of its cache is 1, behind that of a block's own rows. kv_heads 0: `heads`; scale
        None: dk^-0.5; `rest` are fields. Raises ShapeError when heads or shapes do not fit together."""
        w = head_weights(q, k, v, out, heads, kv_heads or heads)
        scale = (w[0].rows // heads) ** -0.5 if scale is None else scale
        return cls(*w, heads=heads, kv_heads=kv_heads or heads, scale=scale, **{"cache_class": 1, "layer": 0, **rest})

    @property
    def cache_class_spec(self) -> CacheClass:
        """What this layer alone asks of a cache."""
        return CacheClass(0, 1, self.kv_heads, self.k.rows // self.kv_heads, self.v.rows // self.kv_heads)

    def store(self, memory: Any, step: Step, cache: Cache) -> None:
        """Keys and values of a memory (R, M), row t at step.cache_pos[t] of its sequence."""
        k, v = linear(memory, self.k, self.k_bias), linear(memory, self.v, self.v_bias)
        kv_store(k, v, step, cache.pages[self.cache_class], layer=self.layer)

    def __call__(self, x: Any, step: Step, cache: Cache) -> Any:
        """x (T, C) -> (T, C)"""
        o = attention(
            linear(x, self.q, self.q_bias),
            step,
            cache.pages[self.cache_class],
            layer=self.layer,
            heads=self.heads,
            scale=self.scale,
            softcap=self.softcap,
            memory=self.plane,
        )
        return linear(o, self.out, self.out_bias)
