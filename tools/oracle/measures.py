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


def short(x: float) -> float:
    """Four significant digits: what a measured figure is worth in a golden file."""
    return float(f"{x:.4g}")


def golden_json(value: Any, depth: int = 3) -> str:
    """JSON with a line for each entry down to a depth, and everything below it on that line: readable diffs."""
    if depth == 0 or not isinstance(value, dict):
        return json.dumps(value)
    inner = ",\n".join(f"{json.dumps(key)}: {golden_json(item, depth - 1)}" for key, item in value.items())
    return "{\n" + inner + "\n}"
