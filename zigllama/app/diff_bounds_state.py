"""How far two correct executions of a state-space op may be apart: see diff_bounds.py, of which this is a part.

A scan's error is carried on with its state. Of one row: softplus is off by 4 u, so exp(s A) by (|s A| 5 u + 3 u), and
so on; what a state is off by then decays as the state does. The states that an op leaves in its pages have bounds, too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from zigllama.neural_primitives.state_space import softplus
from zigllama.transformers.interfaces import PAGE

U, FLUSH = 2.0**-24, 2.0**-126
SOFTPLUS, EXP, SILU = 4 * U, 3 * U, 9 * U

Array = npt.NDArray[np.float64]


def _sequences(step: Any) -> Iterator[tuple[int, int]]:
    """The rows (first, end) of each sequence of a step."""
    starts = [t for t in range(step.n_rows) if not t or step.seq[t] != step.seq[t - 1]]
    yield from zip(starts, [*starts[1:], step.n_rows], strict=True)


def state_rows(step: Any) -> list[int]:
    """The rows after which a state is left in a page: the last of each page, and of each sequence."""
    ends = {end - 1 for _, end in _sequences(step)}
    return [t for t in range(step.n_rows) if t in ends or step.cache_pos[t] % PAGE == PAGE - 1]


def state_pages(step: Any, cls: int) -> npt.NDArray[np.int32]:
    """The pages of `state_rows`, in their order."""
    rows = state_rows(step)
    pages: npt.NDArray[np.int32] = step.tables[cls][step.seq[rows], step.cache_pos[rows] // PAGE]
    return pages


def _before(step: Any, pages: Any, store: Any, layer: int, t: int) -> Array | None:
    """The state that the sequence of row t goes on from."""
    page = int(step.tables[pages.cls][step.seq[t]][-1])
    return None if page < 0 else np.asarray(store[page, layer], np.float64)


def short_conv(args: Any, params: dict[str, Any], y: Array) -> Any:
    """A sum of K products and the bias within (K + 1) u of its terms; silu moves by at most 1.1 times that."""
    x, w, bias, step, pages = args
    taps, out = len(w), np.empty_like(y)
    for first, end in _sequences(step):
        past = _before(step, pages, pages.k, params["layer"], first)
        rows = np.concatenate(
            [np.zeros((taps - 1, x.shape[1])) if past is None else past.reshape(taps - 1, -1), x[first:end]]
        )
        size = sum(np.abs(w[k] * rows[k : k + end - first]) for k in range(taps)) + (
            0 if bias is None else np.abs(bias)
        )
        out[first:end] = (1.1 * (taps + 1) * U + SILU) * size + (taps + 2) * FLUSH
    return out


Scanned = tuple[Array, list[Array]]  # bounds of rows, and of the states that are kept


def _scan(x: Array, s: Array, b: Array, c: Array, a: Array, d: Array, h: Array, kept: Collection[int]) -> Scanned:
    """Bounds of a sequence's rows, and of the states after the rows `kept`. x (T, ..., 1, P), s the same or (T, ..., 1,
    1), b and c (T, ..., N, 1), a, h over (..., N, P)."""
    n, e, out, states = h.shape[-2], np.zeros(h.shape), [], []
    for t in range(len(x)):
        decay, u = np.exp(s[t] * a), s[t] * x[t] * b[t]
        wrong = decay * np.expm1(np.abs(s[t] * a) * (SOFTPLUS + U) + EXP)
        e = (decay + wrong) * e + wrong * np.abs(h) + (SOFTPLUS + 3 * U) * np.abs(u)
        e = e + FLUSH * np.abs(h)  # of a decay below the normal range
        h = decay * h
        e = e + 2 * U * (np.abs(h) + np.abs(h + u)) + 3 * FLUSH
        h = h + u
        terms = np.abs(c[t]) * (np.abs(h) + e)
        out.append((np.abs(c[t]) * e + (n + 3) * U * terms).sum(-2) + 3 * U * np.abs(d * x[t])[..., 0, :] + 3 * FLUSH)
        if t in kept:
            states.append(e.reshape(-1))
    return np.array(out), states


def _kept(step: Any, first: int, end: int) -> set[int]:
    return {t - first for t in state_rows(step) if first <= t < end}


def _selective(args: Any, params: dict[str, Any]) -> Scanned:
    """Channel by channel."""
    x, dt, b, c, a, d = (np.asarray(v, np.float64) for v in args[:6])
    step, pages, out, states = args[6], args[7], np.empty(x.shape), []
    for first, end in _sequences(step):
        past = _before(step, pages, pages.v, params["layer"], first)
        h = np.zeros(a.shape) if past is None else past.reshape(a.shape)
        rows, s = x[first:end, None, :], softplus(dt[first:end])[:, None, :]
        kept = _kept(step, first, end)
        out[first:end], more = _scan(rows, s, b[first:end, :, None], c[first:end, :, None], a, d, h, kept)
        states += more
    return out, states


def _dual(args: Any, params: dict[str, Any]) -> Scanned:
    """Head by head."""
    x, dt, a, d = (np.asarray(v, np.float64) for v in args[:4])
    step, pages, states = args[4], args[5], []
    heads, n, groups = len(a), params["states"], params.get("groups", 1)
    width = x.shape[1] - 2 * groups * n
    out = np.empty((len(x), width))
    b, c = (
        x[:, i : i + groups * n].reshape(-1, groups, n, 1).repeat(heads // groups, 1)
        for i in (width, width + groups * n)
    )
    rows, s = x[:, :width].reshape(-1, heads, 1, width // heads), softplus(dt)[:, :, None, None]
    for first, end in _sequences(step):
        past = _before(step, pages, pages.v, params["layer"], first)
        h = np.zeros((heads, n, width // heads)) if past is None else past.reshape(heads, n, -1)
        part = slice(first, end)
        kept = _kept(step, first, end)
        found, more = _scan(rows[part], s[part], b[part], c[part], a[:, None, None], d[:, None, None], h, kept)
        out[part] = found.reshape(end - first, width)
        states += more
    return out, states


def selective_scan(args: Any, params: dict[str, Any], y: Array) -> Array:
    """Of the rows."""
    return _selective(args, params)[0]


def dual_scan(args: Any, params: dict[str, Any], y: Array) -> Array:
    """Of the rows."""
    return _dual(args, params)[0]


# op -> where in a page its states are, and what bounds them, once
STATES: dict[str, tuple[str, Any]] = {
    "short_conv": ("k", lambda args, params: 0.0),  # copies of its inputs
    "selective_scan": ("v", lambda args, params: np.array(_selective(args, params)[1])),
    "dual_scan": ("v", lambda args, params: np.array(_dual(args, params)[1])),
}
