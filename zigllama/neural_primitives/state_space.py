"""State-space layers: a sequence is read by a state of fixed size, instead of by looking back at all that came before.

    short_conv       every channel is mixed with its last few inputs          (a causal, depthwise convolution)
    selective_scan   h = exp(dt A) h + dt B x,  y = C h + D x       Mamba (Gu & Dao, 2023, arXiv 2312.00752)
    dual_scan        the same with one decay per head and far larger states: Mamba 2 (Dao & Gu, 2024, arXiv 2405.21060)

What makes them "selective" is that dt, B and C are computed from the input: it decides what is kept and what let go.

The state of a sequence stands in pages of a cache, as keys and values do: `pages.k[p, layer]` are the last K-1 inputs
of the convolution, oldest first, `pages.v[p, layer]` the scan's h. The page of 64 positions holds the state after the
last of them that was written. The first row of a sequence in a step goes on from the page in the last column of its
table (-1: zeros), which is not written; so a step that failed is taken back by forgetting what it wrote.

What it is not: products. A layer's matrices are multiplied by `linear`; models/mamba.py puts the parts together.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from zigllama.errors import ShapeError
from zigllama.foundation.opcodes import Opcode
from zigllama.foundation.runtime import F32, Lowered, Step, cols_of, op

PAGE = 64  # positions per page of a cache


def softplus(x: Any) -> Any:
    """ln(1 + e^x), without overflow: max(x, 0) + ln(1 + e^-|x|)"""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _parts(step: Step, table: Any) -> Iterator[tuple[int, int, int, int]]:
    """Rows that share a page: (first row, end, page they go on from or -1, page they write)."""
    at = before = page = -1
    for t in range(step.n_rows):
        row, position = table[step.seq[t]], int(step.cache_pos[t])
        new = t == 0 or step.seq[t] != step.seq[t - 1]
        if t and (new or position % PAGE == 0):
            yield at, t, before, page
        if new:
            at, before, page = t, int(row[-1]), int(row[position // PAGE])
        elif position % PAGE == 0:
            at, before, page = t, page, int(row[position // PAGE])
    if step.n_rows:
        yield at, step.n_rows, before, page


def _check_state(name: str, pages: Any, dk: int | None, dv: int | None) -> None:
    if not pages.state or dk not in (None, pages.dk) or dv not in (None, pages.dv):
        raise ShapeError(f"{name}: a cache of {pages.dk} and {pages.dv} values, want states of {dk} and {dv}")


def _check_conv(x: Any, weight: F32, bias: F32 | None, pages: Any) -> None:
    c = cols_of(x)
    if weight.ndim != 2 or weight.shape[1] != c or weight.shape[0] < 2 or (bias is not None and bias.shape != (c,)):
        found = None if bias is None else bias.shape
        raise ShapeError(f"short_conv: {c} channels, weight {weight.shape}, bias {found}")
    _check_state("short_conv", pages, (weight.shape[0] - 1) * c, None)


def _lower_conv(x: Any, weight: F32, bias: F32 | None, step: Any, pages: Any, *, layer: int) -> Lowered:
    _check_conv(x, weight, bias, pages)
    return Lowered([x, weight, bias, pages], [cols_of(x)], ints=[layer, len(weight)])


@op(code=Opcode.SHORT_CONV, lower=_lower_conv)
def short_conv(x: Any, weight: Any, bias: Any, step: Any, pages: Any, *, layer: int) -> Any:
    """y[t] = silu(bias + sum over k < K of weight[k] * x[t - K + 1 + k]), k ascending; x before the sequence is 0.

    x (T, C), weight (K, C), bias (C,) or None -> (T, C). Raises ShapeError.
    """
    _check_conv(x, weight, bias, pages)
    taps, y = len(weight), np.empty_like(x)
    for first, end, before, page in _parts(step, step.tables[pages.cls]):
        past = np.zeros((taps - 1, x.shape[1]), x.dtype)
        if before >= 0:
            past[:] = pages.k[before, layer].reshape(past.shape)
        rows = np.concatenate([past, x[first:end]])
        part = np.zeros_like(x[first:end]) if bias is None else np.broadcast_to(bias, x[first:end].shape)
        for k in range(taps):
            part = part + weight[k] * rows[k : k + end - first]
        with np.errstate(over="ignore"):
            y[first:end] = part / (1 + np.exp(-part))
        pages.k[page, layer] = rows[len(rows) - taps + 1 :].reshape(-1)
    return y


def _check_selective(x: Any, dt: Any, b: Any, c: Any, a: F32, d: F32, pages: Any) -> None:
    channels, n = cols_of(x), cols_of(b)
    if cols_of(dt) != channels or cols_of(c) != n or a.shape != (n, channels) or d.shape != (channels,):
        raise ShapeError(
            f"selective_scan: {channels} channels, {n} states, dt {dt.shape}, C {c.shape}, A {a.shape}, D {d.shape}"
        )
    _check_state("selective_scan", pages, None, n * channels)


def _lower_selective(x: Any, dt: Any, b: Any, c: Any, a: F32, d: F32, step: Any, pages: Any, *, layer: int) -> Lowered:
    _check_selective(x, dt, b, c, a, d, pages)
    return Lowered([x, dt, b, c, a, d, pages], [cols_of(x)], ints=[layer, cols_of(b)])


@op(code=Opcode.SELECTIVE_SCAN, lower=_lower_selective)
def selective_scan(x: Any, dt: Any, b: Any, c: Any, a: Any, d: Any, step: Any, pages: Any, *, layer: int) -> Any:
    """h = exp(s A) h + s B x,   y = sum over N of C h, + D x,   with s = softplus(dt), row by row of each sequence.

    x, dt (T, C), B and C (T, N), A (N, C), D (C,) -> (T, C); h (N, C) is the state. Raises ShapeError.
    """
    _check_selective(x, dt, b, c, a, d, pages)
    y = np.empty_like(x)
    for first, end, before, page in _parts(step, step.tables[pages.cls]):
        h = pages.v[before, layer].reshape(a.shape) if before >= 0 else np.zeros_like(a)
        for t in range(first, end):
            s = softplus(dt[t])
            h = np.exp(s * a) * h + (s * x[t]) * b[t][:, None]
            y[t] = (h * c[t][:, None]).sum(axis=0) + d * x[t]
        pages.v[page, layer] = h.reshape(-1)
    return y


def _check_dual(x: Any, dt: Any, a: F32, d: F32, pages: Any, states: int, groups: int) -> int:
    """Channels of a head."""
    heads, width = cols_of(dt), cols_of(x) - 2 * groups * states
    if min(states, groups) < 1 or heads % groups or width < 1 or width % heads or {a.shape, d.shape} != {(heads,)}:
        raise ShapeError(
            f"dual_scan: {cols_of(x)} columns, {heads} heads, {groups} groups of {states} states, "
            f"A {a.shape}, D {d.shape}"
        )
    _check_state("dual_scan", pages, None, width * states)
    return width // heads


def _lower_dual(
    x: Any, dt: Any, a: F32, d: F32, step: Any, pages: Any, *, layer: int, states: int, groups: int
) -> Lowered:
    dim = _check_dual(x, dt, a, d, pages, states, groups)
    heads = cols_of(dt)
    return Lowered([x, dt, a, d, pages], [heads * dim], ints=[layer, heads, dim, states, groups])


@op(code=Opcode.DUAL_SCAN, lower=_lower_dual)
def dual_scan(
    x: Any, dt: Any, a: Any, d: Any, step: Any, pages: Any, *, layer: int, states: int, groups: int = 1
) -> Any:
    """As `selective_scan`, but for H heads of P channels: dt, A and D are one number per head, and H/G heads share a
    group's B and C (N,).

    x (T, H*P + 2*G*N): the heads' channels, then B and C of every group; dt (T, H), A and D (H,) -> (T, H*P); h is
    (H, N, P). Raises ShapeError.
    """
    dim = _check_dual(x, dt, a, d, pages, states, groups)
    heads, n = len(a), groups * states
    width = heads * dim
    u = x[:, :width].reshape(-1, heads, 1, dim)
    b, c = (x[:, i : i + n].reshape(-1, groups, states, 1).repeat(heads // groups, 1) for i in (width, width + n))
    y = np.empty((len(x), width), x.dtype)
    for first, end, before, page in _parts(step, step.tables[pages.cls]):
        h = np.zeros((heads, states, dim), x.dtype)
        if before >= 0:
            h = pages.v[before, layer].reshape(h.shape)
        for t in range(first, end):
            s = softplus(dt[t])
            h = np.exp(s * a)[:, None, None] * h + s[:, None, None] * u[t] * b[t]
            y[t] = ((h * c[t]).sum(axis=1) + d[:, None] * u[t][:, 0]).reshape(-1)
        pages.v[page, layer] = h.reshape(-1)
    return y
