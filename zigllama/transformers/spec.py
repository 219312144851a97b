"""An architecture as data: how it differs from LLaMA.

`Spec` describes a decoder-only transformer as one value; the single decoder of layer 5 runs whatever it says. The
defaults are LLaMA (Touvron et al., 2023, arXiv 2302.13971): RMSNorm before each half of a block, rotary positions,
SwiGLU, no biases. An architecture's own file fills in what is different, and nothing else reads the architecture's
name.

Names of hyper-parameters are GGUF's: n_layer, n_embd, n_head, n_head_kv, n_ff, n_vocab, n_ctx, head_dim.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from zigllama.foundation.runtime import F32
from zigllama.neural_primitives.embeddings import RoPE, alibi_slopes
from zigllama.transformers.interfaces import CacheClass, CacheSpec


class LayerSpec(NamedTuple):
    """What differs from layer to layer: the attention window (0: it sees all before it), and its rotation (None: no
    RoPE)."""

    window: int
    rope: RoPE | None


class ExpertSpec(NamedTuple):
    """Experts in the place of a layer's feed-forward network: how many there are, how many a row goes to, the size of
    each; how logits become weights (neural_primitives/experts.py); the size of a shared expert, 0: there is none; and
    the layers that have none of it but a plain feed-forward network."""

    n_expert: int
    n_used: int
    n_ff: int
    gating: str = "softmax_chosen"
    n_ff_shared: int = 0
    dense: tuple[int, ...] = ()


@dataclass(frozen=True)
class Spec:
    """A decoder-only transformer. Every field below the sizes defaults to LLaMA's choice."""

    n_layer: int
    n_embd: int
    n_head: int
    n_head_kv: int
    n_ff: int
    n_vocab: int
    n_ctx: int
    head_dim: int
    layers: tuple[LayerSpec, ...]
    norm: str = "rms"  # "rms" has a scale, "layer" a scale and a shift
    norm_eps: float = 1e-5
    activation: str = "silu"  # of the feed-forward: gated, "silu" is SwiGLU and "gelu_tanh" GeGLU
    gated: bool = True  # False: down(act(up(x)))
    parallel: bool = False  # both halves of a block read what came in: x + attention(norm(x)) + feed_forward(norm'(x))
    ffn_norm: bool = True  # False: norm' is the attention's norm, one for both halves
    norm_names: tuple[str, str] = ("attn_norm", "ffn_norm")  # what the file calls the norms of the two halves
    attn_scale: float | None = None  # what q . k is multiplied with; None: 1 / sqrt(head_dim)
    attn_softcap: float = 0.0
    logit_softcap: float = 0.0
    qk_norm: bool = False  # RMSNorm over each head of q and k, before the rotation
    post_norm: bool = False  # a second norm on the result of each half, before it is added
    embedding_scale: float = 1.0
    embedding_norm: bool = False  # a norm on the embeddings, before the first block
    learned_positions: bool = False  # a row per position, added to the token's; there are n_ctx rows and no more
    rope_divisors: tuple[str, ...] = ()  # vectors of the file; each rate of the rotation is divided by the first one's
    alibi: bool = False  # scores fall with the distance, at a slope of each head's own
    fused_qkv: bool = False  # the file holds q, k and v as one matrix, attn_qkv
    fused_gate: bool = False  # the file holds gate and up as one matrix, ffn_up
    causal: bool = True  # False: every row sees the whole text; an encoder, which continues nothing
    experts: ExpertSpec | None = None  # a mixture of experts instead of a feed-forward network
    biases: tuple[str, ...] = ()  # products that have a bias, by the names in the file; the others may have one

    @property
    def scale(self) -> float:
        """What q . k is multiplied with."""
        return float(self.head_dim**-0.5) if self.attn_scale is None else self.attn_scale

    @property
    def slopes(self) -> F32 | None:
        """ALiBi's slope of each head (n_head,), or None."""
        return alibi_slopes(self.n_head) if self.alibi else None

    def cache_spec(self) -> CacheSpec:
        """Layers grouped by window into cache classes, ascending, those that see everything first."""
        windows = sorted({layer.window for layer in self.layers})
        counts = [0] * len(windows)
        places = []
        for layer in self.layers:
            c = windows.index(layer.window)
            places.append((c, counts[c]))
            counts[c] += 1
        size = (self.n_head_kv, self.head_dim, self.head_dim)
        classes = tuple(CacheClass(w, n, *size) for w, n in zip(windows, counts, strict=True))
        return CacheSpec(classes, tuple(places))
