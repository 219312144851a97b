"""The feed-forward half of a block: each row by itself.

y = W_down (act(W_gate x) * W_up x)      gated (Shazeer, 2020): SwiGLU with SiLU, GeGLU with GELU
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zigllama.linear_algebra.linear import Weight, linear
from zigllama.neural_primitives.activations import glu


@dataclass
class FeedForward:
    """Gated feed-forward network: `gate`, `up` (F, C) and `down` (C, F) are weights; `activation` names the gate's
    function."""

    gate: Weight
    up: Weight
    down: Weight
    activation: str = "silu"

    def __call__(self, x: Any) -> Any:
        """x (T, C) -> (T, C)"""
        return linear(glu(linear(x, self.gate), linear(x, self.up), activation=self.activation), self.down)
