"""Keyword by keyword: what a schema says of a value of one kind, as a formula (the atoms are listed in schema.py).

A keyword that is no draft's own is an annotation, as the specification says: it is passed over. One that would be
understood but cannot be kept to is refused, with its place.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Protocol

from zigllama.errors import BadSchema, UnsupportedSchema

from . import formats
from .formula import FALSE, TRUE, Formula, Formulas
from .languages import Language
from .nodes import Cover, Covers, ItemCover, NameCover, Schema
from .options import Json, Options
from .values import exact, kind_of, normal, number

KIND_OF_TYPE = {
    "null": ("null",),
    "boolean": ("true", "false"),
    "number": ("number",),
    "integer": ("number",),
    "string": ("string",),
    "array": ("array",),
    "object": ("object",),
}
HUGE = 1 << 53


class Book(Protocol):
    """What a reader needs of the table of all schemas (schema.py)."""

    formulas: Formulas
    options: Options

    def below(self, schema: Schema, *path: str | int) -> Schema:
        """The schema under a keyword of this one."""

    def constant(self, value: Json, schema: Schema) -> Schema:
        """A schema that only this value satisfies."""

    def compiled(self, schema: Schema, kind: str, covers: bool) -> tuple[Formula, Covers]:
        """The formula of another schema, and what it evaluates."""

    def expression(self, source: str, pointer: str, keyword: str) -> Language:
        """The language of a regular expression."""

    def reference(self, schema: Schema, keyword: str, reference: Json) -> Schema:
        """What a reference leads to."""


def const_formula(schemas: Book, value: Json, kind: str, schema: Schema) -> Formula:
    """Equal to `value`, for values of `kind`: deep, numbers by value, objects whatever the order of their keys."""
    return enum_formula(schemas, [value], kind, schema)


def enum_formula(schemas: Book, values: list[Json], kind: str, schema: Schema) -> Formula:
    """Equal to one of them."""
    pointer = schema.place.pointer
    mine = [v for v in values if kind_of(v, pointer) == kind]
    f = schemas.formulas
    if not mine:
        return FALSE
    if kind in ("null", "true", "false"):
        return TRUE
    if kind == "string":
        return f.atom("texts", tuple(sorted(set(mine))))
    if kind == "number":
        numbers = {normal(n) for v in mine if (n := number(v)) is not None}
        return f.atom("numbers", tuple(sorted(numbers)))
    found = []
    for value in mine:
        exactly = [f.atom("count", len(value))] if len(value) else []
        exactly.append(f.negation(f.atom("count", len(value) + 1)))
        if kind == "array":
            if value:
                exactly.append(f.atom("items", tuple(schemas.constant(v, schema) for v in value), None))
        else:
            exactly += [f.atom("has", name) for name in value]
            if value:
                below = tuple((name, schemas.constant(v, schema)) for name, v in sorted(value.items()))
                exactly.append(f.atom("properties", below, (), None))
        found.append(f.all_of(exactly))
    return f.any_of(found)


def told_apart(branches: list[Formula]) -> bool:
    """Whether no value can satisfy two of them, as far as is soon seen: they ask for different texts, or for different
    texts in a property that all require. Then exactly one is any one."""
    texts: list[dict[str, frozenset[str]]] = []  # of each branch the texts that are asked for, by the property
    for f in branches:
        if f is FALSE:
            continue
        parts = [part.atom for part in (f.items if f.op == "and" else (f,)) if part.op == "atom"]
        required = {atom[1] for atom in parts if atom[0] == "has"}
        found: dict[str, frozenset[str]] = {}
        for atom in parts:
            if atom[0] == "texts":
                found[""] = frozenset(atom[1])
            for name, schema in atom[1] if atom[0] == "properties" else ():
                if name in required and (some := constants(schema)) is not None:
                    found[f"/{name}"] = some
        texts.append(found)
    for key, first in texts[0].items() if texts else ():
        others = [found[key] for found in texts[1:] if key in found]
        if len(others) == len(texts) - 1 and len(first.union(*others)) == sum(map(len, others), len(first)):
            return True
    return False


def constants(schema: Schema) -> frozenset[str] | None:
    """Texts, of which each value of a schema is one, if it says so itself; None: it does not."""
    value = schema.place.value
    if not isinstance(value, dict) or "$ref" in value:
        return None
    if schema.place.resource.draft >= 6 and isinstance(value.get("const"), str):
        return frozenset((value["const"],))
    texts = value.get("enum")
    return frozenset(texts) if isinstance(texts, list) and all(isinstance(each, str) for each in texts) else None


class Reader:
    """Reads one schema object for values of one kind."""

    def __init__(self, schemas: Book, schema: Schema, kind: str, covers: bool) -> None:
        self.schemas, self.schema, self.kind, self.f = schemas, schema, kind, schemas.formulas
        self.value: dict[str, Json] = schema.place.value
        self.draft = schema.place.resource.draft
        self.pointer = schema.place.pointer
        below = "unevaluatedProperties" if kind == "object" else "unevaluatedItems" if kind == "array" else ""
        self.unevaluated = below if self.draft >= 2019 and below in self.value else ""
        self.covers = covers or bool(self.unevaluated)
        self.found: list[Formula] = []
        self.evaluated: list[tuple[Cover, Formula]] = []

    # --- help ---------------------------------------------------------------------------------------------------------

    def bad(self, keyword: str, wanted: str) -> BadSchema:
        """The error for a keyword whose value is not of its form."""
        return BadSchema(self.pointer, f"{keyword} is {self.value[keyword]!r:.60}, not {wanted}")

    def count(self, keyword: str) -> int | None:
        """A keyword that is a whole number from 0 on, or None where there is none."""
        if keyword not in self.value:
            return None
        found = number(self.value[keyword])
        if found is None or found < 0 or found != found.to_integral_value():
            raise self.bad(keyword, "a whole number from 0 on")
        return min(int(found), HUGE) if found.adjusted() < 20 else HUGE

    def amount(self, keyword: str) -> Decimal | None:
        """A keyword that is a number."""
        if keyword not in self.value:
            return None
        found = number(self.value[keyword])
        if found is None:
            raise self.bad(keyword, "a number")
        return found

    def listed(self, keyword: str) -> list[Schema]:
        """A keyword that is a list of schemas."""
        value = self.value[keyword]
        if not isinstance(value, list):
            raise self.bad(keyword, "a list of schemas")
        return [self.schemas.below(self.schema, keyword, i) for i in range(len(value))]

    def mapped(self, keyword: str) -> dict[str, Schema]:
        """A keyword that maps names to schemas; empty where there is none."""
        value = self.value.get(keyword, {})
        if not isinstance(value, dict):
            raise self.bad(keyword, "an object")
        return {name: self.schemas.below(self.schema, keyword, name) for name in value}

    def names(self, value: Json, keyword: str) -> list[str]:
        """A list of names."""
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise self.bad(keyword, "a list of names")
        return value

    def inside(self, schema: Schema, when: Formula = TRUE) -> Formula:
        """An in-place subschema: its formula; what it evaluates counts where it is true, and `when` too."""
        formula, covers = self.schemas.compiled(schema, self.kind, self.covers)
        if self.covers and formula is not FALSE:
            self.cover(covers, self.f.all_of([formula, when]))
        return formula

    def cover(self, covers: Covers, when: Formula) -> None:
        """Note what is evaluated under a condition."""
        for each, path in covers:
            self.evaluated.append((each, self.f.all_of([path, when])))

    # --- all keywords -------------------------------------------------------------------------------------------------

    def read(self) -> tuple[Formula, Covers]:
        """The formula, and what is evaluated."""
        value = self.value
        if self.draft <= 7 and "$ref" in value:
            found = self.inside(self.schemas.reference(self.schema, "$ref", value["$ref"]))
            return found, tuple(self.evaluated) if self.covers else ()
        if "type" in value:
            self.type()
        if "enum" in value:
            if not isinstance(value["enum"], list):
                raise self.bad("enum", "a list")
            self.found.append(enum_formula(self.schemas, value["enum"], self.kind, self.schema))
        if "const" in value and self.draft >= 6:
            self.found.append(const_formula(self.schemas, value["const"], self.kind, self.schema))
        if FALSE in self.found:
            return FALSE, ()
        {"string": self.string, "number": self.number, "array": self.array, "object": self.object}.get(
            self.kind, lambda: None
        )()
        self.in_place()
        formula = self.f.all_of(self.found)
        if self.unevaluated and formula is not FALSE:
            formula = self.left_over(formula)
        return formula, tuple(self.evaluated) if self.covers else ()

    def type(self) -> None:
        """type."""
        said = self.value["type"]
        types = said if isinstance(said, list) else [said]
        for each in types:
            if not isinstance(each, str) or each not in KIND_OF_TYPE:
                raise self.bad("type", "one of JSON Schema's types")
        mine = [each for each in types if self.kind in KIND_OF_TYPE[each]]
        if not mine:
            self.found.append(FALSE)
        elif mine == ["integer"]:
            self.found.append(self.f.atom("multiple", exact(Decimal(1))))

    def string(self) -> None:
        """minLength maxLength pattern format."""
        f, least, most = self.f, self.count("minLength"), self.count("maxLength")
        if least:
            self.found.append(f.atom("length", least))
        if most is not None:
            self.found.append(f.negation(f.atom("length", most + 1)))
        if "pattern" in self.value:
            self.found.append(f.atom("pattern", self.pattern("pattern", self.value["pattern"])))
        if self.schemas.options.formats and "format" in self.value:
            name = self.value["format"]
            if not isinstance(name, str):
                raise self.bad("format", "a string")
            if not formats.known(name):
                raise UnsupportedSchema(self.pointer, "format", f"{name!r:.60} is not a format that is asserted")
            self.found.append(f.atom("format", name))
            longest = formats.most_characters(name)
            if longest is not None:
                self.found.append(f.negation(f.atom("length", longest + 1)))

    def pattern(self, keyword: str, source: Json) -> str:
        """A regular expression, read once to see that it can be."""
        if not isinstance(source, str):
            raise self.bad(keyword, "a string")
        self.schemas.expression(source, self.pointer, keyword)
        return source

    def number(self) -> None:
        """minimum maximum exclusiveMinimum exclusiveMaximum multipleOf."""
        f = self.f
        for bound, strict, least in (("minimum", "exclusiveMinimum", True), ("maximum", "exclusiveMaximum", False)):
            for keyword in (bound, strict):
                if self.draft == 4 and keyword == strict:
                    continue
                limit = self.amount(keyword)
                if limit is None:
                    continue
                exclusive = keyword == strict or (self.draft == 4 and self.value.get(strict) is True)
                if least:
                    self.found.append(f.atom("gt" if exclusive else "ge", normal(limit)))
                else:
                    self.found.append(f.negation(f.atom("ge" if exclusive else "gt", normal(limit))))
        step = self.amount("multipleOf")
        if step is not None:
            if step <= 0:
                raise self.bad("multipleOf", "a number above 0")
            self.found.append(f.atom("multiple", exact(step)))

    def array(self) -> None:
        """minItems maxItems uniqueItems items prefixItems additionalItems contains minContains maxContains."""
        f, value, schemas = self.f, self.value, self.schemas
        least, most = self.count("minItems"), self.count("maxItems")
        if least:
            self.found.append(f.atom("count", least))
        if most is not None:
            self.found.append(f.negation(f.atom("count", most + 1)))
        if value.get("uniqueItems") is True:
            self.found.append(f.atom("unique"))
        elif value.get("uniqueItems", False) is not False:
            raise self.bad("uniqueItems", "true or false")
        first: tuple[Schema, ...] = ()
        rest: Schema | None = None
        if self.draft >= 2020:
            if "prefixItems" in value:
                first = tuple(self.listed("prefixItems"))
            if "items" in value:
                rest = schemas.below(self.schema, "items")
        elif "items" in value:
            if isinstance(value["items"], list):
                first = tuple(self.listed("items"))
                if "additionalItems" in value:
                    rest = schemas.below(self.schema, "additionalItems")
            else:
                rest = schemas.below(self.schema, "items")
        if first or rest is not None:
            self.found.append(f.atom("items", first, rest))
            self.evaluated.append((ItemCover(len(first) if rest is None else -1, None), TRUE))
        if "contains" in value and self.draft >= 6:
            inner = schemas.below(self.schema, "contains")
            low = self.count("minContains") if self.draft >= 2019 else None
            high = self.count("maxContains") if self.draft >= 2019 else None
            low = 1 if low is None else low
            if low:
                self.found.append(f.atom("contains", inner, low))
            if high is not None:
                self.found.append(f.negation(f.atom("contains", inner, high + 1)))
            if self.draft >= 2020:
                self.evaluated.append((ItemCover(0, inner), TRUE))

    def object(self) -> None:
        """minProperties maxProperties required properties patternProperties additionalProperties propertyNames
        dependencies dependentRequired.
        """
        f, value, schemas = self.f, self.value, self.schemas
        least, most = self.count("minProperties"), self.count("maxProperties")
        if least:
            self.found.append(f.atom("count", least))
        if most is not None:
            self.found.append(f.negation(f.atom("count", most + 1)))
        if "required" in value and not (self.draft == 4 and isinstance(value["required"], bool)):
            self.found += [f.atom("has", name) for name in self.names(value["required"], "required")]
        named, patterned = self.mapped("properties"), self.mapped("patternProperties")
        rest = schemas.below(self.schema, "additionalProperties") if "additionalProperties" in value else None
        if named or patterned or rest is not None:
            patterns = tuple((self.pattern("patternProperties", source), s) for source, s in patterned.items())
            self.found.append(f.atom("properties", tuple(sorted(named.items())), patterns, rest))
            cover = NameCover(frozenset(named), tuple(patterned), rest is not None)
            self.evaluated.append((cover, TRUE))
        if "propertyNames" in value and self.draft >= 6:
            self.found.append(f.atom("names", schemas.below(self.schema, "propertyNames")))
        for keyword in ("dependencies", "dependentRequired"):
            if keyword not in value or (keyword == "dependentRequired" and self.draft < 2019):
                continue
            if not isinstance(value[keyword], dict):
                raise self.bad(keyword, "an object")
            for name, needs in value[keyword].items():
                if isinstance(needs, list) or keyword == "dependentRequired":
                    all_of = f.all_of(f.atom("has", other) for other in self.names(needs, keyword))
                    self.found.append(f.any_of([f.negation(f.atom("has", name)), all_of]))

    def in_place(self) -> None:
        """$ref and its kin, allOf anyOf oneOf not if then else dependentSchemas."""
        f, value, schemas = self.f, self.value, self.schemas
        keywords = ["$ref"]
        if self.draft == 2019:
            keywords.append("$recursiveRef")
        if self.draft >= 2020:
            keywords.append("$dynamicRef")
        for keyword in keywords:
            if keyword in value:
                self.found.append(self.inside(schemas.reference(self.schema, keyword, value[keyword])))
        if "allOf" in value:
            self.found += [self.inside(s) for s in self.listed("allOf")]
        if "anyOf" in value:
            self.found.append(f.any_of([self.inside(s) for s in self.listed("anyOf")]))
        if "oneOf" in value:
            branches = [self.inside(s) for s in self.listed("oneOf")]
            self.found.append((f.any_of if told_apart(branches) else f.one_of)(branches))
        if "not" in value:
            inner = schemas.below(self.schema, "not")
            self.found.append(f.negation(schemas.compiled(inner, self.kind, False)[0]))
        if "if" in value and self.draft >= 7 and (self.covers or "then" in value or "else" in value):
            test = self.inside(schemas.below(self.schema, "if"))
            opposite = f.negation(test)
            for keyword, when in (("then", test), ("else", opposite)):
                if keyword in value:
                    then = self.inside(schemas.below(self.schema, keyword), when)
                    self.found.append(f.any_of([f.negation(when), then]))
        if self.kind == "object":
            for keyword in ("dependencies", "dependentSchemas"):
                if keyword == "dependentSchemas" and self.draft < 2019:
                    continue
                for name, needs in value.get(keyword, {}).items():
                    if isinstance(needs, (dict, bool)):
                        has = f.atom("has", name)
                        then = self.inside(schemas.below(self.schema, keyword, name), has)
                        self.found.append(f.any_of([f.negation(has), then]))

    def left_over(self, formula: Formula) -> Formula:
        """unevaluatedItems, unevaluatedProperties: what none of the keywords beside it has looked at."""
        schemas, covers = self.schemas, tuple(dict.fromkeys(self.evaluated))
        inner = schemas.below(self.schema, self.unevaluated)
        everything: Cover = ItemCover(-1, None) if self.kind == "array" else NameCover(frozenset(), (), True)
        self.evaluated = [(everything, TRUE)]
        return self.f.all_of([formula, self.f.atom("unevaluated", inner, covers)])
