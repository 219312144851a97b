"""The pages of one cache class: who holds which, which are free, which are kept in case their text comes again.

    free        nobody's, contents of no use                   -> taken first, the last one freed before others
    held        in the table of one sequence or of several      (refs)
    kept        nobody's, but in the prefix tree                -> taken when no page is free, least recently used first

What it is not: it knows no tokens; `ModelKVCache` tells it which pages stand for the same text.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zigllama.errors import OutOfMemory
from zigllama.foundation.ggml_types import type_by_name
from zigllama.foundation.native_cache import NativeCache
from zigllama.foundation.runtime import I32
from zigllama.inference.prefix_tree import Node, PrefixTree
from zigllama.transformers.interfaces import PAGE, CacheClass


class KVCache:
    """The pool of a class, and a table of page numbers (n_seq, pages per sequence), -1 where there is none.

    quota       the most pages that a sequence holds
    keep        the most pages that are kept
    promised    pages that sequences have been promised: never more than there are, so `grow` cannot fail
    """

    more_columns = 0  # of the table, beside those of the positions' pages

    def __init__(
        self,
        number: int,
        spec: CacheClass,
        tree: PrefixTree,
        per_sequence: int,
        n_seq: int,
        n_pages: int,
        type_name: str,
        chunk: int,
        keep: int,
    ) -> None:
        self.number, self.spec, self.tree, self.keep, self.promised = number, spec, tree, keep, 0
        self.quota = self._most_held(per_sequence, chunk)
        kind, sizes = type_by_name(type_name).id, (spec.n_layer, spec.n_kv, spec.dk, spec.dv)
        self.pages = NativeCache(kind, number, *sizes, n_pages, state=spec.state)
        self.table: I32 = np.full((n_seq, per_sequence + self.more_columns), -1, np.int32)
        self._free = list(range(n_pages - 1, -1, -1))
        self._refs = [0] * n_pages
        self._node: dict[int, Node] = {}  # of every page that is in the tree
        self._kept: OrderedDict[int, None] = OrderedDict()  # least recently used first

    def _most_held(self, per_sequence: int, chunk: int) -> int:
        """The quota of sequences of `per_sequence` pages, of which a step reads `chunk` tokens."""
        return min(per_sequence, -(-(self.spec.window + chunk) // PAGE) + 1) if self.spec.window else per_sequence

    @property
    def page_bytes(self) -> int:
        """Bytes of a page, over all layers of the class."""
        return self.pages.n_bytes // self.pages.n_pages

    @property
    def used_bytes(self) -> int:
        """Bytes of the pages that are held."""
        return (self.pages.n_pages - len(self._free) - len(self._kept)) * self.page_bytes

    @property
    def kept_bytes(self) -> int:
        """Bytes of the pages that are kept."""
        return len(self._kept) * self.page_bytes

    def _row(self, slot: int) -> I32:
        """The pages of a sequence's positions."""
        row: I32 = self.table[slot]
        return row

    def pages_for(self, n: int) -> int:
        """The most pages that a sequence holds while it has up to `n` positions."""
        return min(self.quota, -(-n // PAGE))

    def first_needed(self, start: int) -> int:
        """The first page of which a row at position `start`, or a later one, may see something."""
        return max(0, start - self.spec.window + 1) // PAGE if self.spec.window else 0

    def holds(self, slot: int, length: int) -> bool:
        """Whether all that a row at position `length` may see is there."""
        return bool((self.table[slot, self.first_needed(length) : -(-length // PAGE)] >= 0).all())

    def reach(self, slot: int, length: int, have: int) -> int:
        """The most positions up to `length` that a sequence of `have` can be cut to: `length`, or 0 where pages that
        a window needs there have been used again."""
        return length if self.holds(slot, length) else 0

    # --- a sequence takes pages and gives them back ---

    def grow(self, slot: int, start: int, length: int) -> None:
        """Pages for the positions start .. length-1 of a sequence, which has been promised them.

        Pages before the window of `start` are given up where the quota asks for it. A page that is begun and not the
        sequence's alone is copied.
        """
        row = self.table[slot]
        missing = [i for i in range(start // PAGE, -(-length // PAGE)) if row[i] < 0]
        if missing:
            held = np.flatnonzero(row >= 0)
            excess = max(0, len(held) + len(missing) - self.quota)
            self._release(row, held[held < self.first_needed(start)][:excess])
        if start % PAGE:
            self._make_own(row, start // PAGE, len(missing))
        for i in missing:
            row[i] = self._take()

    def shrink(self, slot: int, length: int, have: int) -> None:
        """Give back the pages past the first `length` of `have` positions, which `reach` has allowed."""
        row = self.table[slot]
        held = np.flatnonzero(row >= 0)
        self._release(row, held[held >= -(-length // PAGE)])

    def trim(self, slot: int, length: int) -> None:
        """Give back the pages that a row at position `length` does not see."""
        row = self._row(slot)
        held = np.flatnonzero(row >= 0)
        self._release(row, held[held < self.first_needed(length)])

    def _make_own(self, row: I32, i: int, others: int) -> None:
        """Page i of a sequence is about to be written to, and `others` more pages to be taken."""
        page = int(row[i])
        if self._refs[page] == 1:
            if page not in self._node:
                return
            if len(self._free) + len(self._kept) <= others:  # no room for a copy: nobody else can have it, then
                self._forget(page)
                return
        copy = self._take()
        for array in (self.pages.k, self.pages.v):
            array[copy] = array[page]
        self._release(row, [i])
        row[i] = copy

    def _take(self) -> int:
        if not self._free:
            if not self._kept:  # promises exclude it
                raise OutOfMemory("a page of the KV cache", self.page_bytes)
            self._drop_oldest()
        page = self._free.pop()
        self._refs[page] = 1
        return page

    def _release(self, row: I32, which: Sequence[int] | Any) -> None:
        """Give up entries of a table row. The last of them count as used longest ago: a prefix outlives its sequel."""
        for i in reversed(which):
            page = int(row[i])
            self._refs[page] -= 1
            if not self._refs[page]:
                if page in self._node:
                    self._kept[page] = None
                else:
                    self._free.append(page)
        row[which] = -1
        while len(self._kept) > self.keep:
            self._drop_oldest()

    # --- pages with a text ---

    def share(self, slot: int, pages: Mapping[int, int]) -> None:
        """A sequence holds these pages too: table index -> page."""
        for i, page in pages.items():
            self._kept.pop(page, None)
            self._refs[page] += 1
            self.table[slot, i] = page

    def share_all(self, slot: int, twin: int) -> None:
        """A second sequence holds all pages of the first's positions."""
        self.share(twin, {i: int(p) for i, p in enumerate(self._row(slot)) if p >= 0})

    def join(self, slot: int, first: int, path: Sequence[Node], length: int) -> None:
        """A sequence goes on with the pages of `path`, as its pages `first`, `first` + 1, ..., to have `length`
        positions; of these it needs what its window sees."""
        needed, row = self.first_needed(length), self._row(slot)
        held = np.flatnonzero(row >= 0)
        self.share(slot, {i: node.pages[self.number] for i, node in enumerate(path, first) if i >= needed})
        self._release(row, held[held < needed])

    def publish(self, slot: int, i: int, node: Node) -> None:
        """Page i of a sequence is what `node` stands for, or its equal is there and is taken instead."""
        row = self._row(slot)
        own, there = int(row[i]), node.pages[self.number]
        if own < 0 or own == there:
            return
        if there < 0:
            node.pages[self.number], self._node[own] = own, node
        else:
            self._release(row, [i])
            self.share(slot, {i: there})

    def _drop_oldest(self) -> None:
        page, _ = self._kept.popitem(last=False)
        self._forget(page)
        self._free.append(page)

    def _forget(self, page: int) -> None:
        """Take a page out of the tree."""
        node = self._node.pop(page)
        node.pages[self.number] = -1
        self.tree.prune(node)
