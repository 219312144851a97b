"""JSON Schema (drafts 4, 6, 7, 2019-09, 2020-12) as a machine: it reads a document byte by byte, and knows at each byte
whether the document can still become valid.

    made = compile_schema('{"type": "object", "required": ["a"]}')   # what cannot be kept to is refused now
    made.native()                   # the machine in C, under which a document can be written; made.twin(): in Python
    made.accepts(b'{"a": 1}')       # any spelling of JSON, exactly as the specification says

How it is done: documents.py finds what references lead to; schema.py and keywords.py say, for each kind of value,
what a schema asks of it, as a formula (formula.py); plans.py combines what is asked of one value, and strings.py,
numbers.py, arrays.py, objects.py (names.py) follow it byte by byte; transducer.py puts them on a stack; tables.py is
what C asks for.

Documents are read as I-JSON (RFC 7493) has it: no name twice in an object, no half of a surrogate pair.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from sys import getrecursionlimit
from typing import Any

from zigllama.errors import GrammarBudget
from zigllama.foundation.native_json_schema import JsonSchemaMachine, json_schema_machine
from zigllama.inference.grammar.renewed import Renewed

from .options import Json, Options
from .plans import Plans
from .tables import Tables
from .transducer import Transducer
from .values import parse

__all__ = ["CompiledSchema", "Options", "any_json", "compile_schema"]


class CompiledSchema:
    """A schema that has been understood; see `compile_schema`."""

    def __init__(self, schema: Json, options: Options) -> None:
        self.schema, self.options = schema, options
        self._plans: Plans | None = Plans(schema, options)  # of the first machine; what it comes to is its own
        self._exact = Renewed(lambda: self._transducer(replace(self.options, writing=False)))

    def native(self) -> JsonSchemaMachine:
        """A machine in C."""
        plans, self._plans = self._plans, None
        plans = Plans(self.schema, self.options) if plans is None else plans
        return json_schema_machine(Tables(plans), plans.first.number, plans.last.number)

    def twin(self) -> Transducer:
        """The same machine in Python, with plans of its own: another thread may be using the one in C."""
        return self._transducer(self.options)

    def _transducer(self, options: Options) -> Transducer:
        plans = Plans(self.schema, options)
        return Transducer(plans.first, plans.last)

    def accepts(self, document: bytes) -> bool:
        """Whether a document is valid, in whatever spelling of JSON."""
        return self._exact.accepts(document)

    def check(self, text: str) -> None:
        """Look at a document once more. Raises ValueError for one that is not valid."""
        raw = text.encode()
        n, finished = self._exact.read(raw)
        if n < len(raw) or not finished:
            raise ValueError(f"the document is not valid: {n} of {len(raw)} bytes can be the beginning of one that is")


@cache
def any_json() -> CompiledSchema:
    """The schema of all documents."""
    return CompiledSchema(True, Options())


def compile_schema(schema: Json | str | bytes, **options: Any) -> CompiledSchema:
    """A schema, as JSON text or as Python has it, understood. Keywords are those of `Options`.

    Every keyword, reference and expression that a document can come to is looked at. Raises BadSchema for what is no
    schema, UnsupportedSchema (with its place and keyword) for what cannot be kept to, GrammarBudget, and EmptyLanguage
    where no document is valid.
    """
    value = parse(schema) if isinstance(schema, (str, bytes)) else schema
    known = Options(**options)
    try:
        return CompiledSchema(value, known)
    except RecursionError:
        raise GrammarBudget("levels of recursion", getrecursionlimit(), getrecursionlimit()) from None
