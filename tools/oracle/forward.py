"""The llama and gemma3 forward passes in float64 NumPy, from the papers and from nothing of ours.

Dimension letters: T tokens, P positions up to now, C channels, H heads, G key/value heads, D head size, F
feed-forward, V vocabulary.

What the two architectures share: pre-norm residual layers, RMSNorm (Zhang & Sennrich, 2019), rotary positions (Su et
al., 2021), grouped-query attention (Ainslie et al., 2023), a gated feed-forward (Shazeer, 2020). What gemma3 (Gemma 3
report, 2025) adds: embeddings times sqrt(C), RMSNorm of every query and key head, norms after attention and
feed-forward, tanh-GELU for SiLU, and windows of W positions with a rotary base of their own in five layers of six.

Where the references might be read in two ways:

- Rotary pairing.  The llama converter permutes the rows of q and k so that GGUF rotates neighbours (2i, 2i+1); gemma3
  keeps the halves (i, i + D/2).
- Window.  Position p sees key j when p - W < j <= p: W keys, itself included.  transformers
  (`kv_idx > q_idx - sliding_window`) and llama.cpp (`p1 - p0 >= n_swa` is masked) say the same.
- Gemma's RMSNorm multiplies by (1 + w); the converter has added the 1 already, the file's w is used as it stands.
- Embedding scale.  sqrt(C) in full precision.  The bfloat16 checkpoint run in bfloat16 rounds it (25.25 for 25.298
  at C = 640); in float32 transformers does not, nor does llama.cpp.
- Attention scale.  1 / sqrt(D), gemma3's `query_pre_attn_scalar` being D in every size but 27B, where it is C / H.
- Local rotary base.  10,000 when the file has no key `rope.freq_base_swa`; `rope.scaling` belongs to the global
  layers alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .weights import Array, Weights

SUPPORTED = ("llama", "gemma3")


def rms_norm(x: Array, w: Array, eps: float) -> Array:
    """x / sqrt(mean(x^2) + eps) * w over the last axis."""
    return np.asarray(x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * w)


def silu(x: Array) -> Array:
    """x * sigmoid(x)."""
    return x / (1.0 + np.exp(-x))


def gelu_tanh(x: Array) -> Array:
    """The tanh form of GELU (Hendrycks & Gimpel, 2016)."""
    return np.asarray(0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3))))


def softmax(x: Array) -> Array:
    """exp(x) / sum(exp(x)) over the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


class Cache:
    """Rotated keys and values of every layer, (P, G, D) each, and the number P of positions held."""

    def __init__(self, n_layer: int) -> None:
        self.k: list[Array | None] = [None] * n_layer
        self.v: list[Array | None] = [None] * n_layer
        self.n = 0

    def extend(self, layer: int, k: Array, v: Array) -> tuple[Array, Array]:
        """Append this chunk's keys and values to a layer, give back all of them."""
        old_k, old_v = self.k[layer], self.v[layer]
        self.k[layer] = new_k = k if old_k is None else np.concatenate([old_k, k])
        self.v[layer] = new_v = v if old_v is None else np.concatenate([old_v, v])
        return new_k, new_v


class FloatModel:
    """One GGUF file evaluated in float64."""

    def __init__(self, path: str | Path) -> None:
        w = self.w = Weights(path)
        self.arch = str(w.metadata["general.architecture"])
        if self.arch not in SUPPORTED:
            raise ValueError(f"{path}: architecture {self.arch!r}, this evaluation knows {SUPPORTED}")
        self.gemma = self.arch == "gemma3"
        self.n_layer = int(w.need("block_count"))
        self.n_embd = int(w.need("embedding_length"))
        self.n_head = int(w.need("attention.head_count"))
        self.n_head_kv = int(w.get("attention.head_count_kv", self.n_head))
        self.head_dim = int(w.get("attention.key_length", self.n_embd // self.n_head))
        self.rope_dim = int(w.get("rope.dimension_count", self.head_dim))
        self.eps = float(w.need("attention.layer_norm_rms_epsilon"))
        self.window = int(w.get("attention.sliding_window", 0)) if self.gemma else 0
        self.pattern = w.get("attention.sliding_window_pattern", 6)
        self.base = float(w.get("rope.freq_base", 10000.0))
        self.base_local = float(w.get("rope.freq_base_swa", 10000.0))
        self.softcap = float(w.get("final_logit_softcapping", 0.0))
        if self.gemma and self.n_layer == 62:  # 27B, the one size whose query_pre_attn_scalar is not D
            self.scale = (self.n_embd / self.n_head) ** -0.5
        else:
            self.scale = float(w.get("attention.scale", 0.0)) or self.head_dim**-0.5
        scaling = w.get("rope.scaling.type", "none")
        if scaling not in ("none", "linear"):
            raise ValueError(f"{path}: rope scaling {scaling!r} is not part of this evaluation")
        self.rope_factor = float(w.get("rope.scaling.factor", 1.0)) if scaling == "linear" else 1.0
        self.rope_freqs = w["rope_freqs.weight"] if "rope_freqs.weight" in w else np.ones(self.rope_dim // 2)
        self.output = w["output.weight"] if "output.weight" in w else w["token_embd.weight"]
        self.n_vocab = self.output.shape[0]

    def is_local(self, layer: int) -> bool:
        """Whether a layer sees a window: the file's own list, or all but every `pattern`-th."""
        if not self.window:
            return False
        if isinstance(self.pattern, list | tuple):
            return bool(self.pattern[layer])
        return layer % int(self.pattern) < int(self.pattern) - 1

    def linear(self, x: Array, name: str) -> Array:
        """x @ w.T (+ b, where the file has one)."""
        y = x @ self.w[name + ".weight"].T
        return y + self.w[name + ".bias"] if name + ".bias" in self.w else y

    def norm(self, x: Array, name: str) -> Array:
        """RMSNorm with the file's epsilon."""
        return rms_norm(x, self.w[name + ".weight"], self.eps)

    def rope(self, x: Array, start: int, local: bool) -> Array:
        """Turn pair i of every head by position * base^(-2i/R).   x (T, heads, D), R = rope_dim channels are turned"""
        half = self.rope_dim // 2
        base, factor = (self.base_local, 1.0) if local else (self.base, self.rope_factor)
        freq = base ** (-np.arange(half) / half) / self.rope_freqs / factor
        angle = np.arange(start, start + len(x))[:, None] * freq  # (T, R/2)
        cos, sin = np.cos(angle)[:, None, :], np.sin(angle)[:, None, :]
        first, second = (
            (np.s_[..., :half], np.s_[..., half : 2 * half])
            if self.gemma
            else (np.s_[..., 0 : 2 * half : 2], np.s_[..., 1 : 2 * half : 2])
        )
        y = x.copy()
        y[first] = x[first] * cos - x[second] * sin
        y[second] = x[first] * sin + x[second] * cos
        return y

    def attention(self, x: Array, i: int, cache: Cache) -> Array:
        """Causal grouped-query attention of layer i.   x (T, C) -> (T, C)"""
        n_tokens, local, p = len(x), self.is_local(i), f"blk.{i}."
        q = self.linear(x, p + "attn_q").reshape(n_tokens, self.n_head, self.head_dim)
        k = self.linear(x, p + "attn_k").reshape(n_tokens, self.n_head_kv, self.head_dim)
        v = self.linear(x, p + "attn_v").reshape(n_tokens, self.n_head_kv, -1)
        if self.gemma:
            q, k = self.norm(q, p + "attn_q_norm"), self.norm(k, p + "attn_k_norm")
        k, v = cache.extend(i, self.rope(k, cache.n, local), v)
        q = self.rope(q, cache.n, local)
        here = np.arange(cache.n, cache.n + n_tokens)[:, None]  # (T, 1)
        key = np.arange(len(k))[None, :]  # (1, P)
        visible = key <= here
        if local:
            visible &= key > here - self.window
        out = np.empty((n_tokens, self.n_head, v.shape[-1]))
        for head in range(self.n_head):
            group = head * self.n_head_kv // self.n_head
            scores = np.where(visible, q[:, head] @ k[:, group].T * self.scale, -np.inf)
            out[:, head] = softmax(scores) @ v[:, group]
        return self.linear(out.reshape(n_tokens, -1), p + "attn_output")

    def feed_forward(self, x: Array, i: int) -> Array:
        """down(act(gate(x)) * up(x)).   (T, C) -> (T, C)"""
        act = gelu_tanh if self.gemma else silu
        p = f"blk.{i}.ffn_"
        return self.linear(act(self.linear(x, p + "gate")) * self.linear(x, p + "up"), p + "down")

    def hidden(self, ids: Sequence[int], cache: Cache) -> Array:
        """Hidden states after the last norm, for tokens that follow what the cache holds.   -> (T, C)"""
        x = self.w["token_embd.weight"][list(ids)]
        if self.gemma:
            x = x * np.sqrt(self.n_embd)
        for i in range(self.n_layer):
            a = self.attention(self.norm(x, f"blk.{i}.attn_norm"), i, cache)
            x = x + (self.norm(a, f"blk.{i}.post_attention_norm") if self.gemma else a)
            f = self.feed_forward(self.norm(x, f"blk.{i}.ffn_norm"), i)
            x = x + (self.norm(f, f"blk.{i}.post_ffw_norm") if self.gemma else f)
        cache.n += len(ids)
        return self.norm(x, "output_norm")

    def head(self, hidden: Array) -> Array:
        """Logits of hidden states.   (T, C) -> (T, V)"""
        logits = hidden @ self.output.T
        if "output.bias" in self.w:
            logits = logits + self.w["output.bias"]
        return self.softcap * np.tanh(logits / self.softcap) if self.softcap else logits

    def logits(self, ids: Sequence[int], rows: Sequence[int] | None = None) -> Array:
        """Logits at every position, or at the given ones: a whole (T, V) can be gigabytes.   -> (rows, V)"""
        hidden = self.hidden(ids, Cache(self.n_layer))
        return self.head(hidden if rows is None else hidden[list(rows)])

    def greedy(self, ids: Sequence[int], n: int) -> tuple[list[int], list[float]]:
        """The n most likely next tokens in turn (ties to the lower id), and how far the second logit was below each."""
        cache, chunk = Cache(self.n_layer), list(ids)
        tokens: list[int] = []
        gaps: list[float] = []
        for _ in range(n):
            row = self.head(self.hidden(chunk, cache)[-1:])[0]
            token = int(np.argmax(row))
            second, first = np.partition(row, -2)[-2:]
            tokens.append(token)
            gaps.append(float(first - second))
            chunk = [token]
        return tokens, gaps
