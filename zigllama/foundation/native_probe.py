"""The machine's ceilings, measured by the C library: what its memory and its arithmetic units give at best.

A leaf of native.py's door, as native_formats.py. What this file is not: it judges nothing (inference/profiling.py).
"""

from __future__ import annotations

from .native import check, ffi, lib
from .native_context import NativeContext


def read(ctx: NativeContext, n_bytes: int, seconds: float = 0.2) -> float:
    """Bytes per second at which all threads read `n_bytes` again and again, the best pass. What fits a cache is read
    from there. Raises InvalidArgument, OutOfMemory."""
    out = ffi.new("double *")
    with ctx.using() as pointer:
        check(lib.zl_probe_read(pointer, n_bytes, seconds, out))
    return float(out[0])


def peak(ctx: NativeContext, kind: str, seconds: float = 0.1) -> float:
    """Operations per second of all threads in registers, the best pass: "int8" products or "f32" multiply-adds; a
    multiplication and an addition are two. Raises InvalidArgument, DTypeError for another kind."""
    type_id = {"int8": lib.ZL_TYPE_I8, "f32": lib.ZL_TYPE_F32}.get(kind, -1)
    out = ffi.new("double *")
    with ctx.using() as pointer:
        check(lib.zl_probe_peak(pointer, type_id, seconds, out))
    return float(out[0])
