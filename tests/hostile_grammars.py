"""Hostile grammars, for every front end that can say them: recursion, loops of nothing, huge counts, counts in counts,
60,000 parentheses, names that are not there, empty languages, references in a circle and to elsewhere, contradictions,
entities of XML.

    python tests/hostile_grammars.py KIND    -> tries them all, a line of JSON for each: seconds of CPU, loops, bytes
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from zigllama.errors import (
    BadSchema,
    EmptyLanguage,
    GrammarBudget,
    GrammarError,
    UnsupportedSchema,
    UnsupportedSyntax,
)

MANY = 60_000
NOTATIONS = ("gbnf", "iso", "w3c", "cfg")
REGEX = ("ecma", "python")
SCHEMAS = ("json_schema", "xsd")
WHAT = {
    "left recursion": NOTATIONS,
    "mutual recursion": (*NOTATIONS, *SCHEMAS),
    "loops of nothing": (*NOTATIONS, *REGEX, *SCHEMAS),
    "a huge count": ("gbnf", "iso", *REGEX, *SCHEMAS),
    "counts in counts": ("gbnf", "iso", *REGEX, *SCHEMAS),
    "parentheses": ("gbnf", "iso", "w3c", *REGEX, *SCHEMAS),
    "open parentheses": ("gbnf", "iso", "w3c", *REGEX, *SCHEMAS),
    "a name that is not there": (*NOTATIONS, *REGEX, *SCHEMAS),
    "an empty language": (*NOTATIONS, *REGEX, *SCHEMAS),
    "a circle of references": SCHEMAS,
    "elsewhere": SCHEMAS,
    "a contradiction": (*REGEX, "gbnf", *SCHEMAS),
    "entities": ("xsd",),
    "external entities": ("xsd",),
    "thousands of characters": ("gbnf", "w3c", *REGEX, *SCHEMAS),
    "thousands of large classes": (*REGEX, *SCHEMAS),
    "thousands of looks": (*REGEX, "json_schema"),
    "thousands of digits": ("json_schema",),
    "thousands of parts": (*NOTATIONS, *REGEX, *SCHEMAS),
}
"""What PRODUCT.md lists, and who can say it: a regular expression has no rules, W3C's EBNF no counts, a plain context-
free grammar neither counts nor parentheses. The thousands were found one by one to take seconds, or gigabytes."""


class Case(NamedTuple):
    """A hostile text of a front end, what it is, and the error that must come; None: it is a grammar, if an odd one."""

    kind: str
    what: str
    text: str
    error: type[GrammarError] | None


def _xsd(body: str) -> str:
    return f'<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">{body}</xs:schema>'


def _xsd_type(body: str) -> str:
    return _xsd(f'<xs:element name="r"><xs:complexType>{body}</xs:complexType></xs:element>')


def _xsd_simple(base: str, facets: str) -> str:
    restriction = f'<xs:restriction base="xs:{base}">{facets}</xs:restriction>'
    return _xsd(f'<xs:element name="r"><xs:simpleType>{restriction}</xs:simpleType></xs:element>')


def _cases(what: str, **texts: tuple[Any, type[GrammarError] | None]) -> list[Case]:
    found = list[Case]()
    for name, (text, error) in texts.items():
        kind = re.sub(r"\d+$", "", name) if name[-1:].isdigit() and name != "w3c" else name
        found.append(Case(kind, what, text if isinstance(text, str) else json.dumps(text), error))
    return found


def _refs(n: int) -> dict[str, Any]:
    """Schemas of which each asks the next one twice, the last the first."""
    return {f"a{i}": {"allOf": [{"$ref": f"#/$defs/a{(i + 1) % n}"}] * 2} for i in range(n)}


ITEM = '<xs:element name="x" minOccurs="0" maxOccurs="unbounded"/>'
LOOP = '<xs:sequence minOccurs="0" maxOccurs="unbounded">'
COUNT = '<xs:sequence minOccurs="0" maxOccurs="999">'
END = "</xs:sequence>"
ELEMENT = '<xs:element name="r" type="xs:string"/>'
LAUGHS = "".join(f'<!ENTITY l{i + 1} "{f"&l{i};" * 10}">' for i in range(9))
CIRCLE = {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}
MUTUAL = {"a": {"items": {"$ref": "#/$defs/b"}}, "b": {"additionalProperties": {"anyOf": [{"$ref": "#/$defs/a"}] * 2}}}
FORBIDDEN = [{"properties": {f"p{i}": False}, "required": [f"p{i}"]} for i in range(200)]
Q = '"a"'
APART = "".join(map(chr, range(0x10000, 0x10000 + 2 * MANY, 2)))  # characters of which no two are neighbours


def _each(form: str, characters: str, between: str = "") -> str:
    """The form with each of the characters in the place of its @."""
    return between.join(form.replace("@", c) for c in characters)


def _pattern(pattern: str) -> dict[str, Any]:
    return {"type": "string", "pattern": pattern}


def _steps(n: int) -> str:
    """Types of XML Schema, each a restriction of the one before by one more pattern."""
    base = '<xs:simpleType name="t0"><xs:restriction base="xs:string"/></xs:simpleType>'
    more = (
        f'<xs:simpleType name="t{i + 1}"><xs:restriction base="t{i}"><xs:pattern value=".*a{i}.*"/></xs:restriction>'
        "</xs:simpleType>"
        for i in range(n)
    )
    return _xsd(f'<xs:element name="r" type="t{n}"/>{base}{"".join(more)}')


def _attributes(n: int) -> str:
    return _xsd_type("".join(f'<xs:attribute name="a{i}" type="xs:date"/>' for i in range(n)))


def _chains(n: int, length: int) -> str:
    """Rules that may each be empty, and may each be so many of the others, one after the other."""
    rules = (f"R{i} -> x R{i} | {' '.join(f'R{(i + j) % n}' for j in range(length))} |" for i in range(n))
    return "\n".join(rules)


def _ring(n: int, rule: str, arrow: str, letter: str) -> str:
    """Rules that call one another all around."""
    rules = (f"{rule}{i} {arrow} {rule}{(i * 7 + 1) % n} {rule}{(i * 3 + 2) % n} | {letter}" for i in range(n))
    return "\n".join(rules)

CASES = [
    *_cases(
        "left recursion",
        gbnf=('root ::= root "a" | "b"', None),
        gbnf2=("root ::= " + "root " * 500 + '| "b"', None),
        iso=('s = s, "a" | "b" ;', None),
        w3c=("s ::= s 'a' | 'b'", None),
        cfg=("S -> S a | b", None),
        cfg2=("S -> " + "S " * MANY + "| a", GrammarBudget),
    ),
    *_cases(
        "mutual recursion",
        gbnf=('root ::= a "x" | "y"\na ::= b | root\nb ::= a b | root "z" | ""', None),
        iso=('a = b, "x" | "y" ; b = a, "z" | a, b ;', None),
        w3c=("a ::= b 'x' | 'y'  b ::= a 'z' | a b", None),
        cfg=("A -> B x | y\nB -> A z | A B |", None),
        cfg2=("".join(f"A{i} -> A{(i + 1) % 3000} x | y\n" for i in range(3000)), None),
        json_schema=({"$defs": MUTUAL, "$ref": "#/$defs/a"}, None),
        xsd=(
            _xsd(
                "".join(
                    f'<xs:element name="{a}"><xs:complexType><xs:choice><xs:element ref="{b}"/><xs:element name="x"/>'
                    "</xs:choice></xs:complexType></xs:element>"
                    for a, b in (("r", "s"), ("s", "r"))
                )
            ),
            None,
        ),
    ),
    *_cases(
        "loops of nothing",
        gbnf=('root ::= ((("a"* "b"*)* | "")* root?)*', None),
        gbnf2=('root ::= "a"' + "*" * MANY, None),
        iso=('s = { { { [ "a" ], { "b" } } | s } } ;', None),
        w3c=("s ::= ((('a'* 'b'*)* | s)* )*", None),
        cfg=("S -> S S | T T | a |\nT -> S T | S |", None),
        ecma=("((a*)*|(b?)+|(?:))*" * 20, None),
        ecma2=("(a*)*" * 20_000 + "$x", GrammarBudget),
        python=("((a*)*|(b?)+|(?:))*" * 20, None),
        python2=("(" * 150 + "a?" + ")*" * 150, None),
        json_schema=({"type": "string", "pattern": "^(((a*)*|(b?)+)*)*$"}, None),
        xsd=(_xsd_type(LOOP * 30 + ITEM + END * 30), None),
    ),
    *_cases(
        "a huge count",
        gbnf=('root ::= "a"{0,1000000000}', GrammarBudget),
        gbnf2=('root ::= "a"{' + "9" * MANY + "}", GrammarBudget),
        iso=("s = 1000000000 * 'a' ;", GrammarBudget),
        ecma=("a{0,1000000000}", GrammarBudget),
        ecma2=("a{" + "9" * MANY + "}", GrammarBudget),
        python=("a{0,1000000000}", GrammarBudget),
        json_schema=({"type": "string", "pattern": "a{0,1000000000}"}, GrammarBudget),
        json_schema2=({"type": "array", "minItems": 10**9}, None),
        json_schema3=({"type": "string", "minLength": 10**12, "maxLength": 10**13}, None),
        xsd=(_xsd_type('<xs:sequence maxOccurs="1000000000"><xs:element name="x"/></xs:sequence>'), GrammarBudget),
        xsd2=(_xsd_simple("string", '<xs:maxLength value="1000000000"/>'), GrammarBudget),
        xsd3=(_xsd_simple("string", '<xs:pattern value="a{0,1000000000}"/>'), GrammarBudget),
    ),
    *_cases(
        "counts in counts",
        gbnf=('root ::= (("a"{0,999}){0,999}){0,999}', GrammarBudget),
        iso=("s = 999 * (999 * (999 * 'a')) ;", GrammarBudget),
        ecma=("((a{0,999}){0,999}){0,999}", GrammarBudget),
        ecma2=("(" * 150 + "a?" + "){9}" * 150, GrammarBudget),
        python=("((a{0,999}){0,999}){0,999}", GrammarBudget),
        json_schema=({"type": "string", "pattern": "^((a{0,999}){0,999}){0,999}$"}, GrammarBudget),
        xsd=(_xsd_type(COUNT * 5 + ITEM + END * 5), GrammarBudget),
    ),
    *_cases(
        "parentheses",
        gbnf=("root ::= " + "(" * MANY + Q + ")" * MANY, GrammarBudget),
        iso=("s = " + "(" * MANY + Q + ")" * MANY + " ;", GrammarBudget),
        iso2=("s = " + "{" * MANY + Q + "}" * MANY + " ;", GrammarBudget),
        w3c=("s ::= " + "(" * MANY + Q + ")" * MANY, GrammarBudget),
        ecma=("(" * MANY + ")" * MANY, GrammarBudget),
        ecma2=("(?=" * MANY + ")" * MANY, GrammarBudget),
        python=("(" * MANY + ")" * MANY, GrammarBudget),
        json_schema=('{"items":' * MANY + "true" + "}" * MANY, GrammarBudget),
        json_schema2=({"type": "string", "pattern": "(" * MANY + ")" * MANY}, GrammarBudget),
        xsd=(_xsd_type("<xs:sequence>" * MANY + END * MANY), GrammarBudget),
        xsd2=(_xsd_simple("string", f'<xs:pattern value="{"(" * MANY + ")" * MANY}"/>'), GrammarBudget),
    ),
    *_cases(
        "open parentheses",
        gbnf=("root ::= " + "(" * MANY, GrammarBudget),
        gbnf2=("root ::= " + "[" * MANY, GrammarError),
        iso=("s = " + "[" * MANY, GrammarBudget),
        iso2=("s = " + "(*" * MANY, GrammarError),
        w3c=("s ::= " + "(" * MANY, GrammarBudget),
        ecma=("(" * MANY, GrammarBudget),
        ecma2=("[" * MANY, GrammarError),
        python=("(" * MANY, GrammarBudget),
        python2=("(?P<" * (MANY // 4), GrammarError),
        json_schema=('{"items":' * MANY, GrammarBudget),
        json_schema2=({"type": "string", "pattern": "(" * MANY}, GrammarBudget),
        xsd=(_xsd_type("<xs:sequence>" * MANY), GrammarBudget),
    ),
    *_cases(
        "a name that is not there",
        gbnf=("root ::= x", GrammarError),
        gbnf2=("root ::= " + "x" * MANY, GrammarError),
        iso=("s = x ;", GrammarError),
        w3c=("s ::= x", GrammarError),
        cfg=('S -> "a" T', GrammarError),
        ecma=(r"(?<n>a)\k<x>", UnsupportedSyntax),
        python=("(?P<n>a)(?P=x)", UnsupportedSyntax),
        json_schema=({"$ref": "#/$defs/x"}, BadSchema),
        xsd=(_xsd('<xs:element name="r" type="x"/>'), BadSchema),
        xsd2=(_xsd_type('<xs:sequence><xs:element ref="x"/></xs:sequence>'), BadSchema),
    ),
    *_cases(
        "an empty language",
        gbnf=('root ::= root "a"', EmptyLanguage),
        iso=('s = s, "a" ;', EmptyLanguage),
        w3c=("s ::= s 'a'", EmptyLanguage),
        cfg=("S -> S a", EmptyLanguage),
        ecma=("[]", EmptyLanguage),
        ecma2=("(?!)", EmptyLanguage),
        python=("(?!)", EmptyLanguage),
        json_schema=(False, EmptyLanguage),
        json_schema2=(
            {"properties": {"a": {"$ref": "#"}}, "required": ["a"], "type": "object"},
            EmptyLanguage,
        ),
        xsd=(_xsd_type('<xs:sequence><xs:element ref="r"/></xs:sequence>'), EmptyLanguage),
    ),
    *_cases(
        "a circle of references",
        json_schema=({"$ref": "#"}, UnsupportedSchema),
        json_schema2=({"$defs": CIRCLE, "$ref": "#/$defs/a"}, UnsupportedSchema),
        json_schema4=({"$defs": _refs(40), "$ref": "#/$defs/a0"}, UnsupportedSchema),
        json_schema3=({"anyOf": [{"$ref": "#"}, {"not": {"$ref": "#"}}]}, UnsupportedSchema),
        xsd=(
            _xsd(
                '<xs:element name="r" type="a"/>'
                + "".join(
                    f'<xs:complexType name="{a}"><xs:complexContent><xs:extension base="{b}"/></xs:complexContent>'
                    "</xs:complexType>"
                    for a, b in (("a", "b"), ("b", "a"))
                )
            ),
            BadSchema,
        ),
        xsd2=(
            _xsd(
                '<xs:group name="g"><xs:sequence><xs:group ref="g"/></xs:sequence></xs:group>'
                '<xs:element name="r"><xs:complexType><xs:group ref="g"/></xs:complexType></xs:element>'
            ),
            BadSchema,
        ),
    ),
    *_cases(
        "elsewhere",
        json_schema=({"$ref": "http://127.0.0.1:9/schema"}, UnsupportedSchema),
        json_schema2=({"properties": {"a": {"$ref": "file:///etc/passwd"}}}, UnsupportedSchema),
        json_schema3=({"$schema": "http://127.0.0.1:9/meta"}, UnsupportedSchema),
        xsd=(_xsd('<xs:include schemaLocation="http://127.0.0.1:9/x.xsd"/>' + ELEMENT), UnsupportedSchema),
        xsd2=(_xsd('<xs:import namespace="n" schemaLocation="file:///etc/passwd"/>' + ELEMENT), UnsupportedSchema),
    ),
    *_cases(
        "a contradiction",
        gbnf=('root ::= "a"{2,1}', GrammarError),
        ecma=("a{2,1}", GrammarError),
        ecma2=("(?=a)b", EmptyLanguage),
        python=("a{2,1}", GrammarError),
        python2=("(?=a)b", EmptyLanguage),
        json_schema=({"allOf": [{"type": "string"}, {"type": "null"}]}, EmptyLanguage),
        json_schema2=({"type": "integer", "minimum": 3, "maximum": 2}, EmptyLanguage),
        json_schema3=({"type": "object", "allOf": FORBIDDEN}, EmptyLanguage),
        xsd=(_xsd_simple("int", '<xs:minInclusive value="5"/><xs:maxInclusive value="4"/>'), EmptyLanguage),
        xsd2=(_xsd_simple("string", '<xs:minLength value="5"/><xs:maxLength value="4"/>'), EmptyLanguage),
    ),
    *_cases(
        "entities",
        xsd=(f'<!DOCTYPE x [<!ENTITY l0 "lol">{LAUGHS}]>' + _xsd(ELEMENT + "&l9;"), GrammarError),
        xsd2=(f'<!DOCTYPE x [<!ENTITY a "{"a" * 100_000}">]>' + _xsd(ELEMENT + "&a;" * 100_000), GrammarError),
        xsd3=("<!DOCTYPE x [" + "<!ATTLIST a b CDATA #IMPLIED>" * MANY + "]>" + _xsd(ELEMENT), GrammarError),
    ),
    *_cases(
        "external entities",
        xsd=('<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + _xsd(ELEMENT + "&a;"), GrammarError),
        xsd2=('<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd">' + _xsd(ELEMENT), GrammarError),
        xsd3=('<!DOCTYPE x [<!ENTITY % a SYSTEM "http://127.0.0.1:9/x"> %a;]>' + _xsd(ELEMENT), GrammarError),
    ),
    *_cases(
        "thousands of characters",
        gbnf=("root ::= [" + APART[:15_000] + "]*", None),
        gbnf2=("root ::= " + _each('"@"?', APART[:1000], " "), GrammarBudget),
        gbnf3=("root ::= " + _each("[^@]*", APART[:200], " "), GrammarBudget),
        w3c=("s ::= [" + APART[:15_000] + "]*", None),
        ecma=("[" + APART + "]", GrammarBudget),
        ecma2=("(?i:" + APART + ")", GrammarBudget),
        ecma3=(_each("@", APART[:30_000], "|"), GrammarBudget),
        ecma4=(_each("[^@]", APART[:15_000]), GrammarBudget),
        ecma5=(_each("(?i:[\\p{L}@])", APART[:5000]), GrammarBudget),
        python=("(?i:[" + APART[:9000] + "])", None),
        python2=(_each("[^@]", APART[:15_000], "|"), GrammarBudget),
        python3=("a" * (2 * MANY), GrammarBudget),
        json_schema=(_pattern("[" + APART[:30_000] + "]"), None),
        json_schema2=(_pattern(_each("[^@]", APART[:15_000])), GrammarBudget),
        json_schema3=(_pattern(APART), GrammarBudget),
        json_schema4=(_pattern(APART[:19_000]), GrammarBudget),
        json_schema5=(_pattern("^" + _each("(@|.)", APART[:12_000]) + "$"), GrammarBudget),
        json_schema6=(_pattern(_each(".@", APART[:15_000])), GrammarBudget),
        json_schema7=(_pattern(_each("[^@]", APART[:400])), GrammarBudget),
        xsd=(_xsd_simple("string", f'<xs:pattern value="{_each("@", APART[:30_000], "|")}"/>'), GrammarBudget),
        xsd2=(_xsd_simple("string", f'<xs:pattern value="[{APART[:30_000]}]"/>'), None),
    ),
    *_cases(
        "thousands of large classes",
        ecma=(r"[\p{L}\p{N}]" * (MANY // 14), GrammarBudget),
        ecma2=(_each(r"[\p{L}@]", APART[: MANY // 8]), GrammarBudget),
        python=(r"\W" * (MANY // 2), GrammarBudget),
        python2=(r"[\w\d]" * (MANY // 6), GrammarBudget),
        json_schema=(_pattern(r"[\p{L}\p{N}]" * (MANY // 14)), None),
        json_schema2=(_pattern(_each(r"[\p{L}@]", APART[: MANY // 8])), GrammarBudget),
        xsd=(_xsd_simple("string", '<xs:pattern value="' + r"\w" * (MANY // 2) + '"/>'), GrammarBudget),
    ),
    *_cases(
        "thousands of looks",
        ecma=(_each("(?=.*@)", APART[:7500]), GrammarBudget),
        ecma2=(_each("(?!@)", APART[:10_000]) + "a", GrammarBudget),
        ecma3=("a" + _each("(?<!@)", APART[:10_000]), GrammarBudget),
        python=(r"\b" * (MANY // 2), EmptyLanguage),
        python2=(r"\ba" * (MANY // 3), EmptyLanguage),
        json_schema=(_pattern(_each("(?!.*@)", APART[:7500]) + "a"), GrammarBudget),
    ),
    *_cases(
        "thousands of digits",
        json_schema=('{"type":"integer","minimum":' + "7" * 4000 + "}", GrammarBudget),
        json_schema2=('{"type":"number","maximum":1e4000}', GrammarBudget),
        json_schema3=('{"const":1e999999999}', GrammarBudget),
        json_schema4=('{"type":"number","multipleOf":1e-600,"minimum":1e300}', None),
        json_schema5=('{"enum":[[0.' + "7" * 200_000 + "]]}", GrammarBudget),
    ),
    *_cases(
        "thousands of parts",
        gbnf=("root ::= " + '"a"{3,9} ' * 3000, None),
        gbnf2=("root ::= r0\n" + _ring(2000, "r", "::=", '"a"'), None),
        iso=("s = " + "{ 'a' | 'b' } - 'a' , " * 300 + "'b' ;", None),
        w3c=("s ::= " + _each("([a-z]* - ([a-z]* '@' [a-z]*)) ", "abcdefghij" * 100), GrammarBudget),
        w3c2=("s ::= " + "([a-z]* - 'abc') " * 13_000, GrammarBudget),
        cfg=(_ring(2000, "R", "->", "a"), None),
        cfg2=("S -> R0\n" + _chains(100, 300), GrammarBudget),
        ecma=("(a|b)*a" + "(a|b)" * 12_000, None),
        python=("a?" * (MANY // 2), GrammarBudget),
        json_schema=({"const": [[[i]] for i in range(5000)]}, None),
        json_schema2=(
            {"$dynamicAnchor": "n", "properties": {f"p{i}": {"$dynamicRef": "#n"} for i in range(1000)}},
            None,
        ),
        json_schema3=({"type": "string", "allOf": [{"pattern": f"x{i}"} for i in range(200)]}, None),
        json_schema4=({"enum": [{f"k{i}": 1} for i in range(5000)]}, None),
        json_schema5=({"type": "integer", "minimum": 0, "maximum": 40_000, "not": {"enum": list(range(40_000))}}, None),
        json_schema6=({"const": list(range(30_000))}, GrammarBudget),
        json_schema7=({"type": "string", "allOf": [{"pattern": f"a{{{i}}}"} for i in (*range(1, 400), 1201)]}, None),
        xsd=(_steps(40), GrammarBudget),
        xsd2=(_attributes(1000), GrammarBudget),
        xsd3=(
            _xsd(
                '<xs:element name="r"><xs:simpleType><xs:union memberTypes="'
                + "xs:date xs:int xs:anyURI xs:duration " * 50
                + '"/></xs:simpleType></xs:element>'
            ),
            None,
        ),
    ),
]  # fmt: skip


def _resident(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text("ascii"), re.MULTILINE)
    assert found is not None
    return int(found[1]) << 10


def _loop() -> float:
    """Seconds that a plain loop takes, some 0.04 on the machines that this was written on: what others take is told
    beside it, for a busy machine makes all of it longer."""
    begin = time.process_time()
    seen: dict[int, int] = {}
    for i in range(400_000):
        seen[i & 4095] = seen.get(i & 4095, 0) + i
    return time.process_time() - begin


def main(kind: str) -> None:
    """Make each grammar, and where there is one let it read a little."""
    from grammar_judge import READERS

    READERS[kind]({"xsd": _xsd(ELEMENT), "json_schema": "true", "iso": "s = 'a' ;", "w3c": "s ::= 'a'"}.get(
        kind, {"gbnf": 'root ::= "a"', "cfg": "S -> a"}.get(kind, "a")))  # fmt: skip
    touched = list[str]()
    sys.addaudithook(
        lambda event, args: touched.append(event) if event.startswith(("socket.", "urllib.", "subprocess.")) else None
    )
    for case in (case for case in CASES if case.kind == kind):
        before = _resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        error = None
        loop = _loop()
        begin = time.process_time()
        try:
            grammar = READERS[kind](case.text)
            state = grammar.machine.start
            for _ in range(20):
                after = grammar.machine.next_states(state)
                state = int(after.max())
                if state < 0:
                    break
        except GrammarError as e:
            error = type(e).__name__
        took = time.process_time() - begin
        peak = _resident("VmHWM") - before
        line = {"what": case.what, "text": case.text[:60], "error": error, "cpu": took, "loops": took / loop}
        print(json.dumps({**line, "peak": peak, "touched": touched}))


if __name__ == "__main__":
    main(sys.argv[1])
