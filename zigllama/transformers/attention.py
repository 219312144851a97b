"""Attention: every row asks, with its query, what the rows before it hold.

    scores  s[p] = softcap(scale * q . k[p])          for the cache positions p that the row may see
                 + slope[h] * (p - the row's own)     with ALiBi (embeddings.alibi_slopes)
    weights w    = softmax(s)
    output  o    = sum_p w[p] v[p]                     (Vaswani et al., 2017, arXiv 1706.03762)

Keys and values live in pages of 64 positions (see interfaces.py), in float32, float16 or blocks of 8 bits, and are
always read back from there, also those of the chunk that is being read: so a prompt read in one chunk or in many gives
the same numbers. A key page is stored as [4 groups][channel][16 keys], so that one vector register holds one channel of
16 keys; a value page as [key][channel] (cache_pages.py).

A row may also look at what another step has stored, a memory (cross-attention, cross_attention.py): then a plane of
step.positions says how far, and the row's own position counts for nothing.

H query heads share G <= H key/value heads (Ainslie et al., 2023, arXiv 2305.13245): query head h reads head h * G // H.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from zigllama.errors import InvalidArgument, ShapeError
from zigllama.foundation.opcodes import Opcode
from zigllama.foundation.runtime import F32, Lowered, Step, cols_of, op
from zigllama.linear_algebra.linear import Weight, linear
from zigllama.neural_primitives.embeddings import RoPE
from zigllama.neural_primitives.normalization import rms_norm
from zigllama.transformers.cache_pages import read_pages, write_rows
from zigllama.transformers.interfaces import PAGE, Cache, CacheClass


@op(code=Opcode.KV_STORE, lower=lambda k, v, step, cache, *, layer: Lowered([k, v, cache], [], ints=[layer]))
def kv_store(k: Any, v: Any, step: Any, cache: Any, *, layer: int) -> None:
    """Write row t of k and v at position cache_pos[t] of its sequence.   k (T, G*dk), v (T, G*dv)

    `layer` counts within the cache's class. Raises ShapeError.
    """
    n = len(k)
    if k.shape != (n, cache.n_kv * cache.dk) or v.shape != (n, cache.n_kv * cache.dv):
        heads = f"{cache.n_kv} heads of {cache.dk} and {cache.dv}"
        raise ShapeError(f"kv_store: k {k.shape}, v {v.shape}; the cache has {heads}")
    page = step.tables[cache.cls][step.seq, step.cache_pos // PAGE]
    at = step.cache_pos % PAGE
    write_rows(cache, layer, page, at, k.reshape(n, cache.n_kv, cache.dk), v.reshape(n, cache.n_kv, cache.dv))


def _check_heads(q: Any, cache: Any, heads: int) -> None:
    if heads < 1 or heads % cache.n_kv or cols_of(q) != heads * cache.dk:
        raise ShapeError(f"attention: q has shape {q.shape} for {heads} heads of {cache.dk}; {cache.n_kv} key heads")


def _check_slopes(slopes: F32 | None, heads: int, memory: int | None, window: int) -> None:
    if slopes is not None and slopes.shape != (heads,):
        raise ShapeError(f"attention: slopes of shape {slopes.shape} for {heads} heads")
    if memory is not None and (memory < 0 or window or slopes is not None):
        raise InvalidArgument(f"attention: memory by plane {memory}: no window ({window}) and no slopes go with it")


def _lower_attention(
    q: Any,
    step: Any,
    cache: Any,
    slopes: F32 | None = None,
    *,
    layer: int,
    heads: int,
    scale: float,
    window: int = 0,
    softcap: float = 0.0,
    memory: int | None = None,
) -> Lowered:
    _check_heads(q, cache, heads)
    _check_slopes(slopes, heads, memory, window)
    ints = [layer, heads, window, 0 if memory is None else memory + 1]
    return Lowered([q, cache, slopes], [heads * cache.dv], ints=ints, floats=[scale, softcap])


@op(code=Opcode.ATTENTION, lower=_lower_attention)
def attention(
    q: Any,
    step: Any,
    cache: Any,
    slopes: Any = None,
    *,
    layer: int,
    heads: int,
    scale: float,
    window: int = 0,
    softcap: float = 0.0,
    memory: int | None = None,
) -> Any:
    """softmax(softcap(scale * q k^T) + slope * (p - cache_pos)) v over the visible positions.

    q (T, H*dk), slopes (H,) or None -> (T, H*dv)

    Row t sees positions first <= p <= see_to[t]; first is 0, or max(0, cache_pos[t] - window + 1) with a window.
    With a `memory` it sees 0 <= p <= step.positions[memory][t] instead, wherever it stands itself. softcap(s) is
    c tanh(s / c), or s where c is 0. A row that sees nothing gets zeros. Raises ShapeError, InvalidArgument, and
    IndexOutOfRange for a plane that the step does not have.
    """
    _check_heads(q, cache, heads)
    _check_slopes(slopes, heads, memory, window)
    ends = step.see_to if memory is None else step.plane(memory)
    per, out = heads // cache.n_kv, np.zeros((len(q), heads, cache.dv), q.dtype)
    queries = q.reshape(len(q), cache.n_kv, per, cache.dk)
    for t in range(len(q)):
        last = int(ends[t])
        first = max(0, int(step.cache_pos[t]) - window + 1) if window else 0
        if last < first:
            continue
        keys, values = _read(cache, step, int(step.seq[t]), layer, first, last)
        s = np.einsum("ghd,gpd->ghp", queries[t], keys) * q.dtype.type(scale)
        if softcap:
            s = q.dtype.type(softcap) * np.tanh(s / q.dtype.type(softcap))
        if slopes is not None:
            distance = np.arange(first, last + 1, dtype=q.dtype) - q.dtype.type(step.cache_pos[t])
            s = s + slopes.astype(q.dtype).reshape(cache.n_kv, per, 1) * distance
        w = np.exp(s - s.max(axis=-1, keepdims=True))
        out[t] = (np.einsum("ghp,gpd->ghd", w, values) / w.sum(axis=-1, keepdims=True)).reshape(heads, cache.dv)
    return out.reshape(len(q), heads * cache.dv)


def _read(cache: Any, step: Step, seq: int, layer: int, first: int, last: int) -> tuple[F32, F32]:
    """Keys (G, P, dk) and values (G, P, dv) of positions first .. last, in float32."""
    numbers = step.tables[cache.cls][seq, first // PAGE : last // PAGE + 1]
    k, v = read_pages(cache, numbers, layer)
    skip = first // PAGE * PAGE
    part = slice(first - skip, last + 1 - skip)
    return k[:, part], v[:, part]


def head_weights(q: Any, k: Any, v: Any, out: Any, heads: int, kv_heads: int) -> tuple[Weight, Weight, Weight, Weight]:
    """The four weights of attention from float arrays. Raises ShapeError when heads or shapes do not fit together."""
    a, b, c, d = (Weight.from_array(x, f"attention {n}") for x, n in ((q, "q"), (k, "k"), (v, "v"), (out, "out")))
    shapes = [(w.rows, w.cols) for w in (a, b, c, d)]
    fits = heads >= 1 and kv_heads >= 1 and heads % kv_heads == 0 and shapes[0][0] % heads == 0
    dk = shapes[0][0] // heads if fits else 0
    fits = fits and shapes[1][0] == kv_heads * dk and shapes[2][0] % kv_heads == 0 and shapes[1][1] == shapes[2][1]
    if not fits or shapes[3][1] != heads * (shapes[2][0] // kv_heads):
        raise ShapeError(f"attention of {heads} heads over {kv_heads}: q, k, v, out are {shapes}")
    return a, b, c, d


@dataclass
class MultiHeadAttention:
    """The attention half of a block: project to q, k, v; rotate; store; attend; project back.

    q (H*dk, C), k (G*dk, C), v (G*dv, C), out (C, H*dv) are weights, q_bias .. out_bias vectors or None. q_norm and
    k_norm (dk,) normalise each head before the rotation (None: they do not), slopes (H,) are ALiBi's. `cache_class`
    and `layer` say where the keys go.
    """

    q: Weight
    k: Weight
    v: Weight
    out: Weight
    heads: int
    scale: float
    rope: RoPE | None
    cache_class: int
    layer: int
    kv_heads: int
    window: int = 0
    softcap: float = 0.0
    q_bias: F32 | None = None
    k_bias: F32 | None = None
    v_bias: F32 | None = None
    out_bias: F32 | None = None
    q_norm: F32 | None = None
    k_norm: F32 | None = None
    norm_eps: float = 1e-5
    slopes: F32 | None = None

    @classmethod
    def from_arrays(
        cls, q: Any, k: Any, v: Any, out: Any, *, heads: int, kv_heads: int = 0, scale: float | None = None, **rest: Any
    ) -> MultiHeadAttention:
        """From float arrays, in a layer and cache class of its own. kv_heads 0: `heads`; scale None: dk^-0.5; `rest`
        are fields. Raises ShapeError when heads or shapes do not fit together."""
        w = head_weights(q, k, v, out, heads, kv_heads or heads)
        one: dict[str, Any] = {"rope": None, "cache_class": 0, "layer": 0, **rest}
        scale = (w[0].rows // heads) ** -0.5 if scale is None else scale
        return cls(*w, heads=heads, kv_heads=kv_heads or heads, scale=scale, **one)

    @classmethod
    def named(cls, w: Callable[[str], Any], *, out: str = "attn_output", **rest: Any) -> MultiHeadAttention:
        """From a layer's tensors as files call them: attn_q, attn_k, attn_v and `out`, each with its bias where there
        is one. `w` gives a tensor by its name, None for a bias that there is not; `rest` are the other fields."""
        names = {"q": "attn_q", "k": "attn_k", "v": "attn_v", "out": out}
        weights = {field: w(f"{name}.weight") for field, name in names.items()}
        biases = {f"{field}_bias": w(f"{name}.bias") for field, name in names.items()}
        return cls(**weights, **biases, **rest)

    @property
    def cache_class_spec(self) -> CacheClass:
        """What this layer alone asks of a cache."""
        return CacheClass(self.window, 1, self.kv_heads, self.k.rows // self.kv_heads, self.v.rows // self.kv_heads)

    def __call__(self, x: Any, step: Step, cache: Cache) -> Any:
        """x (T, C) -> (T, C)"""
        q, k, v = linear(x, self.q, self.q_bias), linear(x, self.k, self.k_bias), linear(x, self.v, self.v_bias)
        if self.q_norm is not None:
            q, k = rms_norm(q, self.q_norm, eps=self.norm_eps), rms_norm(k, self.k_norm, eps=self.norm_eps)
        if self.rope is not None:
            q, k = self.rope(q, step, self.heads), self.rope(k, step, self.kv_heads)
        pages = cache.pages[self.cache_class]
        kv_store(k, v, step, pages, layer=self.layer)
        o = attention(
            q,
            step,
            pages,
            self.slopes,
            layer=self.layer,
            heads=self.heads,
            scale=self.scale,
            window=self.window,
            softcap=self.softcap,
        )
        return linear(o, self.out, self.out_bias)
