"""Attributes of a complex type: which there are, and the ways to write them one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zigllama.errors import BadSchema, GrammarBudget, UnsupportedSchema
from zigllama.inference.grammar.ir import EMPTY, Alt, Expr, Literal, Ref, Seq, optional

from .reader import Name, Node
from .simple import MAX_LEVELS, Simple, built_in
from .spelling import IN_ATTRIBUTE

if TYPE_CHECKING:
    from .content import Schema

ANY_ORDER = 6  # attributes, or members of <all>, that may come in any order


@dataclass(frozen=True)
class Attribute:
    """One that may be written: `text` is all of it, `name="value"`."""

    text: Expr
    required: bool


Attributes = dict[Name, Attribute]


def attributes_of(schema: Schema, node: Node, inherited: Attributes) -> Attributes:
    """The attributes that the children of a node declare, over what is inherited."""
    found = dict(inherited)
    own: set[Name] = set()
    for name, made in _declared(schema, node, own):
        if made is None:
            found.pop(name, None)
        else:
            found[name] = made
    return found


def _declared(schema: Schema, node: Node, own: set[Name]) -> list[tuple[Name, Attribute | None]]:
    out: list[tuple[Name, Attribute | None]] = []
    for c in node.children:
        if c.name == "anyAttribute":
            raise UnsupportedSchema(c.path, "anyAttribute", "which attributes there are is not said")
        if c.name == "attribute":
            out.append(_one(schema, c))
        elif c.name == "attributeGroup":
            out += _group(schema, c)
    for name, _ in out:
        if name in own:
            raise BadSchema(node.path, f"the attribute {name[1]!r:.60} is declared twice")
        own.add(name)
    return out


def _group(schema: Schema, use: Node) -> list[tuple[Name, Attribute | None]]:
    node = schema.globally("attributeGroup", use, use.get("ref"))
    if node not in schema.attribute_groups:
        if node in schema.open:
            raise BadSchema(node.path, "the group is part of itself")
        if len(schema.open) >= MAX_LEVELS:
            raise GrammarBudget("levels of definitions", len(schema.open) + 1, MAX_LEVELS)
        schema.open.append(node)
        schema.attribute_groups[node] = _declared(schema, node, set())
        schema.open.pop()
    return schema.attribute_groups[node]


def _one(schema: Schema, use: Node) -> tuple[Name, Attribute | None]:
    node = schema.globally("attribute", use, use.get("ref")) if use.get("ref") else use
    local = node.get("name")
    if not local:
        raise BadSchema(node.path, "an attribute without a name")
    form = use.get("form", schema.root.get("attributeFormDefault", "unqualified"))
    qualified = bool(schema.target) and (node is not use or node in schema.root.children or form == "qualified")
    name = (schema.target if qualified else "", local)
    how = use.get("use", "optional")
    if how not in ("optional", "required", "prohibited"):
        raise BadSchema(use.path, f"use={how!r:.40}")
    if how == "prohibited":
        return name, None
    inside = next(node.of("simpleType"), None)
    if inside:
        kind = schema.simple.of(inside)
    elif node.get("type"):
        kind = schema.simple.need(node, node.get("type"))
    else:
        found = built_in("anySimpleType")
        assert found is not None
        kind = found
    value = _value(schema, kind, use if "fixed" in use.attributes else node)
    written = schema.qualified_attribute(local) if qualified else local
    return name, Attribute(Seq((Literal(f'{written}="'.encode()), value, Literal(b'"'))), how == "required")


def _value(schema: Schema, kind: Simple, node: Node) -> Expr:
    return schema.value(schema.fixed(kind, node), IN_ATTRIBUTE)


def written(schema: Schema, attributes: Attributes) -> Expr:
    """All of them, each after white space: up to ANY_ORDER in any order, more in the order of their declarations."""
    listed = list(attributes.values())
    space = Ref("some space")
    texts = [schema.shared(Seq((space, a.text))) for a in listed]
    if len(listed) > ANY_ORDER:
        return Seq(tuple(t if a.required else optional(t) for t, a in zip(texts, listed, strict=True)))
    return any_order(schema, texts, [a.required for a in listed])


def any_order(schema: Schema, texts: Sequence[Expr], required: Sequence[bool]) -> Expr:
    """Each at most once, those that are required once, in any order: a rule for each set of those that are left."""
    if not texts:
        return EMPTY
    everything = (1 << len(texts)) - 1
    names = {left: schema.fresh("rest") for left in range(1, everything + 1)}
    for left, name in names.items():
        members = [i for i in range(len(texts)) if left >> i & 1]
        ways: list[Expr] = [Seq((texts[i], Ref(names[left ^ 1 << i]) if left ^ 1 << i else EMPTY)) for i in members]
        if not any(required[i] for i in members):
            ways.append(EMPTY)
        schema.rules[name] = Alt(tuple(ways))
    return Ref(names[everything])
