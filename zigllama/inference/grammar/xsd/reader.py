"""The text of an XML Schema as a tree of its elements, read by expat with nothing but the text itself.

A document type is refused where it begins, so that there are no entities, no external references and nothing to fetch;
size, number of elements and depth are bounded. What it is not: it knows no schema, only XML with namespaces.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.parsers import expat

from zigllama.errors import BadSchema, GrammarBudget, GrammarError

XSD = "http://www.w3.org/2001/XMLSchema"
MAX_BYTES = 2_000_000
MAX_ELEMENTS = 20_000
MAX_LEVELS = 60
NUMBER = re.compile(r"\+?0*([0-9]{1,9})")

Name = tuple[str, str]  # namespace ("" for none), local name


@dataclass(eq=False)
class Node:
    """An element of the schema: its name, attributes without a namespace, what prefixes stand for there, its children
    of the schema's namespace without annotations, its line, and where it stands (`path`)."""

    name: str
    attributes: dict[str, str]
    prefixes: dict[str, str]
    line: int
    path: str
    children: list[Node] = field(default_factory=list)

    def get(self, name: str, default: str = "") -> str:
        """An attribute, without white space around it."""
        return self.attributes.get(name, default).strip()

    def flag(self, name: str) -> bool:
        """Whether an attribute is true."""
        value = self.get(name, "false")
        if value not in ("true", "false", "1", "0"):
            raise BadSchema(self.path, f"{name}={value!r:.40} is neither true nor false")
        return value in ("true", "1")

    def count(self, name: str, default: int) -> int | None:
        """A number of times; None for "unbounded"."""
        value = self.get(name)
        if not value:
            return default
        if value == "unbounded" and name == "maxOccurs":
            return None
        found = NUMBER.fullmatch(value)
        if not found:
            if value.isascii() and value.isdigit():
                raise GrammarBudget("repetitions", 10**9, 10**9 - 1)
            raise BadSchema(self.path, f"{name}={value!r:.40} is no number")
        return int(found[1])

    def qualified(self, value: str) -> Name:
        """What a name with or without a prefix means here."""
        prefix, colon, local = value.strip().rpartition(":")
        if prefix not in self.prefixes and colon:
            raise BadSchema(self.path, f"the prefix of {value!r:.60} is not declared")
        return self.prefixes.get(prefix, ""), local

    def of(self, *names: str) -> Iterator[Node]:
        """The children of these names."""
        return (c for c in self.children if c.name in names)


class _Reading:
    """Goes through the text once."""

    def __init__(self) -> None:
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self.begin
        self.parser.EndElementHandler = self.end
        self.parser.StartNamespaceDeclHandler = self.declared
        self.parser.StartDoctypeDeclHandler = self.doctype
        self.parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        self.open: list[Node] = []
        self.pending: dict[str, str] = {}
        self.root: Node | None = None
        self.elements = 0
        self.depth = 0
        self.outside = 0  # levels of an annotation, or of another namespace

    def error(self, why: str) -> GrammarError:
        return GrammarError(
            f"the XML Schema: {why}", self.parser.CurrentLineNumber, self.parser.CurrentColumnNumber + 1
        )

    def doctype(self, name: str, system: str | None, public: str | None, internal: bool) -> None:
        raise self.error("a document type (DOCTYPE) is refused: entities and external references are not read")

    def declared(self, prefix: str | None, uri: str | None) -> None:
        self.pending[prefix or ""] = uri or ""

    def begin(self, tag: str, attributes: dict[str, str]) -> None:
        self.elements += 1
        self.depth += 1
        if self.elements > MAX_ELEMENTS:
            raise GrammarBudget("elements of an XML Schema", self.elements, MAX_ELEMENTS)
        if self.depth > MAX_LEVELS:
            raise GrammarBudget("levels of an XML Schema", self.depth, MAX_LEVELS)
        uri, _, name = tag.rpartition(" ")
        if self.outside or (self.open and (uri != XSD or name == "annotation")):
            if not self.outside and uri != XSD:
                raise self.error(f"<{name:.60}> is not of the namespace of XML Schema")
            self.outside += 1
            self.pending = {}
            return
        if not self.open and (uri, name) != (XSD, "schema"):
            raise self.error(f"its root is <{name:.60}> of {uri or 'no namespace'!r:.80}, not <schema> of {XSD}")
        above = self.open[-1] if self.open else None
        prefixes = {**(above.prefixes if above else {"xml": "http://www.w3.org/XML/1998/namespace"}), **self.pending}
        if not self.pending and above:
            prefixes = above.prefixes
        self.pending = {}
        plain = {k: v for k, v in attributes.items() if " " not in k}
        said = next((f"[@{k}={plain[k]!r:.60}]" for k in ("name", "ref") if k in plain), "")
        node = Node(name, plain, prefixes, self.parser.CurrentLineNumber, "", [])
        node.path = f"{above.path if above else ''}/{name}{said}"
        if above:
            above.children.append(node)
        else:
            self.root = node
        self.open.append(node)

    def end(self, tag: str) -> None:
        self.depth -= 1
        if self.outside:
            self.outside -= 1
        else:
            self.open.pop()


def read(text: str | bytes) -> Node:
    """The root of a schema. Raises GrammarError with line and column for what is no XML, has a document type or is no
    schema; GrammarBudget for what is too large."""
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if len(raw) > MAX_BYTES:
        raise GrammarBudget("bytes of an XML Schema", len(raw), MAX_BYTES)
    reading = _Reading()
    if isinstance(text, str):  # whatever its declaration says, it is characters that were given
        parser = expat.ParserCreate("utf-8", namespace_separator=" ")
        for name in (
            "StartElementHandler",
            "EndElementHandler",
            "StartNamespaceDeclHandler",
            "StartDoctypeDeclHandler",
        ):
            setattr(parser, name, getattr(reading.parser, name))
        reading.parser = parser
    try:
        reading.parser.Parse(raw, True)
    except expat.ExpatError as e:
        raise GrammarError(f"the XML Schema is no XML: {expat.ErrorString(e.code)}", e.lineno, e.offset + 1) from e
    except (LookupError, ValueError) as e:
        if isinstance(e, GrammarError):
            raise
        raise reading.error(f"its encoding cannot be read: {e}") from e
    assert reading.root is not None
    return reading.root
