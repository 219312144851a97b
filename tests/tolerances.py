"""How far a kernel may be from its formula: bounds derived from the arithmetic, one function per kernel, none fitted.

u = 2^-24 is half the distance from 1 to the next float32: each operation has a relative error of at most u. Sums of n
terms are bounded by n u sum|terms|, whatever their order, so the bounds hold for every ISA variant (and for the two
roundings of a multiply-add without the fused instruction). FLUSH is what a result below the normal range may lose.

All take float64 arrays, the exact values of the float32 inputs, and return absolute bounds of the result's shape.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

U = 2.0**-24
FLUSH = 2.0**-126
Array = npt.NDArray[np.float64]

# Relative error of the vector exp, with room over the 1.3 u that the C selftest measures.
EXP = 3 * U
# Errors of the activation functions: relative to the result, or to |x| for those of the form x * gate(x).
# They are the limits of kernels/rows_math.h, which the C selftest holds over all exponents.
RELATIVE = {"tanh": 4 * U, "sigmoid": 6 * U, "exp": EXP}
GATED = {"gelu": 5 * U, "gelu_tanh": 6 * U, "silu": 5 * U, "gelu_quick": 6 * U}


def activation(name: str, x: Array, result: Array) -> Array:
    """Error of act(x), its exact value being `result`."""
    if name == "relu":
        return np.zeros_like(x)
    if name == "relu_squared":  # one product
        return U * np.abs(result) + FLUSH
    if name in RELATIVE:
        bound = RELATIVE[name] * np.abs(result) + FLUSH
        # e^-x overflows from 88.7 on: the quotient is then 0, and exactly e^x, below 2^-126.
        return np.where((np.abs(x) > 80) & (name == "sigmoid"), bound + 2 * FLUSH, bound)
    # x * gate(x); where the gate has been flushed the error is |x| times a flushed gate
    return GATED[name] * np.abs(x) + FLUSH * (1 + np.abs(x))


def glu(name: str, gate: Array, up: Array, act: Array) -> Array:
    """act(gate) * up: the activation's error times |up|, and one rounding."""
    return (activation(name, gate, act) * (1 + U) + U * np.abs(act)) * np.abs(up) + FLUSH


def softcap(x: Array, cap: float, result: Array) -> Array:
    """cap * tanh(x / cap): the division moves the argument by u, and x tanh'(x) <= tanh(x); tanh; a product."""
    return np.asarray((RELATIVE["tanh"] + 2 * U) * np.abs(result) + FLUSH * (1 + cap))


def rms_norm(x: Array, result: Array, w: Array | None) -> Array:
    """x * inv * w: the sum of m squares within (m + 1) u, halved by the root; sum/m, + eps, root, inverse, products."""
    m = x.shape[-1]
    return np.asarray(((m + 1) / 2 + 6) * U * np.abs(result) + FLUSH * (1 + (0 if w is None else np.abs(w))))


def layer_norm(x: Array, w: Array | None, b: Array | None, eps: float) -> Array:
    """(x - mean) * inv * w + b.

    The mean is off by e = (m + 1) u mean|x|, so every difference by e + u|d|. Squared and summed, the cross term with e
    vanishes (differences sum to 0): the variance is off by e^2 + (m + 6) u (var + e^2). What that does to 1/sqrt is
    taken exactly, not to first order, since a variance smaller than its error is allowed to be lost.
    """
    m = x.shape[-1]
    mean = x.mean(-1, keepdims=True)
    d = x - mean
    var = (d * d).mean(-1, keepdims=True)
    e = (m + 1) * U * np.abs(x).mean(-1, keepdims=True)
    off = e * e + (m + 6) * U * (var + e * e + eps)
    inv = 1 / np.sqrt(var + eps)
    low, high = 1 / np.sqrt(var + eps + off), 1 / np.sqrt(np.maximum(var + eps - off, FLUSH))
    d_off = e + U * np.abs(d)
    bound = np.abs(d) * np.maximum(high - inv, inv - low) + d_off * high + 4 * U * (np.abs(d) + d_off) * high
    if w is not None:
        bound = bound * np.abs(w) + U * np.abs(d * inv * w)
    final = d * inv * (1 if w is None else w) + (0 if b is None else b)
    return np.asarray(bound + U * np.abs(final) + FLUSH * (1 + (0 if w is None else np.abs(w))))


def softmax(y: Array, result: Array) -> Array:
    """exp(y - top) / sum, y = scale * x.

    y and top are off by u each relative to themselves, their difference by u once more: e. exp turns e into a factor,
    and has an error of its own; the sum of blocks of 512 values in L >= 4 lanes has 128 + log2 L terms; then 1/sum and
    a product.
    """
    finite = np.where(np.isfinite(y), y, 0)
    size = np.abs(finite).max(-1, keepdims=True, initial=0)
    e = 2 * U * size + U * 2 * size
    factor = 2 * e + 2 * EXP + (min(y.shape[-1], 132) + 4) * U
    return np.asarray(result * np.expm1(factor) + FLUSH)


def rope(x: Array, partner: Array, angle: Array, scale: float) -> Array:
    """x cos + y sin: table entries within 1.02 u, times scale, two products and a sum; large angles carry their own
    error.

    The angle is a double product reduced by pi/2 in two parts: 2^-51 of itself.
    """
    table = 3 * U + np.abs(angle) * 2.0**-51
    return np.asarray((table + 3 * U) * (np.abs(x) + np.abs(partner)) * abs(scale) + FLUSH * (1 + abs(scale)))


def product(a: Array, b: Array) -> Array:
    """a (M, K) @ b (K, N), any order of additions, with or without fusing: (K + 1) u sum |a||b|."""
    k = a.shape[-1]
    return np.asarray((k + 1) * U * (np.abs(a) @ np.abs(b)) + (k + 1) * FLUSH)


def attention(q: Array, k: Array, v: Array, scale: float, cap: float, bias: Array | None = None) -> Array:
    """softmax(softcap(scale k q) + bias) v of one query over what it sees.   q (dk,), k (P, dk), v (P, dv) -> (dv,)

    A score is a sum of dk products (two roundings each without fusing) and a product with the scale; its distance to
    the span's maximum, and that maximum's to the largest so far, are rounded once more, each at most twice the largest
    score. tanh has an error of its own, and no slope above 1. A bias is a product of a rounded factor: two roundings,
    one more of the sum, and it counts in the distances to the maxima. Twice that error e (numerator and denominator)
    becomes a factor. Then exp, the span's sum of 64 weights, 64 products and sums of values, and per merge two factors
    (one of them exp) and two operations on the sum and on the values; a weight may be flushed.
    """
    size = (abs(scale) * (np.abs(k) @ np.abs(q))).max(initial=0)
    e = (2 * q.shape[0] + 5) * U * size + (cap * (RELATIVE["tanh"] + 3 * U) if cap else 0)
    s = scale * (k @ q)
    s = cap * np.tanh(s / cap) if cap else s
    if bias is not None:
        e, s = e + U * size + 8 * U * np.abs(bias).max(initial=0), s + bias
    w = np.exp(s - s.max())
    w /= w.sum()
    spans = len(k) // 64 + 2
    factor = np.expm1(2 * e) + 2 * EXP + (64 + 2 * 64 + 1) * U + spans * 2 * (EXP + 3 * U)
    return np.asarray(factor * (w @ np.abs(v)) + FLUSH * (1 + 2 * np.abs(v).sum(0)))
