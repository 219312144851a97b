"""Strings that are remembered by a fingerprint (prints.py), as an automaton that C follows.

A state is one of the language's and the fingerprint so far, side by side:

    state = q * FINGERPRINTS + print
    byte b leads to  step(q, b) * FINGERPRINTS + (print * 31 + b + 1) mod FINGERPRINTS

Which fingerprints must not come changes with every item of an array; the automaton stays, and only the results at its
ends change. That is right as long as every state still has an end that may come, which `ends` finds out.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from .prints import FINGERPRINTS
from .whole import DEAD, Table, Whole

CELLS = 1 << 18  # of an automaton, states by classes of bytes: 1 MB
PURSE = 8 * CELLS  # of all those of a schema
ALL = Table(bytes(256), np.zeros((1, 1), np.int32), np.zeros(1, np.int32), frozenset({0}))  # every string


class Printed:
    """The strings of a language (None: all) with their fingerprints. Compared as an object."""

    def __init__(self, language: Whole | None) -> None:
        self.language = language

    @property
    def n_states(self) -> int:
        """Of the language."""
        return 1 if self.language is None else len(self.language.table.next)

    @cached_property
    def table(self) -> Table:
        """For C. UTF-8 is C's to see to."""
        prints = np.arange(FINGERPRINTS)
        t = ALL if self.language is None else self.language.table
        of = np.frombuffer(t.class_of, np.uint8).astype(np.int64)
        residues = np.arange(256) % FINGERPRINTS
        pairs, first, class_of = np.unique(of * 256 + residues, return_index=True, return_inverse=True)
        to = t.next[:, of[first]]  # [q][class]
        after = (prints[:, None] * 31 + residues[first] + 1) % FINGERPRINTS  # [print][class]
        cells = np.where(to[:, None] == DEAD, DEAD, to[:, None] * FINGERPRINTS + after)
        return Table(
            class_of.astype(np.uint8).tobytes(),
            np.ascontiguousarray(cells.reshape(-1, len(pairs)), np.int32),
            np.repeat(t.shortest, FINGERPRINTS),
            frozenset(q * FINGERPRINTS + p for q in t.finals for p in range(FINGERPRINTS)),
        )

    @cached_property
    def _final(self) -> npt.NDArray[np.bool_]:
        found = np.zeros(len(self.table.next), np.bool_)
        found[sorted(self.table.finals)] = True
        return found

    def ends(self, results: list[Any]) -> list[Any] | None:
        """Of each state the result of a string that ends there, given that of each fingerprint, or None where it must
        not come or ends nowhere. None: there are states that no end could be reached from."""
        allowed = np.tile([r is not None for r in results], self.n_states) & self._final
        alive, after = allowed, self.table.next
        while True:
            more = alive | (alive[after] & (after != DEAD)).any(axis=1)
            if (more == alive).all():
                break
            alive = more
        if not alive.all():
            return None
        return [results[i % FINGERPRINTS] if ok else None for i, ok in enumerate(allowed.tolist())]


@lru_cache(maxsize=8)
def printed(language: Whole | None) -> Printed | None:
    """The automaton; None: it would be too large."""
    made = Printed(language)
    return made if made.n_states * FINGERPRINTS * FINGERPRINTS <= CELLS and made.table.next.size <= CELLS else None
