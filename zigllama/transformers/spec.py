"""An architecture as data: how it differs from LLaMA.

`Spec` describes a decoder-only transformer as one value; the single decoder of layer 5 runs whatever it says. The defaults are LLaMA
(Touvron et al., 2023): RMSNorm before each half of a block, rotary positions on adjacent pairs, SwiGLU, no biases. An architecture's
own file fills in what is different and nothing else reads the architecture's name.

Names of hyper-parameters are GGUF's: n_layer, n_embd, n_head, n_head_kv, n_ff, n_vocab, n_ctx, head_dim, rope_dim.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

ROPE_INTERLEAVED, ROPE_HALF_SPLIT = 0, 1


@dataclass(frozen=True)
class RopeSpec:
    """Rotary embedding (Su et al., 2021) of a layer.

    mode   ROPE_INTERLEAVED rotates channels (2i, 2i+1), ROPE_HALF_SPLIT rotates (i, i + dim/2)
    dim    how many channels of a head are rotated
    base   theta: the angle of pair i at position p is p / base^(2i/dim) / factor
    """

    mode: int
    dim: int
    base: float
    factor: float = 1.0


@dataclass(frozen=True)
class LayerSpec:
    """What differs from layer to layer: the attention window (0 = sees everything before it) and its rotation (None = no RoPE)."""

    window: int
    rope: RopeSpec | None


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
    norm_eps: float = 1e-5
    norm: str = "rms"  # "rms" or "layer"
    activation: str = "silu"  # of the gated feed-forward: "silu" (SwiGLU), "gelu_tanh" (GeGLU)
    attn_scale: float | None = None  # None: 1 / sqrt(head_dim)
    attn_softcap: float = 0.0
    logit_softcap: float = 0.0
    qk_norm: bool = False  # RMSNorm over each head of q and k, before the rotation
    post_norm: bool = False  # a second norm on the result of each half, before it is added
    embedding_scale: float = 1.0

    @property
    def windows(self) -> tuple[int, ...]:
        """The distinct attention windows in ascending order, 0 (everything) first: the cache classes."""
        return tuple(sorted({layer.window for layer in self.layers}))

    @property
    def scale(self) -> float:
        """What q . k is multiplied with."""
        return float(self.head_dim**-0.5) if self.attn_scale is None else self.attn_scale


LayerRule = Callable[[int], LayerSpec]
