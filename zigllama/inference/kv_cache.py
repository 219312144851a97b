"""The KV cache: the keys and values of positions already read, so that each step computes one row and not all of them.

Without it, generating n tokens after a prompt of p would read p + (p+1) + ... + (p+n) rows; with it p + n. The memory
is cut into pages of 64 positions (Kwon et al., 2023, "PagedAttention", arXiv 2309.06180): a sequence holds a list of
page numbers per cache class, takes a page when it reaches it, and gives its pages back when it ends. Pages are reserved
address space until they are written.

Pages are shared. A full page is entered in a tree by the tokens it stands for (prefix_tree.py), and whoever begins with
the same tokens holds the same page; it stays when its last holder ends, until its room is wanted, least recently used
first. Whoever writes into a page that is shared or in the tree writes into a copy.

Layers with a window of w positions need only the last w: a page that has fallen out of the window of every row to come
is given up, so such a class holds at most ceil((w + chunk) / 64) + 1 pages per sequence, however long that is. Pages
are given up only when that number is reached: until then a sequence can still be shortened to where it needs them.

What it is not: it computes nothing. Sessions and the scheduler decide what is in it. Its pools are in page_pool.py.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from zigllama.errors import ClosedError, ContextOverflow, InvalidArgument, OutOfMemory
from zigllama.foundation.ggml_types import type_by_name
from zigllama.foundation.runtime import Step
from zigllama.inference.page_pool import KVCache
from zigllama.inference.prefix_tree import Node, PrefixTree
from zigllama.inference.state_pool import KEPT, StateCache, states_quota
from zigllama.transformers.interfaces import PAGE, CacheSpec

__all__ = ["CachedSequence", "KVCache", "ModelKVCache"]


@dataclass(eq=False)
class CachedSequence:
    """One sequence in the cache: which tokens its positions hold. `slot` is -1 once it was removed.

    reserved    positions it can reach for certain
    node        its place in the prefix tree, where its first `shared` pages are entered
    private     none of its pages are to be entered: what they hold was not computed here
    """

    slot: int
    node: Node
    tokens: list[int] = field(default_factory=list)
    reserved: int = 0
    shared: int = 0
    private: bool = False

    @property
    def length(self) -> int:
        """Positions held."""
        return len(self.tokens)


class ModelKVCache:
    """All cache classes of a model, for `n_seq` sequences of up to `n_ctx` positions.

    type_name     "F16", "F32" or "Q8_0" (heads of a multiple of 32): how keys and values are stored
    chunk         the most tokens of one sequence in a step; what a window class must hold beside its window
    n_positions   positions there is memory for; None: n_seq * n_ctx
    keep          positions of ended sequences that are kept for others to begin with; None: n_ctx
    n_states      pages there is memory for in a class of states, F32 in any case; None: for n_seq sequences

    Satisfies `transformers.interfaces.Cache`. Not for several threads at once. Raises InvalidArgument, OutOfMemory,
    DTypeError for another type, ShapeError for Q8_0 with heads of other sizes.
    """

    def __init__(
        self,
        spec: CacheSpec,
        n_ctx: int,
        *,
        n_seq: int = 1,
        type_name: str = "F16",
        chunk: int = 512,
        n_positions: int | None = None,
        keep: int | None = None,
        n_states: int | None = None,
    ) -> None:
        most = 2**31 - PAGE  # positions and page numbers are 32-bit
        per_sequence = -(-n_ctx // PAGE)
        if not 1 <= n_ctx <= most or not 1 <= n_seq <= most // per_sequence or chunk < 1 or (keep or 0) < 0:
            raise InvalidArgument(f"a cache of {n_seq} sequences of {n_ctx} positions, read {chunk} at a time")
        n_pages = per_sequence * n_seq if n_positions is None else max(per_sequence, n_positions // PAGE)
        kept = per_sequence if keep is None else keep // PAGE
        self.spec, self.n_ctx, self.n_seq, self.type_name, self.chunk = spec, n_ctx, n_seq, type_name, chunk
        self.tree = PrefixTree(len(spec.classes))
        n_pages = min(n_pages, per_sequence * n_seq)
        most_states = n_seq * states_quota(chunk) + KEPT if n_states is None else max(n_states, states_quota(chunk))
        self.classes = [
            StateCache(i, c, self.tree, per_sequence, n_seq, most_states, "F32", chunk, min(kept, KEPT))
            if c.state
            else KVCache(i, c, self.tree, per_sequence, n_seq, n_pages, type_name, chunk, kept)
            for i, c in enumerate(spec.classes)
        ]
        self._slots = list(range(n_seq - 1, -1, -1))

    @classmethod
    def within_memory(cls, spec: CacheSpec, n_ctx: int, *, n_seq: int, type_name: str, **options: Any) -> Self:
        """With memory for `n_seq` whole contexts, or as many as half of the machine's holds; for one in any case."""
        number, pages = type_by_name(type_name), -(-n_ctx // PAGE)
        room = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
        values = PAGE * sum(c.n_layer * c.n_kv * (c.dk + c.dv) for c in spec.classes if not c.state)
        if values:
            most = room // (values * number.block_bytes // number.block_size)  # bytes of a page of every class
            options["n_positions"] = PAGE * max(pages, min(pages * n_seq, most))
        states = 4 * sum(c.n_layer * (c.dk + c.dv) for c in spec.classes if c.state)
        if states:
            options["n_states"] = min(n_seq * states_quota(options.get("chunk", 512)) + KEPT, room // states)
        return cls(spec, n_ctx, n_seq=n_seq, type_name=type_name, **options)

    @property
    def pages(self) -> Sequence[Any]:
        """Per class, the operand of `kv_store` and `attention`."""
        return [c.pages for c in self.classes]

    @property
    def has_states(self) -> bool:
        """Whether some layers keep a state, of which there is none between the ends of pages."""
        return any(c.state for c in self.spec.classes)

    @property
    def used_bytes(self) -> int:
        """Bytes of the pages that sequences hold; a page that several hold counts once."""
        return sum(c.used_bytes for c in self.classes)

    @property
    def kept_bytes(self) -> int:
        """Bytes of the pages that nobody holds and that are kept for whoever begins with the same tokens."""
        return sum(c.kept_bytes for c in self.classes)

    # --- sequences ---

    def add(self, reserve: int = 0) -> CachedSequence:
        """A new, empty sequence, sure of `reserve` positions. Raises OutOfMemory when slots or pages are all taken."""
        if not self._slots:
            raise OutOfMemory(f"a slot for one more than {self.n_seq} sequences", 0)
        sequence = CachedSequence(self._slots[-1], self.tree.root)
        self.reserve(sequence, reserve)
        self.tree.root.users += 1
        self._slots.pop()
        return sequence

    def fork(self, sequence: CachedSequence) -> CachedSequence:
        """A second sequence with the same positions, in the same pages. Raises OutOfMemory, ClosedError."""
        _want_open(sequence)
        twin = self.add(sequence.length)
        for c in self.classes:
            c.share_all(sequence.slot, twin.slot)
        twin.tokens, twin.private = list(sequence.tokens), sequence.private
        self._stand(twin, sequence.node, sequence.shared)
        return twin

    def remove(self, sequence: CachedSequence) -> None:
        """End a sequence; its pages are free again, or kept. Raises ClosedError the second time."""
        self.truncate(sequence, 0)
        self.reserve(sequence, 0)
        sequence.node.users -= 1
        self._slots.append(sequence.slot)
        sequence.slot = -1

    def reserve(self, sequence: CachedSequence, n: int) -> None:
        """From now on the sequence is sure of room for `n` positions (or those it has). Raises OutOfMemory, with
        nothing changed: so what was let in can always go on."""
        n = max(n, sequence.length)
        more = [c.pages_for(n) - c.pages_for(sequence.reserved) for c in self.classes]
        for c, pages in zip(self.classes, more, strict=True):
            if c.promised + pages > c.pages.n_pages:
                raise OutOfMemory(f"{pages} pages of the KV cache", pages * c.page_bytes)
        for c, pages in zip(self.classes, more, strict=True):
            c.promised += pages
        sequence.reserved = n

    def has_room(self, n: int) -> bool:
        """Whether one more sequence could be sure of `n` positions."""
        return bool(self._slots) and all(c.promised + c.pages_for(n) <= c.pages.n_pages for c in self.classes)

    def truncate(self, sequence: CachedSequence, length: int) -> int:
        """Forget everything past the first `length` positions; how many are left.

        That is `length` (or fewer, if there were fewer), or 0: when pages that a window needs there have been used
        again, nothing can be continued from. Where layers keep states, it is the last place up to `length` at which
        there is one; what the newest step added can always be forgotten. Raises InvalidArgument, ClosedError.
        """
        _want_open(sequence)
        if length < 0:
            raise InvalidArgument(f"a sequence cannot be shortened to {length} positions")
        have = sequence.length
        length, wanted = min(length, have), -1
        while length != wanted:  # until all classes agree
            wanted = length
            for c in self.classes:
                length = c.reach(sequence.slot, length, have)
        del sequence.tokens[length:]
        sequence.private = sequence.private and length > 0
        node, shared = sequence.node, sequence.shared
        while shared > length // PAGE:
            assert node.parent is not None
            node, shared = node.parent, shared - 1
        for c in self.classes:
            c.shrink(sequence.slot, length, have)
        self._stand(sequence, node, shared)
        return length

    def trim(self, sequence: CachedSequence) -> None:
        """Give up all that the next row does not see: of a sequence whose earlier pages were never written."""
        for c in self.classes:
            c.trim(sequence.slot, sequence.length)

    # --- steps ---

    def extend(self, sequence: CachedSequence, tokens: Sequence[int]) -> Step:
        """`step` for one sequence."""
        return self.step([(sequence, tokens)])

    def step(self, turns: Sequence[tuple[CachedSequence, Sequence[int]]], into: Step | None = None) -> Step:
        """Make room for tokens at the end of each sequence; the step that fills it, wanting each one's last row.

        The rows stand one after another, as many for each sequence as it has tokens: no row is padding. Raises
        ContextOverflow when tokens do not fit, InvalidArgument for none or for more than a chunk, ClosedError,
        OutOfMemory; nothing has changed then. When the step was run, `commit`; when it failed, `truncate`.

        `into`: a step of this cache that was run and is done with. Where it has as many rows it is written again and
        returned: new arrays, and telling C where they are, would cost more than all else in a step of one row.
        """
        for sequence, tokens in turns:
            _want_open(sequence)
            n, end = len(tokens), sequence.length + len(tokens)
            if not 1 <= n <= self.chunk:
                raise InvalidArgument(f"{n} tokens at a time; 1 to {self.chunk} are possible")
            if end > self.n_ctx:
                raise ContextOverflow(end, self.n_ctx)
            if end > sequence.reserved:
                self.reserve(sequence, end)
        ids: list[int] = []
        at: list[int] = []
        slots: list[int] = []
        last: list[int] = []
        for sequence, tokens in turns:
            start, n = sequence.length, len(tokens)
            for c in self.classes:
                c.grow(sequence.slot, start, start + n)
            sequence.tokens.extend(tokens)
            ids.extend(tokens)
            at.extend(range(start, start + n))
            slots.extend([sequence.slot] * n)
            last.append(len(ids) - 1)
        if into is not None and (len(into.tokens), len(into.out_rows)) == (len(ids), len(last)):
            into.tokens[:], into.cache_pos[:], into.seq[:], into.out_rows[:] = ids, at, slots, last
            return into
        positions = np.array(at, np.int32)
        return Step(
            tokens=np.array(ids, np.int32),
            positions=positions.reshape(1, -1),
            cache_pos=positions,
            see_to=positions,
            seq=np.array(slots, np.int32),
            out_rows=np.array(last, np.int32),
            tables=[c.table for c in self.classes],
            n_seq=self.n_seq,
        )

    # --- prefixes ---

    def commit(self, sequence: CachedSequence) -> None:
        """All positions of the sequence are written: its full pages may be found by others from now on.

        Where the tree has a page for the same tokens already, the sequence holds that one and its own is free: the bits
        are the same. Rows that are no tokens (images, -1) and what follows them are nobody else's.
        """
        while sequence.shared < sequence.length // PAGE and not sequence.private:
            i = sequence.shared
            key = tuple(sequence.tokens[i * PAGE : (i + 1) * PAGE])
            if min(key) < 0:
                return
            node = self.tree.add(sequence.node, key)
            for c in self.classes:
                c.publish(sequence.slot, i, node)
            self._stand(sequence, node, i + 1)

    def adopt(self, sequence: CachedSequence, tokens: Sequence[int]) -> int:
        """Begin with pages that are there: the sequence holds the first of `tokens`, and afterwards perhaps more of
        them, without a row having been run. The last is never taken over, since its logits are wanted. Returns how many
        it holds. Raises OutOfMemory when it may not hold so many.
        """
        have = sequence.length
        first = have // PAGE
        if have % PAGE or sequence.shared != first:  # in the middle of a page of its own: nothing to join on to
            return have
        wanted = tokens[: len(tokens) - 1]
        path = self.tree.path(sequence.node, wanted, first)
        whole = next((k for k in range(len(path), 0, -1) if self._reach(path[:k], first, (first + k) * PAGE)), 0)
        path, length = path[:whole], (first + whole) * PAGE
        node = path[-1] if path else sequence.node
        if not have and not self.has_states:  # a page that begins like the rest: to be copied when it is written to
            near, n = self.tree.nearest(node, wanted[length : length + PAGE])
            if near is not None and self._reach([*path, near], first, length + n):
                path, length = [*path, near], length + n
        if length == have:
            return have
        if length > sequence.reserved:
            self.reserve(sequence, length)
        for c in self.classes:
            c.join(sequence.slot, first, path, length)
        sequence.tokens.extend(tokens[have:length])
        self._stand(sequence, node, first + whole)
        return length

    def _reach(self, path: list[Node], first: int, length: int) -> bool:
        """Whether every class has what a row at position `length` may see of the pages `first`, `first` + 1, ..."""
        return all(
            node.pages[c.number] >= 0 for c in self.classes for node in path[max(0, c.first_needed(length) - first) :]
        )

    def _stand(self, sequence: CachedSequence, node: Node, shared: int) -> None:
        before = sequence.node
        node.users += 1
        before.users -= 1
        sequence.node, sequence.shared = node, shared
        self.tree.prune(before)


def _want_open(sequence: CachedSequence) -> None:
    if sequence.slot < 0:
        raise ClosedError("the sequence was removed from the cache")
