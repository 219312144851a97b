"""Elements and complex types as rules.

An element is a rule, made when something first refers to it; so elements may contain themselves. A named group is a
rule as well. What is between elements is white space, or text where the content is mixed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from zigllama.errors import BadSchema, GrammarBudget, GrammarError, UnsupportedSchema
from zigllama.inference.grammar.dfa import determinise
from zigllama.inference.grammar.ir import EMPTY, Alt, Automaton, Expr, Literal, Ref, Repeat, Rules, Seq, optional

from .attributes import ANY_ORDER, Attribute, Attributes, any_order, attributes_of, written
from .reader import XSD, Name, Node
from .simple import MAX_LEVELS, Simple, SimpleTypes, built_in, normalised
from .spelling import IN_TEXT, MIXED, SOME_SPACE, SPACE, escaped, prologue

GLOBALS = ("element", "attribute", "simpleType", "complexType", "group", "attributeGroup", "notation")
WHY = {
    "import": "nothing is fetched: write what is imported into one schema",
    "include": "nothing is fetched: write what is included into the schema itself",
    "redefine": "nothing is fetched",
    "any": "which elements there are is not said",
    "anyAttribute": "which attributes there are is not said",
    "key": "that values are unique in a document is not regular",
    "keyref": "that a value is one of others in a document is not regular",
    "unique": "that values are unique in a document is not regular",
    "substitutionGroup": "which elements stand for others is not followed",
}


@dataclass(frozen=True)
class Complex:
    """A complex type: its attributes; and either the simple type of its text, or what elements it has, each with what
    may follow it (None: no content at all)."""

    attributes: Attributes
    simple: Simple | None
    particles: Expr | None
    mixed: bool


class Schema:
    """A schema while rules are made of it."""

    def __init__(self, root: Node) -> None:
        self.root, self.target = root, root.get("targetNamespace")
        self.named: dict[str, dict[Name, Node]] = {kind: {} for kind in GLOBALS}
        for node in root.children:
            if node.name in WHY:
                raise UnsupportedSchema(node.path, node.name, WHY[node.name])
            if node.name not in GLOBALS:
                raise BadSchema(node.path, "it has no place here")
            name = (self.target, node.get("name"))
            if not name[1]:
                raise BadSchema(node.path, "a definition without a name")
            if name in self.named[node.name]:
                raise BadSchema(node.path, "it is defined twice")
            self.named[node.name][name] = node
        self.simple = SimpleTypes(self.named["simpleType"])
        default = root.get("elementFormDefault", "unqualified")
        self.qualified = default == "qualified"
        self.prefix = next((p for p, uri in root.prefixes.items() if uri == self.target and p), "tns")
        self.uses_prefix = bool(self.target) and not self.qualified
        self.rules: dict[str, Expr] = {"space": SPACE, "some space": SOME_SPACE, "text": MIXED}
        self.open: list[Node] = []
        self.attribute_groups: dict[Node, list[tuple[Name, Attribute | None]]] = {}
        self.types: dict[Node, Complex] = {}
        self.groups: dict[tuple[Node, bool], Expr | None] = {}
        self.elements: dict[Node, str] = {}
        self.todo: list[Node] = []
        self.nothing: dict[str, bool] = {}
        self.values: dict[tuple[Automaton, bool], Expr] = {}

    # --- names ---

    def globally(self, kind: str, node: Node, value: str) -> Node:
        """The global definition of a name."""
        found = self.named[kind].get(node.qualified(value)) if value else None
        if found is None:
            raise BadSchema(node.path, f"{value!r:.60} is no {kind} that is defined")
        return found

    def qualified_attribute(self, local: str) -> str:
        """The name of an attribute of the target namespace, which the default namespace is nothing to."""
        self.uses_prefix = True
        return f"{self.prefix}:{local}"

    def element_name(self, node: Node) -> str:
        """How the name of an element is written."""
        local = node.get("name")
        if not local:
            raise BadSchema(node.path, "an element without a name")
        if not self.target:
            return local
        within = node not in self.root.children
        form = node.get("form", self.root.get("elementFormDefault", "unqualified")) if within else "qualified"
        if self.qualified and form == "unqualified":
            why = "the default namespace is the target's, so that each element without a prefix is of it"
            raise UnsupportedSchema(node.path, "form", why)
        return local if self.qualified or form != "qualified" else f"{self.prefix}:{local}"

    def fresh(self, what: str) -> str:
        """A name for a rule, which is then taken."""
        name = f"{what} {len(self.rules)}"
        self.rules[name] = EMPTY
        return name

    def shared(self, e: Expr) -> Ref:
        """An expression as a rule, to be used several times."""
        name = self.fresh("part")
        self.rules[name] = e
        return Ref(name)

    # --- values ---

    def value(self, kind: Simple, escapes: dict[int, bytes]) -> Expr:
        """The values of a simple type, written: one rule for each type and place."""
        key = (kind.texts, escapes is IN_TEXT)
        if key not in self.values:
            self.values[key] = self.shared(escaped(kind.texts, escapes))
        return self.values[key]

    def fixed(self, kind: Simple, node: Node) -> Simple:
        """The type, or what is left of it where a value is fixed. A default must be a value, and changes nothing."""
        for name in ("fixed", "default"):
            if name in node.attributes:
                self.simple.literal(kind, node.attributes[name], node)
                if name == "fixed":  # in this spelling, whatever else means the same
                    text = normalised(node.attributes[name], kind.white)
                    return replace(kind, texts=determinise(Literal(text.encode())))
        return kind

    # --- elements ---

    def element(self, node: Node) -> Ref:
        """An element, as the rule that is made of it in its turn."""
        if node not in self.elements:
            self.elements[node] = self.fresh(f"<{node.get('name'):.40}>")
            self.todo.append(node)
        return Ref(self.elements[node])

    def type_of(self, node: Node) -> Complex:
        """The type of an element."""
        for keyword in node.of("key", "keyref", "unique"):
            raise UnsupportedSchema(keyword.path, keyword.name, WHY[keyword.name])
        if node.get("substitutionGroup"):
            raise UnsupportedSchema(node.path, "substitutionGroup", WHY["substitutionGroup"])
        if node.flag("abstract"):
            raise UnsupportedSchema(node.path, "abstract", "such an element is never written, but what stands for it")
        node.flag("nillable")
        inside = [c for c in node.children if c.name in ("simpleType", "complexType")]
        if len(inside) > 1 or (inside and node.get("type")) or len(inside) < len(node.children):
            raise BadSchema(node.path, "an element has one type, and nothing else within it")
        if not inside and not node.get("type"):
            return Complex({}, built_in("anyType"), None, False)
        if inside and inside[0].name == "complexType":
            return self.complex(inside[0])
        if inside:
            return Complex({}, self.simple.of(inside[0]), None, False)
        simple = self.simple.find(node, node.get("type"))
        if simple is not None:
            return Complex({}, simple, None, False)
        named = self.globally("complexType", node, node.get("type"))
        if named.flag("abstract"):
            raise UnsupportedSchema(named.path, "abstract", "an element of such a type says with xsi:type which it is")
        return self.complex(named)

    def written(self, node: Node, first: bytes = b"") -> Expr:
        """An element: its tags, attributes and content. `first`: attributes that come before all others."""
        name = self.element_name(node).encode()
        kind = self.type_of(node)
        begin = Seq((Literal(b"<" + name + first), written(self, kind.attributes), Ref("space")))
        end = Literal(b"</" + name)
        given = "fixed" in node.attributes or "default" in node.attributes
        if kind.simple is not None:
            content: Expr = self.value(self.fixed(kind.simple, node), IN_TEXT)
            can_be_empty = 0 in kind.simple.texts.finals or given  # then it has the value that is given
            if given:
                content = optional(content)
        elif given:
            raise UnsupportedSchema(
                node.path, "fixed" if "fixed" in node.attributes else "default", "of elements within"
            )
        elif kind.particles is None:
            content, can_be_empty = Ref("text") if kind.mixed else EMPTY, True
        else:
            content, can_be_empty = Seq((Ref("text" if kind.mixed else "space"), kind.particles)), False
        full = Seq((Literal(b">"), content, end, Ref("space"), Literal(b">")))
        short = Literal(b"/>")
        if can_be_empty:
            return Seq((begin, Alt((full, short))))
        if kind.simple is None and self._can_be_nothing(kind.particles):
            return Seq((begin, Alt((full, short))))
        return Seq((begin, full))

    def _can_be_nothing(self, e: Expr | None) -> bool:
        """Whether particles may all be missing. Elements cannot; the rules within are those of groups."""
        if isinstance(e, Seq):
            return all(self._can_be_nothing(i) for i in e.items)
        if isinstance(e, Alt):
            return any(self._can_be_nothing(i) for i in e.items)
        if isinstance(e, Repeat):
            return e.lo == 0 or self._can_be_nothing(e.item)
        if isinstance(e, Ref):
            if e.name in ("space", "text"):
                return True
            if e.name.startswith("<"):
                return False
            if e.name not in self.nothing:
                self.nothing[e.name] = False
                self.nothing[e.name] = self._can_be_nothing(self.rules[e.name])
            return self.nothing[e.name]
        return e is None

    # --- complex types ---

    def complex(self, node: Node) -> Complex:
        """A <complexType>."""
        if node in self.types:
            return self.types[node]
        self._enter(node, "the type is defined by itself")
        mixed = node.flag("mixed")
        how = next(node.of("simpleContent", "complexContent"), None)
        if how is None:
            made = Complex(attributes_of(self, node, {}), None, self.particles(node, mixed), mixed)
        else:
            made = self.derived(how, mixed)
        self.open.pop()
        self.types[node] = made
        return made

    def _enter(self, node: Node, why: str) -> None:
        if node in self.open:
            raise BadSchema(node.path, why)
        if len(self.open) >= MAX_LEVELS:
            raise GrammarBudget("levels of definitions", len(self.open) + 1, MAX_LEVELS)
        self.open.append(node)

    def derived(self, content: Node, mixed: bool) -> Complex:
        """A type that extends or restricts another."""
        how = next(content.of("extension", "restriction"), None)
        if how is None:
            raise BadSchema(content.path, "it neither extends nor restricts")
        simple = None
        base = Complex({}, None, None, mixed)
        if how.qualified(how.get("base")) != (XSD, "anyType"):
            simple = self.simple.find(how, how.get("base"))
            base = (
                Complex({}, simple, None, False)
                if simple
                else self.complex(self.globally("complexType", how, how.get("base")))
            )
        attributes = attributes_of(self, how, base.attributes)
        if content.name == "simpleContent":
            if base.simple is None and not next(how.of("simpleType"), None):
                raise BadSchema(how.path, "its base has no simple content")
            text = base.simple
            if how.name == "restriction":
                inner = next(how.of("simpleType"), None)
                text = self.simple.restricted(self.simple.of(inner) if inner else text, how)  # type: ignore[arg-type]
            return Complex(attributes, text, None, False)
        if base.simple is not None:
            raise BadSchema(how.path, "its base has simple content")
        if "mixed" in content.attributes:
            mixed = content.flag("mixed")
        if how.name == "restriction":
            return Complex(attributes, None, self.particles(how, mixed), mixed)
        more = self.particles(how, mixed)
        if base.particles is None and not base.mixed:
            return Complex(attributes, None, more, mixed)
        if more is not None and base.mixed != mixed:
            raise BadSchema(how.path, "mixed content extends mixed content, and other content other")
        both = [p for p in (base.particles, more) if p is not None]
        return Complex(attributes, None, Seq(tuple(both)) if both else None, base.mixed)

    # --- what elements there are ---

    def particles(self, node: Node, mixed: bool) -> Expr | None:
        """The elements that a type says, None if none."""
        inside = list(node.of("sequence", "choice", "all", "group", "any"))
        known = ("attribute", "attributeGroup", "anyAttribute", "sequence", "choice", "all", "group", "any")
        for c in node.children:
            if c.name not in known:
                raise BadSchema(c.path, "it has no place here")
        if len(inside) > 1:
            raise BadSchema(inside[1].path, "a second group")
        return self.particle(inside[0], mixed) if inside else None

    def particle(self, node: Node, mixed: bool) -> Expr | None:
        """An element or a group, as often as it says, each element with what may follow it; None for nothing."""
        lo, hi = node.count("minOccurs", 1), node.count("maxOccurs", 1)
        assert lo is not None
        if hi is not None and hi < lo:
            raise BadSchema(node.path, f"from {lo} to {hi} times")
        if hi == 0:
            return None
        one: Expr | None
        if node.name == "element":
            target = self.globally("element", node, node.get("ref")) if node.get("ref") else node
            one = Seq((self.element(target), Ref("text" if mixed else "space")))
        elif node.name == "group":
            one = self.group(node, mixed)
        elif node.name == "all":
            one = self.in_any_order(node, mixed)
        elif node.name in ("sequence", "choice"):
            made = [self.particle(c, mixed) for c in node.children]
            if node.name == "sequence":
                items = tuple(m for m in made if m is not None)
                one = Seq(items) if items else None
            elif made:
                one = Alt(tuple(EMPTY if m is None else m for m in made))
            else:
                one = None if lo == 0 else Alt(())
        elif node.name in WHY:
            raise UnsupportedSchema(node.path, node.name, WHY[node.name])
        else:
            raise BadSchema(node.path, "it has no place here")
        return one if one is None or (lo, hi) == (1, 1) else Repeat(one, lo, hi)

    def group(self, use: Node, mixed: bool) -> Expr | None:
        """A named group, as a rule."""
        node = self.globally("group", use, use.get("ref"))
        key = (node, mixed)
        if key not in self.groups:
            self._enter(node, "the group is part of itself")
            made = self.particles(node, mixed)
            self.open.pop()
            self.groups[key] = None if made is None else self.shared(made)
        return self.groups[key]

    def in_any_order(self, node: Node, mixed: bool) -> Expr | None:
        """The members of <all>."""
        texts: list[Expr] = []
        required = []
        for c in node.children:
            if c.name != "element":
                raise UnsupportedSchema(c.path, c.name, "within <all> there are elements only")
            lo, hi = c.count("minOccurs", 1), c.count("maxOccurs", 1)
            if hi is None or hi > 1:
                raise UnsupportedSchema(c.path, "maxOccurs", "a member of <all> is there at most once")
            if hi == 0:
                continue
            target = self.globally("element", c, c.get("ref")) if c.get("ref") else c
            texts.append(self.shared(Seq((self.element(target), Ref("text" if mixed else "space")))))
            required.append(bool(lo))
        if len(texts) > ANY_ORDER:
            raise UnsupportedSchema(node.path, "all", f"{len(texts)} members in any order, of at most {ANY_ORDER}")
        return any_order(self, texts, required) if texts else None

    # --- documents ---

    def roots(self, name: str | None) -> list[Node]:
        """The elements that a document may be: the one of this name; or those that nothing refers to, if there are."""
        every = list(self.named["element"].values())
        if name is not None:
            found = [n for n in every if n.get("name") == name]
            if not found:
                raise GrammarError(f"the XML Schema has no global element {name!r:.60}")
            return found
        if not every:
            raise GrammarError("the XML Schema has no global element, so no document")
        used, todo = set[Name](), [self.root]
        while todo:
            node = todo.pop()
            todo += node.children
            if node.name == "element" and node.get("ref"):
                used.add(node.qualified(node.get("ref")))
        return [n for n in every if (self.target, n.get("name")) not in used] or every

    def document(self, name: str | None) -> Rules:
        """The rules of whole documents."""
        roots = self.roots(name)
        for node in roots:
            self.element(node)
        while self.todo:
            node = self.todo.pop()
            self.rules[self.elements[node]] = self.written(node)
        first = b""
        if self.target:  # only now is it known whether a prefix is used
            uri = self.target.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;").encode()
            first += b' xmlns="' + uri + b'"' if self.qualified else b""
            first += b" xmlns:" + self.prefix.encode() + b'="' + uri + b'"' if self.uses_prefix else b""
        ways = tuple(self.written(node, first) for node in roots) if first else tuple(map(self.element, roots))
        self.rules["document"] = Seq((prologue(Ref("space"), Ref("some space")), Alt(ways), Ref("space")))
        return Rules(self.rules, "document", "the XML Schema")
