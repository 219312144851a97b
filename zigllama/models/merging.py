"""Byte-pair merging: join neighbouring symbols of a word, best pair first, until no pair can be joined.

Both tokenizer families end here. They differ in what makes a pair good: byte-level BPE looks the pair up in its list of
merges, SentencePiece looks the joined piece up in the vocabulary and takes its score. Either way a pair has a rank, a
whole number, lower is better; of equal ranks the leftmost pair goes first.

    l o w e r   ranks: (l,o) 5  (e,r) 2          e r first:     l o w er
    l o w er    ranks: (l,o) 5  (lo,w) 9         then l o:      lo w er
    lo w er     rank:  (lo,w) 9                  then lo w:     low er

A short word is scanned again after each join. A long one (a megabyte of spaces is one word) keeps its pairs in a heap,
O(n log n), with entries of pairs that no longer exist skipped when they come up.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import pairwise

RankOf = Callable[[bytes, bytes], int | None]

SCAN_LIMIT = 24  # symbols up to which scanning beats the heap
LEFT_BITS = 40  # of a heap entry: rank << 40 | index of the left symbol, one int instead of a tuple


def merge(symbols: list[bytes], rank_of: RankOf) -> list[bytes]:
    """The symbols that are left when no neighbouring pair has a rank; `symbols` is used up."""
    return _scan(symbols, rank_of) if len(symbols) <= SCAN_LIMIT else _heap(symbols, rank_of)


def _scan(symbols: list[bytes], rank_of: RankOf) -> list[bytes]:
    ranks = [rank_of(a, b) for a, b in pairwise(symbols)]
    while True:
        best, at = None, -1
        for i, rank in enumerate(ranks):
            if rank is not None and (best is None or rank < best):
                best, at = rank, i
        if at < 0:
            return symbols
        symbols[at] += symbols.pop(at + 1)
        ranks.pop(at)
        if at > 0:
            ranks[at - 1] = rank_of(symbols[at - 1], symbols[at])
        if at < len(ranks):
            ranks[at] = rank_of(symbols[at], symbols[at + 1])


def _heap(symbols: list[bytes], rank_of: RankOf) -> list[bytes]:
    n = len(symbols)
    before = array("q", range(-1, n - 1))
    after = array("q", range(1, n + 1))  # n: there is none
    heap = []
    for i in range(n - 1):
        rank = rank_of(symbols[i], symbols[i + 1])
        if rank is not None:
            heap.append(rank << LEFT_BITS | i)
    heapify(heap)
    while heap:
        entry = heappop(heap)
        left, rank = entry & ((1 << LEFT_BITS) - 1), entry >> LEFT_BITS
        right = after[left]
        # A joined symbol leaves b"" behind. A pair that changed since has another rank, or stands in the heap itself.
        if not symbols[left] or right >= n or rank_of(symbols[left], symbols[right]) != rank:
            continue
        symbols[left] += symbols[right]
        symbols[right] = b""
        after[left] = following = after[right]
        if following < n:
            before[following] = left
            rank_after = rank_of(symbols[left], symbols[following])
            if rank_after is not None:
                heappush(heap, rank_after << LEFT_BITS | left)
        preceding = before[left]
        if preceding >= 0:
            rank_before = rank_of(symbols[preceding], symbols[left])
            if rank_before is not None:
                heappush(heap, rank_before << LEFT_BITS | preceding)
    return [s for s in symbols if s]
