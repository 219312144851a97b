"""Random simple types of XML Schema, each with texts that are values of it, or nearly: for xsd_samples.py.

    kind = simple(random.Random(5), names)      kind.said: the type, as it is written into an element or attribute
    kind.value(rng)                             a text that its facets were drawn around; most such are values

Every base and every facet has its turn, lists, unions, and restrictions of restrictions. Whether a text is a value is
not known here: validators say so.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

INTEGERS = {
    "integer": (-10**6, 10**6), "int": (-(2**31), 2**31 - 1), "long": (-(2**63), 2**63 - 1), "short": (-32768, 32767),
    "byte": (-128, 127), "unsignedByte": (0, 255), "unsignedShort": (0, 65535), "unsignedInt": (0, 2**32 - 1),
    "unsignedLong": (0, 2**64 - 1), "nonNegativeInteger": (0, 10**5), "positiveInteger": (1, 10**5),
    "nonPositiveInteger": (-(10**5), 0), "negativeInteger": (-(10**5), -1),
}  # fmt: skip
WORDS = [
    "a",
    "red",
    "green",
    "b c",
    "x-1",
    "Zoe",
    "é",
    "日本",
    "A&B",
    "1<2",
    "two words",
    'q"q',
    "abcde",
    "A",
    "7",
    "true",
]
PATTERNS: list[tuple[str, list[str]]] = [
    (r"[A-Z]{2,3}-\d+", ["AB-1", "XYZ-203", "AB-"]), (r"[a-z-[aeiou]]+", ["bcd", "b", "bad"]),
    (r"\i\c*", ["a1", "_x.y", "1a"]), (r"(red|green)[0-9]?", ["red", "green7", "red77"]),
    (r"[^\s,]{1,5}", ["ab", "a-b", "a,b", "a b"]), (r"\p{Lu}\p{Ll}*", ["Abc", "É", "abc"]), (r".{2,4}", ["ab", "a b",
    "a"]),
    (r"a*b?|c+", ["", "aab", "ccc", "abc"]), (r"\d{4}(-\d{2}){0,2}", ["2024", "2024-05", "2024-05-"]),
    (r"\w+( \w+)*", ["ab", "a b c", "a  b"]), (r"[\-+]?\d+", ["1", "-20", "+"]), (r"[0-9a-fA-F]{6}", ["00ff00",
    "FFFFFF", "00ff0"]),
    (r"\S+@\S+\.[a-z]{2,3}", ["a@b.de", "x.y@z.org", "a@b"]), (r"x?y{0,2}z", ["z", "xyyz", "xx"]), (r"\D*", ["abc",
    "", "a1"]),
    (r"[\w.]+|\s*", ["a.b", "", "a b"]), (r"\p{IsBasicLatin}*", ["abc", "é"]), (r"[\d-[5]]+", ["123", "5"]),
    (r"[+\-*/^$()]+", ["+", "(-)", "a"]), (r"a^b$|\^\$", ["^$", "a^b$", "ab"]), (r"(a|ab)(c|bcd)?", ["abcd", "a",
    "abc"]),
]  # fmt: skip
MOMENTS = {
    "date": ["2024-02-29", "1999-12-31", "2001-06-30Z", "2023-02-28+01:00", "2023-02-29", "2023-13-01"],
    "dateTime": ["2024-02-29T23:59:59", "2000-01-01T00:00:00Z", "2010-10-10T10:10:10.25-05:00", "2024-02-29T24:00:01"],
    "time": ["00:00:00", "23:59:59.999", "12:30:00Z", "24:30:00"], "gYear": ["2024", "0001", "1999Z", "24"],
    "gYearMonth": ["2024-05", "1999-12Z", "2024-13"], "gMonthDay": ["--02-29", "--12-31", "--02-30"],
    "gDay": ["---31", "---01Z", "---32"], "gMonth": ["--12", "--01", "--13"],
    "duration": ["P1Y2M3DT4H5M6S", "PT0S", "-P3D", "P", "P1S"],
}  # fmt: skip
OTHERS = {
    "boolean": ["true", "false", "1", "0", "yes"], "anyURI": ["http://a.b/c?d#e", "urn:x:y", "a/b", "", "#x", "%zz"],
    "hexBinary": ["", "0F", "abCD", "00112233", "0F3"], "base64Binary": ["", "QQ==", "QUI=", "QUJD", "QR=="],
    "NMTOKEN": ["a", "-1", "a:b", "x y"], "Name": ["a", "_a.b", "a:b", "1a"], "NCName": ["a", "_a.b", "a:b"],
    "language": ["en", "en-GB", "x-klingon", "toolonganame"], "NMTOKENS": ["a b", "x", ""],
}  # fmt: skip
ANYTHING = [
    "",
    "0",
    "-1",
    "1.5",
    "abc",
    "true",
    "a b",
    " a",
    "a ",
    "2024-01-01",
    "9" * 20,
    "é",
    "<",
    "a\tb",
    "NaN",
    "1e3",
]
OF_LENGTH = ("string", "token", "normalizedString", "anyURI", "hexBinary", "base64Binary", "NMTOKEN", "NCName", "Name")


@dataclass(frozen=True)
class Kind:
    """A simple type: the name it has, or else its definition; the built-in type below it; texts to try."""

    name: str
    body: str
    base: str
    value: Callable[[random.Random], str]

    def attribute(self) -> str:
        """What an element or attribute of the type says of it in its tag."""
        return f' type="{self.name}"' if self.name else ""


def escape(text: str, within_tag: bool = True) -> str:
    """A text as it is written in XML, as an attribute's value or between tags."""
    for c, reference in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\r", "&#13;")):
        text = text.replace(c, reference)
    if within_tag:
        for c, reference in (('"', "&quot;"), ("\t", "&#9;"), ("\n", "&#10;")):
            text = text.replace(c, reference)
    return text


def built_in(rng: random.Random) -> Kind:
    """A type of XML Schema itself."""
    base = rng.choice([*INTEGERS, "decimal", "double", "float", "string", "string", "token", "normalizedString",
                       *MOMENTS, *OTHERS])  # fmt: skip
    return Kind(f"xs:{base}", "", base, _plain(base))


def _plain(base: str) -> Callable[[random.Random], str]:
    if base in INTEGERS:
        lo, hi = INTEGERS[base]
        return lambda r: str(r.choice([lo, hi, r.randint(lo, hi), max(lo, min(hi, r.randint(-9, 99)))]))
    if base == "decimal":
        return lambda r: (
            r.choice(["", "-"]) + r.choice([f"{r.randint(0, 999)}", f"{r.randint(0, 99)}.{r.randint(0, 999)}"])
        )
    if base in ("double", "float"):
        return lambda r: r.choice([f"{r.randint(-99, 99)}.5", "1e3", "-2E-2", "INF", "NaN", f"{r.randint(0, 9)}"])
    texts = MOMENTS.get(base) or OTHERS.get(base) or WORDS
    return lambda r: r.choice(texts)


def _facet(name: str, value: object) -> str:
    return f'<xs:{name} value="{escape(str(value))}"/>'


def _bounds(base: str, rng: random.Random) -> tuple[list[str], Callable[[random.Random], str]]:
    """Bounds and digits of numbers, and numbers around them."""
    if base in INTEGERS:
        lo, hi = sorted(rng.randint(*INTEGERS[base]) for _ in range(2))
        if rng.random() < 0.5:
            lo = max(INTEGERS[base][0], min(INTEGERS[base][1] - 50, rng.randint(-20, 20)))
            hi = lo + rng.randint(1, 50)
        said = [_facet("minInclusive", lo), _facet("maxInclusive", hi)]
        if rng.random() < 0.3 and hi - lo > 2:
            said = [_facet("minExclusive", lo), _facet("maxExclusive", hi)]
        if rng.random() < 0.2:
            said = [_facet("totalDigits", rng.randint(1, 4))]
            return said, lambda r: str(max(INTEGERS[base][0], min(INTEGERS[base][1], r.randint(-99, 9999))))
        return rng.sample(said, rng.randint(1, 2)), lambda r: str(r.choice([lo, hi, lo + 1, hi - 1, r.randint(lo, hi)]))
    scale = 10 ** rng.randint(0, 3)
    low, high = sorted(rng.randint(-50, 5000) for _ in range(2))
    high += 1
    texts = [_decimal(n, scale) for n in (low, high)]
    said = [
        _facet(f"min{rng.choice(['In', 'Ex'])}clusive", texts[0]),
        _facet(f"max{rng.choice(['In', 'Ex'])}clusive", texts[1]),
    ]
    said = rng.sample(said, rng.randint(1, 2))
    if base == "decimal" and rng.random() < 0.4:
        fraction = rng.randint(0, 3)
        said = [_facet("fractionDigits", fraction), _facet("totalDigits", fraction + rng.randint(1, 4))][
            : rng.randint(1, 2)
        ]
    return said, lambda r: _decimal(r.choice([low, high, low + 1, high - 1, r.randint(low, high)]), scale)


def _decimal(n: int, scale: int) -> str:
    whole, fraction = divmod(abs(n), scale)
    digits = len(str(scale)) - 1
    return ("-" if n < 0 else "") + str(whole) + (f".{fraction:0{digits}d}" if digits else "")


def _facets(
    base: str, rng: random.Random, before: Callable[[random.Random], str]
) -> tuple[list[str], Callable[[random.Random], str]]:
    """Some facets for a base, and texts drawn around them."""
    kind = rng.random()
    if kind < 0.25 or base == "boolean":
        if base == "boolean":
            return [_facet("pattern", rng.choice(["true|false", "0|1", "t.*"]))], before
        values = sorted({before(rng) for _ in range(rng.randint(1, 4))})
        return [_facet("enumeration", v) for v in values], lambda r: r.choice(values)
    if base in INTEGERS or base in ("decimal", "double", "float"):
        return _bounds(base, rng)
    if base in OF_LENGTH and kind < 0.6:
        lo = rng.randint(0, 4)
        hi = lo + rng.randint(0, 4)
        said = [_facet("minLength", lo), _facet("maxLength", hi)]
        said = rng.sample(said, rng.randint(1, 2)) if rng.random() < 0.7 else [_facet("length", lo)]
        if base in ("hexBinary", "base64Binary"):
            return said, before
        return said, lambda r: "".join(r.choice("abcxyz1") for _ in range(r.randint(lo, min(hi, lo + 2))))
    if base in ("string", "token", "normalizedString"):
        if kind < 0.68 and base == "string":
            return [
                _facet("whiteSpace", rng.choice(["preserve", "replace", "collapse"])),
                _facet("minLength", 1),
            ], before
        chosen = rng.sample(PATTERNS, rng.choice([1, 1, 1, 2]))
        return [_facet("pattern", p) for p, _ in chosen], lambda r: r.choice(r.choice(chosen)[1])
    if base in MOMENTS and kind < 0.5:
        return [_facet("pattern", rng.choice([r".*\d", "[^Z]*", r"\S+", ".*1.*|.*2.*"]))], before
    values = [before(rng) for _ in range(3)]
    return [_facet("enumeration", v) for v in dict.fromkeys(values)], lambda r: r.choice(values)


def restricted(base: Kind, rng: random.Random) -> Kind:
    """A restriction of a type by facets; its base is named, or written within."""
    said, value = _facets(base.base, rng, base.value)
    inside = f'<xs:restriction base="{base.name}">' if base.name else f"<xs:restriction>{base.body}"
    return Kind("", f"<xs:simpleType>{inside}{''.join(said)}</xs:restriction></xs:simpleType>", base.base, value)


def listed(item: Kind, rng: random.Random) -> Kind:
    """A list, perhaps of so many items."""
    inside = f'<xs:list itemType="{item.name}"/>' if item.name else f"<xs:list>{item.body}</xs:list>"
    body = f"<xs:simpleType>{inside}</xs:simpleType>"
    lo = rng.randint(0, 2)
    hi = lo + rng.randint(0, 2)
    if rng.random() < 0.5:
        said = rng.choice(
            [_facet("length", lo), _facet("minLength", lo) + _facet("maxLength", hi), _facet("maxLength", hi)]
        )
        body = f"<xs:simpleType><xs:restriction>{body}{said}</xs:restriction></xs:simpleType>"
    return Kind("", body, "list", lambda r: " ".join(" ".join(item.value(r) for _ in range(r.randint(lo, hi))).split()))


def united(members: list[Kind]) -> Kind:
    """A union."""
    names = " ".join(m.name for m in members if m.name)
    inside = "".join(m.body for m in members if not m.name)
    said = f'<xs:union memberTypes="{names}">' if names else "<xs:union>"
    body = f"<xs:simpleType>{said}{inside}</xs:union></xs:simpleType>"
    return Kind("", body, "union", lambda r: r.choice(members).value(r))


def simple(rng: random.Random, named: list[Kind]) -> Kind:
    """A simple type; `named`: those that have a name."""
    kind = rng.random()
    if kind < 0.3:
        return built_in(rng)
    if kind < 0.4 and named:
        return rng.choice(named)
    if kind < 0.78:
        base = rng.choice(named) if named and rng.random() < 0.2 else built_in(rng)
        if base.base in ("list", "union", "NMTOKENS"):
            return base
        made = restricted(base, rng)
        return restricted(made, rng) if rng.random() < 0.15 and made.base in ("string", "token", "decimal") else made
    if kind < 0.9:
        item = built_in(rng) if rng.random() < 0.6 else restricted(built_in(rng), rng)
        return built_in(rng) if item.base == "NMTOKENS" else listed(item, rng)
    return united([simple(rng, named) if rng.random() < 0.3 else built_in(rng) for _ in range(rng.randint(1, 3))])
