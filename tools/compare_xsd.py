"""Compare XML Schema with `xmlschema` and `lxml` (libxml2): random schemas, and documents that are valid, changed, or
met by walking at random through the machine that is made here.

    pip install xmlschema lxml
    python tools/compare_xsd.py [--schemas 1000] [--documents 10] [--seed 1] [--show 10]

What is accepted here must be valid by both (a false accept ends with exit code 1), but where the specification says
that one of the two is wrong: `settled` below has those cases, each of which is a test (tests/inference/grammar/
test_xsd.py). Documents that both call valid and that are refused here are counted and shown: what is accepted is
one spelling (zigllama/inference/grammar/xsd/__init__.py), so that some are expected among those that were changed.
What either of them refuses as a schema is passed over, and counted; so is what is refused here by name. A schema that
is refused here as no schema, or as one of no document, and of which both have valid documents is a difference.
"""

from __future__ import annotations

import argparse
import random
import sys
import unicodedata
from collections import Counter
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


class Judges:
    """A schema as xmlschema and libxml2 have it. Raises ValueError, with who refuses it, for what is none."""

    def __init__(self, schema: str) -> None:
        xmlschema: Any = import_module("xmlschema")
        self.etree: Any = import_module("lxml.etree")
        try:
            self.one = xmlschema.XMLSchema10(schema)
        except (xmlschema.XMLSchemaException, ValueError, TypeError) as e:
            raise ValueError(f"xmlschema: {str(e).partition(chr(10))[0]}") from e
        try:
            self.two = self.etree.XMLSchema(self.etree.fromstring(schema.encode()))
        except self.etree.XMLSchemaParseError as e:
            raise ValueError(f"libxml2: {e}") from e

    def verdicts(self, document: str) -> tuple[bool, bool]:
        """Whether the document is valid, as the one and as the other has it."""
        try:
            tree = self.etree.fromstring(document.encode())
        except (self.etree.XMLSyntaxError, ValueError):
            return False, False
        try:
            one = self.one.is_valid(tree)
        except (ValueError, ArithmeticError):  # some wrong values are let through to what converts them
            one = False
        return one, self.two.validate(tree)


def relaxed(schema: str) -> str:
    """The same schema, but that each group that may be without elements need not be there: what is valid is the same,
    since such a group can be there as often as it must without anything being seen of it."""
    etree = import_module("lxml.etree")
    root = etree.fromstring(schema.encode())
    xs = "{http://www.w3.org/2001/XMLSchema}"
    groups = {g.get("name"): g for g in root.findall(f"{xs}group")}

    def may_be_nothing(node: Any) -> bool:
        """Part 1, 3.9.6, Particle Emptiable."""
        kind = node.tag.removeprefix(xs)
        if kind == "element":
            return bool(node.get("minOccurs") == "0")
        if kind == "group" and node.get("ref"):
            target = groups[node.get("ref").rpartition(":")[2]]
            empty = all(may_be_nothing(c) for c in target)
        else:
            members = [may_be_nothing(c) for c in node]
            empty = (any(members) or not members) if kind == "choice" else all(members)
        if empty and node.get("minOccurs", "1") != "1":
            node.set("minOccurs", "0")
        return bool(empty or node.get("minOccurs") == "0")

    for kind in ("sequence", "choice", "all", "group"):
        for node in root.iter(f"{xs}{kind}"):
            if kind != "group" or node.get("ref"):
                may_be_nothing(node)
    return str(etree.tostring(root, encoding="unicode"))


@cache
def _is_digit(c: str) -> bool:
    """Whether libxml2 has a character among its decimal digits."""
    text = '<xs:restriction base="xs:string"><xs:pattern value="\\p{Nd}"/></xs:restriction>'
    element = f'<xs:element name="d"><xs:simpleType>{text}</xs:simpleType></xs:element>'
    schema = f'<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">{element}</xs:schema>'
    return Judges(schema).verdicts(f"<d>{c}</d>")[1]


def settled(schema: str, document: str) -> str:
    """Why a document that is accepted here is valid although one of them says no; "" where nothing is known."""
    # Digits that are newer than libxml2's tables: with one in their place that it has, and that is not ASCII either,
    # it says yes.
    newer = {c for c in document if not c.isascii() and unicodedata.category(c) == "Nd" and not _is_digit(c)}
    known = document.translate(dict.fromkeys(map(ord, newer), "\u0663"))
    if newer and all(Judges(schema).verdicts(known)):
        return "decimal digits (category Nd) that libxml2's tables lack"
    other = relaxed(schema)
    if other != schema and all(Judges(other).verdicts(document)):
        return "a group that may be empty is there as often as it must be"
    return ""


def compare(schemas: int, documents: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Counts, and what is wrong or to be looked at, each line with its kind before a colon."""
    from notation_samples import walk
    from xsd_samples import changed, sample

    from zigllama.errors import BadSchema, EmptyLanguage, GrammarBudget, UnsupportedSchema
    from zigllama.inference.grammar_constraints import Grammar

    counts: Counter[str] = Counter()
    found: list[str] = []
    i = 0
    while counts["schemas"] < schemas:
        rng = random.Random(seed * 1_000_003 + i)
        i += 1
        made = sample(rng)
        try:
            judges = Judges(made.schema)
        except ValueError as e:
            counts[f"schemas that {str(e).partition(':')[0]} refuses"] += 1
            continue
        counts["schemas"] += 1
        grammar: Any = None
        refused = ""
        try:
            grammar = Grammar.from_xsd(made.schema)
        except (UnsupportedSchema, GrammarBudget) as e:
            counts[f"refused here: {getattr(e, 'keyword', type(e).__name__)}"] += 1
            continue
        except (BadSchema, EmptyLanguage) as e:
            refused = f"{type(e).__name__}: {e}"
        texts = [(made.document(rng), "") for _ in range(documents - documents // 2)]
        texts += [(changed(made, rng), " changed") for _ in range(documents // 2)]
        if grammar is not None:
            twin = grammar.twin()
            met = [walk(twin, rng, 40) for _ in range(2)]
            texts += [(text.decode(), " walked") for text in met if text is not None]
        for document, how in dict(texts).items():
            verdicts = judges.verdicts(document)
            accepted = grammar is not None and grammar.accepts(document)
            counts["documents"] += 1
            counts["documents valid by both"] += all(verdicts)
            counts["documents accepted here"] += accepted
            counts["documents they disagree on"] += verdicts[0] != verdicts[1]
            if accepted and not all(verdicts):
                why = settled(made.schema, document)
                counts[f"accepted, settled: {why}" if why else "FALSE ACCEPTS"] += 1
                if not why:
                    found.append(f"false accept {verdicts}: {document!r}\n    {made.schema}")
            elif all(verdicts) and not accepted:
                counts[f"valid{how} documents refused here"] += 1
                said = refused or str(grammar.explain(document))
                found.append(f"refused{how}: {said}\n    {document!r}\n    {made.schema}")
    return counts, found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--schemas", type=int, default=1000)
    parser.add_argument("--documents", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=10)
    options = parser.parse_args()
    xmlschema, etree = import_module("xmlschema"), import_module("lxml.etree")
    print(f"xmlschema {xmlschema.__version__}, libxml2 {'.'.join(map(str, etree.LIBXML_VERSION))}")
    counts, found = compare(options.schemas, options.documents, options.seed)
    for name in sorted(counts):
        print(f"{counts[name]:8,}  {name}")
    for kind in ("false accept", "refused:", "refused changed"):
        shown = [f for f in found if f.startswith(kind)]
        print(*shown[: options.show], sep="\n")
    return int(counts["FALSE ACCEPTS"] > 0)


if __name__ == "__main__":
    sys.exit(main())
