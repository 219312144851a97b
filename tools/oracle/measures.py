"""How far apart rows of logits are: largest difference, divergence; and the form in which golden files keep figures."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def log_softmax(x: npt.ArrayLike) -> Array:
    """x - log(sum(exp(x))) over the last axis, in float64."""
    a = np.asarray(x, np.float64)
    a = a - a.max(axis=-1, keepdims=True)
    return np.asarray(a - np.log(np.exp(a).sum(axis=-1, keepdims=True)))


def kl(p_logits: npt.ArrayLike, q_logits: npt.ArrayLike) -> Array:
    """KL(p || q) = sum p (log p - log q) over the last axis, in nats.   (..., V) x (..., V) -> (...)"""
    p, q = log_softmax(p_logits), log_softmax(q_logits)
    return np.asarray((np.exp(p) * (p - q)).sum(axis=-1))


def max_difference(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """max |a - b|."""
    return float(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).max())


def log_sum_exp(x: npt.ArrayLike) -> Array:
    """log(sum(exp(x))) over the last axis, in float64; -inf stands for nothing."""
    v = np.asarray(x, np.float64)
    high = v.max(axis=-1)
    return np.asarray(high + np.log(np.exp(v - high[..., None]).sum(axis=-1)))


def coarse_kl(top: Array, top_ids: npt.NDArray[np.int64], rest: Array, other: npt.ArrayLike) -> Array:
    """KL(p || q) over K + 1 outcomes: K tokens one by one, all others together.   -> (T,)

    p is known by the logits `top` (T, K) of tokens `top_ids` and by `rest` (T,), the log-sum-exp of all its other
    logits; q by all its logits `other` (T, V).  Merging outcomes never makes a divergence larger.
    """
    q = np.asarray(other, np.float64)
    q_top = np.take_along_axis(q, top_ids, -1)
    without = q.copy()
    np.put_along_axis(without, top_ids, -np.inf, -1)
    return kl(np.c_[top, rest], np.c_[q_top, log_sum_exp(without)])


def signs(n: int, n_vocab: int, seed: int = 1) -> Array:
    """n fixed rows of random +1 and -1: bits of PCG64's raw stream, which no NumPy changes.   -> (n, V)"""
    words = np.asarray(np.random.PCG64(seed).random_raw(n * (-(-n_vocab // 64))), "<u8").reshape(n, -1)
    bits = np.unpackbits(words.view(np.uint8), axis=-1, bitorder="little")[:, :n_vocab]
    return 1.0 - 2.0 * bits


def short(x: float) -> float:
    """Four significant digits: what a measured figure is worth in a golden file."""
    return float(f"{x:.4g}")


def golden_json(value: Any, depth: int = 3) -> str:
    """JSON with a line for each entry down to a depth, and everything below it on that line: readable diffs."""
    if depth == 0 or not isinstance(value, dict):
        return json.dumps(value)
    inner = ",\n".join(f"{json.dumps(key)}: {golden_json(item, depth - 1)}" for key, item in value.items())
    return "{\n" + inner + "\n}"
