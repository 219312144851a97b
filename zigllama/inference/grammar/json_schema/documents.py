"""Where the parts of a schema are: resources, base URIs, anchors, and what a reference leads to. Nothing is fetched.

A *resource* is a schema with a URI of its own: the root, and each subschema with "$id" ("id" in draft 4). A *place*
is a schema within a resource. References are resolved against the URI of the resource that they stand in; they lead
to a place by a JSON Pointer or by an anchor ("$anchor", "$dynamicAnchor", up to draft 7 an "$id" that is a mere
fragment).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from zigllama.errors import BadSchema, GrammarBudget, UnsupportedSchema

from .metaschemas import metaschema
from .options import Json, Options
from .values import plain

DIALECTS = {
    "http://json-schema.org/draft-04/schema": 4,
    "http://json-schema.org/draft-06/schema": 6,
    "http://json-schema.org/draft-07/schema": 7,
    "https://json-schema.org/draft/2019-09/schema": 2019,
    "https://json-schema.org/draft/2020-12/schema": 2020,
}
# Keywords whose value is a schema, a list of schemas or a mapping to schemas; one may be all ("items", "dependencies").
ONE = frozenset(
    [
        "additionalItems",
        "additionalProperties",
        "contains",
        "contentSchema",
        "else",
        "if",
        "items",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
    ]
)
LISTS = frozenset(["allOf", "anyOf", "oneOf", "items", "prefixItems"])
MAPPINGS = frozenset(["$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties"])
LARGEST = 200_000  # schemas in one document


class Resource:
    """A schema with a URI. `root` is its value, `pointer` where that stands in its document."""

    __slots__ = ("anchors", "draft", "dynamic", "pointer", "recursive", "root", "uri")

    def __init__(self, uri: str, root: Json, draft: int, pointer: str) -> None:
        self.uri, self.root, self.draft, self.pointer = uri, root, draft, pointer
        self.anchors: dict[str, Json] = {}  # name -> (schema, pointer)
        self.dynamic: set[str] = set()  # those of them that are dynamic
        self.recursive = False  # "$recursiveAnchor": true


class Place:
    """A schema: its value, the resource it stands in, and its JSON Pointer in the document, for messages."""

    __slots__ = ("pointer", "resource", "value")

    def __init__(self, value: Json, resource: Resource, pointer: str) -> None:
        self.value, self.resource, self.pointer = value, resource, pointer

    def under(self, *path: str | int) -> Place:
        """The schema below by these keys. A resource of its own is looked for by the caller (`Documents.enter`)."""
        value, pointer = self.value, self.pointer
        for key in path:
            value, pointer = value[key], f"{pointer}/{escape(str(key))}"
        return Place(value, self.resource, pointer)


def escape(key: str) -> str:
    """A key as a JSON Pointer has it (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")


def join(base: str, reference: str) -> str:
    """A reference resolved against a base URI (RFC 3986); a mere fragment against any base, a URN's too."""
    if not reference or reference.startswith("#"):
        return urldefrag(base).url + reference
    urlsplit(reference)
    return urljoin(base, reference)


@lru_cache(maxsize=256)
def dialect(uri: str) -> int | None:
    """The draft of a metaschema's URI, or None."""
    return DIALECTS.get(uri.rstrip("#"))


def identifier(schema: dict[str, Json], draft: int) -> str | None:
    """What "$id" says, where it counts: beside a "$ref" it does not, up to draft 7."""
    name = schema.get("id" if draft == 4 else "$id")
    if not isinstance(name, str) or (draft <= 7 and "$ref" in schema):
        return None
    return name


def subschemas(schema: dict[str, Json], draft: int) -> Iterator[tuple[Json, str]]:
    """All schemas right below this one, with their pointers from here."""
    for key, value in schema.items():
        if key in ONE and isinstance(value, (dict, bool)):
            yield value, f"/{key}"
        elif key in LISTS and isinstance(value, list):
            for i, each in enumerate(value):
                yield each, f"/{key}/{i}"
        elif key in MAPPINGS and isinstance(value, dict):
            for name, each in value.items():
                yield each, f"/{key}/{escape(name)}"


class Documents:
    """All resources that references may lead to: those of the schema, of `options.documents`, of the metaschemas."""

    def __init__(self, schema: Json, options: Options) -> None:
        self.options = options
        self.resources: dict[str, Resource] = {}
        self._homes: dict[int, Resource] = {}  # id of a resource's root -> it
        self._places: dict[tuple[str, str], Place] = {}
        self._keep: list[Json] = []  # ids are of these
        self.root = self._add("", schema, options.draft)

    def _add(self, uri: str, document: Json, draft: int) -> Resource:
        """Take a whole document in."""
        plain(document)
        self._keep.append(document)
        root = Resource(uri, document, self._draft(document, draft, ""), "")
        self.resources.setdefault(uri, root)
        queue: list[tuple[Json, Resource, str, int]] = [(document, root, "", 0)]
        count = 0
        while queue:
            value, home, pointer, depth = queue.pop()
            count += 1
            if depth > self.options.depth:
                raise GrammarBudget("levels of nested schemas", depth, self.options.depth)
            if count > LARGEST:
                raise GrammarBudget("schemas in one document", count, LARGEST)
            if not isinstance(value, dict):
                continue
            home = self._name(value, home, pointer, top=depth == 0)
            for below, path in subschemas(value, home.draft):
                if not isinstance(below, bool):
                    queue.append((below, home, pointer + path, depth + 1))
        return self._homes.get(id(document), root)

    def _draft(self, value: Json, draft: int, pointer: str) -> int:
        """The draft that "$schema" says, else the one around."""
        said = value.get("$schema") if isinstance(value, dict) else None
        if said is None:
            return draft
        found = dialect(said) if isinstance(said, str) else None
        if found is None:
            raise UnsupportedSchema(pointer, "$schema", f"{said!r:.80} is not the metaschema of a draft that is read")
        return found

    def _name(self, value: dict[str, Json], home: Resource, pointer: str, top: bool) -> Resource:
        """Enter what names this schema has; the resource that it stands in."""
        name = identifier(value, self._draft(value, home.draft, pointer) if "$schema" in value else home.draft)
        if name is not None and not name.startswith("#"):
            try:
                uri = urldefrag(join(home.uri, name)).url
            except ValueError as error:
                raise BadSchema(pointer, f"{name!r:.120} is no URI: {error}") from None
            draft = self._draft(value, home.draft, pointer)
            home = Resource(uri, value, draft, pointer)
            self.resources[uri] = home
            self._homes[id(value)] = home
        elif top:
            self._homes[id(value)] = home
        if home.draft <= 7:
            if name is not None and name.startswith("#") and len(name) > 1:
                home.anchors[name[1:]] = (value, pointer)
            return home
        for key in ("$anchor", "$dynamicAnchor"):
            anchor = value.get(key)
            if isinstance(anchor, str):
                home.anchors[anchor] = (value, pointer)
                if key == "$dynamicAnchor":
                    home.dynamic.add(anchor)
        if value.get("$recursiveAnchor") is True and home.root is value:
            home.recursive = True
        return home

    def enter(self, place: Place) -> Place:
        """The same schema, in the resource that it begins, if it begins one."""
        home = self._homes.get(id(place.value)) if isinstance(place.value, dict) else None
        return place if home is None or home is place.resource else Place(place.value, home, place.pointer)

    def _resource(self, uri: str, at: Place, keyword: str) -> Resource:
        found = self.resources.get(uri)
        if found is None:
            document = self.options.documents.get(uri, self.options.documents.get(uri + "#"))
            if document is not None:
                found = self._add(uri, document, at.resource.draft)
            else:
                standard = metaschema(uri)
                if standard is not None:
                    found = self._add(uri, standard, 2020)
        if found is None:
            raise UnsupportedSchema(at.pointer, keyword, f"{uri!r:.120} is not in the schema, and nothing is fetched")
        return found

    def resolve(self, reference: str, at: Place, keyword: str = "$ref") -> tuple[Place, str | None]:
        """What a reference leads to, and the anchor by which it does, if it does so. Raises UnsupportedSchema for what
        is outside, BadSchema for what is not there.
        """
        try:
            base, fragment = urldefrag(join(at.resource.uri, reference))
        except ValueError as error:
            raise BadSchema(at.pointer, f"{keyword} {reference!r:.120} is no URI: {error}") from None
        home = self._resource(base, at, keyword)
        fragment = unquote(fragment)
        key = (base, fragment)
        anchor = fragment if fragment and not fragment.startswith("/") else None
        place = self._places.get(key)
        if place is None:
            if anchor is not None:
                if anchor not in home.anchors:
                    raise BadSchema(at.pointer, f"{keyword} {reference!r:.120} leads to an anchor that is not there")
                value, pointer = home.anchors[anchor]
                place = Place(value, home, pointer)
            else:
                place = self._walk(home, fragment, at, keyword)
            self._places[key] = place
        return place, anchor

    def _walk(self, home: Resource, fragment: str, at: Place, keyword: str) -> Place:
        place = Place(home.root, home, home.pointer)
        for part in fragment.split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            value = place.value
            try:
                key = int(name) if isinstance(value, list) else name
                if not isinstance(value, (list, dict)) or (isinstance(key, int) and key < 0):
                    raise KeyError(name)
                place = self.enter(place.under(key))
            except (KeyError, IndexError, ValueError):
                raise BadSchema(
                    at.pointer, f"{keyword} {fragment!r:.120} leads to nothing in {home.uri!r:.80}"
                ) from None
        return place
