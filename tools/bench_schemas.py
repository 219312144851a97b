"""JSON Schemas and documents for bench_masks.py: of a seeded generator, or found in folders of installed packages.

    seeded(n, seed)          n schemas of all kinds: nested objects, arrays, enums, bounds, patterns, formats, $ref ...
    vendored(folders, most)  schemas found in files *.json and *schema*.y(a)ml below these folders, always the same
    document(schema, rng)    a document of a schema, its properties in the schema's order

Documents are made from the schema's words alone and not by an engine that is measured: a required property is there,
another one as a coin falls; of anyOf and oneOf a branch is chosen. What was made may be wrong (a `not`, say): whoever
uses it asks a validator. What it is not: a validator.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

WORDS: list[str] = str.split(
    "alpha order item total price name city street color north open closed active user email report value level"
    " index result summary detail first last created updated owner status kind window river stone paper"
)
PATTERNS = {
    "^[A-Z]{3}-[0-9]{4}$": "ABC-1234", "^[a-z][a-z0-9_]*$": "node_12", "^#[0-9a-fA-F]{6}$": "#12abEF",
    "^v?[0-9]+\\.[0-9]+\\.[0-9]+$": "v1.22.3", "^(GET|POST|PUT)$": "POST", "^\\S+$": "word", "[aeiou]{2}": "queue",
}  # fmt: skip
FORMATS = {
    "date": "2024-05-17", "date-time": "2024-05-17T10:20:30Z", "time": "10:20:30Z", "email": "ann@example.org",
    "uuid": "123e4567-e89b-12d3-a456-426614174000", "ipv4": "192.168.1.20", "uri": "https://example.org/a/b",
    "hostname": "host.example.org",
}  # fmt: skip
DEEPEST, LARGEST = 12, 400_000  # levels of a document; bytes of a schema's file


# --- schemas --------------------------------------------------------------------------------------------------------


class Generator:
    """Schemas of a random number generator; `depth` is how many levels may still come."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.defs: dict[str, Any] = {}

    def whole(self) -> dict[str, Any]:
        """A schema with its definitions; mostly an object's."""
        made = self.object(3) if self.rng.random() < 0.8 else self.any(3)
        made = {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}
        return {**made, "$defs": self.defs} if self.defs else made

    def any(self, depth: int) -> dict[str, Any]:
        """A schema of some kind."""
        leaves = [self.string, self.text, self.number, self.integer, self.enum, self.literal]
        nests = [self.object, self.object, self.array, self.array, self.choice, self.reference, self.both]
        pick = self.rng.choice(leaves * 2 + (nests * 2 if depth > 0 else []))
        return pick(depth)

    def name(self) -> str:
        """A property's name."""
        return "_".join(self.rng.sample(WORDS, self.rng.choice((1, 1, 2))))

    def object(self, depth: int) -> dict[str, Any]:
        """Properties, some required; others allowed or not."""
        rng = self.rng
        properties = {self.name(): self.any(depth - 1) for _ in range(rng.randint(1, 8))}
        made: dict[str, Any] = {"type": "object", "properties": properties}
        required = [n for n in properties if rng.random() < 0.6]
        if required:
            made["required"] = required
        roll = rng.random()
        if roll < 0.5:
            made["additionalProperties"] = False
        elif roll < 0.65:
            made["additionalProperties"] = self.any(0)
        elif roll < 0.75:
            made["patternProperties"] = {rng.choice(("^x-", "^[0-9]+$", "_id$")): self.any(0)}
        return made

    def array(self, depth: int) -> dict[str, Any]:
        """Items, bounds, some unique, some with a prefix."""
        rng = self.rng
        made: dict[str, Any] = {"type": "array", "items": self.any(depth - 1)}
        if rng.random() < 0.4:
            made["minItems"] = rng.randint(0, 3)
        if rng.random() < 0.4:
            made["maxItems"] = rng.randint(3, 8)
        if rng.random() < 0.12:
            made["uniqueItems"] = True
        if rng.random() < 0.12:
            made["prefixItems"] = [self.any(0), self.any(0)]
        return made

    def string(self, _: int) -> dict[str, Any]:
        """Any string, or one of a length."""
        rng = self.rng
        made: dict[str, Any] = {"type": "string"}
        if rng.random() < 0.35:
            made["maxLength"] = rng.choice((10, 40, 100, 255))
        if rng.random() < 0.25:
            made["minLength"] = rng.randint(1, 4)
        return made

    def text(self, _: int) -> dict[str, Any]:
        """A string of a pattern or format."""
        rng = self.rng
        if rng.random() < 0.5:
            return {"type": "string", "pattern": rng.choice(list(PATTERNS))}
        return {"type": "string", "format": rng.choice(list(FORMATS))}

    def number(self, _: int) -> dict[str, Any]:
        """A number, within bounds perhaps."""
        rng = self.rng
        made: dict[str, Any] = {"type": "number"}
        if rng.random() < 0.5:
            made["minimum"] = rng.choice((0, -10, 0.5, 1))
        if rng.random() < 0.4:
            made["exclusiveMaximum"] = rng.choice((100, 1000, 99.5))
        return made

    def integer(self, _: int) -> dict[str, Any]:
        """An integer, within bounds perhaps."""
        rng = self.rng
        made: dict[str, Any] = {"type": "integer"}
        if rng.random() < 0.6:
            made["minimum"] = rng.choice((0, 1, -5, 1900))
        if rng.random() < 0.5:
            made["maximum"] = rng.choice((2100, 9999, 65535))
        return made

    def enum(self, _: int) -> dict[str, Any]:
        """One of some values."""
        rng = self.rng
        if rng.random() < 0.15:
            return {"const": rng.choice((*WORDS, 1, True))}
        return {"enum": rng.sample(WORDS, rng.randint(2, 9))}

    def literal(self, _: int) -> dict[str, Any]:
        """A boolean, null, or one of several types."""
        return {"type": self.rng.choice(("boolean", "boolean", "null", ["string", "null"], ["integer", "boolean"]))}

    def choice(self, depth: int) -> dict[str, Any]:
        """anyOf; or oneOf of objects that a constant tells apart."""
        rng = self.rng
        if rng.random() < 0.5:
            return {"anyOf": [self.any(depth - 1) for _ in range(rng.randint(2, 3))]}
        branches = []
        for word in rng.sample(WORDS, rng.randint(2, 3)):
            made = self.object(depth - 1)
            made["properties"] = {"kind": {"const": word}, **made["properties"]}
            made["properties"]["kind"] = {"const": word}
            made["required"] = sorted({"kind", *made.get("required", ())})
            branches.append(made)
        return {"oneOf": branches}

    def reference(self, depth: int) -> dict[str, Any]:
        """$ref to a definition, which may be a tree."""
        name = self.rng.choice(WORDS)
        if name not in self.defs:
            self.defs[name] = {"type": "null"}  # until it is made: it may refer to itself
            made = self.object(depth - 1)
            if self.rng.random() < 0.3:
                made["properties"]["children"] = {"type": "array", "items": {"$ref": f"#/$defs/{name}"}}
            self.defs[name] = made
        return {"$ref": f"#/$defs/{name}"}

    def both(self, depth: int) -> dict[str, Any]:
        """allOf of two objects."""
        found = [self.object(depth - 1) for _ in range(2)]
        for each in found:
            each.pop("additionalProperties", None)
            each.pop("patternProperties", None)
        shared = set(found[0]["properties"])
        found[1]["properties"] = {n: s for n, s in found[1]["properties"].items() if n not in shared} or {"more": {}}
        found[1]["required"] = list(found[1]["properties"])[:1]
        return {"allOf": found}


def seeded(n: int, seed: int) -> Iterator[tuple[str, Any]]:
    """Schemas with their names."""
    for i in range(n):
        yield f"seeded {seed}.{i}", Generator(random.Random(seed * 100_003 + i)).whole()


def vendored(folders: Iterable[Path], most: int) -> list[tuple[str, Any]]:
    """Schemas found, `most` of them, spread evenly over the packages (the folders' folders); by their paths."""
    found: dict[str, list[tuple[str, Any]]] = {}
    for folder in folders:
        paths = [*folder.rglob("*.json"), *folder.rglob("*schema*.y*ml")]
        for path in sorted(p for p in paths if p.stat().st_size <= LARGEST):
            schema = _schema_in(path)
            if schema is not None:
                name = path.relative_to(folder)
                found.setdefault(name.parts[0], []).append((str(name), schema))
    spread = [each[:: max(1, len(each) // most)] for each in found.values()]
    in_turn = [each[i] for i in range(most) for each in spread if i < len(each)]  # one of each package, and again
    return in_turn[:most]


def _schema_in(path: Path) -> Any:
    try:
        text = path.read_text()
        if path.suffix == ".json":
            value = json.loads(text)
        else:
            import yaml

            value = json.loads(json.dumps(yaml.safe_load(text)))  # dates, say, are none of JSON's
    except (ValueError, OSError, RecursionError, TypeError, ImportError):
        return None
    if not isinstance(value, dict) or not ({"properties", "$ref", "anyOf", "oneOf", "allOf", "items"} & value.keys()):
        return None
    return value if "json-schema.org" in str(value.get("$schema", "")) else None


# --- documents ------------------------------------------------------------------------------------------------------


class Maker:
    """Documents of one schema."""

    def __init__(self, root: Any, rng: random.Random) -> None:
        self.root, self.rng = root, rng
        self.left = 400  # values, so that a document of a schema that refers to itself has an end

    def make(self, schema: Any, depth: int = 0) -> Any:
        """A value. Raises LookupError where none was found."""
        self.left -= 1
        if schema is True or schema == {}:
            return self.rng.choice((True, "word", 7))
        if not isinstance(schema, dict) or depth > DEEPEST * 3:
            raise LookupError
        rng = self.rng
        if "$ref" in schema:
            rest = {k: v for k, v in schema.items() if k != "$ref" and k not in ("$schema", "$id", "id")}
            return self.make(
                self.joined([self.target(schema["$ref"]), rest] if rest else [self.target(schema["$ref"])]), depth + 1
            )
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return rng.choice(schema["enum"])
        parts = list(schema.get("allOf", ()))
        for word in ("anyOf", "oneOf"):
            if schema.get(word):
                few = schema[word]
                parts.append(rng.choice(few if self.left > 0 else few[:1]))
        if parts:
            rest = {k: v for k, v in schema.items() if k not in ("allOf", "anyOf", "oneOf")}
            return self.make(self.joined([rest, *parts]), depth + 1)
        kind = schema.get("type") or self.kind_of(schema)
        if isinstance(kind, list):
            kind = rng.choice(kind)
        return getattr(self, f"of_{kind}")(schema, depth)

    def target(self, reference: str) -> Any:
        """What a reference leads to."""
        if not reference.startswith("#"):
            raise LookupError
        at = self.root
        for part in reference[1:].split("/")[1:]:
            part = part.replace("~1", "/").replace("~0", "~")
            at = at[int(part)] if isinstance(at, list) else at[part]
        return at

    def joined(self, schemas: list[Any]) -> Any:
        """Schemas that all hold, as one, as far as that is easy."""
        made: dict[str, Any] = {}
        for schema in schemas:
            for _ in range(20):
                if not (isinstance(schema, dict) and set(schema) & {"$ref"} and len(schemas) > 1):
                    break
                schema = self.target(schema["$ref"])
            if schema is False:
                raise LookupError
            for key, value in schema.items() if isinstance(schema, dict) else ():
                if key == "properties":
                    made[key] = {**made.get(key, {}), **value}
                elif key in ("required", "allOf"):
                    made[key] = [*made.get(key, ()), *value]
                elif key in ("anyOf", "oneOf") and key in made:
                    made.setdefault("allOf", []).append({key: value})
                elif key not in made:
                    made[key] = value
        return made

    @staticmethod
    def kind_of(schema: dict[str, Any]) -> str:
        """The type that its keywords speak of."""
        if {"items", "prefixItems", "minItems", "contains"} & schema.keys():
            return "array"
        if {"pattern", "format", "minLength", "maxLength"} & schema.keys():
            return "string"
        return "number" if {"minimum", "maximum", "multipleOf"} & schema.keys() else "object"

    def of_null(self, _: Any, __: int) -> None:
        """null"""

    def of_boolean(self, _: Any, __: int) -> bool:
        """true or false"""
        return self.rng.random() < 0.5

    def of_integer(self, schema: Any, _: int) -> int:
        """Within the bounds."""
        low, high = self.bounds(schema, 1)
        step = int(schema.get("multipleOf", 1)) or 1
        return self.rng.randint(-(-int(low) // step), int(high) // step) * step

    def of_number(self, schema: Any, _: int) -> float | int:
        """Within the bounds, of two decimals or none."""
        low, high = self.bounds(schema, 0.01)
        if "multipleOf" in schema or self.rng.random() < 0.5:
            return self.of_integer(schema, 0)
        return round(self.rng.uniform(low, high), 2)

    def bounds(self, schema: Any, more: float) -> tuple[float, float]:
        """Lowest and highest."""
        low, high = schema.get("minimum"), schema.get("maximum")
        for word, sign in (("exclusiveMinimum", 1), ("exclusiveMaximum", -1)):
            bound = schema.get(word)
            if bound is None or bound is False:
                continue
            if bound is True:  # draft 4
                low, high = (low + more, high) if sign > 0 else (low, high - more)
            elif sign > 0:
                low = bound + more
            else:
                high = bound - more
        if low is None:
            low = min(0, high - 100) if high is not None else 0
        if high is None:
            high = max(low + 100, 1000)
        if low > high:
            raise LookupError
        return low, high

    def of_string(self, schema: Any, _: int) -> str:
        """Words; or what a pattern or a format is known to have."""
        if "pattern" in schema:
            return self.of_pattern(schema["pattern"])
        if schema.get("format") in FORMATS:
            return FORMATS[schema["format"]]
        least, most = schema.get("minLength", 0), schema.get("maxLength", 60)
        text = " ".join(self.rng.choices(WORDS, k=self.rng.randint(1, 5)))
        while len(text) < least:
            text += " " + self.rng.choice(WORDS)
        return text[: max(least, min(len(text), most))]

    def of_pattern(self, pattern: str) -> str:
        """A word that the expression is found in, if one of those at hand is."""
        known = (
            [PATTERNS[pattern]]
            if pattern in PATTERNS
            else [*WORDS, *PATTERNS.values(), *FORMATS.values(), "1", "1.0", "A", "/a"]
        )
        try:
            found = [w for w in known if re.search(pattern, w)]
        except re.error:
            raise LookupError from None
        if not found:
            raise LookupError
        return self.rng.choice(found)

    def of_array(self, schema: Any, depth: int) -> list[Any]:
        """As few items as must be, and up to two more."""
        rest = schema.get("items", True)
        first = schema.get("prefixItems", [])
        if isinstance(rest, list):  # before 2020-12
            first, rest = rest, schema.get("additionalItems", True)
        more = self.rng.randint(0, 2) if depth < DEEPEST and self.left > 0 else 0
        n = min(schema.get("minItems", 0) + more, schema.get("maxItems", 99))
        if rest is False:
            n = min(n, len(first))
        made: list[Any] = []
        for i in range(n):
            for _ in range(10):
                item = self.make(first[i] if i < len(first) else rest, depth + 1)
                if not (schema.get("uniqueItems") and item in made):
                    made.append(item)
                    break
        return made

    def of_object(self, schema: Any, depth: int) -> dict[str, Any]:
        """Required properties and some others, in the schema's order."""
        properties, required = schema.get("properties", {}), schema.get("required", [])
        required = required if isinstance(required, list) else []
        made: dict[str, Any] = {}
        chance = (0.7 if depth < 4 else 0.3) * min(1.0, 12 / (len(properties) + 1))
        for name, value in properties.items():
            if name in required:
                made[name] = self.make(value, depth + 1)
            elif depth < DEEPEST and self.left > 0 and self.rng.random() < chance:
                try:
                    made[name] = self.make(value, depth + 1)
                except LookupError:
                    continue
        other = schema.get("additionalProperties", True)
        for name in required:
            if name not in made:
                made[name] = self.make(other, depth + 1)
        if not made and isinstance(other, dict) and self.left > 0:
            made[self.rng.choice(WORDS)] = self.make(other, depth + 1)
        return made


def document(schema: Any, rng: random.Random) -> Any:
    """A value of the schema. Raises LookupError where none was found."""
    try:
        return Maker(schema, rng).make(schema)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise LookupError from error
