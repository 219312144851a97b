"""A mixture of experts as the feed-forward half of a block (Shazeer et al., 2017, arXiv 1701.06538; Fedus et al., 2022,
2101.03961): a router sends each row to k of E gated feed-forward networks and adds their results by its weights.

    y = sum over the k chosen e of   w_e down_e (act(gate_e x) * up_e x)         w, e = route(W_router x)

A shared expert (Qwen 2) is one that every row goes to, weighted by the sigmoid of a logit of its own: a mixture of one
expert, whose result is added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zigllama.errors import InvalidArgument
from zigllama.linear_algebra.linear import Weight, linear
from zigllama.neural_primitives.activations import activation_named
from zigllama.neural_primitives.arithmetic import add
from zigllama.neural_primitives.experts import experts_down, experts_gated, gating_named, route


@dataclass
class MixtureOfExperts:
    """`router` (E, C); `gate` and `up` E matrices (F, C), `down` E matrices (C, F), as weights with a stack; each row
    goes to `k` of them. `gating` says how logits become weights (experts.GATINGS); `shared` is a mixture that is added.

    Raises InvalidArgument for a k that is not within 1 and E, UnknownName for an activation or a gating.
    """

    router: Weight
    gate: Weight
    up: Weight
    down: Weight
    k: int
    activation: str = "silu"
    gating: str = "softmax_chosen"
    shared: MixtureOfExperts | None = None

    def __post_init__(self) -> None:
        activation_named(self.activation)
        gating_named(self.gating)
        if not 1 <= self.k <= self.router.rows:
            raise InvalidArgument(f"{self.k} of {self.router.rows} experts per row")

    def __call__(self, x: Any) -> Any:
        """x (T, C) -> (T, C)"""
        weights, ids = route(linear(x, self.router), k=self.k, gating=self.gating)
        h = experts_gated(x, ids, self.gate, self.up, activation=self.activation)
        y = experts_down(h, ids, weights, self.down)
        return y if self.shared is None else add(y, self.shared(x))
