"""Products of float32 matrices, in four forms that give the same numbers at very different speeds.

    matmul_reference   the definition, one dot product per element, in double
    matmul_tiled       the same work cut into tiles that fit the L1 cache, in NumPy, to be read
    matmul_scalar      C, one multiply-add at a time: what a compiler makes of the textbook loop when kept from
                       vectorising
    matmul_simd        C, tiles in registers and L1, vectors of the best ISA variant found, all threads

Why tiles. c = a b with n x n matrices takes n^3 multiply-adds on 3 n^2 numbers: each number is used n times. A cache of
s numbers can only serve the uses that come while a number is in it. The plain loops run through all of b for every row
of a, so once b outgrows the cache each use comes from memory. In tiles of t x t, three of which fit the cache
(3 t^2 <= s), each number fetched is used t times before it goes: the traffic falls from n^3 to 2 n^3 / t. With 32 KiB
of L1 (8,192 float32) t is 48, and the memory is asked for 2/48 of what the plain loop wants from it.

The C kernel (ckernels/kernels/matmul.c) goes one level further: 6 rows by two vectors of the result stay in registers,
so that 24 floating-point operations per lane are done for three loads.

What this is not: the product of a model's weights. That is `linear`, over panels that were made once at load.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from zigllama.errors import DTypeError, InvalidArgument, ShapeError
from zigllama.foundation import native_context
from zigllama.foundation.runtime import F32
from zigllama.foundation.shared_context import shared_context

L1_BYTES = 32 * 1024  # of most x86-64 and aarch64 cores, or less than they have


def _checked(name: str, a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> tuple[int, int, int]:
    """(M, K, N) of a (M, K) and b (K, N). Raises DTypeError, ShapeError."""
    if a.dtype != np.float32 or b.dtype != np.float32:
        raise DTypeError(f"{name}: element types {a.dtype} and {b.dtype}, want float32")
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        raise ShapeError(f"{name}: shapes {a.shape} and {b.shape}, want (M, K) and (K, N)")
    return a.shape[0], a.shape[1], b.shape[1]


def matmul_reference(a: F32, b: F32) -> F32:
    """c[i, j] = sum over k of a[i, k] b[k, j], summed in double, rounded once.   (M, K), (K, N) -> (M, N)

    Raises ShapeError, DTypeError.
    """
    _checked("matmul_reference", a, b)
    return (a.astype(np.float64) @ b.astype(np.float64)).astype(np.float32)


def tile_side(cache_bytes: int = L1_BYTES, *, multiple: int = 16) -> int:
    """The largest t, a multiple of `multiple`, for which three t x t tiles of float32 fit into `cache_bytes`.

    Raises InvalidArgument where not even the smallest fits.
    """
    t = math.isqrt(cache_bytes // (3 * 4)) // multiple * multiple
    if t < 1:
        raise InvalidArgument(f"three tiles of {multiple} x {multiple} float32 do not fit {cache_bytes} bytes")
    return t


def matmul_tiled(a: F32, b: F32, *, tile: int | None = None) -> F32:
    """The blocked product: result tile by result tile, walking along K.   (M, K), (K, N) -> (M, N)

            K                 N                    N
        +---+---+         +---+---+            +---+---+
      M | A | A |    x  K | B |   |    =     M | C |   |        C += A B, then the next A to the right and B below,
        +---+---+         +---+---+            +---+---+        while C stays in the cache
                          | B |   |
                          +---+---+

    Tiles at the edge are smaller. `tile` defaults to what fits L1. Raises ShapeError, DTypeError, InvalidArgument.
    """
    m, k, n = _checked("matmul_tiled", a, b)
    t = tile_side() if tile is None else tile
    if t < 1:
        raise InvalidArgument(f"matmul_tiled: a tile of {t}")
    out = np.zeros((m, n), np.float32)
    for i in range(0, m, t):
        for j in range(0, n, t):
            c = out[i : i + t, j : j + t]  # a view: what is added here arrives in `out`
            for q in range(0, k, t):
                c += a[i : i + t, q : q + t] @ b[q : q + t, j : j + t]
    return out


def matmul_scalar(a: F32, b: F32) -> F32:
    """The textbook's loop in C, one element at a time on one thread: the measure of what vectors are worth.

    (M, K), (K, N) -> (M, N). Raises ShapeError, DTypeError.
    """
    _checked("matmul_scalar", a, b)
    return native_context.matmul(None, a, b)


def matmul_simd(a: F32, b: F32, *, isa: str | None = None, n_threads: int | None = None) -> F32:
    """The blocked product in C, with vectors.   (M, K), (K, N) -> (M, N)

    `isa` None takes `ZIGLLAMA_ISA`, else the best variant that this CPU runs; on a CPU with none of the named ones that
    is `generic`, plain C. Each element is summed over K in ascending order, so its bits depend on its row, its column
    and the variant, never on threads. Raises ShapeError, DTypeError, UnknownName, ISAUnavailable.
    """
    _checked("matmul_simd", a, b)
    return native_context.matmul(shared_context(isa, n_threads), a, b)
