"""Grammars in C: `NativeMachine` reads bytes, `NativeVocabulary` says which tokens may follow.

A leaf of native.py's door, to ckernels/core/grammar_*.c. The twins are in `zigllama.inference.grammar`: pushdown.py for
the machine that `pushdown_machine` makes, mask.py for the vocabulary. What it is not: it reads no grammar's notation.

A machine grows while it is used, and is for one thread at a time: each call takes its lock.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from zigllama.errors import ShapeError

from .native import check, ffi, lib
from .native_step import want_array

I32 = npt.NDArray[np.int32]
U8 = npt.NDArray[np.uint8]
DEAD = -1
ROOM = 4096  # bytes of a forced run that are looked for at once


class PushdownRules(Protocol):
    """Arrays of zl_pushdown_rules: int32, but bytes and flags uint8; see zl_text.h."""

    edge_first: I32
    edge_low: U8
    edge_high: U8
    edge_next: I32
    call_first: I32
    call_rule: I32
    call_next: I32
    final: U8
    rule_node: I32
    rule_group: I32
    start: int
    class_of: U8
    n_classes: int


class NativeMachine:
    """A machine that C holds; see `zigllama.inference.grammar.machine.Machine`, which it is. Every method raises
    GrammarBudget when the machine passes its limits, InvalidArgument for a state that is none."""

    def __init__(self, pointer: Any) -> None:
        self.pointer = ffi.gc(pointer, lib.zl_machine_free)
        self.lock = threading.Lock()
        out = ffi.new("int32_t *")
        check(lib.zl_machine_start(self.pointer, out))
        self.start = int(out[0])
        self._n, self._after, self._flag = ffi.new("int64_t *"), ffi.new("int32_t *"), ffi.new("int *")
        self._out = ffi.new("uint8_t[]", ROOM)

    def read(self, state: int, text: bytes) -> tuple[int, int]:
        """Reads a text: how many bytes of it were read, and the state after them; the next one is refused."""
        with self.lock:
            check(lib.zl_machine_read(self.pointer, state, text, len(text), self._n, self._after))
            return int(self._n[0]), int(self._after[0])

    def step(self, state: int, byte: int) -> int:
        """The state after one more byte, DEAD where it is refused."""
        if state == DEAD:
            return DEAD
        n, after = self.read(state, bytes((byte,)))
        return after if n else DEAD

    def finished(self, state: int) -> bool:
        """Whether a text may end here."""
        if state == DEAD:
            return False
        with self.lock:
            check(lib.zl_machine_finished(self.pointer, state, self._flag))
            return bool(self._flag[0])

    def next_states(self, state: int) -> I32:
        """The state after each byte, int32 (256,), DEAD for one that is refused."""
        out = np.empty(256, np.int32)
        with self.lock:
            check(lib.zl_machine_next(self.pointer, state, ffi.from_buffer("int32_t[]", out)))
        return out

    def forced(self, state: int, room: int = ROOM) -> tuple[bytes, int]:
        """The bytes, `room` at most, that must follow one after the other, and the state after them."""
        with self.lock:
            if room > len(self._out):
                self._out = ffi.new("uint8_t[]", room)
            check(lib.zl_machine_forced(self.pointer, state, self._out, room, self._n, self._after))
            return ffi.buffer(self._out)[: self._n[0]], int(self._after[0])

    def limit(self, n_bytes: int = 0, work: int = 0) -> tuple[int, int]:
        """Set the most bytes it may keep and the most steps of one call (0: as they are); bytes and states it has."""
        states = ffi.new("int64_t *")
        with self.lock:
            check(lib.zl_machine_limit(self.pointer, n_bytes, work, self._n, states))
            return int(self._n[0]), int(states[0])


def pushdown_machine(rules: PushdownRules) -> NativeMachine:
    """The machine of these rules. Raises InvalidArgument and ShapeError for rules that do not fit together,
    GrammarBudget, OutOfMemory."""
    record = ffi.new("zl_pushdown_rules *")
    keep = []
    n, n_edges, n_calls = len(rules.final), len(rules.edge_next), len(rules.call_rule)
    lengths = {
        "edge_first": n + 1, "edge_low": n_edges, "edge_high": n_edges, "edge_next": n_edges,
        "call_first": n + 1, "call_rule": n_calls, "call_next": n_calls, "final": n,
        "rule_node": len(rules.rule_node), "rule_group": len(rules.rule_node), "class_of": 256,
    }  # fmt: skip
    for name, length in lengths.items():
        array = getattr(rules, name)
        small = name in ("edge_low", "edge_high", "final", "class_of")
        want_array(array, np.uint8 if small else np.int32, 1)
        if len(array) != length:
            raise ShapeError(f"rules: {name} has {len(array)} entries, not {length}")
        keep.append(ffi.from_buffer("uint8_t[]" if small else "int32_t[]", array))
        setattr(record, name, keep[-1])
    if rules.edge_first[-1] > n_edges or rules.call_first[-1] > n_calls:
        raise ShapeError(
            f"rules: {n_edges} edges, {n_calls} calls; {rules.edge_first[-1]}, {rules.call_first[-1]} named"
        )
    record.n_nodes, record.n_rules = n, len(rules.rule_node)
    record.start, record.n_classes = rules.start, rules.n_classes
    out = ffi.new("zl_machine **")
    check(lib.zl_pushdown_new(record, out))
    return NativeMachine(out[0])


class NativeVocabulary:
    """The tokens of a vocabulary, for masks. Token i is data[offsets[i] : offsets[i + 1]]; one without bytes is never
    allowed, but for `ends`, which are where a text may end.

    data uint8 (bytes,), offsets int64 (n + 1,). Raises InvalidArgument, ShapeError, OutOfMemory.
    """

    def __init__(self, data: U8, offsets: npt.NDArray[np.int64], ends: Iterable[int]) -> None:
        want_array(data, np.uint8, 1)
        want_array(offsets, np.int64, 1)
        if not len(offsets) or offsets[-1] > len(data):
            raise ShapeError(f"vocabulary: {len(offsets)} offsets into {len(data)} bytes")
        listed = np.array(sorted(ends), np.int32)
        out = ffi.new("zl_vocabulary **")
        check(
            lib.zl_vocabulary_new(
                ffi.from_buffer("uint8_t[]", data),
                ffi.from_buffer("int64_t[]", offsets),
                len(offsets) - 1,
                ffi.from_buffer("int32_t[]", listed),
                len(listed),
                out,
            )
        )
        self.n = len(offsets) - 1
        self.n_words = (self.n + 31) // 32
        self._pointer = ffi.gc(out[0], lib.zl_vocabulary_free)

    def mask(self, machine: NativeMachine, state: int) -> tuple[npt.NDArray[np.uint32], int, int]:
        """Which tokens may follow, uint32 (n_words,), bit i & 31 of word i >> 5 for token i; how many may (2 for two or
        more); the first of them, -1 for none. Raises as the machine's methods."""
        mask = np.empty(self.n_words, np.uint32)
        with machine.lock:
            n, one = machine._n, machine._after
            check(
                lib.zl_vocabulary_mask(
                    self._pointer, machine.pointer, state, ffi.from_buffer("uint32_t[]", mask), n, one
                )
            )
            return mask, int(n[0]), int(one[0])
