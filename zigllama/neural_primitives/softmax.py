"""Softmax, the soft cap, and top-k: what is done with scores.

A row of scores becomes probabilities by softmax; Gemma 2 keeps scores within a range by a soft cap before that; and of
a vocabulary's scores a sampler needs only the k largest, so top-k is the last op of a step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from zigllama.errors import InvalidArgument
from zigllama.foundation.opcodes import Opcode
from zigllama.foundation.runtime import F32, I32, Lowered, Rows, Step, cols_of, op


@op(code=Opcode.SOFTMAX, lower=lambda x, *, scale=1.0: Lowered([x], [cols_of(x)], floats=[scale]), rowwise=True)
def softmax(x: Any, *, scale: float = 1.0) -> Any:
    """exp(y - max y) / sum exp(y - max y), y = scale * x, row by row.   x (T, C) -> (T, C)

    Taking off the maximum changes nothing in exact arithmetic and keeps exp from overflowing. A row that holds NaN or
    +inf, or nothing but -inf, gives NaN. `scale` is 1 / temperature of a sampler, or 1 / sqrt(head size) of attention.
    """
    with np.errstate(invalid="ignore"):
        y = x * x.dtype.type(scale)
        e = np.exp(y - y.max(axis=-1, keepdims=True, initial=-np.inf))
        return e / e.sum(axis=-1, keepdims=True)


@op(code=Opcode.SOFTCAP, lower=lambda x, *, cap: Lowered([x], [cols_of(x)], floats=[cap]), rowwise=True)
def softcap(x: Any, *, cap: float) -> Any:
    """cap * tanh(x / cap): the identity near 0, never beyond +-cap (Gemma 2, 2024, arXiv 2408.00118).

    x (T, C) -> (T, C)
    """
    return x.dtype.type(cap) * np.tanh(x / x.dtype.type(cap))


def allowed(mask: npt.NDArray[np.uint32] | None, n: int) -> npt.NDArray[np.bool_]:
    """A bit mask (bit i of word i // 32: id i is allowed) as n booleans; None allows all."""
    if mask is None:
        return np.ones(n, np.bool_)
    return np.unpackbits(mask.view(np.uint8), bitorder="little")[:n].astype(np.bool_)


def _lower_top_k(x: Any, step: Step, *, k: int) -> Lowered:
    return Lowered([x], [k, k], ints=[k])


@op(code=Opcode.TOP_K, lower=_lower_top_k)
def top_k(x: Any, step: Step, *, k: int) -> Any:
    """The k largest values of each row, descending, and their ids (Fan, Lewis & Dauphin, 2018, arXiv 1805.04833).

    x (T, V) -> values (T, k), ids (T, k) int32; the native op holds the ids as bits in float32, `top_k_ids` reads both.
    Of equal values the lower id comes first, -0 and +0 are equal, and NaN comes before every number. An id that
    `step.masks` does not allow counts as -inf. Raises InvalidArgument when k is not within 1 and V.
    """
    n = x.shape[-1]
    if not 1 <= k <= n:
        raise InvalidArgument(f"top_k: k is {k}, want 1 to {n}")
    masks = step.masks if step.masks is not None else [None] * len(x)
    values, ids = np.empty((len(x), k), x.dtype), np.empty((len(x), k), np.int32)
    for t, (row, mask) in enumerate(zip(x, masks, strict=True)):
        v = np.where(allowed(mask, n), row, x.dtype.type(-np.inf))
        order = np.lexsort((np.arange(n), -v, ~np.isnan(v)))  # by NaN first, then value descending, then id
        ids[t] = order[:k]
        values[t] = v[order[:k]]
    return values, ids


def top_k_ids(ids: Rows | F32 | I32) -> I32:
    """The ids of a `top_k` result as int32, from the twin or from a native value."""
    array = ids.array if isinstance(ids, Rows) else ids
    if array is None:
        raise InvalidArgument("top_k_ids: the value is on a tape and has no array yet")
    return array.view(np.int32)
