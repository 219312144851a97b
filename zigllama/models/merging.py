"""Byte-pair merging, the textbook form: join neighbouring symbols, best pair first, until no pair can be joined.

Both tokenizer families end here. They differ in what makes a pair good: byte-level BPE looks the pair up in its list of
merges, SentencePiece looks the joined piece up in the vocabulary and takes its score. Either way a pair has a rank, a
whole number, lower is better; of equal ranks the leftmost pair goes first.

    l o w e r   ranks: (l,o) 5  (e,r) 2          e r first:     l o w er
    l o w er    ranks: (l,o) 5  (lo,w) 9         then l o:      lo w er
    lo w er     rank:  (lo,w) 9                  then lo w:     low er

This is the twin of the kernel that tokenizers run, `StringIndex.merge` (ckernels/core/strings.c), which keeps the pairs
in a heap, for a megabyte of spaces is one word: O(n log n) there, O(n^2) here.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

RankOf = Callable[[bytes, bytes], int | None]


def merge(symbols: list[bytes], rank_of: RankOf) -> list[bytes]:
    """The symbols that are left when no neighbouring pair has a rank (`rank_of` gives None); `symbols` is used up."""
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
