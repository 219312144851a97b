"""`NativeCache`: the pages of keys and values as the C library reads them. A leaf of native.py's door.

What it is not: which page belongs to whom; that is `zigllama.inference`'s.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from zigllama import errors

from . import native_structs as structs
from .native import lib
from .native_context import address_of, alloc_array


class NativeCache:
    """Pages of keys and values for all layers of one cache class, as the C library reads them (see zl_cache).

    k (n_pages, n_layer, n_kv, 4, dk, 16), v (n_pages, n_layer, n_kv, 64, dv), float32 or float16. Of Q8_0 they are the
    bytes of the pages (n_pages, n_layer, n_kv, 68 * d), of which k_codes, v_codes (int8, in the shapes above), k_scales
    (..., 4, dk/32, 16) and v_scales (..., 64, dv/32), float16, are views; otherwise these are None. Memory is only used
    for pages that are written.

    state: pages of states instead: k (n_pages, n_layer, dk), v (n_pages, n_layer, dv), float32, n_kv is 1.

    Raises DTypeError for another type, ShapeError for Q8_0 with heads that are no multiple
    of 32, OutOfMemory.
    """

    def __init__(
        self, type_id: int, cls: int, n_layer: int, n_kv: int, dk: int, dv: int, n_pages: int, *, state: bool = False
    ) -> None:
        if type_id not in (lib.ZL_TYPE_F32, lib.ZL_TYPE_F16, lib.ZL_TYPE_Q8_0):
            raise errors.DTypeError(f"a cache of type {type_id}: F32, F16 and Q8_0 are possible")
        if min(n_layer, n_kv, dk, dv, n_pages) < 1:
            raise errors.ShapeError(
                f"a cache of {n_layer} layers, {n_kv} heads, {dk} and {dv} channels, {n_pages} pages"
            )
        heads = (n_pages, n_layer, n_kv)
        self.k_codes: Any = None
        self.k_scales: Any = None
        self.v_codes: Any = None
        self.v_scales: Any = None
        self.k: npt.NDArray[Any]
        self.v: npt.NDArray[Any]
        if state:
            if type_id != lib.ZL_TYPE_F32 or n_kv != 1:
                raise errors.DTypeError(f"a cache of states of type {type_id} in {n_kv} heads: F32 and 1 are possible")
            self.k, self.v = (
                alloc_array(n_pages * n_layer * d * 4).view(np.float32).reshape(n_pages, n_layer, d) for d in (dk, dv)
            )
        elif type_id == lib.ZL_TYPE_Q8_0:
            if dk % 32 or dv % 32:
                raise errors.ShapeError(f"a Q8_0 cache has blocks of 32 channels, its heads have {dk} and {dv}")
            self.k, self.v = (alloc_array(n_pages * n_layer * n_kv * 68 * d).reshape(*heads, -1) for d in (dk, dv))
            self.k_codes = self.k[..., : 64 * dk].view(np.int8).reshape(*heads, 4, dk, 16)
            self.v_codes = self.v[..., : 64 * dv].view(np.int8).reshape(*heads, 64, dv)
            self.k_scales = self.k[..., 64 * dk :].view(np.float16).reshape(*heads, 4, dk // 32, 16)
            self.v_scales = self.v[..., 64 * dv :].view(np.float16).reshape(*heads, 64, dv // 32)
        else:
            kind = np.dtype(np.float32 if type_id == lib.ZL_TYPE_F32 else np.float16)
            size = n_pages * n_layer * n_kv * 64 * kind.itemsize
            self.k = alloc_array(size * dk).view(kind).reshape(*heads, 4, dk, 16)
            self.v = alloc_array(size * dv).view(kind).reshape(*heads, 64, dv)
        self._record = np.zeros(1, structs.CACHE)
        self._record[0] = (type_id, cls, n_layer, n_kv, dk, dv, n_pages, state, address_of(self.k), address_of(self.v))
        self.address = address_of(self._record)
        self.type_id, self.cls, self.n_layer, self.n_kv = type_id, cls, n_layer, n_kv
        self.dk, self.dv, self.n_pages, self.state = dk, dv, n_pages, state

    @property
    def n_bytes(self) -> int:
        """Bytes reserved."""
        return int(self.k.nbytes + self.v.nbytes)

    def native_operand(self, context: Any) -> tuple[int, int, int, Any]:
        """See runtime.NativeOperand."""
        return structs.CACHE_KIND, 0, 0, self.address
