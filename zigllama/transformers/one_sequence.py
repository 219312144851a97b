"""Run a block, or a part of one, on arrays: a cache for one sequence, and the steps that go with it.

    block = TransformerBlock(...)
    text = OneSequence.of(block, n_ctx=128)
    y = text.run(block, x)                    x (T, C) -> (T, C), and the sequence is T positions longer
    z = text.run(block, more)                 these rows see the first T too

Several blocks run in one step: `text.run(lambda x, step, cache: second(first(x, step, cache), step, cache), x)`. An
encoder's rows see each other both ways: `run(..., both_ways=True)`. A memory for cross-attention is stored by
`text.remember(block.cross.store, memory)`.

What it is not: the cache of a model, which shares pages among sequences and gives them up (inference/kv_cache.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from zigllama.errors import ContextOverflow, InvalidArgument, ShapeError
from zigllama.foundation.ggml_types import type_by_name
from zigllama.foundation.runtime import F32, I32, EagerRuntime, Step
from zigllama.transformers.attention import MultiHeadAttention
from zigllama.transformers.cross_attention import CrossAttention
from zigllama.transformers.interfaces import PAGE, CacheClass, CacheSpec
from zigllama.transformers.transformer_block import TransformerBlock

Part = TransformerBlock | MultiHeadAttention | CrossAttention
Forward = Callable[[Any, Step, Any], Any]  # (rows, step, cache) -> rows, or None


def cache_spec_of(*parts: Part) -> CacheSpec:
    """The cache that these ask for together: per class as many layers as name it. `layers` has one entry for each
    attention, in order.

    Raises InvalidArgument when classes or layers are not numbered from 0 without gaps, ShapeError when layers of one
    class differ in heads or window.
    """
    attentions: list[MultiHeadAttention | CrossAttention] = []
    for part in parts:
        if isinstance(part, TransformerBlock):
            attentions += [part.attention, *([part.cross] if part.cross is not None else [])]
        else:
            attentions.append(part)
    found: dict[int, dict[int, CacheClass]] = {}
    for a in attentions:
        layers = found.setdefault(a.cache_class, {})
        layers[a.layer] = a.cache_class_spec
        if len(set(layers.values())) > 1:
            raise ShapeError(f"layers of cache class {a.cache_class} differ: {sorted(map(str, set(layers.values())))}")
    places = [(a.cache_class, a.layer) for a in attentions]
    if len(set(places)) != len(places) or sorted(found) != list(range(len(found))):
        raise InvalidArgument(f"cache classes and layers {places}: each stands once, classes count from 0")
    if any(sorted(layers) != list(range(len(layers))) for layers in found.values()):
        raise InvalidArgument(f"cache classes and layers {places}: the layers of a class count from 0")
    classes = []
    for c in range(len(found)):
        one = found[c][0]
        classes.append(CacheClass(one.window, len(found[c]), one.n_kv, one.dk, one.dv))
    return CacheSpec(tuple(classes), tuple(places))


class OneSequence:
    """A cache (interfaces.Cache) for one sequence of up to n_ctx positions, and a memory of as many.

    type_name   "F32", "F16" or "Q8_0": how keys and values are kept
    backend     "native": each op is one call of C; "reference": NumPy
    context     the native context; None: this thread's

    Raises InvalidArgument, OutOfMemory, what `NativeCache` raises.
    """

    def __init__(
        self, spec: CacheSpec, n_ctx: int, *, type_name: str = "F32", backend: str = "native", context: Any = None
    ) -> None:
        from zigllama.foundation.native_cache import NativeCache
        from zigllama.foundation.shared_context import shared_context

        if n_ctx < 1 or backend not in ("native", "reference"):
            raise InvalidArgument(f"OneSequence: {n_ctx} positions, backend {backend!r} (native or reference)")
        n_pages, kind = -(-n_ctx // PAGE), type_by_name(type_name).id
        self.spec, self.n_ctx, self.length, self.memory = spec, n_ctx, 0, 0
        self.context = None if backend == "reference" else context or shared_context()
        self._pages = [NativeCache(kind, i, c.n_layer, c.n_kv, c.dk, c.dv, n_pages) for i, c in enumerate(spec.classes)]
        self._table: I32 = np.arange(n_pages, dtype=np.int32)[None, :]

    @classmethod
    def of(cls, *parts: Part, n_ctx: int, **options: Any) -> OneSequence:
        """For these blocks, or attentions on their own. Raises what `cache_spec_of` and the class itself raise."""
        return cls(cache_spec_of(*parts), n_ctx, **options)

    @property
    def pages(self) -> Sequence[Any]:
        """Per class, the operand of `kv_store` and `attention`."""
        return self._pages

    def run(self, forward: Forward, x: npt.ArrayLike, *, both_ways: bool = False) -> F32:
        """`forward(rows, step, cache)` on rows (T, C) that stand at the end of the sequence, which is then T longer.

        Each row sees itself and what is before it, with `both_ways` all of these rows and what is before them. Raises
        ShapeError, ContextOverflow; where the forward raises, the sequence is as long as it was.
        """
        a = _rows(x)
        step = self.step(len(a), both_ways=both_ways)
        y: F32 = self._at_once(forward, a, step)
        self.length += len(a)
        return y

    def remember(self, store: Forward, memory: npt.ArrayLike) -> None:
        """`store(rows, step, cache)` for a memory (R, M), from its first position on: `CrossAttention.store`, or a
        function that calls that of several. From then on rows see this memory; none, where `store` raises. Raises
        ShapeError, ContextOverflow."""
        a = _rows(memory)
        step = self._step(0, len(a), both_ways=True)
        self.memory = 0  # where `store` raises, some layers have this memory and some the one before
        self._at_once(store, a, step)
        self.memory = len(a)

    def clear(self) -> None:
        """Begin anew: no positions, no memory."""
        self.length = self.memory = 0

    def step(self, n: int, *, both_ways: bool = False) -> Step:
        """The step of n rows at the end of the sequence; `run` makes it. Raises ContextOverflow."""
        return self._step(self.length, n, both_ways)

    def _step(self, start: int, n: int, both_ways: bool) -> Step:
        if start + n > self.n_ctx:
            raise ContextOverflow(start + n, self.n_ctx)
        step = Step.of_rows(n)
        at = np.arange(start, start + n, dtype=np.int32)
        step.cache_pos, step.see_to = at, np.full(n, start + n - 1, np.int32) if both_ways else at
        step.positions = np.stack([at, np.full(n, self.memory - 1, np.int32)])
        step.tables = [self._table] * len(self._pages)
        return step

    def _at_once(self, forward: Forward, x: F32, step: Step) -> Any:
        if self.context is None:
            return forward(x, step, self)
        runtime = EagerRuntime(self.context, step)
        result = forward(runtime.rows(x), runtime.bind(), self)
        return None if result is None else result.array


def _rows(x: npt.ArrayLike) -> F32:
    a = np.ascontiguousarray(x, np.float32)
    if a.ndim != 2:
        raise ShapeError(f"expected rows (T, C), found shape {a.shape}")
    return a
