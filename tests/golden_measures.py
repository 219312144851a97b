"""The measures of the golden tests: divergence of two rows of logits, and where two continuations part."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def log_softmax(x: npt.ArrayLike) -> Array:
    """x - log(sum(exp(x))) over the last axis, in float64."""
    a = np.asarray(x, np.float64)
    a = a - a.max(axis=-1, keepdims=True)
    return np.asarray(a - np.log(np.exp(a).sum(axis=-1, keepdims=True)))


def kl(p_logits: npt.ArrayLike, q_logits: npt.ArrayLike) -> Array:
    """KL(p || q) = sum p (log p - log q) over the last axis, in nats."""
    p, q = log_softmax(p_logits), log_softmax(q_logits)
    return np.asarray((np.exp(p) * (p - q)).sum(axis=-1))


def first_departure(ours: list[int], expected: list[int]) -> int | None:
    """Index of the first token that differs."""
    return next((i for i, (a, b) in enumerate(zip(ours, expected, strict=True)) if a != b), None)
