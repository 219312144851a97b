"""A machine: what a grammar is once it is compiled. It reads bytes, one after the other, and knows where it stands.

    state = machine.start
    for byte in text:
        state = machine.step(state, byte)        # DEAD: no text that begins so is accepted
    machine.finished(state)                      # whether the text may end here

States are small integers, and the same place is the same integer: masks and transitions are kept per state. A state is
only made while it can still reach one that is finished, as far as that can be known at bearable cost; whoever makes a
machine that cannot promise it says so.

This is the protocol that the twins in Python realise; in C it is core/grammar_machine.h, with the same names.
"""

from __future__ import annotations

from typing import Protocol

DEAD = -1

LIMIT_BYTES = 64 << 20  # of all that a machine keeps: states, transitions, masks
LIMIT_STEPS = 20_000_000  # units of work for one token's mask or one text's reading: about a tenth of a second in C


class Machine(Protocol):
    """See above. `step` raises GrammarBudget when the machine has grown too large; DEAD leads to DEAD."""

    @property
    def start(self) -> int:
        """The state before the first byte."""

    def step(self, state: int, byte: int) -> int:
        """The state after one more byte, or DEAD."""

    def finished(self, state: int) -> bool:
        """Whether the text may end here."""


def run(machine: Machine, text: bytes, state: int | None = None) -> tuple[int, int]:
    """Reads a text: (bytes that were read, state after them); fewer than all where the next one leads to DEAD."""
    at = machine.start if state is None else state
    for i, byte in enumerate(text):
        after = machine.step(at, byte)
        if after == DEAD:
            return i, at
        at = after
    return len(text), at


def accepts(machine: Machine, text: bytes) -> bool:
    """Whether the whole text is accepted."""
    n, state = run(machine, text)
    return n == len(text) and machine.finished(state)
