"""Random XML Schemas, and documents that they were drawn around: for tests and tools.

    made = sample(random.Random(3))     made.schema; made.document(rng): most are valid; changed(made, rng): few are

Everything that is read here has its turn: sequences, choices, all, named groups, occurrences, mixed and empty content,
attributes of every use, groups of them, simple content, extensions, restrictions, recursion, references, namespaces,
and the simple types of xsd_values.py. Documents are written in the spelling that the grammars write (xsd/__init__.py).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from xsd_values import ANYTHING, Kind, escape, restricted, simple

XS = 'xmlns:xs="http://www.w3.org/2001/XMLSchema"'
TARGET = "urn:t"


@dataclass
class Element:
    """An element of a document."""

    name: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: list[Element | str] = field(default_factory=list)

    def below(self) -> list[Element]:
        """It and all elements within it."""
        return [self, *(e for c in self.children if isinstance(c, Element) for e in c.below())]

    def text(self, rng: random.Random) -> str:
        """It, written."""
        tag = "".join(f' {k}="{escape(v)}"' for k, v in self.attributes.items())
        inside = "".join(escape(c, False) if isinstance(c, str) else c.text(rng) for c in self.children)
        if not inside and rng.random() < 0.7:
            return f"<{self.name}{tag}/>"
        return f"<{self.name}{tag}{rng.choice(['', '', ' '])}>{inside}</{self.name}>"


@dataclass
class Writer:
    """A document while it is written: how deep it is."""

    rng: random.Random
    depth: int = 0


Write = Callable[[Writer], list["Element | str"]]
Attributes = Callable[[Writer], dict[str, str]]


@dataclass(frozen=True)
class Content:
    """A complex type: what stands within <complexType ...>, and what is written of it."""

    tag: str
    body: str
    attributes: Attributes
    write: Write


@dataclass(frozen=True)
class Sample:
    """A schema, and what writes a document."""

    schema: str
    write: Callable[[Writer], Element]

    def tree(self, rng: random.Random) -> Element:
        """A document, as a tree."""
        return self.write(Writer(rng))

    def document(self, rng: random.Random) -> str:
        """A document, as a text."""
        return rng.choice(["", "", '<?xml version="1.0" encoding="UTF-8"?>\n']) + self.tree(rng).text(rng)


class _Maker:
    def __init__(self, rng: random.Random) -> None:
        self.rng, self.count = rng, 0
        self.definitions: list[str] = []
        self.named: list[Kind] = []
        kind = rng.random()
        self.target = kind < 0.4
        self.qualified = kind < 0.25
        self.prefix = "t:" if self.target else ""
        self.uses_prefix = self.target and not self.qualified

    def fresh(self, letter: str) -> str:
        self.count += 1
        return f"{letter}{self.count}"

    def simple(self) -> Kind:
        kind = simple(self.rng, self.named)
        if kind.name or self.rng.random() > 0.25:
            return kind
        name = self.fresh("S")
        self.definitions.append(kind.body.replace("<xs:simpleType>", f'<xs:simpleType name="{name}">', 1))
        made = Kind(self.prefix + name, "", kind.base, kind.value)
        self.named.append(made)
        return made

    # --- attributes ---

    def attribute(self, name: str) -> tuple[str, Attributes]:
        rng, kind = self.rng, self.simple()
        use = rng.choice(["", "", "required", "optional", "prohibited"])
        more = f' use="{use}"' if use else ""
        qualified = self.target and rng.random() < 0.15
        if qualified:
            more += ' form="qualified"'
            self.uses_prefix |= use != "prohibited"
        fixed = kind.value(rng)
        how = rng.random()
        if how < 0.1:
            more += f' fixed="{escape(fixed)}"'
        elif how < 0.2 and use in ("", "optional"):
            more += f' default="{escape(fixed)}"'
        said = f'<xs:attribute name="{name}"{kind.attribute()}{more}>{kind.body}</xs:attribute>'
        written = f"t:{name}" if qualified else name

        def write(w: Writer) -> dict[str, str]:
            if use == "prohibited" or (use != "required" and w.rng.random() < 0.5):
                return {}
            return {written: fixed if how < 0.1 else kind.value(w.rng)}

        return said, write

    def attributes(self, most: int = 3) -> tuple[str, Attributes]:
        rng = self.rng
        made = [self.attribute(self.fresh("a")) for _ in range(rng.choice([0, 0, 1, 1, 2, most]))]
        said = [s for s, _ in made]
        if len(made) > 1 and rng.random() < 0.25:
            name = self.fresh("A")
            self.definitions.append(f'<xs:attributeGroup name="{name}">{"".join(said)}</xs:attributeGroup>')
            said = [f'<xs:attributeGroup ref="{self.prefix}{name}"/>']
        writers = [w for _, w in made]
        return "".join(said), lambda w: {k: v for f in writers for k, v in f(w).items()}

    # --- elements ---

    def occurrence(self) -> tuple[str, int, int]:
        lo, hi = self.rng.choice(
            [(1, 1), (1, 1), (1, 1), (0, 1), (0, 1), (0, 3), (1, 2), (2, 2), (0, -1), (1, -1), (2, 5)]
        )
        said = f' minOccurs="{lo}"' if lo != 1 else ""
        said += "" if hi == 1 else f' maxOccurs="{"unbounded" if hi < 0 else hi}"'
        return said, lo, (lo + 2 if hi < 0 else hi)

    def element(self, depth: int, occurs: str = "", top: bool = False) -> tuple[str, Callable[[Writer], Element]]:
        """A declaration, and what writes an element of it."""
        rng, name = self.rng, self.fresh("e")
        # outermost and referred to: of the target namespace; within: where elements are qualified
        written = self.prefix + name if top and not self.qualified else name
        more = ' nillable="true"' if rng.random() < 0.05 else ""
        if depth == 0 or rng.random() < 0.45:
            kind, value = self.simple(), ""
            how = rng.random()
            if how < 0.12:
                value = kind.value(rng)
                more += f' {"fixed" if how < 0.06 else "default"}="{escape(value)}"'

            def leaf(w: Writer) -> Element:
                text = "" if how < 0.12 and w.rng.random() < 0.3 else value if how < 0.06 else kind.value(w.rng)
                return Element(written, {}, [text] if text else [])

            return f'<xs:element name="{name}"{kind.attribute()}{more}{occurs}>{kind.body}</xs:element>', leaf
        content = self.complex(depth)

        def branch(w: Writer) -> Element:
            inner = Writer(w.rng, w.depth + 1)
            return Element(written, content.attributes(inner), content.write(inner))

        if rng.random() < 0.3:
            type_name = self.fresh("T")
            self.definitions.append(f'<xs:complexType name="{type_name}"{content.tag}>{content.body}</xs:complexType>')
            return f'<xs:element name="{name}" type="{self.prefix}{type_name}"{more}{occurs}/>', branch
        body = f"<xs:complexType{content.tag}>{content.body}</xs:complexType>"
        return f'<xs:element name="{name}"{more}{occurs}>{body}</xs:element>', branch

    def member(self, depth: int) -> tuple[str, Write]:
        """A particle of a sequence or choice."""
        rng = self.rng
        occurs, lo, hi = self.occurrence()
        kind = rng.random()
        write_one: Write
        if depth > 0 and kind < 0.22:
            said, write_one = self.group(depth - 1, occurs)
        elif kind < 0.32:
            body, element = self.element(depth - 1 if depth else 0, "", True)
            self.definitions.append(body)
            name = body.split('name="', 1)[1].split('"', 1)[0]
            said, write_one = f'<xs:element ref="{self.prefix}{name}"{occurs}/>', lambda w: [element(w)]
        else:
            said, element = self.element(max(0, depth - 1), occurs)

            def write_one(w: Writer) -> list[Element | str]:
                return [element(w)]

        return said, lambda w: [e for _ in range(w.rng.randint(lo, hi)) for e in write_one(w)]

    def group(self, depth: int, occurs: str = "") -> tuple[str, Write]:
        """A sequence or choice, or one that has a name."""
        rng = self.rng
        members = [self.member(depth) for _ in range(rng.choice([1, 2, 2, 3, 3]))]
        writers = [w for _, w in members]
        said = "".join(s for s, _ in members)
        how = rng.choice(["sequence", "sequence", "choice"])

        def write(w: Writer) -> list[Element | str]:
            return [e for f in (writers if how == "sequence" else [w.rng.choice(writers)]) for e in f(w)]

        if rng.random() < 0.15:
            name = self.fresh("G")
            self.definitions.append(f'<xs:group name="{name}"><xs:{how}>{said}</xs:{how}></xs:group>')
            return f'<xs:group ref="{self.prefix}{name}"{occurs}/>', write
        return f"<xs:{how}{occurs}>{said}</xs:{how}>", write

    def all(self) -> tuple[str, Write]:
        """Members in any order."""
        members = []
        for _ in range(self.rng.randint(1, 4)):
            lo = self.rng.choice([0, 1, 1])
            members.append((*self.element(0, "" if lo else ' minOccurs="0"'), lo))

        def write(w: Writer) -> list[Element | str]:
            found = [element(w) for _, element, lo in members if lo or w.rng.random() < 0.5]
            w.rng.shuffle(found)
            return list(found)

        return f"<xs:all>{''.join(s for s, *_ in members)}</xs:all>", write

    def complex(self, depth: int) -> Content:
        rng = self.rng
        kind = rng.random()
        said, attributes = self.attributes()
        if kind < 0.08:
            return Content("", said, attributes, lambda w: [])
        if kind < 0.2:
            return self.simple_content(said, attributes)
        if kind < 0.3:
            return self.extended(said, attributes)
        mixed = rng.random() < 0.15
        body, write = self.all() if kind < 0.4 else self.group(depth - 1)
        if kind > 0.93:  # a type that contains itself
            name = self.fresh("R")
            inner = (
                f'<xs:sequence>{body}<xs:element name="again" type="{self.prefix}{name}" minOccurs="0"/></xs:sequence>'
            )
            if body.startswith("<xs:all"):
                inner = (
                    f'<xs:sequence><xs:element name="again" type="{self.prefix}{name}" minOccurs="0"/></xs:sequence>'
                )
            once = write if not body.startswith("<xs:all") else lambda w: []

            def again(w: Writer) -> list[Element | str]:
                below = Writer(w.rng, w.depth + 1)
                more = (
                    [Element("again", attributes(below), again(below))] if w.depth < 4 and w.rng.random() < 0.5 else []
                )
                return [*once(w), *more]

            self.definitions.append(f'<xs:complexType name="{name}">{inner}{said}</xs:complexType>')
            base = f'<xs:complexContent><xs:extension base="{self.prefix}{name}"/></xs:complexContent>'
            return Content("", base, attributes, again)
        return Content(' mixed="true"' if mixed else "", body + said, attributes, _spread(write, mixed))

    def simple_content(self, said: str, attributes: Attributes) -> Content:
        """Text of a simple type, with attributes; perhaps restricted."""
        kind = self.simple()
        if not kind.name:
            name = self.fresh("S")
            self.definitions.append(kind.body.replace("<xs:simpleType>", f'<xs:simpleType name="{name}">', 1))
            kind = Kind(self.prefix + name, "", kind.base, kind.value)
        inside = f'<xs:extension base="{kind.name}">{said}</xs:extension>'
        body = f"<xs:simpleContent>{inside}</xs:simpleContent>"
        value = kind.value
        if self.rng.random() < 0.4 and kind.base not in ("list", "union", "NMTOKENS"):
            name = self.fresh("C")
            self.definitions.append(f'<xs:complexType name="{name}">{body}</xs:complexType>')
            fewer = restricted(Kind("xs:x", "", kind.base, kind.value), self.rng)
            facets = fewer.body.split('<xs:restriction base="xs:x">', 1)[1].split("</xs:restriction>", 1)[0]
            inside = f'<xs:restriction base="{self.prefix}{name}">{facets}</xs:restriction>'
            body, value = f"<xs:simpleContent>{inside}</xs:simpleContent>", fewer.value
        return Content("", body, attributes, lambda w: [text] if (text := value(w.rng)) else [])

    def extended(self, said: str, attributes: Attributes) -> Content:
        """What a type adds to another, or keeps of it."""
        first, write = self.group(0)
        second, more = self.group(0)
        name = self.fresh("B")
        self.definitions.append(f'<xs:complexType name="{name}">{first}{said}</xs:complexType>')
        if self.rng.random() < 0.2:
            how = f'<xs:restriction base="{self.prefix}{name}">{first}</xs:restriction>'
            return Content("", f"<xs:complexContent>{how}</xs:complexContent>", attributes, _spread(write, False))
        other, rest = self.attributes(1)
        how = f'<xs:extension base="{self.prefix}{name}">{second}{other}</xs:extension>'
        return Content(
            "",
            f"<xs:complexContent>{how}</xs:complexContent>",
            lambda w: attributes(w) | rest(w),
            _spread(lambda w: [*write(w), *more(w)], False),
        )


def _spread(write: Write, mixed: bool) -> Write:
    """With white space, or text, between elements."""
    between = ["", "some text", " a & b ", "\n"] if mixed else ["", "", "\n  ", " "]

    def spread(w: Writer) -> list[Element | str]:
        out: list[Element | str] = []
        for e in write(w):
            out += [w.rng.choice(between), e]
        return [*out, w.rng.choice(between)] if out or mixed else out

    return spread


def sample(rng: random.Random, depth: int = 2) -> Sample:
    """A schema with one outermost element that has elements or attributes, or a value."""
    maker = _Maker(rng)
    root, write = maker.element(depth, "", True)
    uri = f' xmlns:t="{TARGET}" targetNamespace="{TARGET}"' if maker.target else ""
    uri += ' elementFormDefault="qualified"' if maker.qualified else ""
    definitions = list(maker.definitions)
    rng.shuffle(definitions)
    schema = f"<xs:schema {XS}{uri}>{root}{''.join(definitions)}</xs:schema>"

    def document(w: Writer) -> Element:
        tree = write(w)
        first = {"xmlns": TARGET} if maker.qualified else {}
        first |= {"xmlns:t": TARGET} if maker.uses_prefix else {}
        tree.attributes = first | tree.attributes
        return tree

    return Sample(schema, document)


def changed(made: Sample, rng: random.Random) -> str:
    """A document with something about it changed: a value, an attribute, an element, a character."""
    tree = made.tree(rng)
    every = tree.below()
    kind = rng.random()
    where = rng.choice(every)
    others = [i for i, c in enumerate(where.children) if isinstance(c, Element)]
    own = [k for k in where.attributes if not k.startswith("xmlns")]
    if kind < 0.35:
        leaves = [e for e in every if not any(isinstance(c, Element) for c in e.children)]
        target = rng.choice(leaves)
        if target.attributes and rng.random() < 0.4 and (own := [k for k in target.attributes if "xmlns" not in k]):
            target.attributes[rng.choice(own)] = rng.choice(ANYTHING)
        else:
            target.children = [rng.choice(ANYTHING)]
    elif kind < 0.45 and own:
        del where.attributes[rng.choice(own)]
    elif kind < 0.5:
        where.attributes[rng.choice(["x", "a1", "a2"])] = rng.choice(ANYTHING)
    elif kind < 0.75 and others:
        at = rng.choice(others)
        how = rng.random()
        if how < 0.35:
            del where.children[at]
        elif how < 0.65:
            where.children.insert(at, where.children[at])
        elif how < 0.85:
            other = rng.choice(others)
            where.children[at], where.children[other] = where.children[other], where.children[at]
        else:
            more: list[Element | str] = ["text", Element("e1"), Element("zz")]
            where.children.insert(at, rng.choice(more))
    text = tree.text(rng)
    if kind > 0.75:
        at = rng.randrange(len(text))
        text = text[:at] + rng.choice(["", text[at] * 2, rng.choice("0159-.ab <>/&\t")]) + text[at + 1 :]
    return text
