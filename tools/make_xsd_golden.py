"""Which documents are valid under which XML Schemas, as `xmlschema` and `lxml` (libxml2) have it: the file
tests/golden/xsd.json.

    python -m venv .venv-xsd && .venv-xsd/bin/pip install xmlschema lxml
    .venv-xsd/bin/python tools/make_xsd_golden.py tests/golden/xsd.json

A schema is made of each part below; documents are written from lists of values, right ones and wrong ones, and each
is changed in some places by a seeded generator. Each document is kept with both verdicts. It needs nothing of zigllama.
"""

# ruff: noqa: E501  (schemas, as they are written)
from __future__ import annotations

import json
import random
import sys

import lxml.etree
import xmlschema

HEAD = '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema"'
NUMBERS = ["0", "1", "-1", "+7", "007", "5.", ".5", "1.50", "12.345", "100", "-0", "99.99", "255", "256", "-128", "1e3", "",
           "18446744073709551615", "18446744073709551616", "-", "2147483648", "abc"]  # fmt: skip
STRINGS = ["", "a", "abc", "a b", "a  b", "ABC-12", "AB-1", "é", "日本", "a&amp;b", "x&lt;y", "aaaaaaaaaaa", "red", "green", "1",
           "true", "a-b", "xyz", "\t"]  # fmt: skip
DATES = ["2024-02-29", "2023-02-29", "2024-13-01", "1999-12-31Z", "2000-02-29+14:00", "1900-02-29", "2024-02-29T23:59:59",
         "2024-01-01T00:00:00.5Z", "12:30:00", "24:01:00", "2024", "2024-05", "--05-31", "--04-31", "---31", "--12", "P1Y2M",
         "PT1H", "P", "-P3D", "0000-01-01"]  # fmt: skip
BYTES = ["", "00", "0F3", "abCD", "QQ==", "QUI=", "QUJD", "QR==", "a", "-1", "a:b", "en-GB", "x y", "http://a.b/c?d#e", "%zz",
         "1a", "_a.b", "é"]  # fmt: skip


def restriction(base: str, facets: str) -> str:
    parts = "".join(f'<xs:{f.split("=", 1)[0]} value="{f.split("=", 1)[1]}"/>' for f in facets.split(" ") if f)
    return f'<xs:simpleType><xs:restriction base="xs:{base}">{parts}</xs:restriction></xs:simpleType>'


SIMPLE = [
    *((base, "", NUMBERS) for base in ("decimal", "integer", "int", "unsignedByte", "positiveInteger", "unsignedLong")),
    *((base, "", NUMBERS) for base in ("nonPositiveInteger", "byte", "double", "boolean")),
    ("decimal", "minInclusive=0.5 maxExclusive=12.345", NUMBERS), ("integer", "minExclusive=-1 maxInclusive=100", NUMBERS),
    ("decimal", "totalDigits=4 fractionDigits=2", NUMBERS), ("decimal", "enumeration=1.5 enumeration=7", NUMBERS),
    ("double", "minInclusive=1 maxInclusive=100", NUMBERS), ("string", "", STRINGS), ("token", "", STRINGS),
    ("string", "minLength=1 maxLength=3", STRINGS), ("string", "length=2", STRINGS), ("token", "maxLength=5", STRINGS),
    ("string", "enumeration=red enumeration=green", STRINGS), ("string", r"pattern=[A-Z]{2,3}-\d+", STRINGS),
    ("string", r"pattern=[a-z-[bx]]*", STRINGS), ("string", r"pattern=\i\c*", STRINGS), ("string", r"pattern=\w+|\s*", STRINGS),
    ("string", "whiteSpace=collapse minLength=1", STRINGS), ("string", r"pattern=[^\d]+ maxLength=3", STRINGS),
    *((base, "", DATES) for base in ("date", "dateTime", "time", "gYear", "gYearMonth", "gMonthDay", "gDay", "gMonth")),
    ("duration", "", DATES),
    *((base, "", BYTES) for base in ("hexBinary", "base64Binary", "anyURI", "NMTOKEN", "Name", "NCName", "language")),
    ("hexBinary", "length=2", BYTES), ("base64Binary", "maxLength=2", BYTES),
]  # fmt: skip
INT, TOKEN = '<xs:element name="i" type="xs:int"/>', '<xs:element name="t" type="xs:token" minOccurs="0"/>'
MANY = '<xs:element name="t" type="xs:token" maxOccurs="3"/>'
PIECES = ["<i>1</i>", "<t>x</t>", "<i/>", "<t></t>", "text", " ", "<u/>", "<i>1</i><t>x</t>", "<t>x</t><i>2</i>",
          "<t>x</t><t>y</t><t>z</t>", "<i>1</i>\n  <i>2</i>", ""]  # fmt: skip
GROUPS = [
    f"<xs:sequence>{INT}{TOKEN}</xs:sequence>", f"<xs:sequence>{MANY}{INT}</xs:sequence>", f"<xs:choice>{INT}{TOKEN}</xs:choice>",
    f'<xs:choice minOccurs="0" maxOccurs="unbounded">{INT}{MANY}</xs:choice>', f"<xs:all>{INT}{TOKEN}</xs:all>", "<xs:sequence/>",
    f'<xs:sequence minOccurs="0">{INT}{TOKEN}</xs:sequence>', f'<xs:sequence maxOccurs="2">{INT}</xs:sequence>',
]  # fmt: skip
ATTRIBUTES = ('<xs:attribute name="a" type="xs:int" use="required"/><xs:attribute name="b" fixed="x" type="xs:token"/>'
              '<xs:attribute name="c" type="xs:string"/>')  # fmt: skip
GIVEN = [
    'a="1"',
    'a="1" b="x"',
    'b="x"  a="2"',
    'c="&quot;&lt;" a="3"',
    'a="x"',
    'b="y" a="1"',
    'a="1" d="2"',
    "",
    'c="é" b="x" a="7"',
]


def schemas() -> list[tuple[str, list[str]]]:
    made = []
    for base, facets, values in SIMPLE:
        text = f'{HEAD}><xs:element name="r">{restriction(base, facets)}</xs:element></xs:schema>'
        made.append((text, [f"<r>{v}</r>" for v in values] + ["<r/>"]))
        text = f'{HEAD}><xs:element name="r"><xs:complexType><xs:attribute name="v">{restriction(base, facets)}</xs:attribute>'
        made.append(
            (text + "</xs:complexType></xs:element></xs:schema>", [f'<r v="{v}"/>' for v in values if v != "\t"])
        )
    union = '<xs:simpleType><xs:union memberTypes="xs:int xs:boolean"/></xs:simpleType>'
    items = '<xs:simpleType><xs:list itemType="xs:int"/></xs:simpleType>'
    few = f'<xs:simpleType><xs:restriction>{items}<xs:minLength value="2"/></xs:restriction></xs:simpleType>'
    for kind in (union, items, few):
        values = ["1", "true", "1 2", "1 2 3", "", "x", "1 x", "false"]
        made.append((f'{HEAD}><xs:element name="r">{kind}</xs:element></xs:schema>', [f"<r>{v}</r>" for v in values]))
    for group in GROUPS:
        for mixed in ("false", "true"):
            text = f'{HEAD}><xs:element name="r"><xs:complexType mixed="{mixed}">{group}</xs:complexType></xs:element></xs:schema>'
            made.append((text, [f"<r>{p}</r>" for p in PIECES] + ["<r/>", "\n<r >\n <i>1</i>\n</r>\n"]))
    inside = f"<xs:complexType><xs:sequence>{INT}</xs:sequence>{ATTRIBUTES}</xs:complexType>"
    made.append(
        (f'{HEAD}><xs:element name="r">{inside}</xs:element></xs:schema>', [f"<r {g}><i>1</i></r>" for g in GIVEN])
    )
    simple = (
        f'<xs:complexType><xs:simpleContent><xs:extension base="xs:int">{ATTRIBUTES}</xs:extension></xs:simpleContent>'
    )
    simple += "</xs:complexType>"
    made.append((f'{HEAD}><xs:element name="r">{simple}</xs:element></xs:schema>', [f"<r {g}>5</r>" for g in GIVEN]))
    base = f'<xs:complexType name="B"><xs:sequence>{INT}</xs:sequence></xs:complexType>'
    more = f'<xs:complexContent><xs:extension base="B"><xs:sequence>{MANY}</xs:sequence></xs:extension></xs:complexContent>'
    text = f'{HEAD}>{base}<xs:element name="r"><xs:complexType>{more}</xs:complexType></xs:element></xs:schema>'
    made.append((text, [f"<r>{p}{q}</r>" for p in PIECES for q in ("", "<t>x</t>")]))
    fixed = f'{HEAD}><xs:element name="r" type="xs:decimal" fixed="1.5"/></xs:schema>'
    made.append((fixed, [f"<r>{v}</r>" for v in NUMBERS] + ["<r>1.5</r>", "<r/>"]))
    for form in ("qualified", "unqualified"):
        text = f'{HEAD} xmlns:o="urn:o" targetNamespace="urn:o" elementFormDefault="{form}"><xs:element name="r"><xs:complexType>'
        text += f'<xs:sequence>{INT}<xs:element ref="o:r" minOccurs="0"/></xs:sequence></xs:complexType></xs:element></xs:schema>'
        documents = ['<r xmlns="urn:o"><i>1</i></r>', '<o:r xmlns:o="urn:o"><i>1</i></o:r>', "<r><i>1</i></r>",
                     '<r xmlns="urn:o"><i>1</i><r><i>2</i></r></r>', '<o:r xmlns:o="urn:o"><i>1</i><o:r><i>1</i></o:r></o:r>',
                     '<o:r xmlns:o="urn:o"><o:i>1</o:i></o:r>', '<r xmlns="urn:x"><i>1</i></r>']  # fmt: skip
        made.append((text, documents))
    return made


def changed(document: str, rng: random.Random) -> str:
    """A document with a character left out, doubled or put in."""
    at = rng.randrange(len(document))
    return document[:at] + rng.choice(["", document[at] * 2, rng.choice("0159-.ab <>/&")]) + document[at + 1 :]


def verdicts(schema: xmlschema.XMLSchema, other: lxml.etree.XMLSchema, document: str) -> list[bool]:
    try:
        tree = lxml.etree.fromstring(document.encode())
    except lxml.etree.XMLSyntaxError:
        return [False, False]
    return [schema.is_valid(tree), other.validate(tree)]


def main(path: str) -> None:
    rng = random.Random(7)
    cases = []
    for text, documents in schemas():
        schema, other = xmlschema.XMLSchema10(text), lxml.etree.XMLSchema(lxml.etree.fromstring(text.encode()))
        every = dict.fromkeys(documents)
        every.update(dict.fromkeys(changed(rng.choice(documents), rng) for _ in range(12)))
        cases.append({"schema": text, "documents": [[d, *map(int, verdicts(schema, other, d))] for d in every]})
    oracle = (
        f"xmlschema {xmlschema.__version__}, lxml {lxml.etree.__version__} with libxml2 {lxml.etree.LIBXML_VERSION}"
    )
    made = {"oracle": oracle, "command": "python tools/make_xsd_golden.py tests/golden/xsd.json", "cases": cases}
    with open(path, "w", encoding="utf-8") as file:
        json.dump(made, file, ensure_ascii=False, indent=0)
        file.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])
