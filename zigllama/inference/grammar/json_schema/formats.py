"""Formats that can be asserted: expressions for what the specifications behind them say.

Two are narrower than their specification, never wider: a leap second is only taken at 23:59:60 in UTC, and a host
name's label with two hyphens in its third and fourth place (which internationalised names begin with) is not taken at
all. Not asserted, since they are no regular languages or need tables of Unicode: regex, idn-hostname, idn-email.
"""

from __future__ import annotations

import base64
import zlib
from functools import lru_cache

from .languages import Language
from .whole import Table, Whole

_D4 = "[0-9]{4}"
_LEAP = "(?:[0-9]{2}(?:0[48]|[13579][26]|[2468][048])|(?:[02468][048]|[13579][26])00)"
_DATE = (
    f"(?:{_D4}-(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|{_D4}-(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    f"|{_D4}-02-(?:0[1-9]|1[0-9]|2[0-8])|{_LEAP}-02-29)"
)
_OFFSET = "(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
_TIME = (
    f"(?:(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]+)?{_OFFSET}|23:59:60(?:\\.[0-9]+)?(?:[Zz]|[+-]00:00))"
)
_CLOCK = "T(?:[0-9]+H(?:[0-9]+M(?:[0-9]+S)?)?|[0-9]+M(?:[0-9]+S)?|[0-9]+S)"
_DAYS = "(?:[0-9]+Y(?:[0-9]+M(?:[0-9]+D)?)?|[0-9]+M(?:[0-9]+D)?|[0-9]+D)"
_DURATION = f"P(?:[0-9]+W|{_DAYS}(?:{_CLOCK})?|{_CLOCK})"

_A, _X = "[A-Za-z0-9]", "[A-Za-z0-9-]"
_LABEL = f"(?:{_A}|{_A}{_A}|{_A}{_X}{_A}|{_A}{_X}{_X}{_A}|{_A}{_X}(?:{_A}{_X}|-{_A}){_X}{{0,58}}{_A})"
_HOST = f"{_LABEL}(?:\\.{_LABEL})*"
_BYTE = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = f"{_BYTE}(?:\\.{_BYTE}){{3}}"
_H = "[0-9A-Fa-f]{1,4}"
_LAST = f"(?:{_H}:{_H}|{_IPV4})"  # the last 32 bits
_IPV6 = (
    f"(?:(?:{_H}:){{6}}{_LAST}|::(?:{_H}:){{5}}{_LAST}|(?:{_H})?::(?:{_H}:){{4}}{_LAST}"
    f"|(?:(?:{_H}:){{0,1}}{_H})?::(?:{_H}:){{3}}{_LAST}|(?:(?:{_H}:){{0,2}}{_H})?::(?:{_H}:){{2}}{_LAST}"
    f"|(?:(?:{_H}:){{0,3}}{_H})?::{_H}:{_LAST}|(?:(?:{_H}:){{0,4}}{_H})?::{_LAST}"
    f"|(?:(?:{_H}:){{0,5}}{_H})?::{_H}|(?:(?:{_H}:){{0,6}}{_H})?::)"
)
_ATOM = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LOCAL = f'(?:{_ATOM}(?:\\.{_ATOM})*|"(?:[ !#-\\[\\]-~]|\\\\[ -~])*")'
_EMAIL = f"{_LOCAL}@(?:{_HOST}|\\[{_IPV4}\\]|\\[IPv6:{_IPV6}\\])"
_UUID = "[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}"
_POINTER = "(?:/(?:[^~/]|~[01])*)*"

# RFC 3986 (`more` is empty) and RFC 3987 (what lies beyond ASCII may stand unescaped)
_BEYOND = (
    "\\u00A0-\\uD7FF\\uF900-\\uFDCF\\uFDF0-\\uFFEF"
    + "".join(f"\\u{{{plane:X}0000}}-\\u{{{plane:X}FFFD}}" for plane in range(1, 14))
    + "\\u{E1000}-\\u{EFFFD}"
)
_PRIVATE = "\\uE000-\\uF8FF\\u{F0000}-\\u{FFFFD}\\u{100000}-\\u{10FFFD}"


def _reference(more: str, query_more: str, relative: bool) -> str:
    plain = f"A-Za-z0-9._~{more}\\-"
    escaped = "%[0-9A-Fa-f]{2}"
    pchar = f"(?:[{plain}!$&'()*+,;=:@]|{escaped})"
    user = f"(?:(?:[{plain}!$&'()*+,;=:]|{escaped})*@)?"
    literal = f"\\[(?:{_IPV6}|[vV][0-9A-Fa-f]+\\.[A-Za-z0-9._~!$&'()*+,;=:-]+)\\]"
    authority = f"{user}(?:{literal}|(?:[{plain}!$&'()*+,;=]|{escaped})*)(?::[0-9]*)?"
    empty = f"(?:/{pchar}*)*"  # path-abempty
    absolute = f"/(?:{pchar}+{empty})?"
    rootless = f"{pchar}+{empty}"
    tail = f"(?:\\?(?:[{plain}!$&'()*+,;=:@/?{query_more}]|{escaped})*)?(?:#(?:[{plain}!$&'()*+,;=:@/?]|{escaped})*)?"
    whole = f"[A-Za-z][A-Za-z0-9+.-]*:(?://{authority}{empty}|{absolute}|{rootless}|){tail}"
    if not relative:
        return whole
    noscheme = f"(?:[{plain}!$&'()*+,;=@]|{escaped})+{empty}"
    return f"(?:{whole}|(?://{authority}{empty}|{absolute}|{noscheme}|){tail})"


_VARIABLE = "(?:[A-Za-z0-9_]|%[0-9A-Fa-f]{2})+(?:\\.(?:[A-Za-z0-9_]|%[0-9A-Fa-f]{2})+)*(?:\\*|:[1-9][0-9]{0,3})?"
_TEMPLATE = (
    f"(?:[!#$&(-;=?-\\[\\]_a-z~{_BEYOND}{_PRIVATE}]|%[0-9A-Fa-f]{{2}}"
    f"|\\{{[+#./;?&=,!@|]?{_VARIABLE}(?:,{_VARIABLE})*\\}})*"
)

# name -> (expression of the whole string, most characters or None)
FORMATS: dict[str, tuple[str, int | None]] = {
    "date": (_DATE, None),
    "time": (_TIME, None),
    "date-time": (f"{_DATE}[Tt]{_TIME}", None),
    "duration": (_DURATION, None),
    "email": (_EMAIL, 320),
    "hostname": (_HOST, 253),
    "ipv4": (_IPV4, None),
    "ipv6": (_IPV6, None),
    "uuid": (_UUID, None),
    "json-pointer": (_POINTER, None),
    "relative-json-pointer": (f"(?:0|[1-9][0-9]*)(?:#|{_POINTER})", None),
    "uri": (_reference("", "", False), None),
    "uri-reference": (_reference("", "", True), None),
    "iri": (_reference(_BEYOND, _PRIVATE, False), None),
    "iri-reference": (_reference(_BEYOND, _PRIVATE, True), None),
    "uri-template": (_TEMPLATE, None),
}


def known(name: str) -> bool:
    """Whether a format can be asserted."""
    return name in FORMATS


def most_characters(name: str) -> int | None:
    """How long a string of a format may be."""
    return FORMATS[name][1]


def expression(name: str) -> str:
    """The expression of a whole string of a format, apart from how long it may be."""
    return f"^(?:{FORMATS[name][0]})$"


@lru_cache(maxsize=64)
def format_language(name: str) -> Language:
    """The language of a format, apart from how long it may be: made by tools/make_format_tables.py."""
    from .format_tables import TABLES

    return Whole(Table.unpacked(zlib.decompress(base64.b85decode(TABLES[name]))))
