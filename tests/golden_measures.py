"""The measures of the golden tests: divergence of rows of logits, random signs, and where two continuations part."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def log_sum_exp(x: npt.ArrayLike) -> Array:
    """log(sum(exp(x))) over the last axis, in float64; -inf stands for nothing.

    Row by row: of a vocabulary of 262,144 and 600 positions a copy in float64 is more than a gigabyte.
    """
    v = np.asarray(x)
    out = np.empty(v.shape[:-1])
    for i in np.ndindex(out.shape):
        row = np.array(v[i], np.float64)
        high = row.max()
        out[i] = high + np.log(np.exp(np.subtract(row, high, out=row), out=row).sum())
    return out


def kl(p_logits: npt.ArrayLike, q_logits: npt.ArrayLike) -> Array:
    """KL(p || q) = sum p (log p - log q) over the last axis, in nats.   (T, V) x (T, V) -> (T,)"""
    p, q = np.asarray(p_logits, np.float64), np.asarray(q_logits, np.float64)
    log_p, log_q = p - log_sum_exp(p)[..., None], q - log_sum_exp(q)[..., None]
    return np.asarray((np.exp(log_p) * (log_p - log_q)).sum(axis=-1))


def coarse_kl(top: npt.ArrayLike, top_ids: npt.ArrayLike, rest: npt.ArrayLike, other: npt.ArrayLike) -> Array:
    """KL(p || q) over K + 1 outcomes: p's K likeliest tokens, and all others together.   -> (T,)

    p is known by K logits (T, K), their tokens, and the log-sum-exp of all its other logits (T,); q by all its logits
    (T, V).
    """
    ids = np.asarray(top_ids, np.int64)
    q = np.array(other)
    q_top = np.take_along_axis(q, ids, -1)
    np.put_along_axis(q, ids, -np.inf, -1)
    return kl(np.c_[top, rest], np.c_[q_top, log_sum_exp(q)])


def signs(n: int, n_vocab: int, seed: int = 1) -> Array:
    """n fixed rows of random +1 and -1: bits of PCG64's raw stream, which no NumPy changes.   -> (n, V)"""
    words = np.asarray(np.random.PCG64(seed).random_raw(n * (-(-n_vocab // 64))), "<u8").reshape(n, -1)
    bits = np.unpackbits(words.view(np.uint8), axis=-1, bitorder="little")[:, :n_vocab]
    return np.asarray(1.0 - 2.0 * bits, np.float64)


def first_departure(ours: list[int], expected: list[int]) -> int | None:
    """Index of the first token that differs."""
    return next((i for i, (a, b) in enumerate(zip(ours, expected, strict=True)) if a != b), None)
