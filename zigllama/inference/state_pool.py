"""The pages of a class of states: what state-space layers remember (neural_primitives/state_space.py), page by page.

    positions   0 .. 63   64 .. 127   128 .. 150      a page holds the state after the last of its positions
    pages          7          2           9     | 4   last column: what the newest step went on from (after 144, say)

A full page stands for all tokens up to its end: of the pages before it nobody needs anything. So a sequence holds few,
and a prefix is found again where the tree still has the page at its end. The newest step can be taken back whole, since
it wrote into pages of its own and left the one it went on from as it was; beyond that a sequence can be cut to the
end of a page that it holds, and to nothing in between: a state cannot be run backwards.

What it is not: a second kind of table or tree. Everything but where pages are taken and given up is `KVCache`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from zigllama.foundation.runtime import I32
from zigllama.inference.page_pool import KVCache
from zigllama.inference.prefix_tree import Node
from zigllama.transformers.interfaces import PAGE

KEPT = 16  # pages kept for whoever begins alike, at most: a state is some megabytes


def states_quota(chunk: int) -> int:
    """The most pages that a sequence holds: those of a step that begins inside a page, and the one it goes on from."""
    return -(-chunk // PAGE) + 2


class StateCache(KVCache):
    """As `KVCache`; tables have one column more, the last (see zl_cache)."""

    more_columns = 1

    def _most_held(self, per_sequence: int, chunk: int) -> int:
        """As KVCache; however long the sequences are."""
        return states_quota(chunk)

    @cached_property
    def _began(self) -> list[int]:
        """Where the newest step of each sequence began: what its last column holds."""
        return [0] * len(self.table)

    def _row(self, slot: int) -> I32:
        row: I32 = self.table[slot, :-1]
        return row

    def pages_for(self, n: int) -> int:
        """As KVCache; beside the pages of the positions the one that a step goes on from."""
        return min(self.quota, -(-n // PAGE) + 1) if n else 0

    def first_needed(self, start: int) -> int:
        """The page that a row at position `start` goes on from."""
        return max(0, start - 1) // PAGE

    def reach(self, slot: int, length: int, have: int) -> int:
        """The most positions up to `length` that a sequence of `have` can be shortened to."""
        if length >= have:
            return have
        whole = np.flatnonzero(self._row(slot)[: length // PAGE] >= 0)
        best = (int(whole[-1]) + 1) * PAGE if len(whole) else 0
        began = self._began[slot]
        return began if best < began <= length and self.table[slot, -1] >= 0 else best

    def grow(self, slot: int, start: int, length: int) -> None:
        """Pages for the positions start .. length-1, all of them new, since what is there may be wanted back."""
        row = self._row(slot)
        self._drop_last(slot)
        first, end = start // PAGE, -(-length // PAGE)
        if start:
            before = (start - 1) // PAGE
            page = int(row[before])
            self.table[slot, -1] = page
            if start % PAGE:  # it moves: its place is the new page's
                row[before] = -1
            else:
                self._refs[page] += 1
        self._began[slot] = start
        held = np.flatnonzero(row[:first] >= 0)
        excess = max(0, len(held) + 1 + end - first - self.quota)
        self._release(row, held[:excess])
        for i in range(first, end):
            row[i] = self._take()

    def shrink(self, slot: int, length: int, have: int) -> None:
        """Give back what lies past the first `length` of `have` positions, which `reach` has allowed."""
        if length == have:
            return
        row = self._row(slot)
        held = np.flatnonzero(row >= 0)
        self._release(row, held[held >= length // PAGE])
        if length and row[(length - 1) // PAGE] < 0:  # the newest step is taken back: the page goes back to its place
            row[(length - 1) // PAGE] = self.table[slot, -1]
            self.table[slot, -1] = -1
        self._drop_last(slot)

    def trim(self, slot: int, length: int) -> None:
        """As KVCache."""
        super().trim(slot, length)
        self._drop_last(slot)

    def _drop_last(self, slot: int) -> None:
        """The newest step is not to be taken back any more."""
        if self.table[slot, -1] >= 0:
            self._release(self.table[slot], [-1])

    def join(self, slot: int, first: int, path: Sequence[Node], length: int) -> None:
        """As KVCache; what the newest step went on from is of no use any more."""
        super().join(slot, first, path, length)
        self._drop_last(slot)
