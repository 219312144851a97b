"""Coverage-guided fuzzing of what reads grammars: XML Schema, regular expressions of both syntaxes, JSON Schema, GBNF,
both EBNFs, context-free grammars.

    python tools/fuzz_grammars.py run --target xsd --work DIR      # and the other verbs of fuzzing.py

What is checked stands in tests/grammar_judge.py. Inputs that brought coverage are in DIR/corpus; a small choice of them
is committed in tests/corpus/grammars, which a test replays without atheris.
"""

from __future__ import annotations

import importlib
import json
import random
import sys
from collections.abc import Iterator
from functools import partial

from fuzzing import ROOT, Judge, Target, main

WORDS = {
    "xsd": """xs: <xs:schema </xs:schema> xmlns:xs="http://www.w3.org/2001/XMLSchema" <xs:element </xs:element>
        name=" type="xs:string" type="xs:int" <xs:complexType> </xs:complexType> <xs:simpleType> </xs:simpleType>
        <xs:sequence> </xs:sequence> <xs:choice> </xs:choice> <xs:all> </xs:all> <xs:group <xs:attribute
        <xs:attributeGroup <xs:restriction </xs:restriction> <xs:extension </xs:extension> <xs:simpleContent>
        <xs:complexContent> <xs:union <xs:list base=" ref=" minOccurs="0" maxOccurs="unbounded" maxOccurs="1000000000"
        <xs:enumeration <xs:pattern <xs:length <xs:minLength <xs:maxLength <xs:totalDigits <xs:fractionDigits
        <xs:minInclusive <xs:maxExclusive <xs:whiteSpace value=" use="required" default=" fixed=" mixed="true"
        nillable="true" abstract="true" targetNamespace=" elementFormDefault="qualified" xs:decimal xs:date xs:dateTime
        xs:duration xs:boolean xs:double xs:float xs:hexBinary xs:base64Binary xs:anyURI xs:token xs:NMTOKENS
        xs:language xs:gYear <!DOCTYPE <!ENTITY &a; &#x10FFFF; &lt; <![CDATA[ ]]> <!-- --> <?xml \\i \\c \\p{IsGreek}
        [a-z-[aeiou]]""",
    "json_schema": """{ } [ ] : , " \\ true false null 1e400 -0 1000000000 0.1 "$ref":" # #/$defs/a "$defs":{ "$id":"
        "$anchor":" "$dynamicRef":" "$dynamicAnchor":" "$schema":" "type":" string number integer object array boolean
        "enum":[ "const": "properties":{ "patternProperties":{ "additionalProperties": "unevaluatedProperties":
        "propertyNames": "required":[ "minProperties": "maxProperties": "dependentRequired":{ "dependentSchemas":{
        "items": "prefixItems":[ "additionalItems": "unevaluatedItems": "contains": "minContains": "maxContains":
        "uniqueItems":true "minItems": "maxItems": "minimum": "maximum": "exclusiveMinimum": "exclusiveMaximum":
        "multipleOf": "minLength": "maxLength": "pattern":" "format":" date-time email uri uuid ipv6 "allOf":[ "anyOf":[
        "oneOf":[ "not": "if": "then": "else": "definitions":{ "dependencies":{ http://json-schema.org/draft-07/schema#
        https://json-schema.org/draft/2020-12/schema""",
    "regex": r"""( ) [ ] { } ? * + . | {0,1000000000} {2,} {,3} [a-z] [^a] \d \w \s \p{L} \P{Script=Greek} \b \B \A \Z
        (?: (?= (?! (?<= (?<! (?i) (?i: (?s-m: (?P<a> (?P=a) (?<n> \k<n> \1 \u{1F600} \uD83D\uDE00 \x41 \N{DRAGON} ^ $
        (?> ++ [[] []] [^] \cA""",
    "notation": r"""::= -> → ε | ( ) [ ] { } (* *) (/ /) (: :) /* */ wfc: ? * + . , ; - 2* {0,1000000000} {2,} {,3} "a"
        'b' root S [a-z] [^a] #x41 #x10FFFF <[1]> !<a> \x41 \u0041 \n""",
}
KINDS = {
    "xsd": "xsd",
    "ecma": "regex",
    "python": "regex",
    "json_schema": "json_schema",
    **dict.fromkeys(("gbnf", "iso", "w3c", "cfg"), "notation"),
}


SCHEMAS = ("xsd", "json_schema")


def load(kind: str) -> Judge:
    """The judge of one front end. Front ends are imported when asked for, which is too late for branches to count."""
    for name in ("cfg", "ebnf", "gbnf", "json_schema", "regex", "xsd"):
        importlib.import_module(f"zigllama.inference.grammar.{name}")
    from grammar_judge import judge

    return partial(judge, kind)


def seeds(kind: str) -> Iterator[bytes]:
    """What the tests read: golden files, what writes random grammars, the cached suite of JSON Schema."""
    from notation_samples import as_cfg, as_gbnf, as_iso, as_w3c, random_rules
    from regex_samples import sample

    from zigllama.app.catalogue import cache_dir

    golden = ROOT / "tests" / "golden"
    rng = random.Random(1)
    if kind == "xsd":
        cases = json.loads((golden / "xsd.json").read_text("utf-8"))["cases"]
        yield from (case["schema"].encode() for case in cases)
    elif kind == "json_schema":
        suite = json.loads((cache_dir() / "json_schema_suite.json").read_text("utf-8"))
        for path, text in suite.items():
            if path.startswith(("tests/draft4/", "tests/draft7/", "tests/draft2020-12/")):
                yield from (json.dumps(group["schema"]).encode() for group in json.loads(text))
    elif kind in ("ecma", "python"):
        patterns = (sample(rng, kind).pattern for _ in range(300))
        yield from (pattern.encode() for pattern in patterns if len(pattern) <= 30)  # long ones take long
    else:
        write = {"gbnf": as_gbnf, "iso": as_iso, "w3c": as_w3c, "cfg": as_cfg}[kind]
        yield from (write(random_rules(rng, plain=kind == "cfg")).encode() for _ in range(100))
        if kind == "gbnf":
            cases = json.loads((golden / "grammars_gbnf.json").read_text("utf-8"))["cases"]
            yield from (case["grammar"].encode() for case in cases)


TARGETS = {
    kind: Target(
        corpus=f"grammars/{kind}",
        modules=("zigllama.inference.grammar",),
        load=partial(load, kind),
        words=tuple(w.encode() for w in WORDS[words].split()),
        seeds=partial(seeds, kind),
        max_len=2048 if kind in SCHEMAS else 128 if kind in ("ecma", "python") else 512,
    )
    for kind, words in KINDS.items()
}

if __name__ == "__main__":
    sys.exit(main(TARGETS, __doc__))
