"""A schema as formulas: for each kind of value, what must hold of it, keyword by keyword.

`Schemas.formula(schema, kind)` is made when it is first asked for: a property that no document has got to is never
looked at. In-place applicators (allOf, not, $ref ...) are worked in; those that go down (properties, items ...) become
atoms that name the schemas below, so that recursion costs nothing.

Atoms, by the kind of value that they speak of:

    string   ("length", n)             at least n characters (code points)
             ("pattern", source)       the expression is found in it
             ("format", name)
             ("texts", strings)        it is one of them
    number   ("ge", v) ("gt", v)       at least, more than
             ("multiple", fraction)    1 for integers
             ("numbers", values)       it is one of them
    array    ("count", n)              at least n items
             ("items", first, rest)    item i satisfies first[i], those after satisfy rest
             ("contains", schema, n)   at least n items satisfy it
             ("unique",)
             ("unevaluated", schema, covers)
    object   ("count", n)              at least n properties
             ("has", name)
             ("properties", mapping, patterns, rest)
             ("names", schema)         each name satisfies it
             ("unevaluated", schema, covers)

covers are pairs (what it evaluates, a formula for whether that counts): a mapping's names and patterns, or items.
"""

from __future__ import annotations

from zigllama.errors import BadSchema, GrammarBudget, UnsupportedSchema
from zigllama.inference.grammar.subsets import Work

from .documents import Documents, Place, Resource
from .formula import FALSE, TRUE, Formula, Formulas
from .keywords import Reader
from .languages import Language, found_in
from .nodes import Covers, Schema, frozen
from .options import DRAFTS, Json, Options
from .values import kind_of
from .whole import PURSE


class Schemas:
    """All schemas that were come across, and the formulas of those that were asked for."""

    def __init__(self, schema: Json, options: Options) -> None:
        self.options = options
        self.documents = Documents(schema, options)
        self.formulas = Formulas()
        self._known: dict[tuple[int, tuple[Resource, ...]], Schema] = {}
        self._constants: dict[object, Schema] = {}
        self._latest = Resource("", {}, DRAFTS[-1], "")  # where "const" is known, whatever the schema's own draft
        self._languages: dict[str, Language] = {}
        self._purse = Work(PURSE)
        self._depth = 0
        self.all: list[Schema] = []
        root = self.documents.root
        self.root = self.at(Place(schema, root, ""), ())

    # --- schemas ------------------------------------------------------------------------------------------------------

    def at(self, place: Place, scope: tuple[Resource, ...]) -> Schema:
        """The schema of a place, reached in a scope."""
        value = place.value
        if isinstance(value, bool):
            key: tuple[int, tuple[Resource, ...]] = (-1 - value, ())
        elif isinstance(value, dict):
            place = self.documents.enter(place)
            home = place.resource
            if (home.dynamic or home.recursive) and home not in scope:
                scope = (*scope, home)
            key = (id(value), scope)
        else:
            raise BadSchema(place.pointer, f"{value!r:.60} is neither an object nor true or false")
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._new(place, scope)
        return found

    def _new(self, place: Place, scope: tuple[Resource, ...]) -> Schema:
        made = Schema(len(self.all), place, scope)
        self.all.append(made)
        return made

    def below(self, schema: Schema, *path: str | int) -> Schema:
        """The schema under a keyword of this one."""
        return self.at(schema.place.under(*path), schema.scope)

    def constant(self, value: Json, schema: Schema) -> Schema:
        """A schema that only this value satisfies; messages name the one that it comes from."""
        key = frozen(value)
        found = self._constants.get(key)
        if found is None:
            place = Place({"const": value}, self._latest, schema.place.pointer)
            found = self._constants[key] = self._new(place, ())
            found.kind = kind_of(value, schema.place.pointer)
        return found

    # --- formulas -----------------------------------------------------------------------------------------------------

    def formula(self, schema: Schema, kind: str) -> Formula:
        """What must hold of a value of this kind."""
        return self.compiled(schema, kind, False)[0]

    def compiled(self, schema: Schema, kind: str, covers: bool) -> tuple[Formula, Covers]:
        """The formula and, where asked for, what the schema evaluates of the value (for unevaluated* around it)."""
        key = (kind, covers)
        if key in schema.made:
            made = schema.made[key]
            if made is None:
                raise UnsupportedSchema(schema.place.pointer, "$ref", "it leads back to itself without going down")
            return made
        schema.made[key] = None
        self._depth += 1
        try:
            if self._depth > self.options.in_place:
                raise GrammarBudget("schemas in place of one another", self._depth, self.options.in_place)
            made = self._compile(schema, kind, covers)
        except BaseException:
            del schema.made[key]
            raise
        finally:
            self._depth -= 1
        schema.made[key] = made
        return made

    def _compile(self, schema: Schema, kind: str, covers: bool) -> tuple[Formula, Covers]:
        value = schema.place.value
        if isinstance(value, bool):
            return (TRUE if value else FALSE), ()
        return Reader(self, schema, kind, covers).read()

    def expression(self, source: str, pointer: str, keyword: str) -> Language:
        """The language of texts in which a regular expression is found. Raises UnsupportedSchema."""
        found = self._languages.get(source)
        if found is None:
            found = self._languages[source] = found_in(source, pointer, keyword, self._purse)
        return found

    def reference(self, schema: Schema, keyword: str, reference: Json) -> Schema:
        """What "$ref", "$dynamicRef" or "$recursiveRef" leads to from here."""
        place, scope = schema.place, schema.scope
        if not isinstance(reference, str):
            raise BadSchema(place.pointer, f"{keyword} is {reference!r:.60}, not a string")
        target, anchor = self.documents.resolve(reference, place, keyword)
        home = target.resource
        if keyword == "$dynamicRef" and anchor is not None and anchor in home.dynamic:
            for outer in scope:
                if anchor in outer.dynamic:
                    found, pointer = outer.anchors[anchor]
                    target = Place(found, outer, pointer)
                    break
        elif keyword == "$recursiveRef" and home.recursive:
            for outer in scope:
                if outer.recursive:
                    target = Place(outer.root, outer, outer.pointer)
                    break
        return self.at(target, scope)
