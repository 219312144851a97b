"""Calls of the C library on one row of logits: weights, moments, the cut, what is left (ckernels/core/scan.c).

A leaf of native.py's door, as native_formats.py. What this file is not: it knows no sampler; the twins of these calls
are in inference/row_scan.py.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .native import check, ffi, lib
from .native_context import F32, NativeContext
from .native_step import want_array

MASS_ONE_BITS: int = lib.ZL_MASS_ONE_BITS
KINDS = {"mass": lib.ZL_CUT_MASS, "draw": lib.ZL_CUT_DRAW, "count": lib.ZL_CUT_COUNT}


def _row(x: F32) -> object:
    want_array(x, np.float32, 1)
    return ffi.from_buffer("float[]", x)


def weights(ctx: NativeContext, x: F32) -> tuple[F32, int, float, float, float]:
    """(exp(x - best) in whole units of 2^-40, their sum, the same as a number, the best, the mean of x by probability).
    Raises ShapeError, and InvalidArgument for a row with a NaN or without a finite best."""
    w, out = np.empty_like(x), ffi.new("zl_row_sums *")
    with ctx.using() as pointer:
        check(lib.zl_row_weights(pointer, len(x), _row(x), ffi.from_buffer("float[]", w), out))
    return w, out.mass, out.total, out.best, out.mean


def moments(ctx: NativeContext, x: F32) -> tuple[float, float, float, int]:
    """(best, mean, standard deviation, number) of the elements above -inf. Raises as `weights`."""
    out = ffi.new("zl_row_spread *")
    with ctx.using() as pointer:
        check(lib.zl_row_moments(pointer, len(x), _row(x), out))
    return out.best, out.mean, out.deviation, out.n


def near(ctx: NativeContext, x: F32, middle: float) -> F32:
    """-|x - middle|. Raises ShapeError, InvalidArgument for a middle that is not finite."""
    out = np.empty_like(x)
    with ctx.using() as pointer:
        check(lib.zl_row_near(pointer, len(x), _row(x), middle, ffi.from_buffer("float[]", out)))
    return out


def cut(ctx: NativeContext, key: F32, w: F32 | None, kind: str, amount: float, mass: int) -> tuple[float, int]:
    """(the least key that is kept, the last id of those equal to it); `mass`: the sum of w. Raises as `weights`, for
    mass at keys of -inf or NaN too, and OutOfMemory."""
    least, last = ffi.new("float *"), ffi.new("int64_t *")
    with ctx.using() as pointer:
        masses = ffi.NULL if w is None else _row(w)
        check(lib.zl_row_cut(pointer, len(key), _row(key), masses, mass, KINDS[kind], amount, least, last))
    return least[0], last[0]


def keep(ctx: NativeContext, x: F32, least: float, last: int) -> tuple[F32, int]:
    """(x with -inf for what is below, how many are left). Raises ShapeError."""
    out, kept = np.empty_like(x), ffi.new("int64_t *")
    with ctx.using() as pointer:
        check(lib.zl_row_keep(pointer, len(x), _row(x), least, last, ffi.from_buffer("float[]", out), kept))
    return out, kept[0]


def gather(ctx: NativeContext, x: F32, least: float, last: int, room: int) -> tuple[npt.NDArray[np.int32], int]:
    """(the ids of the elements that `keep` keeps, ascending, `room` of them at most; how many, room + 1 for more).
    Raises ShapeError."""
    ids, found = np.empty(room, np.int32), ffi.new("int64_t *")
    with ctx.using() as pointer:
        buffer = ffi.from_buffer("int32_t[]", ids)
        check(lib.zl_row_gather(pointer, len(x), _row(x), least, last, buffer, room, found))
    return ids[: min(found[0], room)], found[0]
