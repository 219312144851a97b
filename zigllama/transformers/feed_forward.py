"""The feed-forward half of a block: each row by itself.

y = W_down act(W_up x)                   plain (Vaswani et al., 2017): ReLU, later GELU
y = W_down (act(W_gate x) * W_up x)      gated (Shazeer, 2020): SwiGLU with SiLU, GeGLU with GELU, GLU with the sigmoid

each product with its bias, where the model has one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zigllama.foundation.runtime import F32
from zigllama.linear_algebra.linear import Weight, linear
from zigllama.neural_primitives.activations import activation_named, glu


@dataclass
class FeedForward:
    """Feed-forward network: `gate` (None: plain), `up` (F, C) and `down` (C, F) are weights, `activation` names the
    function (activations.ACTIVATIONS), the biases are vectors or None.

    Raises UnknownName for an activation that there is not.
    """

    gate: Weight | None
    up: Weight
    down: Weight
    activation: str = "silu"
    gate_bias: F32 | None = None
    up_bias: F32 | None = None
    down_bias: F32 | None = None

    def __post_init__(self) -> None:
        activation_named(self.activation)

    def __call__(self, x: Any) -> Any:
        """x (T, C) -> (T, C)"""
        up = linear(x, self.up, self.up_bias)
        if self.gate is None:
            h = activation_named(self.activation)[0](up)
        else:
            h = glu(linear(x, self.gate, self.gate_bias), up, activation=self.activation)
        return linear(h, self.down, self.down_bias)
