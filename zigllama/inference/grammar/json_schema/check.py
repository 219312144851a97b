"""Before anything is written: that every schema which a document may come to can be kept to.

Formulas are made when they are needed, which may be in the middle of an answer; what is wrong with a schema must be
said before. So all that can be reached is walked once: each keyword's form, each reference, each expression; and that
no reference leads back to itself without going down into the value.
"""

from __future__ import annotations

from zigllama.errors import GrammarBudget, UnsupportedSchema

from . import formats
from .keywords import KIND_OF_TYPE, Reader
from .nodes import Schema
from .options import Json
from .schema import Schemas
from .values import exact

COUNTS = frozenset(
    ["minLength", "maxLength", "minItems", "maxItems", "minContains", "maxContains", "minProperties", "maxProperties"]
)
AMOUNTS = frozenset(["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"])
IN_PLACE = frozenset(["allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas"])
DOWN = frozenset(
    [
        "items",
        "prefixItems",
        "additionalItems",
        "contains",
        "unevaluatedItems",
        "properties",
        "patternProperties",
        "additionalProperties",
        "propertyNames",
        "unevaluatedProperties",
    ]
)
REFERENCES = frozenset(("$ref", "$dynamicRef", "$recursiveRef"))
LISTED = frozenset(("allOf", "anyOf", "oneOf", "prefixItems"))
MAPPED = frozenset(("properties", "patternProperties", "dependentSchemas"))
SINCE = {
    "const": 6, "contains": 6, "propertyNames": 6, "if": 7, "then": 7, "else": 7, "dependentSchemas": 2019,
    "dependentRequired": 2019, "unevaluatedItems": 2019, "unevaluatedProperties": 2019, "minContains": 2019,
    "maxContains": 2019, "$recursiveRef": 2019, "prefixItems": 2020, "$dynamicRef": 2020,
}  # fmt: skip
UNTIL = {"additionalItems": 2019, "$recursiveRef": 2019}
VALUES = 100_000  # in all enums and consts of a schema
INNER = 5  # as many of them as a member of a value costs: a plan of its own
NAMES = 50_000  # that are required, by objects or by other names


class Check:
    """Walks all schemas that can be reached from the root. Raises UnsupportedSchema, BadSchema, GrammarBudget."""

    def __init__(self, schemas: Schemas) -> None:
        self.schemas = schemas
        self.values = self.names = 0
        self.beside: dict[Schema, list[Schema]] = {}  # schemas in place
        self.todo: list[Schema] = []

    def run(self) -> None:
        """All of it."""
        self.todo = [self.schemas.root]
        while self.todo:
            schema = self.todo.pop()
            if schema not in self.beside:
                self.beside[schema] = []
                if isinstance(schema.place.value, dict):
                    self._look(schema, schema.place.value)
        self._no_cycle()

    def _look(self, schema: Schema, value: dict[str, Json]) -> None:
        reader = Reader(self.schemas, schema, "null", False)
        draft = reader.draft
        if draft <= 7 and "$ref" in value:
            value = {"$ref": value["$ref"]}
        for keyword in value:
            if SINCE.get(keyword, 0) > draft or UNTIL.get(keyword, 9999) < draft:
                continue
            if keyword in IN_PLACE or keyword in DOWN or keyword == "dependencies":
                self._below(reader, keyword, keyword in DOWN)
            elif keyword in REFERENCES:
                self._reach(schema, self.schemas.reference(schema, keyword, value[keyword]), False)
            elif keyword in COUNTS:
                reader.count(keyword)
            elif keyword in AMOUNTS:
                if draft > 4 or not keyword.startswith("exclusive"):
                    self._amount(reader, keyword)
            else:
                self._other(reader, keyword, value[keyword])

    def _amount(self, reader: Reader, keyword: str) -> None:
        found = reader.amount(keyword)
        assert found is not None
        exact(found)
        if keyword == "multipleOf" and found <= 0:
            raise reader.bad(keyword, "a number above 0")

    def _other(self, reader: Reader, keyword: str, value: Json) -> None:
        if keyword == "type":
            types = value if isinstance(value, list) else [value]
            if not all(isinstance(each, str) and each in KIND_OF_TYPE for each in types):
                raise reader.bad(keyword, "one of JSON Schema's types")
        elif keyword == "pattern":
            reader.pattern(keyword, value)
        elif keyword == "enum":
            if not isinstance(value, list):
                raise reader.bad(keyword, "a list")
            self._count_values(reader, value)
        elif keyword == "const":
            self._count_values(reader, [value])
        elif keyword == "required" and not (reader.draft == 4 and isinstance(value, bool)):
            self._count_names(reader.names(value, keyword))
        elif keyword == "uniqueItems" and not isinstance(value, bool):
            raise reader.bad(keyword, "true or false")
        elif keyword == "format" and self.schemas.options.formats:
            if not isinstance(value, str):
                raise reader.bad(keyword, "a string")
            if not formats.known(value):
                raise UnsupportedSchema(reader.pointer, keyword, f"{value!r:.60} is not a format that is asserted")
        elif keyword == "dependentRequired":
            if not isinstance(value, dict):
                raise reader.bad(keyword, "an object")
            for needs in value.values():
                self._count_names(reader.names(needs, keyword))

    def _count_names(self, names: list[str]) -> None:
        self.names += len(names)
        if self.names > NAMES:
            raise GrammarBudget("required names", self.names, NAMES)

    def _count_values(self, reader: Reader, values: list[Json]) -> None:
        """The values of an enum, all within them counted, and how deep they are nested."""
        todo: list[tuple[Json, int]] = [(v, 1) for v in values]
        while todo:
            value, depth = todo.pop()
            self.values += 1 if depth == 1 else INNER
            if self.values > VALUES:
                raise GrammarBudget("values in enums", self.values, VALUES)
            if depth > self.schemas.options.depth:
                raise GrammarBudget("levels of nested values in an enum", depth, self.schemas.options.depth)
            if isinstance(value, dict):
                todo += [(v, depth + 1) for v in value.values()]
            elif isinstance(value, list):
                todo += [(v, depth + 1) for v in value]

    def _below(self, reader: Reader, keyword: str, down: bool) -> None:
        schema, value = reader.schema, reader.value[keyword]
        if keyword in LISTED or (keyword == "items" and isinstance(value, list) and reader.draft < 2020):
            found = reader.listed(keyword)
        elif keyword in MAPPED:
            found = list(reader.mapped(keyword).values())
            if keyword == "patternProperties":
                for source in value:
                    reader.pattern(keyword, source)
        elif keyword == "dependencies":
            if not isinstance(value, dict):
                raise reader.bad(keyword, "an object")
            found = []
            for name, needs in value.items():
                if isinstance(needs, list):
                    reader.names(needs, keyword)
                else:
                    found.append(self.schemas.below(schema, keyword, name))
        else:
            found = [self.schemas.below(schema, keyword)]
        for each in found:
            self._reach(schema, each, down)

    def _reach(self, schema: Schema, other: Schema, down: bool) -> None:
        self.todo.append(other)
        if not down:
            self.beside[schema].append(other)

    def _no_cycle(self) -> None:
        """No schema is reached from itself in place, and no chain of them is longer than it may be."""
        length: dict[Schema, int] = {}
        limit = self.schemas.options.in_place
        for start in self.beside:
            stack = [(start, iter(self.beside[start]))] if start not in length else []
            on_stack = {start}
            while stack:
                schema, rest = stack[-1]
                after = next(rest, None)
                if after is None:
                    stack.pop()
                    on_stack.discard(schema)
                    length[schema] = 1 + max((length[other] for other in self.beside[schema]), default=0)
                    if length[schema] > limit:
                        raise GrammarBudget("schemas in place of one another", length[schema], limit)
                elif after in on_stack:
                    raise UnsupportedSchema(
                        schema.place.pointer, "$ref", "it leads back to itself without going down into the value"
                    )
                elif after not in length:
                    on_stack.add(after)
                    stack.append((after, iter(self.beside[after])))


def check(schemas: Schemas) -> None:
    """See above."""
    Check(schemas).run()
