"""XML Schema 1.0: which documents are valid, as rules for a grammar (ir.py).

    rules(text)                      documents whose root is a global element that nothing refers to
    rules(text, root="order")        whose root is this one

Documents in one spelling, so that each that is accepted is valid, and not each valid one is accepted:
- perhaps an XML declaration; up to 40 characters of white space between tags, and before the end of a tag; `<a/>` and
  `<a></a>` where nothing may be within; attributes in double quotes, up to 6 in any order, more in the order of their
  declarations; no comments, instructions, CDATA or references but those of spelling.py.
- targetNamespace with elementFormDefault="qualified": the root begins `<name xmlns="target"`, no element has a prefix.
  Without it: `<p:name xmlns:p="target"`, and so do global elements within; p is the schema's own prefix, or tns.
- values have no white space that their type would take away; years are 0001 to 9999; numbers have up to 24 digits; a
  URI is in ASCII, escaped where it must be (values that the schema lists are written as they stand there).
- elements are never nil, and without a type only text; xsi:type is not written. A default may be left to be supplied.

Refused by name (UnsupportedSchema): any, anyAttribute, key, keyref, unique, import, include, redefine, abstract
elements and types of elements, substitutionGroup, ID and IDREF, ENTITY, NOTATION, QName, bounds of dates and times, all
of more than 6, an unqualified element among qualified ones. What no document refers to is not looked at, beyond its
name. A schema's own rules that do not change which documents are valid (unique attribution, whether a restriction
restricts) are not checked.

Hostile texts: document types are refused, with them entities; size, depth, counts and automata are bounded.
"""

from __future__ import annotations

from zigllama.inference.grammar.ir import Rules

from .content import Schema
from .reader import read

__all__ = ["rules"]


def rules(text: str | bytes, *, root: str | None = None) -> Rules:
    """The rules of the documents that a schema says are valid; `root`: the name of their outermost element.

    Raises GrammarError with line and column for what is no XML, has a document type or is no schema; BadSchema and
    UnsupportedSchema with the path of an element; EmptyLanguage for a type without values, also where nothing that must
    be there is of it; GrammarBudget.
    """
    return Schema(read(text)).document(root)
