"""The mixers of state-space models: what stands where a transformer has attention.

    Mamba       x, z = in(u)             x = short_conv(x)     dt, B, C = from x     y = selective_scan(x, dt, B, C)
    Mamba 2     z, x|B|C, dt = in(u)     all of x|B|C convolved                      y = dual_scan(x|B|C, dt)

and then out(y * silu(z)), which Mamba 2 normalises first. Each leaves its state in a cache class of its own kind.

What it is not: a block's norm and its residual; the decoder adds them (models/state_space_decoder.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zigllama.foundation.runtime import F32, Step
from zigllama.linear_algebra.linear import Weight, linear
from zigllama.neural_primitives.activations import glu
from zigllama.neural_primitives.normalization import rms_norm
from zigllama.neural_primitives.state_space import dual_scan, selective_scan, short_conv
from zigllama.transformers.interfaces import Cache, CacheClass, CacheSpec


@dataclass(frozen=True)
class StateSpaceSpec:
    """A decoder of state-space layers. C = n_embd, I = n_inner channels inside, N = n_state, K = n_conv taps.

    n_head     0: Mamba, a decay per channel and state; else Mamba 2: heads of I / n_head channels with one decay each
    dt_rank    columns of the product that dt is made by (Mamba)
    n_group    groups of heads that share B and C (Mamba 2)
    dt_b_c_eps epsilon of the norms of dt, B and C (FalconMamba), None: they are used as they are
    """

    n_layer: int
    n_embd: int
    n_inner: int
    n_state: int
    n_conv: int
    n_vocab: int
    n_ctx: int
    n_head: int = 0
    n_group: int = 1
    dt_rank: int = 0
    dt_b_c_eps: float | None = None
    norm_eps: float = 1e-5

    @property
    def causal(self) -> bool:
        """A state knows of what came before it only."""
        return True

    @property
    def n_head_kv(self) -> int:
        """There is no attention."""
        return 0

    @property
    def n_ff(self) -> int:
        """There is no feed-forward network."""
        return 0

    @property
    def conv_dim(self) -> int:
        """Channels of the convolution: x, and of Mamba 2 B and C of every group too."""
        return self.n_inner + (2 * self.n_group * self.n_state if self.n_head else 0)

    def cache_spec(self) -> CacheSpec:
        """One class of states: the last inputs of the convolution, and the scan's h."""
        sizes = ((self.n_conv - 1) * self.conv_dim, self.n_inner * self.n_state)
        layers = tuple((0, i) for i in range(self.n_layer))
        return CacheSpec((CacheClass(0, self.n_layer, 1, *sizes, state=True),), layers)


@dataclass
class MambaMixer:
    """Mamba (Gu & Dao, 2023, arXiv 2312.00752, section 3.4).

    x, z (I, C), dt_in (R, I), b, c (N, I), dt (I, R), out (C, I) are weights; conv (K, I), a (N, I), conv_bias, dt_bias
    and d (I,) float32. `layer` is the place in the cache. norm_eps: of dt, B and C, None where they are not normalised.
    """

    x: Weight
    z: Weight
    conv: F32
    conv_bias: F32
    dt_in: Weight
    b: Weight
    c: Weight
    dt: Weight
    dt_bias: F32
    a: F32
    d: F32
    out: Weight
    layer: int
    norm_eps: float | None = None

    def __call__(self, u: Any, step: Step, cache: Cache) -> Any:
        """u (T, C) -> (T, C)"""
        pages = cache.pages[0]
        x, z = linear(u, self.x), linear(u, self.z)
        x = short_conv(x, self.conv, self.conv_bias, step, pages, layer=self.layer)
        dt, b, c = linear(x, self.dt_in), linear(x, self.b), linear(x, self.c)
        if self.norm_eps is not None:
            dt, b, c = (rms_norm(v, None, eps=self.norm_eps) for v in (dt, b, c))
        dt = linear(dt, self.dt, self.dt_bias)
        y = selective_scan(x, dt, b, c, self.a, self.d, step, pages, layer=self.layer)
        return linear(glu(z, y, activation="silu"), self.out)


@dataclass
class Mamba2Mixer:
    """Mamba 2 (Dao & Gu, 2024, arXiv 2405.21060, section 7), its heads in one matrix.

    z (I, C), xbc (I + 2GN, C), dt (H, C), out (C, I) are weights; conv (K, I + 2GN), conv_bias, dt_bias, a, d (H,) and
    norm (I,), whose groups are the heads' own, float32.
    """

    z: Weight
    xbc: Weight
    dt: Weight
    conv: F32
    conv_bias: F32
    dt_bias: F32
    a: F32
    d: F32
    norm: F32
    out: Weight
    layer: int
    states: int
    groups: int
    norm_eps: float

    def __call__(self, u: Any, step: Step, cache: Cache) -> Any:
        """u (T, C) -> (T, C)"""
        pages = cache.pages[0]
        z, xbc, dt = linear(u, self.z), linear(u, self.xbc), linear(u, self.dt, self.dt_bias)
        xbc = short_conv(xbc, self.conv, self.conv_bias, step, pages, layer=self.layer)
        y = dual_scan(xbc, dt, self.a, self.d, step, pages, layer=self.layer, states=self.states, groups=self.groups)
        y = rms_norm(glu(z, y, activation="silu"), self.norm, eps=self.norm_eps, group=len(self.norm) // self.groups)
        return linear(y, self.out)
