"""The metaschemas of drafts 4 to 2020-12: what a schema that is itself described by "$ref" may look like.

They are made here from one table, keyword by keyword, since the drafts differ in little: which keywords there are, and
how a schema refers to itself. Only what decides validity is in them; titles, defaults and comments are not.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

Json = Any

_SIMPLE = {"enum": ["array", "boolean", "integer", "null", "number", "object", "string"]}

# Shapes: S a schema, L a list of schemas, M a mapping to schemas, I S or L, D dependencies, R the keys that require,
# n a count, p a positive number, u a number, s a string, b a boolean, T type, E enum, A a list, q a list of names,
# x a regular expression, P patterns -> schemas, * anything, V $vocabulary, a an anchor, i an identifier
_KEYWORDS = {
    "core": "$id:i $schema:s $ref:s $comment:s",
    "core-2019": "$anchor:a $recursiveRef:s $recursiveAnchor:b $vocabulary:V $defs:M",
    "core-2020": "$anchor:a $dynamicRef:s $dynamicAnchor:a $vocabulary:V $defs:M",
    "applicator": "additionalProperties:S properties:M patternProperties:P propertyNames:S if:S then:S else:S allOf:L"
    " anyOf:L oneOf:L not:S contains:S",
    "items-2019": "additionalItems:S unevaluatedItems:S items:I unevaluatedProperties:S dependentSchemas:M",
    "items-2020": "prefixItems:L items:S dependentSchemas:M",
    "items-7": "additionalItems:S items:I definitions:M dependencies:D",
    "unevaluated": "unevaluatedItems:S unevaluatedProperties:S",
    "validation": "multipleOf:p maximum:u exclusiveMaximum:u minimum:u exclusiveMinimum:u maxLength:n minLength:n"
    " pattern:x maxItems:n minItems:n uniqueItems:b"
    " maxProperties:n minProperties:n required:q const:* enum:A type:T",
    "validation-2019": "maxContains:n minContains:n dependentRequired:R",
    "meta-data-7": "title:s description:s default:* readOnly:b examples:A",
    "meta-data": "title:s description:s default:* deprecated:b readOnly:b writeOnly:b examples:A",
    "format": "format:s",
    "content-7": "contentMediaType:s contentEncoding:s",
    "content": "contentMediaType:s contentEncoding:s contentSchema:S",
    "draft-4": "id:s $schema:s title:s description:s default:* multipleOf:p maximum:u exclusiveMaximum:b minimum:u"
    " exclusiveMinimum:b maxLength:n minLength:n pattern:x additionalItems:B items:I maxItems:n minItems:n"
    " uniqueItems:b maxProperties:n minProperties:n required:Q additionalProperties:B definitions:M properties:M"
    " patternProperties:M dependencies:D enum:E type:T format:s allOf:L anyOf:L oneOf:L not:S",
    "draft-2019": "definitions:M dependencies:D",
    "draft-2020": "definitions:M dependencies:D $recursiveAnchor:a $recursiveRef:s",
}


def _shape(letter: str, me: Json, place: str, draft: int) -> Json:
    """The schema of a keyword's value; `me` refers to a schema, `place` to where the definitions are."""
    names = {"$ref": f"{place}/stringArray"}
    pattern = "^[A-Za-z][-A-Za-z0-9.:_]*$" if draft == 2019 else "^[A-Za-z_][-A-Za-z0-9._]*$"
    natural = "positiveInteger" if draft == 4 else "nonNegativeInteger"
    shapes: dict[str, Json] = {
        "S": me,
        "L": {"$ref": f"{place}/schemaArray"},
        "M": {"type": "object", "additionalProperties": me},
        "P": {"type": "object", "additionalProperties": me, "propertyNames": {"format": "regex"}},
        "I": {"anyOf": [me, {"$ref": f"{place}/schemaArray"}]},
        "D": {"type": "object", "additionalProperties": {"anyOf": [me, names]}},
        "R": {"type": "object", "additionalProperties": names},
        "B": {"anyOf": [{"type": "boolean"}, me]},
        "n": {"$ref": f"{place}/{natural}"},
        "p": {"type": "number", "minimum": 0, "exclusiveMinimum": True}
        if draft == 4
        else {"type": "number", "exclusiveMinimum": 0},
        "u": {"type": "number"},
        "s": {"type": "string"},
        "b": {"type": "boolean"},
        "T": {
            "anyOf": [
                {"$ref": f"{place}/simpleTypes"},
                {"type": "array", "items": {"$ref": f"{place}/simpleTypes"}, "minItems": 1, "uniqueItems": True},
            ]
        },
        "E": {"type": "array", "minItems": 1, "uniqueItems": True},
        "A": {"type": "array"},
        "q": names,
        "Q": {"allOf": [names, {"minItems": 1}]},
        "x": {"type": "string", "format": "regex"},
        "*": {},
        "V": {"type": "object", "additionalProperties": {"type": "boolean"}},
        "a": {"type": "string", "pattern": pattern},
        "i": {"type": "string", "pattern": "^[^#]*#?$"} if draft > 7 else {"type": "string"},
    }
    return shapes[letter]


def _properties(sets: str, me: Json, place: str, draft: int) -> dict[str, Json]:
    found = {}
    for name in sets.split():
        for entry in _KEYWORDS[name].split():
            keyword, _, letter = entry.rpartition(":")
            found[keyword] = _shape(letter, me, place, draft)
    return found


def _definitions(me: Json, place: str, draft: int) -> dict[str, Json]:
    natural = {"type": "integer", "minimum": 0}
    name = "positiveInteger" if draft == 4 else "nonNegativeInteger"
    return {
        "schemaArray": {"type": "array", "minItems": 1, "items": me},
        name: natural,
        f"{name}Default0": {"allOf": [{"$ref": f"{place}/{name}"}]},
        "simpleTypes": _SIMPLE,
        "stringArray": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
    }


def _old(draft: int, uri: str, sets: str) -> Json:
    """Drafts 4 to 7: one document, which refers to itself as "#"."""
    me, place = {"$ref": "#"}, "#/definitions"
    made: dict[str, Json] = {"$schema": uri + "#", "id" if draft == 4 else "$id": uri + "#"}
    made["definitions"] = _definitions(me, place, draft)
    made["type"] = "object" if draft == 4 else ["object", "boolean"]
    made["properties"] = _properties(sets, me, place, draft)
    if draft == 4:
        made["dependencies"] = {"exclusiveMaximum": ["maximum"], "exclusiveMinimum": ["minimum"]}
    return made


def _new(draft: int, base: str, parts: dict[str, str]) -> dict[str, Json]:
    """2019-09 and 2020-12: a document per vocabulary, each of which refers to whoever includes it."""
    me = {"$recursiveRef": "#"} if draft == 2019 else {"$dynamicRef": "#meta"}
    anchor: dict[str, Json] = {"$recursiveAnchor": True} if draft == 2019 else {"$dynamicAnchor": "meta"}
    uri, found = f"{base}/schema", {}
    for part, sets in parts.items():
        found[f"{base}/meta/{part}"] = {
            "$schema": uri,
            "$id": f"{base}/meta/{part}",
            **anchor,
            "type": ["object", "boolean"],
            "properties": _properties(sets, me, "#/$defs", draft),
            "$defs": _definitions(me, "#/$defs", draft),
        }
    found[uri] = {
        "$schema": uri,
        "$id": uri,
        **anchor,
        "allOf": [{"$ref": f"meta/{part}"} for part in parts if part != "format-assertion"],
        "type": ["object", "boolean"],
        "properties": _properties(f"draft-{draft}", me, "meta/validation#/$defs", draft),
    }
    return found


@lru_cache(maxsize=1)
def _all() -> dict[str, Json]:
    seven = "core applicator items-7 validation meta-data-7 format content-7"
    found = {
        "http://json-schema.org/draft-04/schema": _old(4, "http://json-schema.org/draft-04/schema", "draft-4"),
        "http://json-schema.org/draft-06/schema": _old(6, "http://json-schema.org/draft-06/schema", seven),
        "http://json-schema.org/draft-07/schema": _old(7, "http://json-schema.org/draft-07/schema", seven),
    }
    for keyword in ("$comment", "if", "then", "else", "readOnly", "contentMediaType", "contentEncoding"):
        del found["http://json-schema.org/draft-06/schema"]["properties"][keyword]
    shared = {"meta-data": "meta-data", "content": "content"}
    found |= _new(
        2019,
        "https://json-schema.org/draft/2019-09",
        {
            "core": "core core-2019",
            "applicator": "applicator items-2019",
            "validation": "validation validation-2019",
            "format": "format",
            **shared,
        },
    )
    found |= _new(
        2020,
        "https://json-schema.org/draft/2020-12",
        {
            "core": "core core-2020",
            "applicator": "applicator items-2020",
            "unevaluated": "unevaluated",
            "validation": "validation validation-2019",
            "format-annotation": "format",
            "format-assertion": "format",
            **shared,
        },
    )
    return found


def metaschema(uri: str) -> Json | None:
    """The metaschema, or the vocabulary's, of this URI (without fragment), or None."""
    if "json-schema.org/" not in uri:
        return None
    return _all().get(uri)
