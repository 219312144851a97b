"""What the formulas of a schema are made of beside formulas: schemas at their places, and what they evaluate."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from .documents import Place, Resource
from .formula import Formula
from .options import Json
from .values import normal

KINDS = ("null", "true", "false", "number", "string", "array", "object")


class Schema:
    """A schema at its place, in a dynamic scope (the resources with dynamic anchors that references came through).
    `made` keeps its formulas; None in it: being made.
    """

    __slots__ = ("kind", "made", "number", "place", "scope")

    def __init__(self, number: int, place: Place, scope: tuple[Resource, ...]) -> None:
        self.number, self.place, self.scope = number, place, scope
        self.kind = ""  # of a member of a constant, of which there may be many: which kind of value it is
        self.made: dict[tuple[str, bool], tuple[Formula, Covers] | None] = {}

    def __repr__(self) -> str:
        return f"<{self.place.pointer or '#'}>"


class NameCover(NamedTuple):
    """Which properties a keyword evaluates: these names, those in which a pattern is found, or all."""

    names: frozenset[str]
    patterns: tuple[str, ...]
    everything: bool


class ItemCover(NamedTuple):
    """Which items: the first `first`, all (first < 0), or those that satisfy `schema`."""

    first: int
    schema: Schema | None


Cover = NameCover | ItemCover
Covers = tuple[tuple[Cover, Formula], ...]


def frozen(value: Json) -> object:
    """A hashable stand-in: equal exactly where JSON Schema calls the values equal."""
    if isinstance(value, bool) or value is None:
        return ("l", str(value))
    if isinstance(value, str):
        return ("s", value)
    if isinstance(value, (list, tuple)):
        return ("a", *map(frozen, value))
    if isinstance(value, dict):
        return ("o", frozenset((k, frozen(v)) for k, v in value.items()))
    return ("n", normal(Decimal(repr(value) if isinstance(value, float) else value)))
