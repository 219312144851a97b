"""The feed-forward half of a block: each row by itself.

y = W_down act(W_up x)                   plain (Vaswani et al., 2017): ReLU, later GELU
y = W_down (act(W_gate x) * W_up x)      gated (Shazeer, 2020): SwiGLU with SiLU, GeGLU with GELU, GLU with the sigmoid

each product with its bias, where the model has one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from zigllama.errors import ShapeError, UnknownName
from zigllama.foundation.runtime import F32
from zigllama.linear_algebra.linear import Weight, linear
from zigllama.neural_primitives.activations import activation_named, glu

# kind -> (gated, activation)
KINDS = {
    "standard": (False, "relu"),
    "gelu": (False, "gelu"),
    "swiglu": (True, "silu"),
    "geglu": (True, "gelu_tanh"),
    "glu": (True, "sigmoid"),
}


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

    @classmethod
    def from_arrays(
        cls, kind: str, up: Any, down: Any, gate: Any = None, *, activation: str | None = None, **biases: F32 | None
    ) -> FeedForward:
        """From float arrays, of a kind (KINDS): "standard" and "gelu" are plain, "swiglu", "geglu" and "glu" gated.
        `activation` takes another function for the kind's own; `biases` are fields. Raises UnknownName; ShapeError
        when shapes do not fit together, or a gate is missing or one too many."""
        if kind not in KINDS:
            raise UnknownName("feed-forward", kind, tuple(KINDS))
        gated, usual = KINDS[kind]
        u, d = Weight.from_array(up, "feed-forward up"), Weight.from_array(down, "feed-forward down")
        g = None if gate is None else Weight.from_array(gate, "feed-forward gate")
        if gated != (g is not None) or d.cols != u.rows or (g is not None and (g.rows, g.cols) != (u.rows, u.cols)):
            raise ShapeError(f"feed-forward {kind}: up is {u}, down {d}, gate {g}")
        return cls(g, u, d, activation or usual, **biases)

    @classmethod
    def named(cls, w: Callable[[str], Any], activation: str, *, gated: bool = False) -> FeedForward:
        """From a layer's tensors as files call them: ffn_up, ffn_down and, if `gated`, ffn_gate, each with its bias
        where there is one. `w` gives a tensor by its name, None for a bias that there is not. Raises UnknownName."""
        names = (["gate"] if gated else []) + ["up", "down"]
        fields = {name: w(f"ffn_{name}.weight") for name in names}
        fields |= {f"{name}_bias": w(f"ffn_{name}.bias") for name in names}
        return cls(**({"gate": None} | fields), activation=activation)

    def __call__(self, x: Any) -> Any:
        """x (T, C) -> (T, C)"""
        if self.gate is None:
            h = activation_named(self.activation)[0](linear(x, self.up, self.up_bias))
        else:
            gate, up = linear(x, self.gate, self.gate_bias), linear(x, self.up, self.up_bias)
            h = glu(gate, up, activation=self.activation)
        return linear(h, self.down, self.down_bias)
