"""The decoder of state-space models: embedding, layers of one mixer each, norm, output. No attention, no positions.

    x = embed(tokens);   x = x + mixer(norm(x)) for every layer;   logits = W_out norm(x)

What it is not: the mixers (transformers/state_space_block.py), or which tensors a file has (models/mamba.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from zigllama.foundation.runtime import F32, Step
from zigllama.linear_algebra.linear import Weight, embed, linear
from zigllama.neural_primitives.arithmetic import add, gather
from zigllama.neural_primitives.normalization import RMSNorm
from zigllama.transformers.interfaces import Cache, CacheSpec
from zigllama.transformers.state_space_block import Mamba2Mixer, MambaMixer, StateSpaceSpec


class StateSpaceDecoder:
    """A model with its weights: the methods of `Decoder`. `weights` maps GGUF tensor names to `Weight` and float32."""

    def __init__(self, spec: StateSpaceSpec, weights: Mapping[str, Any]) -> None:
        self.spec = spec
        self.token_embd: Weight = weights["token_embd.weight"]
        self.output: Weight = weights["output.weight"]
        self.output_norm = RMSNorm(weights["output_norm.weight"], spec.norm_eps)
        make = _mamba2 if spec.n_head else _mamba
        self.blocks = [
            (RMSNorm(weights[f"blk.{i}.attn_norm.weight"], spec.norm_eps), make(spec, i, weights))
            for i in range(spec.n_layer)
        ]

    def cache_spec(self) -> CacheSpec:
        """The cache that `forward` takes."""
        return self.spec.cache_spec()

    def hidden(self, step: Step, cache: Cache) -> Any:
        """The stream after the last layer, normalised: (T, C)."""
        return self.output_norm(self._stream(step, cache))

    def forward(self, step: Step, cache: Cache) -> Any:
        """Logits (R, V) of the rows step.out_rows."""
        return self.logits(self.wanted_rows(step, cache))

    def wanted_rows(self, step: Step, cache: Cache) -> Any:
        """`hidden` of the rows step.out_rows: (R, C)."""
        return self.output_norm(gather(self._stream(step, cache), step))

    def _stream(self, step: Step, cache: Cache) -> Any:
        x = embed(step, self.token_embd, scale=1.0)
        for norm, mixer in self.blocks:
            x = add(x, mixer(norm(x), step, cache))
        return x

    def logits(self, x: Any) -> Any:
        """Logits (R, V) of normalised rows (R, C) of the stream."""
        return linear(x, self.output)


def _across(x: F32) -> F32:
    """(channels, taps or states) as the file has it -> (taps or states, channels): channels are what vectors are of."""
    return np.ascontiguousarray(x.T)


def _mamba(spec: StateSpaceSpec, i: int, weights: Mapping[str, Any]) -> MambaMixer:
    """Layer i of Mamba."""

    def w(name: str) -> Any:
        return weights[f"blk.{i}.{name}"]

    return MambaMixer(
        w("ssm_in_x.weight"),
        w("ssm_in_z.weight"),
        _across(w("ssm_conv1d.weight")),
        w("ssm_conv1d.bias"),
        w("ssm_x_dt.weight"),
        w("ssm_x_b.weight"),
        w("ssm_x_c.weight"),
        w("ssm_dt.weight"),
        w("ssm_dt.bias"),
        _across(w("ssm_a")),
        w("ssm_d"),
        w("ssm_out.weight"),
        i,
        spec.dt_b_c_eps,
    )


def _mamba2(spec: StateSpaceSpec, i: int, weights: Mapping[str, Any]) -> Mamba2Mixer:
    """Layer i of Mamba 2."""

    def w(name: str) -> Any:
        return weights[f"blk.{i}.{name}"]

    return Mamba2Mixer(
        w("ssm_in_z.weight"),
        w("ssm_in_xbc.weight"),
        w("ssm_in_dt.weight"),
        _across(w("ssm_conv1d.weight")),
        w("ssm_conv1d.bias"),
        w("ssm_dt.bias"),
        w("ssm_a").reshape(-1),
        w("ssm_d").reshape(-1),
        w("ssm_norm.weight").reshape(-1),
        w("ssm_out.weight"),
        i,
        spec.n_state,
        spec.n_group,
        spec.norm_eps,
    )
