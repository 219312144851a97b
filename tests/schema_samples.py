"""Random JSON Schemas of drafts 7 and 2020-12 under which texts come to an end: what has a size is bounded.

    schema(random.Random(3), 2020)      every keyword has its turn
    modelled(random.Random(3))          as pydantic's classes are printed: $defs, titles, defaults, anyOf with null

Nothing is known of which values are valid; some schemas have none.
"""

from __future__ import annotations

import random
from typing import Any

Schema = dict[str, Any]
NAMES = ["a", "b", "name", "size", "kind", "tags", "x1", "größe"]
PATTERNS = [
    "^[a-z]{1,6}$",
    "^[A-Z]{2}-[0-9]{1,4}$",
    "^(red|green|blue)$",
    r"^\d{4}-\d{2}$",
    "^a?b*c{0,3}$",
    "^.{2,5}$",
    r"^\w+\s?\w*$",
    "b$",
    "^x",
    r"^[^\s]{1,8}$",
    r"^(?!no)[a-z]{2,5}$",
    r"^#[0-9a-fA-F]{6}$",
]
FORMATS = ["date", "time", "date-time", "email", "ipv4", "ipv6", "uuid", "hostname", "uri", "duration", "json-pointer"]
CONSTANTS: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -7,
    2.5,
    "",
    "a",
    "red",
    "é",
    [],
    [1, "a"],
    {},
    {"a": 1},
    {"b": [None]},
    1e20,
]


class _Maker:
    def __init__(self, rng: random.Random, draft: int) -> None:
        self.rng, self.draft, self.defs = rng, draft, dict[str, Schema]()
        self.place = "$defs" if draft >= 2019 else "definitions"

    def some(self, found: Schema, share: float = 0.4) -> Schema:
        """A few of these keywords."""
        return {k: v for k, v in found.items() if self.rng.random() < share}

    def any(self, depth: int) -> Schema | bool:
        """A schema of some kind."""
        kinds = [self.text, self.text, self.number, self.number, self.values]
        kinds += (
            [self.object, self.object, self.array, self.array, self.combined, self.conditional, self.reference]
            if depth
            else []
        )
        return self.rng.choice(kinds)(depth)

    def values(self, depth: int) -> Schema:
        """One of some values, or types without more."""
        rng = self.rng
        return rng.choice(
            [
                {"const": rng.choice(CONSTANTS)},
                {"enum": rng.sample(CONSTANTS, rng.randint(1, 4))},
                {"type": "boolean"},
                {"type": "null"},
                {"type": rng.sample(["null", "boolean", "integer"], 2)},
                {"type": ["string", "null"], "maxLength": rng.randint(1, 6)},
            ]
        )

    def text(self, depth: int) -> Schema:
        """A string."""
        rng = self.rng
        made: Schema = {"type": "string", "maxLength": rng.randint(2, 10)}
        if rng.random() < 0.3:
            made["minLength"] = rng.randint(0, 3)
        if rng.random() < 0.35:
            made["pattern"] = rng.choice(PATTERNS)
        elif rng.random() < 0.2:
            made = {"type": "string", "format": rng.choice(FORMATS), "maxLength": 40}
        return made

    def number(self, depth: int) -> Schema:
        """A number or an integer."""
        rng = self.rng
        lo = rng.choice([0, 1, -5, 0.5, -100, 1900])
        bounds = {
            rng.choice(["minimum", "exclusiveMinimum"]): lo,
            rng.choice(["maximum", "exclusiveMaximum"]): lo + rng.choice([1, 5, 9.5, 150]),
            "multipleOf": rng.choice([1, 2, 0.5, 0.25, 3, 0.1, 7]),
        }
        return {"type": rng.choice(["integer", "number", "number"]), **self.some(bounds)}

    def array(self, depth: int) -> Schema:
        """An array; what its items are, how many, which of them there must be."""
        rng, below = self.rng, depth - 1
        made: Schema = {"type": "array", "maxItems": rng.randint(1, 4), **self.some({"minItems": rng.randint(0, 2)})}
        first = [self.any(0) for _ in range(rng.randint(1, 2))]
        if self.draft >= 2019:
            made |= self.some({"prefixItems": first, "items": self.any(below)})
            if rng.random() < 0.25:
                made |= {"contains": self.any(0), **self.some({"minContains": rng.randint(0, 2), "maxContains": 2})}
            if rng.random() < 0.15 and "items" not in made:
                made |= {"unevaluatedItems": rng.choice([False, self.any(0)])}
        else:
            made |= self.some({"items": rng.choice([self.any(below), first]), "additionalItems": self.any(0)}, 0.6)
            made |= self.some({"contains": self.any(0)}, 0.2)
        if rng.random() < 0.25:
            made["uniqueItems"] = True
        if not {"items", "prefixItems"} & set(made):
            made["items"] = self.any(0)
        return made

    def object(self, depth: int) -> Schema:
        """An object; its properties, others, names, counts, what depends on what."""
        rng, below = self.rng, depth - 1
        names = rng.sample(NAMES, rng.randint(1, 4))
        properties = {name: self.any(below) for name in names}
        made: Schema = {"type": "object", "properties": properties, "maxProperties": rng.randint(len(names), 6)}
        made["required"] = [n for n in names if rng.random() < 0.6]
        other = rng.choice(names)
        if rng.random() < 0.6:
            made["additionalProperties"] = rng.choice([False, False, self.any(0)])
        made |= self.some({"patternProperties": {rng.choice(["^x", "^[a-c]", "e$"]): self.any(0)}}, 0.2)
        made |= self.some({"propertyNames": rng.choice([{"maxLength": 6}, {"pattern": "^[a-zß-ü0-9]{1,5}$"}])}, 0.25)
        made |= self.some({"minProperties": rng.randint(0, 3)}, 0.2)
        if self.draft >= 2019:
            made |= self.some(
                {"dependentRequired": {names[0]: [other]}, "dependentSchemas": {other: {"minProperties": 2}}}, 0.15
            )
            if rng.random() < 0.15 and "additionalProperties" not in made:
                made |= {
                    "allOf": [{"properties": {"more": self.any(0)}}],
                    "unevaluatedProperties": rng.choice([False, self.any(0)]),
                }
        else:
            made |= self.some({"dependencies": {names[0]: rng.choice([[other], {"minProperties": 2}])}}, 0.2)
        return made

    def combined(self, depth: int) -> Schema:
        """Several schemas of one value, or not one."""
        rng, below = self.rng, depth - 1
        how = rng.choice(["anyOf", "oneOf", "allOf", "not"])
        if how == "not":
            base = self.any(below)
            wrong = rng.choice(
                [
                    {"type": "null"},
                    {"enum": rng.sample(CONSTANTS, 2)},
                    {"maxLength": 1},
                    {"minimum": 50},
                    {"required": ["b"]},
                ]
            )
            return {**base, "not": wrong} if isinstance(base, dict) else {"type": "null"}
        if how == "allOf":
            base = self.number(0) if rng.random() < 0.3 else self.text(0) if rng.random() < 0.5 else self.object(depth)
            more = {"number": {"minimum": -50}, "integer": {"multipleOf": 2}, "string": {"minLength": 1}}.get(
                base["type"], {"minProperties": 1}
            )
            return {"allOf": [base, more]}
        return {how: [self.any(below) for _ in range(rng.randint(2, 3))]}

    def conditional(self, depth: int) -> Schema:
        """If, then and else."""
        rng = self.rng
        if rng.random() < 0.4:
            return {
                "type": "integer",
                "minimum": 0,
                "maximum": 99,
                "if": {"multipleOf": 2},
                "then": {"maximum": 20},
                "else": {"minimum": 50},
            }
        made = {
            "type": "object",
            "properties": {"kind": {"enum": ["a", "b"]}, "value": {"type": ["string", "integer"], "maxLength": 5}},
            "required": ["kind", "value"],
            "additionalProperties": False,
            "if": {"properties": {"kind": {"const": "a"}}},
            "then": {"properties": {"value": {"type": "integer", "maximum": 9}}},
        }
        return made | self.some({"else": {"properties": {"value": {"type": "string"}}}}, 0.6)

    def reference(self, depth: int) -> Schema:
        """What stands elsewhere, or contains itself."""
        rng = self.rng
        name = f"d{len(self.defs)}"
        self.defs[name] = {}
        if rng.random() < 0.4:
            below = {"$ref": f"#/{self.place}/{name}"}
            self.defs[name] = {
                "type": "object",
                "properties": {"v": self.any(0), "next": below},
                "required": ["v"],
                "additionalProperties": False,
            }
        else:
            made = self.any(depth - 1)
            self.defs[name] = made if isinstance(made, dict) else {}
        more = {"description": "a reference"} if self.draft >= 2019 else {}
        return {"$ref": f"#/{self.place}/{name}", **more}


def schema(rng: random.Random, draft: int) -> Schema:
    """A schema of draft 7 or 2020, mostly of an object or array."""
    maker = _Maker(rng, draft)
    made = rng.choice([maker.object, maker.object, maker.array, maker.any, maker.combined])(2)
    uri = "http://json-schema.org/draft-07/schema#" if draft == 7 else "https://json-schema.org/draft/2020-12/schema"
    assert isinstance(made, dict)
    if "$ref" in made and draft == 7:  # whose neighbours are passed over
        made = {"allOf": [made]}
    return {"$schema": uri, **made, **({maker.place: maker.defs} if maker.defs else {})}


# --- as pydantic has them -------------------------------------------------------------------------------------------


def _field(rng: random.Random, name: str, below: list[str]) -> Schema:
    title = {"title": name.title()}
    kinds: list[Schema] = [
        {"type": "string", "maxLength": 12},
        {"type": "integer", "exclusiveMinimum": 0, "maximum": 5000},
        {"type": "boolean"},
        {"type": "number", "minimum": 0, "maximum": 1},
        {"type": "string", "enum": ["low", "high"]},
        {"const": "v1", "type": "string"},
        {"type": "string", "pattern": "^[A-Z]{3}[0-9]{2}$"},
        {"type": "string", "format": rng.choice(["date", "uuid", "date-time"])},
        {"anyOf": [{"type": "integer", "minimum": -9, "maximum": 9}, {"type": "null"}], "default": None},
        {"anyOf": [{"type": "string", "maxLength": 5}, {"type": "number"}]},
        {"type": "array", "items": {"type": "string", "maxLength": 6}, "maxItems": 3},
        {
            "type": "array",
            "items": {"type": "integer", "minimum": 0, "maximum": 20},
            "uniqueItems": True,
            "maxItems": 3,
        },
        {
            "type": "array",
            "prefixItems": [{"type": "integer"}, {"type": "string", "maxLength": 4}],
            "minItems": 2,
            "maxItems": 2,
        },
        {
            "type": "object",
            "additionalProperties": {"type": "integer"},
            "maxProperties": 2,
            "propertyNames": {"pattern": "^[a-z]{1,5}$"},
        },
    ]
    found = {**title, **rng.choice(kinds)}
    if below and rng.random() < 0.35:
        ref = {"$ref": f"#/$defs/{rng.choice(below)}"}
        found = rng.choice(
            [
                ref,
                {"type": "array", "items": ref, "maxItems": 2, **title},
                {"anyOf": [ref, {"type": "null"}], "default": None},
            ]
        )
    return found


def modelled(rng: random.Random) -> Schema:
    """A class with fields, some of them of other classes, one perhaps of its own."""
    defs: dict[str, Schema] = {}

    def model(name: str) -> Schema:
        names = rng.sample(
            ["id", "name", "count", "price", "tags", "owner", "parent", "created", "level"], rng.randint(2, 4)
        )
        made: Schema = {
            "properties": {n: _field(rng, n, list(defs)) for n in names},
            "required": [n for n in names if rng.random() < 0.7],
            "title": name,
            "type": "object",
        }
        if rng.random() < 0.8:  # model_config = ConfigDict(extra="forbid"); else others may be there
            made["additionalProperties"] = False
        else:
            made["maxProperties"] = len(names) + 1
        return made

    for name in ("Address", "Item")[: rng.randint(0, 2)]:
        defs[name] = model(name)
    if rng.random() < 0.2:
        for kind in ("cat", "dog"):
            age = {"type": "integer", "minimum": 0, "maximum": 30}
            fields: Schema = {"kind": {"const": kind, "type": "string"}, "age": age}
            pet: Schema = {"properties": fields, "required": ["kind", "age"], "type": "object"}
            defs[kind.title()] = pet | {"additionalProperties": False}
    whole = model("Root")
    if "Cat" in defs:
        either = [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}]
        mapping = {"cat": "#/$defs/Cat", "dog": "#/$defs/Dog"}
        whole["properties"]["pet"] = {"oneOf": either, "discriminator": {"mapping": mapping, "propertyName": "kind"}}
        whole["required"].append("pet")
    if rng.random() < 0.15:
        defs["Node"] = {
            **whole,
            "title": "Node",
            "properties": {
                **whole["properties"],
                "next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}], "default": None},
            },
        }
        return {"$defs": defs, "$ref": "#/$defs/Node"}
    return {"$defs": defs, **whole} if defs else whole
