"""`json_schema_machine`: the machine of a JSON Schema in C, which asks Python once for each place that it comes to.

A leaf of native.py's door, to ckernels/core/json_schema.c. The twin is
`zigllama.inference.grammar.json_schema.transducer`; what is asked is `Tables` in tables.py beside it. What it is not:
it knows no schema.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from .native import check, ffi, lib
from .native_grammar import NativeMachine

ENTRIES = 257
I32 = npt.NDArray[np.int32]


class Asked(Protocol):
    """What the machine asks."""

    root: int  # the plan of the document's value, or -1: rows are asked of all places

    def row(self, place: int) -> tuple[list[int], list[int]]:
        """257 entries of a place, and pairs of places."""

    def after(self, frame: int, result: int) -> int:
        """The place after a result, or -1."""

    def say(self, machine: JsonSchemaMachine, what: int, a: int, b: int, c: int) -> list[int]:
        """What the schema says; SAY below."""


SAY = {
    int(getattr(lib, f"ZL_SAY_{name.upper()}")): name
    for name in ("plan", "object", "value", "array", "property_end", "item_end", "listener")
}
FREE, ASKED = int(lib.ZL_TEXT_FREE), int(lib.ZL_TEXT_ASKED)


class JsonSchemaMachine(NativeMachine):
    """See above. `failure` is what an answer raised, if one did: the call that asked raises GrammarBudget."""

    def __init__(self, asked: Asked, first: int, last: int) -> None:
        self.failure: BaseException | None = None

        def row(_: Any, place: int, entries: Any, pairs: Any) -> int:
            found, pushed = asked.row(place)
            ffi.memmove(entries, ffi.new("int32_t[]", found), 4 * ENTRIES)
            if pushed:
                ffi.memmove(pairs, ffi.new("int32_t[]", pushed), 4 * len(pushed))
            return 0

        def after(_: Any, frame: int, result: int, place: Any) -> int:
            place[0] = asked.after(frame, result)
            return 0

        def say(_: Any, what: int, a: int, b: int, c: int, out: Any) -> int:
            found = asked.say(self, what, a, b, c)
            out[0 : len(found)] = found
            return 0

        def failed(_kind: Any, error: BaseException, _trace: Any) -> int:
            self.failure = error
            return int(lib.ZL_E_BUDGET)

        self._keep = (
            ffi.callback("int(void *, int32_t, int32_t *, int32_t *)", row, onerror=failed),
            ffi.callback("int(void *, int32_t, int32_t, int32_t *)", after, onerror=failed),
            ffi.callback("int(void *, int32_t, int32_t, int32_t, int32_t, int32_t *)", say, onerror=failed),
        )
        record = ffi.new("zl_json_schema *")
        record.row, record.after, record.say = self._keep
        record.first, record.last, record.root = first, last, asked.root
        out = ffi.new("zl_machine **")
        check(lib.zl_json_schema_new(record, out))
        super().__init__(out[0])

    # What is told from within an answer, under the lock that the call which asked has taken.

    def list_of(self, texts: list[bytes]) -> int:
        """Texts, sorted, no two alike, that strings may be; for `text`. Raises GrammarBudget."""
        offsets = np.zeros(len(texts) + 1, np.int64)
        np.cumsum([len(t) for t in texts], out=offsets[1:])
        out = ffi.new("int32_t *")
        data = b"".join(texts)
        check(lib.zl_json_schema_list(self.pointer, data, ffi.from_buffer("int64_t[]", offsets), len(texts), out))
        return int(out[0])

    def automaton(self, class_of: bytes, next_: I32, shortest: I32) -> int:
        """An automaton [state][class] that strings may be of; for `text`. Raises GrammarBudget, InvalidArgument."""
        record, out = ffi.new("zl_json_automaton *"), ffi.new("int32_t *")
        record.n_states, record.n_classes = next_.shape
        keep = [ffi.from_buffer("uint8_t[]", class_of)]
        keep += [ffi.from_buffer("int32_t[]", np.ascontiguousarray(each, np.int32)) for each in (next_, shortest)]
        record.class_of, record.next, record.shortest = keep
        check(lib.zl_json_schema_automaton(self.pointer, record, out))
        return int(out[0])

    def text(
        self,
        list_: int,
        results: list[int] | None = None,
        other: int = -1,
        least: int = 0,
        most: int | None = None,
        first: int = -1,
        automaton: int = -1,
        ends: list[int] | None = None,
    ) -> int:
        """The place after the first quote of a string; see zl_json_text. Raises GrammarBudget, InvalidArgument."""
        record, out = ffi.new("zl_json_text *"), ffi.new("int32_t *")
        record.list, record.other, record.least, record.most = list_, other, least, -1 if most is None else most
        record.first, record.automaton = first, automaton
        given, at_states = ffi.new("int32_t[]", results or []), ffi.new("int32_t[]", ends or [])
        record.results, record.ends = given, at_states
        check(lib.zl_json_schema_text(self.pointer, record, out))
        return int(out[0])


def json_schema_machine(asked: Asked, first: int, last: int) -> JsonSchemaMachine:
    """The machine of these places, from `first` on; a document may end at `last`. Raises OutOfMemory."""
    return JsonSchemaMachine(asked, first, last)
