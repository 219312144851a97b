"""How far two correct executions of an op may be apart when both are given the same inputs.

u = 2^-24 is half the distance from 1 to the next float32, so each float32 operation is off by at most a factor 1 + u,
and a sum of n terms by n u sum|terms|, in whatever order it is taken. Each function below bounds the distance of one
execution from the formula; `bound` doubles it, for two executions. Nothing is fitted to what was measured.

What it is not: a bound on a whole model. There a rounding that falls to the other side moves everything after it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from zigllama.app.diff_bounds_state import dual_scan, selective_scan, short_conv
from zigllama.errors import InvalidArgument
from zigllama.linear_algebra.linear import linear
from zigllama.linear_algebra.quant_blocks import spread
from zigllama.linear_algebra.quantization import activation_block, dequantize, quantize_activation, unpack
from zigllama.neural_primitives.activations import activation_named
from zigllama.neural_primitives.experts import expert_ids
from zigllama.transformers.cache_pages import read_pages
from zigllama.transformers.interfaces import PAGE

U = 2.0**-24
FLUSH = 2.0**-126  # what a result below the normal range may lose
EXP, TANH = 3 * U, 4 * U  # relative error of the vector exp and tanh
CHUNK = 4096  # rows of a matrix whose magnitudes are looked at together

Array = npt.NDArray[np.float64]
Bound = Callable[[Any, dict[str, Any], Array], Any]


def bound(op_name: str, args: tuple[Any, ...], params: dict[str, Any], result: npt.NDArray[Any]) -> Array | float:
    """The largest |a - b| that two executions of this call may have, per element of `result`; 0 where bits must agree.

    args   as the op takes them, rows as arrays. Raises InvalidArgument for an op that no bound is known for.
    """
    one = _BOUNDS.get(op_name)
    if one is None:
        raise InvalidArgument(f"no bound is known for op {op_name!r}; these have one: {', '.join(_BOUNDS)}")
    with np.errstate(all="ignore"):
        limit: Array | float = 2 * one(args, params, np.asarray(result).astype(np.float64))
    return limit


def product(a: Array, b: Array) -> Array:
    """a (M, K) @ b (K, N), any order of additions: (K + 1) u sum |a||b|"""
    k = a.shape[-1]
    out: Array = (k + 1) * U * (np.abs(a) @ np.abs(b)) + (k + 1) * FLUSH
    return out


def _exact(args: Any, params: dict[str, Any], y: Array) -> float:
    """The same single operation, or a copy: the same bits."""
    return 0.0


def _relative(size: float) -> Bound:
    return lambda args, params, y: size * np.abs(y) + 3 * FLUSH


def _gated(size: float) -> Bound:
    """x * gate(x), the error relative to |x|"""
    return lambda args, params, y: size * np.abs(args[0].astype(np.float64)) + FLUSH * (1 + np.abs(args[0]))


def _glu(args: Any, params: dict[str, Any], y: Array) -> Any:
    """act(gate) * up: the activation's error times |up|, and one rounding"""
    gate, up = args[0].astype(np.float64), np.abs(args[1].astype(np.float64))
    name = params.get("activation", "sigmoid")
    size = np.abs(gate) if name in _GATED else np.ones_like(gate)
    return 9 * U * size * up + 2 * U * np.abs(y) + FLUSH * (1 + up)


def _rms_norm(args: Any, params: dict[str, Any], y: Array) -> Any:
    """The sum of m squares within (m + 1) u, halved by the root; /m, + eps, root, inverse, two products"""
    w = args[1]
    m = len(w) if w is not None else params.get("group") or y.shape[-1]
    return ((m + 1) / 2 + 6) * U * np.abs(y) + FLUSH * (1 + (0 if w is None else float(np.abs(w).max(initial=0))))


def _layer_norm(args: Any, params: dict[str, Any], y: Array) -> Any:
    """The mean is off by e = (m + 1) u mean|x|, each difference by e + u|d|, the variance by e^2 + (m + 6) u (...)"""
    x, w, b = args[0].astype(np.float64), args[1], args[2] if len(args) > 2 else None
    m = len(w) if w is not None else params.get("group") or x.shape[-1]
    g = x.reshape(*x.shape[:-1], -1, m)
    mean = g.mean(-1, keepdims=True)
    d, eps = np.abs(g - mean), params["eps"]
    var = (d * d).mean(-1, keepdims=True)
    e = (m + 1) * U * np.abs(g).mean(-1, keepdims=True)
    off = e * e + (m + 6) * U * (var + e * e + eps)
    inv = 1 / np.sqrt(var + eps)
    low, high = 1 / np.sqrt(var + eps + off), 1 / np.sqrt(np.maximum(var + eps - off, FLUSH))
    d_off = e + U * d
    out = d * np.maximum(high - inv, inv - low) + d_off * high + 5 * U * (d + d_off) * high
    if w is not None:
        out = out * np.abs(w)
    return out.reshape(x.shape) + 2 * U * (np.abs(y) + (0 if b is None else float(np.abs(b).max(initial=0)))) + FLUSH


def _softmax(args: Any, params: dict[str, Any], y: Array) -> Any:
    """x * scale and the maximum are off by u each, their difference too; exp; a sum of blocks of 512; a quotient"""
    x = args[0].astype(np.float64) * params.get("scale", 1.0)
    size = np.abs(np.where(np.isfinite(x), x, 0)).max(-1, keepdims=True, initial=0)
    factor = 8 * U * size + 2 * EXP + (min(x.shape[-1], 132) + 4) * U
    return y * np.expm1(factor) + FLUSH


def _softcap(args: Any, params: dict[str, Any], y: Array) -> Any:
    return (TANH + 2 * U) * np.abs(y) + FLUSH * (1 + abs(params["cap"]))


def _rope(args: Any, params: dict[str, Any], y: Array) -> Any:
    """x cos + y sin: the table's entries, two products and a sum; the angle, a double, carries 2^-51 of itself"""
    x, inverse, step = args[0], args[1], args[2]
    angle = np.abs(step.positions[params.get("plane", 0)]).astype(np.float64) * float(np.abs(inverse).max(initial=0))
    size = np.abs(x.astype(np.float64)).reshape(len(x), params["heads"], -1)
    pair = np.repeat(2 * size.max(-1, initial=0), size.shape[-1], axis=1)  # |x| and its partner's, whichever that is
    scale = abs(params.get("scale", 1.0))
    return (7 * U + angle[:, None] * 2.0**-51) * pair * scale + FLUSH * (1 + scale)


def _linear(args: Any, params: dict[str, Any], y: Array) -> Any:
    """Roundings of a product's terms and of their running sum, per scale of x or per product: n u sum |terms|."""
    x, weight, bias, residual = (*args, None, None)[:4]
    data = weight.data.reshape(weight.rows, -1)
    size = np.empty((len(x), weight.rows))
    quantised = weight.type.name not in ("F32", "F16", "BF16")
    per = activation_block(weight.type.name)
    n = weight.cols // per + 6 if quantised else weight.cols + 1
    if quantised:
        q, d, _ = quantize_activation(x, per)
        x = np.abs(q.astype(np.float32)) * np.repeat(d, 32, axis=1)
    for i in range(0, weight.rows, CHUNK):
        raw = data[i : i + CHUNK].reshape(-1)
        w = _magnitudes(raw, weight.type.name) if quantised else np.abs(dequantize(raw, weight.type.name))
        size[:, i : i + CHUNK] = np.abs(x) @ w.reshape(-1, weight.cols).T
    more = sum(np.abs(v.astype(np.float64)) for v in (bias, residual) if v is not None)
    # `size` itself is a float32 sum of positive terms: within cols u of its value
    return n * U * size * (1 + 2 * weight.cols * U) + 2 * U * (size + more) + (weight.cols + 1) * FLUSH


def _route(args: Any, params: dict[str, Any], y: Array) -> Any:
    """Ids (bits that are no normal float32) are the same; weights as softmax has them, or a sigmoid and its sum."""
    if np.abs(y).max(initial=0) < FLUSH / 2:
        return 0.0
    return _softmax((args[0],), {}, y) + (9 + params["k"]) * U * np.abs(y)


def _of_pairs(x: Any, ids: Any, weight: Any) -> tuple[Array, Array]:
    """Each row's product with its expert's matrix (pairs, N), and how far one execution of it may be off."""
    y, off = (np.zeros((len(x), weight.rows // weight.stack)) for _ in range(2))
    for e in np.unique(ids):
        mine, w = ids == e, weight.matrix(int(e))
        y[mine] = linear.ref(x[mine], w)
        off[mine] = _linear((x[mine], w), {}, y[mine])
    return y, off


def _experts_gated(args: Any, params: dict[str, Any], y: Array) -> Any:
    """Two products, and act(gate) * up of them, where |act(a) - act(b)| is at most 1.2 |a - b|"""
    x, ids, gate, up = args[:4]
    k, ids = ids.shape[1], expert_ids(ids).reshape(-1)
    pairs = np.repeat(x, k, axis=0)
    (g, g_off), (u, u_off) = _of_pairs(pairs, ids, gate), _of_pairs(pairs, ids, up)
    act = np.abs(activation_named(params.get("activation", "silu"))[0].ref(g))
    own = _glu((g, u), {"activation": params.get("activation", "silu")}, y.reshape(len(g), -1))
    return (1.2 * g_off * (np.abs(u) + u_off) + act * u_off + own).reshape(y.shape)


def _experts_down(args: Any, params: dict[str, Any], y: Array) -> Any:
    """Products, each times its weight, and their sum: k + 1 roundings"""
    h, ids, weights, down = args[:4]
    t, k = ids.shape
    z, off = _of_pairs(h.reshape(t * k, -1), expert_ids(ids).reshape(-1), down)
    w = np.abs(weights.astype(np.float64))[:, :, None]
    terms, errors = (v.reshape(t, k, -1) for v in (np.abs(z), off))
    return (w * ((k + 1) * U * terms + (1 + (k + 1) * U) * errors)).sum(1) + (k + 1) * FLUSH


def _magnitudes(raw: npt.NDArray[np.uint8], type_name: str) -> npt.NDArray[np.float32]:
    """|A (u - zero)| + |B| of each value: what one unit of activation can add to a block's terms"""
    b = unpack(raw, type_name)
    out = spread(np.abs(b.scales)) * np.abs(b.codes - b.zero).astype(np.float32)
    return out if b.minimums is None else out + spread(np.abs(b.minimums))


def _attention(args: Any, params: dict[str, Any], y: Array) -> Any:
    """A score is a sum of dk products: off by e = (dk + 3) u scale sum |q||k|, and through the cap a little more.

    In exp that is a factor e^e, for the score and for the maximum taken off; then sums of P terms, merged span by span.
    The quotient of two such sums is off by twice that, relative to the weighted mean of |v|.
    """
    q, step, cache = args[0].astype(np.float64), args[1], args[2]
    slopes = args[3] if len(args) > 3 else None
    heads, layer, scale, cap = params["heads"], params["layer"], params["scale"], params.get("softcap", 0.0)
    window, per, out = params.get("window", 0), params["heads"] // cache.n_kv, np.zeros((len(y), heads, cache.dv))
    for t in range(len(q)):
        memory = params.get("memory")
        n = int(step.see_to[t] if memory is None else step.positions[memory][t]) + 1
        first = max(0, int(step.cache_pos[t]) - window + 1) if window else 0
        if n <= first:
            continue
        pages = step.tables[cache.cls][int(step.seq[t]), first // PAGE : (n - 1) // PAGE + 1]
        seen = slice(first % PAGE, n - first // PAGE * PAGE)
        k, v = (x[:, seen].astype(np.float64) for x in read_pages(cache, pages, layer))
        row = q[t].reshape(cache.n_kv, per, -1)
        s, size = scale * (row @ k.transpose(0, 2, 1)), abs(scale) * (np.abs(row) @ np.abs(k).transpose(0, 2, 1))
        if cap:
            s = cap * np.tanh(s / cap)
        bias: Any = 0.0
        if slopes is not None:  # two roundings of the product with the distance, one of the sum
            away = np.arange(first, n) - int(step.cache_pos[t])
            bias = slopes.astype(np.float64).reshape(cache.n_kv, per, 1) * away
        size = size.max(-1, keepdims=True)  # (G, H/G, 1)
        e = (
            (cache.dk + 3) * U * size
            + (TANH + 8 * U) * size
            + 4 * U * np.abs(bias + s).max()
            + 3 * U * np.abs(bias).max()
        )
        s = s + bias
        w = np.exp(s - s.max(-1, keepdims=True))
        mean = w @ np.abs(v) / w.sum(-1, keepdims=True)
        factor = 2 * e + 3 * EXP + (n - first + len(pages) + 8) * U
        out[t] = (np.expm1(2 * factor) * mean).reshape(heads, cache.dv) + (n - first) * FLUSH * (1 + np.abs(v).max())
    return out.reshape(y.shape)


_GATED = {"silu", "gelu", "gelu_tanh", "gelu_quick", "relu"}
_BOUNDS: dict[str, Bound] = {
    **dict.fromkeys(
        ("embed", "lookup", "gather", "kv_store", "add", "mul", "scale", "relu", "relu_squared", "top_k"), _exact
    ),
    **{name: _gated(9 * U) for name in ("silu", "gelu", "gelu_tanh", "gelu_quick")},
    **{name: _relative(9 * U) for name in ("tanh", "sigmoid", "exp")},
    "glu": _glu,
    "rms_norm": _rms_norm,
    "layer_norm": _layer_norm,
    "softmax": _softmax,
    "softcap": _softcap,
    "rope": _rope,
    "linear": _linear,
    "attention": _attention,
    "route": _route,
    "experts_gated": _experts_gated,
    "experts_down": _experts_down,
    "short_conv": short_conv,
    "selective_scan": selective_scan,
    "dual_scan": dual_scan,
}
