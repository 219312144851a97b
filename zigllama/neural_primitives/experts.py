"""Choosing experts, and products with their weights (Shazeer et al., 2017, arXiv 1701.06538; Jiang et al., 2024,
2401.04088).

    logits = x W_router^T                         (T, E)
    weights, ids = route(logits, k=k)             (T, k) each: which experts a row goes to, and how much each counts
    h = experts_gated(x, ids, gate, up)           (T, k F): act(gate_e x) * up_e x, side by side in the router's order
    y = experts_down(h, ids, weights, down)       (T, C): sum_j weights_j down_e(j) h_j, j ascending

The experts' matrices are a `Weight` with a stack. Each product is that of `linear` with the expert's matrix, bit for
bit, however many rows have chosen it; experts that no row chose are not read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from zigllama.errors import InvalidArgument, ShapeError, UnknownName
from zigllama.foundation.opcodes import Gating, Opcode
from zigllama.foundation.runtime import F32, I32, Lowered, cols_of, op
from zigllama.linear_algebra.linear import Weight, linear
from zigllama.neural_primitives.activations import activation_named, glu, sigmoid
from zigllama.neural_primitives.softmax import softmax

GATINGS = {
    "softmax": Gating.SOFTMAX_ALL,
    "softmax_chosen": Gating.SOFTMAX_CHOSEN,
    "sigmoid": Gating.SIGMOID_EACH,
    "sigmoid_share": Gating.SIGMOID_SHARE,
}


def gating_named(name: str) -> Gating:
    """The gating of that name. Raises UnknownName."""
    if name not in GATINGS:
        raise UnknownName("gating", name, tuple(GATINGS))
    return GATINGS[name]


def expert_ids(ids: F32) -> I32:
    """A router's ids (T, k) as int32: between ops they are bits in float32."""
    return ids.view(np.int32)


@op(
    code=Opcode.ROUTE,
    lower=lambda x, *, k, gating="softmax": Lowered([x], [k, k], ints=[k, gating_named(gating)]),
    rowwise=True,
)
def route(x: Any, *, k: int, gating: str = "softmax") -> Any:
    """The k largest logits of each row, descending: their weights and ids.

    x (T, E) -> weights (T, k), ids (T, k): int32 as bits in float32, `expert_ids` reads them

        softmax          softmax over all E: the chosen ones' shares (Qwen 2)
        softmax_chosen   softmax over the k chosen: those shares divided by their sum (Mixtral, Qwen 3)
        sigmoid          the sigmoid of each
        sigmoid_share    divided by their sum

    Of equal logits the lower id comes first, -0 and +0 are equal, and NaN comes before every number: its weight is NaN.
    Raises InvalidArgument when k is not within 1 and E, UnknownName.
    """
    kind, n = gating_named(gating), x.shape[-1]
    if not 1 <= k <= n:
        raise InvalidArgument(f"route: k is {k}, want 1 to {n}")
    ids = np.array([np.lexsort((np.arange(n), -row, ~np.isnan(row)))[:k] for row in x], np.int32).reshape(len(x), k)
    chosen, bits = np.take_along_axis(x, ids, 1), ids.view(np.float32)
    if kind == Gating.SOFTMAX_ALL:
        return np.take_along_axis(softmax.ref(x), ids, 1), bits
    if kind == Gating.SOFTMAX_CHOSEN:
        return softmax.ref(chosen), bits
    each = sigmoid.ref(chosen)
    if kind == Gating.SIGMOID_SHARE:
        with np.errstate(invalid="ignore"):
            each = each / each.sum(-1, keepdims=True)
    return each, bits


def _by_expert(x: F32, ids: I32, weight: Weight, product: Callable[[F32, int], F32], cols: int) -> F32:
    """product(rows of x, expert) for the rows that chose each expert; NaN for an id that no expert has."""
    out = np.full((len(x), cols), np.nan, np.float32)
    for e in range(weight.stack):
        if len(mine := np.flatnonzero(ids == e)):
            out[mine] = product(x[mine], e)
    return out


def _check(name: str, cols: int, want: int, *weights: Weight) -> None:
    shapes = {(w.stack, w.rows, w.cols) for w in weights}
    if len(shapes) > 1 or cols != want:
        raise ShapeError(f"{name}: {cols} columns, want {want}; experts' matrices are {sorted(shapes)}")


def _lower_gated(x: Any, ids: Any, gate: Weight, up: Weight, *, activation: str = "silu") -> Lowered:
    cols = cols_of(ids) * (gate.rows // gate.stack)
    return Lowered([x, ids, gate, up], [cols], ints=[activation_named(activation)[1]])


@op(code=Opcode.EXPERTS_GATED, lower=_lower_gated, rowwise=True)
def experts_gated(x: Any, ids: Any, gate: Any, up: Any, *, activation: str = "silu") -> Any:
    """act(gate_e x) * up_e x for each expert e that a row chose, side by side in the router's order.

    x (T, C), ids (T, k), gate and up: stacks of E matrices (F, C) -> (T, k F)

    An id that no expert has gives NaN. Raises ShapeError, UnknownName.
    """
    _check("experts_gated", x.shape[1], gate.cols, gate, up)
    ids, f = expert_ids(ids), gate.rows // gate.stack

    def product(rows: F32, e: int) -> F32:
        made: F32 = glu.ref(linear.ref(rows, gate.matrix(e)), linear.ref(rows, up.matrix(e)), activation=activation)
        return made

    pairs = np.repeat(x, ids.shape[1], axis=0)
    return _by_expert(pairs, ids.reshape(-1), gate, product, f).reshape(len(x), -1)


def _lower_down(h: Any, ids: Any, weights: Any, down: Weight) -> Lowered:
    return Lowered([h, ids, weights, down], [down.rows // down.stack])


@op(code=Opcode.EXPERTS_DOWN, lower=_lower_down, rowwise=True)
def experts_down(h: Any, ids: Any, weights: Any, down: Any) -> Any:
    """sum_j weights_j down_e(j) h_j, j ascending: the chosen experts' results, weighted.

    h (T, k F), ids and weights (T, k), down: a stack of E matrices (C, F) -> (T, C)

    An id that no expert has gives NaN. Raises ShapeError.
    """
    ids = expert_ids(ids)
    t, k = ids.shape
    _check("experts_down", h.shape[1], k * down.cols, down)

    def product(rows: F32, e: int) -> F32:
        made: F32 = linear.ref(rows, down.matrix(e))
        return made

    y = _by_expert(h.reshape(t * k, -1), ids.reshape(-1), down, product, down.rows // down.stack).reshape(t, k, -1)
    out = weights[:, :1] * y[:, 0]
    for j in range(1, k):
        out = out + weights[:, j : j + 1] * y[:, j]
    return out
