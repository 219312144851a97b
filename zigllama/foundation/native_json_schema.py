"""`json_schema_machine`: the machine of a JSON Schema in C, which asks Python once for each place that it comes to.

A leaf of native.py's door, to ckernels/core/json_schema.c. The twin is
`zigllama.inference.grammar.json_schema.transducer`; what is asked is `Tables` in tables.py beside it. What it is not:
it knows no schema.
"""

from __future__ import annotations

from typing import Any, Protocol

from .native import check, ffi, lib
from .native_grammar import NativeMachine

ENTRIES = 257


class Asked(Protocol):
    """What the machine asks."""

    def row(self, place: int) -> tuple[list[int], list[int]]:
        """257 entries of a place, and pairs of places."""

    def after(self, frame: int, result: int) -> int:
        """The place after a result, or -1."""


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

        def failed(_kind: Any, error: BaseException, _trace: Any) -> int:
            self.failure = error
            return int(lib.ZL_E_BUDGET)

        self._keep = (
            ffi.callback("int(void *, int32_t, int32_t *, int32_t *)", row, onerror=failed),
            ffi.callback("int(void *, int32_t, int32_t, int32_t *)", after, onerror=failed),
        )
        record = ffi.new("zl_json_schema *")
        record.row, record.after = self._keep
        record.first, record.last = first, last
        out = ffi.new("zl_machine **")
        check(lib.zl_json_schema_new(record, out))
        super().__init__(out[0])


def json_schema_machine(asked: Asked, first: int, last: int) -> JsonSchemaMachine:
    """The machine of these places, from `first` on; a document may end at `last`. Raises OutOfMemory."""
    return JsonSchemaMachine(asked, first, last)
