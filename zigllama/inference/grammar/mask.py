"""Which tokens of a vocabulary may follow, in Python: what core/grammar_mask.c does, to be read.

A token may follow where the machine can read all of its bytes. All tokens in a trie need a step per node and not per
byte; a node that leads nowhere spares its whole subtree. The C code knows of further short cuts, which change nothing
of what it finds.

    tokens a an at be       trie   a(0) -- n(1)      b -- e(3)
                                     \\\\-- t(2)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from .machine import DEAD, Machine

U32 = npt.NDArray[np.uint32]


class VocabularyTrie:
    """The tokens, by number: those without bytes may never follow, but for `ends`, which are where a text may end."""

    def __init__(self, tokens: Sequence[bytes], ends: Iterable[int]) -> None:
        self.n, self.ends = len(tokens), frozenset(ends)
        self.n_words = (self.n + 31) // 32
        # per node the bytes that lead on, and the tokens that end there
        self._next: list[dict[int, int]] = [{}]
        self._tokens: list[list[int]] = [[]]
        for i, text in enumerate(tokens):
            if not text or i in self.ends:
                continue
            node = 0
            for byte in text:
                if byte not in self._next[node]:
                    self._next[node][byte] = len(self._next)
                    self._next.append({})
                    self._tokens.append([])
                node = self._next[node][byte]
            self._tokens[node].append(i)

    def allowed(self, machine: Machine, state: int) -> set[int]:
        """The tokens that may follow."""
        found = set(self.ends) if machine.finished(state) else set[int]()
        todo = [(0, state)]
        while todo:
            node, at = todo.pop()
            for byte, child in self._next[node].items():
                after = machine.step(at, byte)
                if after != DEAD:
                    found.update(self._tokens[child])
                    todo.append((child, after))
        return found

    def mask(self, machine: Machine, state: int) -> tuple[U32, int, int]:
        """As NativeVocabulary.mask."""
        allowed = self.allowed(machine, state)
        return mask_of(allowed, self.n), min(2, len(allowed)), min(allowed, default=-1)


def mask_of(ids: Iterable[int], n: int) -> U32:
    """A mask of n tokens that allows these: bit i & 31 of word i >> 5 is token i."""
    mask = np.zeros((n + 31) // 32, np.uint32)
    for i in ids:
        mask[i >> 5] |= np.uint32(1 << (i & 31))
    return mask


def ids_of(mask: U32) -> list[int]:
    """The tokens that a mask allows, ascending."""
    found: list[int] = np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little")).tolist()
    return found
