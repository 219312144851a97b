"""Simple types: the texts of their values, as automata.

A type's `texts` are those that stand for its values once white space is dealt with as the type says, and before
anything is escaped (spelling.py). Each facet takes some away: by intersection, so that a restriction of a restriction
needs no thought. What is not: values are not compared beyond numbers; two spellings of one date are two.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from functools import cache
from urllib.parse import quote

from zigllama.errors import BadSchema, EmptyLanguage, GrammarBudget, GrammarError, UnsupportedSchema, UnsupportedSyntax
from zigllama.inference.grammar.dfa import accepts, determinise, intersect, is_empty
from zigllama.inference.grammar.ir import EMPTY, Alt, Automaton, Chars, Expr, Literal, Repeat, Seq
from zigllama.inference.grammar.subsets import Work

from .numbers import at_least, at_most, decimal, equal_to, integer, with_digits
from .patterns import LEXICAL, pattern
from .reader import XSD, Name, Node

XML_CHARS = Chars(((0x9, 0xA), (0xD, 0xD), (0x20, 0xD7FF), (0xE000, 0xFFFD), (0x10000, 0x10FFFF)))
LINE_CHARS = Chars(((0x20, 0xD7FF), (0xE000, 0xFFFD), (0x10000, 0x10FFFF)))
VISIBLE = Chars(((0x21, 0xD7FF), (0xE000, 0xFFFD), (0x10000, 0x10FFFF)))
MAX_STATES = 60_000  # of the automata of all simple types of a schema
MAX_STEPS = 800_000  # of all of them
MAX_TRANSITIONS = 150_000  # of their intersections, at some 8 us each
MAX_LEVELS = 50  # of definitions within, or on top of, one another
URI_CHARS = "!#$%&'()*+,/:;=?@~"  # that are not escaped, beside letters, digits and _.-
BOUNDED_DIGITS = {"float": 6, "double": 15}  # so many decimal digits tell apart what binary numbers tell apart

INTEGERS: dict[str, tuple[int | None, int | None]] = {
    "integer": (None, None), "nonPositiveInteger": (None, 0), "negativeInteger": (None, -1),
    "long": (-(2**63), 2**63 - 1),
    "int": (-(2**31), 2**31 - 1), "short": (-(2**15), 2**15 - 1), "byte": (-128, 127), "nonNegativeInteger": (0, None),
    "unsignedLong": (0, 2**64 - 1), "unsignedInt": (0, 2**32 - 1), "unsignedShort": (0, 2**16 - 1),
    "unsignedByte": (0, 255), "positiveInteger": (1, None),
}  # fmt: skip
REFUSED = {
    **dict.fromkeys(
        ("ID", "IDREF", "IDREFS"), "that identifiers are unique, and refer to one that is there, is not regular"
    ),
    **dict.fromkeys(
        ("ENTITY", "ENTITIES", "NOTATION"), "it names declarations of a document type, which is never written"
    ),
    "QName": "which prefixes are declared is not known where a value is written",
}
NUMBERS = ("decimal", "integer")
OF_LENGTH = ("string", "anyURI", "NMTOKEN", "Name", "NCName", "language", "hexBinary", "base64Binary", "list")
FACETS = ("enumeration", "pattern", "length", "minLength", "maxLength", "minInclusive", "maxInclusive", "minExclusive",
          "maxExclusive", "totalDigits", "fractionDigits", "whiteSpace")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Simple:
    """A simple type. `family`: of what kind its values are ("string", "decimal", "integer", "list", "union", or the
    name of a built-in type); `white`: preserve, replace or collapse."""

    family: str
    white: str
    texts: Automaton


def normalised(text: str, white: str) -> str:
    """A value's text, its white space dealt with."""
    if white == "preserve":
        return text
    text = re.sub("[\t\n\r]", " ", text)
    return text if white == "replace" else re.sub(" +", " ", text).strip(" ")


@cache
def _spaced(white: str) -> Automaton:
    """What can be left when white space has been dealt with."""
    if white == "collapse":
        word = Seq((VISIBLE, Repeat(VISIBLE, 0, None)))
        return determinise(Alt((EMPTY, Seq((word, Repeat(Seq((Literal(b" "), word)), 0, None))))))
    return determinise(Repeat(XML_CHARS if white == "preserve" else LINE_CHARS, 0, None))


@cache
def built_in(name: str) -> Simple | None:
    """A type of XML Schema itself; None for those that are refused or do not exist."""
    if name in ("string", "normalizedString", "token", "anySimpleType", "anyType"):
        white = {"normalizedString": "replace", "token": "collapse"}.get(name, "preserve")
        return Simple("string", white, _spaced(white))
    if name == "decimal":
        return Simple("decimal", "collapse", decimal())
    if name in INTEGERS:
        texts = integer()
        lo, hi = INTEGERS[name]
        texts = texts if lo is None else intersect(texts, at_least(Decimal(lo), False))
        texts = texts if hi is None else intersect(texts, at_most(Decimal(hi), False))
        return Simple("integer", "collapse", texts)
    if name == "NMTOKENS":
        item = determinise(pattern(LEXICAL["NMTOKEN"]))
        return Simple("list", "collapse", determinise(_listed(item, 1, None)))
    lexical = LEXICAL.get("float" if name == "double" else name)
    return None if lexical is None else Simple(name, "collapse", determinise(pattern(lexical)))


def _listed(item: Automaton | Expr, lo: int, hi: int | None) -> Expr:
    if hi == 0:
        return EMPTY if lo == 0 else Alt(())
    more = Seq((item, Repeat(Seq((Literal(b" "), item)), max(lo - 1, 0), None if hi is None else hi - 1)))
    return Alt((EMPTY, more)) if lo == 0 else more


def _octets(family: str, lo: int, hi: int | None) -> Expr:
    """Texts of so many octets."""
    if family == "hexBinary":
        return Repeat(Chars(((0x30, 0x39), (0x41, 0x46), (0x61, 0x66))), 2 * lo, None if hi is None else 2 * hi)
    digit = Chars(((0x2B, 0x2B), (0x2F, 0x39), (0x41, 0x5A), (0x61, 0x7A)))
    ways: list[Expr] = []
    for rest, tail in (
        (0, EMPTY),
        (1, Seq((digit, digit, Literal(b"==")))),
        (2, Seq((digit, digit, digit, Literal(b"=")))),
    ):
        least = max(0, -(-(lo - rest) // 3))
        most = None if hi is None else (hi - rest) // 3
        if most is None or most >= least:
            ways.append(Seq((Repeat(Seq((digit,) * 4), least, most), tail)))
    return Alt(tuple(ways))


class SimpleTypes:
    """The simple types of a schema, made as they are asked for. `named`: the global definitions by name."""

    def __init__(self, named: dict[Name, Node]) -> None:
        self.named = named
        self.made: dict[Node, Simple] = {}
        self.open: list[Node] = []
        self.states = 0
        self.transitions = Work(MAX_TRANSITIONS, "transitions of simple types")
        self.steps = Work(MAX_STEPS, "steps to determinise simple types")
        self.counted: dict[tuple[int, int, int | None], tuple[Automaton, Automaton]] = {}  # of lengths: base, texts
        self.seen: dict[int, Automaton] = {}  # whose states have been counted

    def find(self, node: Node, value: str) -> Simple | None:
        """The type of a name, None for one that is no simple type."""
        name = node.qualified(value)
        if name[0] == XSD:
            if name[1] in REFUSED:
                raise UnsupportedSchema(node.path, f"the type {name[1]}", REFUSED[name[1]])
            return built_in(name[1])
        return self.of(self.named[name]) if name in self.named else None

    def need(self, node: Node, value: str) -> Simple:
        """The simple type of a name, which must be one."""
        found = self.find(node, value)
        if found is None:
            raise BadSchema(node.path, f"{value!r:.60} is no simple type that is defined")
        return found

    def of(self, node: Node) -> Simple:
        """The type of a <simpleType>."""
        if node in self.made:
            return self.made[node]
        if node in self.open:
            raise BadSchema(node.path, "the type is defined by itself")
        if len(self.open) >= MAX_LEVELS:
            raise GrammarBudget("levels of definitions", len(self.open) + 1, MAX_LEVELS)
        self.open.append(node)
        try:
            made = self._defined(node)
        except EmptyLanguage:
            raise
        finally:
            self.open.pop()
        self.made[node] = made
        return made

    def _kept(self, texts: Automaton, node: Node) -> Automaton:
        """Counted; refused where nothing is left."""
        if is_empty(texts):
            raise EmptyLanguage(f"the type at {node.path}")
        if id(texts) not in self.seen:
            self.seen[id(texts)] = texts
            self.states += len(texts.edges)
        if self.states > MAX_STATES:
            raise GrammarBudget("states of simple types", self.states, MAX_STATES)
        return texts

    def _defined(self, node: Node) -> Simple:
        how = next(node.of("restriction", "list", "union"), None)
        if how is None or len(node.children) != 1:
            raise BadSchema(node.path, "a simple type is one restriction, list or union")
        inside = [self.of(c) for c in how.of("simpleType")]
        if how.name == "restriction":
            base = inside[0] if inside else self.need(how, how.get("base"))
            return self.restricted(base, how)
        if how.name == "list":
            item = inside[0] if inside else self.need(how, how.get("itemType"))
            if item.family == "list":
                raise BadSchema(how.path, "a list of lists")
            word = intersect(item.texts, determinise(Repeat(VISIBLE, 1, None)), self.transitions)
            return Simple("list", "collapse", self._kept(determinise(_listed(word, 0, None), self.steps), how))
        members = [self.need(how, name) for name in how.get("memberTypes").split()] + inside
        if not members:
            raise BadSchema(how.path, "a union of nothing")
        once = {id(m.texts): m.texts for m in members}  # a type may be named many times
        texts = determinise(Alt(tuple(once.values())), self.steps)
        # what a member collapses is written collapsed, whatever the others do with white space
        return Simple("union", "collapse", self._kept(texts, how))

    def restricted(self, base: Simple, how: Node) -> Simple:
        """What the facets of a <restriction> leave of a type."""
        facets: dict[str, list[Node]] = {}
        for c in how.children:
            if c.name in FACETS:
                facets.setdefault(c.name, []).append(c)
                if "value" not in c.attributes:
                    raise BadSchema(c.path, "it has no value")
                if c.name not in ("enumeration", "pattern") and len(facets[c.name]) > 1:
                    raise BadSchema(c.path, "it is there twice")
            elif c.name not in ("simpleType", "attribute", "attributeGroup", "anyAttribute"):
                raise BadSchema(c.path, "it is no facet")
        made = base
        for white in facets.pop("whiteSpace", []):
            made = self._white(made, white)
        for name in ("pattern", "enumeration"):
            if name in facets:
                made = self._one_of(made, name, facets.pop(name))
        made = self._lengths(made, facets)
        made = self._numbers(made, facets)
        return made if made is base else replace(made, texts=self._kept(made.texts, how))

    def _white(self, base: Simple, node: Node) -> Simple:
        order = ("preserve", "replace", "collapse")
        value = node.get("value")
        if value not in order or order.index(value) < order.index(base.white):
            raise BadSchema(node.path, f"{value!r:.40} after {base.white!r}")
        texts = base.texts if base.family != "string" else intersect(base.texts, _spaced(value), self.transitions)
        return Simple(base.family, value, texts)

    def _one_of(self, base: Simple, name: str, nodes: list[Node]) -> Simple:
        ways: list[Expr] = []
        for node in nodes:
            value = node.attributes["value"]
            if name == "enumeration":
                ways.append(self.literal(base, value, node))
                continue
            try:
                ways.append(pattern(value))
            except UnsupportedSyntax as e:
                raise UnsupportedSchema(node.path, "pattern", str(e)) from e
            except GrammarBudget:
                raise
            except GrammarError as e:
                raise BadSchema(node.path, str(e)) from e
        if name == "enumeration" and base.family not in NUMBERS:  # looked at one by one
            return replace(base, texts=determinise(Alt(tuple(ways)), self.steps))
        return replace(base, texts=intersect(base.texts, determinise(Alt(tuple(ways)), self.steps), self.transitions))

    def literal(self, base: Simple, value: str, node: Node) -> Expr:
        """The texts of the value that is written so, which must be one of the type."""
        text = normalised(value, base.white).encode()
        # the characters that a URI has only in other spellings stand for those (Part 2, 3.2.17)
        plain = quote(text, safe=URI_CHARS).encode() if base.family == "anyURI" else text
        if not accepts(base.texts, plain):
            raise BadSchema(node.path, f"{value!r:.60} is no value of the type, in a spelling that is written")
        return equal_to(Decimal(text.decode())) if base.family in NUMBERS else Literal(text)

    def _lengths(self, base: Simple, facets: dict[str, list[Node]]) -> Simple:
        lo, hi = 0, None
        given = [n for name in ("length", "minLength", "maxLength") for n in facets.get(name, [])]
        if not given:
            return base
        for node in given:
            if base.family not in OF_LENGTH:
                raise BadSchema(node.path, f"{base.family} has no length")
            n = node.count("value", 0)
            assert n is not None
            if node.name != "maxLength":
                lo = max(lo, n)
            if node.name != "minLength":
                hi = n if hi is None else min(hi, n)
        if hi is not None and hi < lo:
            raise EmptyLanguage(f"the lengths at {given[0].path}")
        if max(lo, hi or 0) > MAX_STATES:
            raise GrammarBudget("states of simple types", max(lo, hi or 0), MAX_STATES)
        if base.family == "list":
            counted: Expr = _listed(Seq((VISIBLE, Repeat(VISIBLE, 0, None))), lo, hi)
        elif base.family.endswith("Binary"):
            counted = _octets(base.family, lo, hi)
        else:
            counted = Repeat(XML_CHARS, lo, hi)
        key = id(base.texts), lo, hi  # lengths are the commonest facet, and the same ones come again and again
        if key not in self.counted:
            made = determinise(counted, self.steps)
            free = base.texts is _spaced("preserve")
            self.counted[key] = base.texts, made if free else intersect(base.texts, made, self.transitions)
        return replace(base, texts=self.counted[key][1])

    def _numbers(self, base: Simple, facets: dict[str, list[Node]]) -> Simple:
        texts = base.texts
        digits: dict[str, int | None] = {}
        for name, (node,) in ((k, v) for k, v in facets.items() if "ength" not in k):
            binary = base.family in BOUNDED_DIGITS
            if name in ("totalDigits", "fractionDigits"):
                if base.family not in NUMBERS:
                    raise BadSchema(node.path, f"{base.family} has no {name}")
                digits[name] = node.count("value", 0)
                continue
            if base.family not in NUMBERS and not binary:
                why = f"an order is kept of decimal numbers and float, not of {base.family}"
                raise UnsupportedSchema(node.path, name, why)
            try:
                value = Decimal(node.get("value"))
            except InvalidOperation as e:
                raise BadSchema(node.path, f"{node.get('value')!r:.40} is no number") from e
            if "_" in node.get("value"):  # which Python reads past
                raise BadSchema(node.path, f"{node.get('value')!r:.40} is no number")
            if not value.is_finite():
                raise UnsupportedSchema(node.path, name, "the bound is no finite number")
            if binary:
                most = BOUNDED_DIGITS[base.family]
                if len(value.normalize().as_tuple().digits) > most:
                    raise UnsupportedSchema(node.path, name, f"a bound of more than {most} digits")
                texts = intersect(texts, intersect(decimal(), with_digits(most, None)), self.transitions)
            bound = at_least if name.startswith("min") else at_most
            texts = intersect(texts, bound(value, name.endswith("Exclusive")), self.transitions)
        if digits:
            few = with_digits(digits.get("totalDigits"), digits.get("fractionDigits"))
            texts = intersect(texts, few, self.transitions)
        return base if texts is base.texts else replace(base, texts=texts)
