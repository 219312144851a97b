"""Hypothesis strategies for kernels: shapes that lean to the tails, values that lean to the edges, memory that ends at
a guard page.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

F32 = npt.NDArray[np.float32]

# --- memory that ends where it ends -----------------------------------------------------------------------------------

_libc = ctypes.CDLL(None, use_errno=True)
PROT_NONE = 0


def guarded_array(data: npt.ArrayLike, dtype: npt.DTypeLike = np.float32, *, before: bool = False) -> npt.NDArray[Any]:
    """A copy of `data` whose last byte is the last before a page that faults on any access.

    A kernel that reads or writes one element too many dies there. `before` puts the guard before the first byte
    instead. The array keeps its mapping alive; both go together.
    """
    source = np.ascontiguousarray(data, dtype)
    page = mmap.PAGESIZE
    room = -(-max(source.nbytes, 1) // page) * page
    mapping = mmap.mmap(-1, room + page)
    anchor = ctypes.c_char.from_buffer(mapping)
    address = ctypes.addressof(anchor)
    del anchor
    guard = address if before else address + room
    if _libc.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(page), PROT_NONE):
        raise OSError(ctypes.get_errno(), "mprotect")
    offset = page if before else room - source.nbytes
    array = np.frombuffer(mapping, source.dtype, source.size, offset).reshape(source.shape)
    array[...] = source
    return array


# --- values -----------------------------------------------------------------------------------------------------------

TINY = float(np.float32(2.0**-126))  # the smallest normal float32
EDGES = [0.0, -0.0, 1.0, -1.0, 2.0**-149, -(2.0**-149), TINY, -TINY, 0.5, 87.3, -87.4, 88.8, -103.0, 3e38, -3e38]
NON_FINITE = [float("inf"), float("-inf"), float("nan")]


def floats(limit: float = 3e38, *, non_finite: bool = True) -> st.SearchStrategy[float]:
    """Single float32 values: edges, subnormals, ordinary numbers, and (rarely) infinities and NaN."""
    edges = [v for v in EDGES if abs(v) <= limit]
    parts = [
        st.sampled_from(edges + (NON_FINITE if non_finite else [])),
        st.floats(-10, 10, width=32),
        st.floats(-float(np.float32(limit)), float(np.float32(limit)), width=32),
    ]
    return st.one_of(parts)


@st.composite
def arrays(
    draw: st.DrawFn, shape: Sequence[int], limit: float = 3e38, *, non_finite: bool = True, scale: float | None = None
) -> F32:
    """float32 of `shape`: normal noise of a drawn size, a constant, or zeros, with a few drawn values in drawn places.

    Noise comes from a drawn seed, since drawing each of many elements is slow and shrinks badly. `scale` fixes its
    size.
    """
    n = int(np.prod(shape))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["noise", "noise", "noise", "constant", "zeros", "subnormal"]))
    if kind == "constant":
        flat = np.full(n, draw(floats(limit, non_finite=False)))
    elif kind == "zeros":
        flat = np.zeros(n)
    else:
        sizes = [2.0**-140] if kind == "subnormal" else [scale] if scale else [1e-20, 1e-3, 1.0, 10.0, 100.0, 1e15]
        flat = np.clip(rng.normal(size=n) * draw(st.sampled_from(sizes)), -limit, limit)
    if n:
        for place, value in draw(
            st.lists(st.tuples(st.integers(0, n - 1), floats(limit, non_finite=non_finite)), max_size=4)
        ):
            flat[place] = value
    return flat.astype(np.float32).reshape(shape)


# --- shapes -----------------------------------------------------------------------------------------------------------

ROWS = st.sampled_from([0, 1, 1, 2, 3, 5, 17])
# Around every multiple of a vector and of four vectors (L = 4, 8, 16), then a few that are longer.
COLS = st.one_of(
    st.integers(1, 70), st.sampled_from([127, 128, 129, 255, 256, 257, 511, 512, 513, 576, 640, 1023, 1025, 2049])
)
EVEN = st.integers(1, 40).map(lambda n: 2 * n)
