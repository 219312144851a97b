"""The KV cache: the keys and values of positions already read, so that each step computes one row and not all of them.

Without it, generating n tokens after a prompt of p would read p + (p+1) + ... + (p+n) rows; with it p + n. The memory
is cut into pages of 64 positions (Kwon et al., 2023, "PagedAttention", arXiv 2309.06180): a sequence holds a list of
page numbers per cache class, takes a page when it reaches it, and gives its pages back when it ends. Pages are reserved
address space until they are written.

Layers with a window of w positions need only the last w: a page that has fallen out of the window of every row to come
is used again, so such a class holds at most ceil((w + chunk) / 64) + 1 pages per sequence, however long that is. Pages
are taken back only when that number is reached: until then a sequence can still be shortened to where it needs them.

What it is not: it computes nothing. `Session` and `Model` decide what is in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zigllama.errors import ClosedError, ContextOverflow, InvalidArgument, OutOfMemory
from zigllama.foundation.ggml_types import type_by_name
from zigllama.foundation.native import NativeCache
from zigllama.foundation.runtime import I32, Step
from zigllama.transformers.interfaces import PAGE, CacheClass, CacheSpec


@dataclass
class CachedSequence:
    """One sequence in the cache: how many positions it holds, and which tokens they are. `slot` is -1 once it was
    removed."""

    slot: int
    tokens: list[int] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Positions held."""
        return len(self.tokens)


class KVCache:
    """The pages of one cache class: a pool, and a table of page numbers (n_seq, pages per sequence), -1 where there is
    none. `quota` is the most pages that a sequence holds."""

    def __init__(self, number: int, spec: CacheClass, n_ctx: int, n_seq: int, type_name: str, chunk: int) -> None:
        self.spec = spec
        per_sequence = -(-n_ctx // PAGE)
        self.quota = min(per_sequence, -(-(spec.window + chunk) // PAGE) + 1) if spec.window else per_sequence
        self.pages = NativeCache(
            type_by_name(type_name).id, number, spec.n_layer, spec.n_kv, spec.dk, spec.dv, per_sequence * n_seq
        )
        self.table: I32 = np.full((n_seq, per_sequence), -1, np.int32)
        self._free = list(range(self.pages.n_pages - 1, -1, -1))

    def first_needed(self, start: int) -> int:
        """The first page of which a row at position `start`, or a later one, may see something."""
        return max(0, start - self.spec.window + 1) // PAGE if self.spec.window else 0

    def grow(self, slot: int, start: int, length: int) -> None:
        """Pages for the positions start .. length-1 of a sequence; all or none.

        Pages before the window of `start` are used again where the quota asks for it. Raises OutOfMemory when the pool
        is used up.
        """
        row = self.table[slot]
        missing = [i for i in range(start // PAGE, -(-length // PAGE)) if row[i] < 0]
        if not missing:
            return
        held = np.flatnonzero(row >= 0)
        over = held[held < self.first_needed(start)][: max(0, len(held) + len(missing) - self.quota)]
        if len(missing) > len(self._free) + len(over):
            raise OutOfMemory(f"{len(missing)} pages of the KV cache", len(missing) * self.page_bytes)
        self._release(row, over)
        for i in missing:
            row[i] = self._free.pop()

    def shrink(self, slot: int, length: int) -> None:
        """Give back the pages past the first `length` positions."""
        row = self.table[slot]
        held = np.flatnonzero(row >= 0)
        self._release(row, held[held >= -(-length // PAGE)])

    def holds(self, slot: int, length: int) -> bool:
        """Whether all that a row at position `length` may see is there."""
        return bool((self.table[slot, self.first_needed(length) : -(-length // PAGE)] >= 0).all())

    def _release(self, row: I32, which: Any) -> None:
        self._free.extend(int(p) for p in row[which])
        row[which] = -1

    @property
    def page_bytes(self) -> int:
        """Bytes of a page, over all layers of the class."""
        return self.pages.n_bytes // self.pages.n_pages

    @property
    def used_bytes(self) -> int:
        """Bytes of the pages in use."""
        return (self.pages.n_pages - len(self._free)) * self.page_bytes


class ModelKVCache:
    """All cache classes of a model, for `n_seq` sequences of up to `n_ctx` positions.

    type_name   "F16" or "F32": how keys and values are stored
    chunk       the most tokens of one `extend`; what a window class must hold beside its window

    Satisfies `transformers.interfaces.Cache`. Raises InvalidArgument, OutOfMemory.
    """

    def __init__(
        self, spec: CacheSpec, n_ctx: int, *, n_seq: int = 1, type_name: str = "F16", chunk: int = 512
    ) -> None:
        most = 2**31 - PAGE  # positions and page numbers are 32-bit
        if not 1 <= n_ctx <= most or not 1 <= n_seq <= most // -(-n_ctx // PAGE) or chunk < 1:
            raise InvalidArgument(f"a cache of {n_seq} sequences of {n_ctx} positions, read {chunk} at a time")
        self.spec, self.n_ctx, self.n_seq, self.type_name, self.chunk = spec, n_ctx, n_seq, type_name, chunk
        self.classes = [KVCache(i, c, n_ctx, n_seq, type_name, chunk) for i, c in enumerate(spec.classes)]
        self._slots = list(range(n_seq - 1, -1, -1))

    @property
    def pages(self) -> Sequence[Any]:
        """Per class, the operand of `kv_store` and `attention`."""
        return [c.pages for c in self.classes]

    def add(self) -> CachedSequence:
        """A new, empty sequence. Raises OutOfMemory when all slots are taken."""
        if not self._slots:
            raise OutOfMemory(f"a slot for one more than {self.n_seq} sequences", 0)
        return CachedSequence(self._slots.pop())

    def remove(self, sequence: CachedSequence) -> None:
        """End a sequence; its pages are free again. Raises ClosedError the second time."""
        self.truncate(sequence, 0)
        self._slots.append(sequence.slot)
        sequence.slot = -1

    def truncate(self, sequence: CachedSequence, length: int) -> int:
        """Forget everything past the first `length` positions; how many are left.

        That is `length` (or fewer, if there were fewer), or 0: when pages that a window needs there have been used
        again, nothing can be continued from. Raises InvalidArgument, ClosedError.
        """
        _want_open(sequence)
        if length < 0:
            raise InvalidArgument(f"a sequence cannot be shortened to {length} positions")
        length = min(length, sequence.length)
        if not all(c.holds(sequence.slot, length) for c in self.classes):
            length = 0
        del sequence.tokens[length:]
        for c in self.classes:
            c.shrink(sequence.slot, length)
        return length

    def extend(self, sequence: CachedSequence, tokens: Sequence[int]) -> Step:
        """Make room for `tokens` at the end of a sequence; the step that fills it, wanting the last row's logits.

        Raises ContextOverflow when they do not fit, InvalidArgument for none or for more than a chunk, ClosedError;
        nothing has changed then.
        """
        _want_open(sequence)
        start, n = sequence.length, len(tokens)
        if not 1 <= n <= self.chunk:
            raise InvalidArgument(f"{n} tokens at a time; 1 to {self.chunk} are possible")
        if start + n > self.n_ctx:
            raise ContextOverflow(start + n, self.n_ctx)
        for c in self.classes:
            c.grow(sequence.slot, start, start + n)
        sequence.tokens.extend(tokens)
        at = np.arange(start, start + n, dtype=np.int32)
        return Step(
            tokens=np.asarray(tokens, np.int32),
            positions=at[None, :].copy(),
            cache_pos=at,
            see_to=at,
            seq=np.full(n, sequence.slot, np.int32),
            out_rows=np.array([n - 1], np.int32),
            tables=[c.table for c in self.classes],
            n_seq=self.n_seq,
        )

    @property
    def used_bytes(self) -> int:
        """Bytes of the pages in use."""
        return sum(c.used_bytes for c in self.classes)


def _want_open(sequence: CachedSequence) -> None:
    if sequence.slot < 0:
        raise ClosedError("the sequence was removed from the cache")
