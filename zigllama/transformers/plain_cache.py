"""The simplest cache there is: one sequence, all of its pages from the start, in order.

For whoever runs a block or a decoder alone (`LLaMAModel`, the teaching pages, tests): attention reads its keys and
values from a cache also where there is only one pass, so there must be one. It is the same memory and the same pages
that the engine uses; what is left out is sharing, freeing and eviction, which are `inference.kv_cache`'s.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zigllama.errors import ContextOverflow, InvalidArgument
from zigllama.foundation.ggml_types import type_by_name
from zigllama.foundation.native_cache import NativeCache
from zigllama.foundation.runtime import Step
from zigllama.transformers.interfaces import PAGE, CacheSpec


class PlainCache:
    """Room for `n_ctx` positions of one sequence, in every class of `spec`; satisfies `interfaces.Cache`.

        cache = PlainCache(decoder.cache_spec(), 128)
        logits = decoder.forward(cache.step(ids), cache)

    type_name   "F32", "F16", or "Q8_0" for heads of a multiple of 32

    Raises InvalidArgument, DTypeError, ShapeError, OutOfMemory.
    """

    def __init__(self, spec: CacheSpec, n_ctx: int, type_name: str = "F32") -> None:
        if not 1 <= n_ctx < 1 << 31:
            raise InvalidArgument(f"a cache of {n_ctx} positions")
        n_pages, kind = -(-n_ctx // PAGE), type_by_name(type_name).id
        self.spec, self.n_ctx, self.length = spec, n_ctx, 0
        self.pages: Sequence[NativeCache] = [
            NativeCache(kind, i, c.n_layer, c.n_kv, c.dk, c.dv, n_pages) for i, c in enumerate(spec.classes)
        ]
        self._table = np.arange(n_pages, dtype=np.int32)[None, :]

    def step(self, ids: Sequence[int]) -> Step:
        """The step that reads `ids` after what is there, and wants the logits of every row. Raises ContextOverflow."""
        start, end = self.length, self.length + len(ids)
        if end > self.n_ctx:
            raise ContextOverflow(end, self.n_ctx)
        self.length = end
        at = np.arange(start, end, dtype=np.int32)
        return Step(
            tokens=np.array(ids, np.int32).reshape(-1),
            positions=at.reshape(1, -1),
            cache_pos=at,
            see_to=at,
            seq=np.zeros(len(ids), np.int32),
            out_rows=np.arange(len(ids), dtype=np.int32),
            tables=[self._table] * len(self.pages),
        )
