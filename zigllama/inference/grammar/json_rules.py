"""Any JSON text, as rules (RFC 8259).

For writing there is no white space around the whole text, which ends with its value. Within it there may be any; who
writes bounds it (grammar_constraints.py). Nesting is not limited.
"""

from __future__ import annotations

from functools import cache

from .ir import MAX_CODE_POINT, Alt, Bytes, Chars, Expr, Literal, Ref, Repeat, Rules, Seq, optional

DIGIT, HEX = Bytes(((0x30, 0x39),)), Bytes(((0x30, 0x39), (0x41, 0x46), (0x61, 0x66)))


def string_rule() -> Expr:
    """A string in its quotes; escapes of surrogates in pairs, or they would stand for no character."""
    plain = Chars(((0x20, 0x21), (0x23, 0x5B), (0x5D, MAX_CODE_POINT)))
    d, not_d = (
        Bytes(((0x44, 0x44), (0x64, 0x64))),
        Bytes(((0x30, 0x39), (0x41, 0x43), (0x45, 0x46), (0x61, 0x63), (0x65, 0x66))),
    )
    low, high = Bytes(((0x30, 0x37),)), Bytes(((0x38, 0x39), (0x41, 0x42), (0x61, 0x62)))
    tail = Bytes(((0x43, 0x46), (0x63, 0x66)))
    code = Alt(
        (
            Seq((not_d, HEX, HEX, HEX)),
            Seq((d, low, HEX, HEX)),
            Seq((d, high, HEX, HEX, Literal(b"\\u"), d, tail, HEX, HEX)),
        )
    )
    escape = Seq(
        (Literal(b"\\"), Alt((Bytes(tuple((c, c) for c in sorted(b'"\\/bfnrt'))), Seq((Literal(b"u"), code)))))
    )
    return Seq((Literal(b'"'), Repeat(Alt((plain, escape)), 0, None), Literal(b'"')))


def number_rule() -> Expr:
    """A number."""
    whole = Alt((Literal(b"0"), Seq((Bytes(((0x31, 0x39),)), Repeat(DIGIT, 0, None)))))
    digits = Repeat(DIGIT, 1, None)
    exponent = Seq((Bytes(((0x45, 0x45), (0x65, 0x65))), optional(Bytes(((0x2B, 0x2B), (0x2D, 0x2D)))), digits))
    return Seq((optional(Literal(b"-")), whole, optional(Seq((Literal(b"."), digits))), optional(exponent)))


def _listed(open_: bytes, item: Expr, close: bytes, ws: Expr) -> Expr:
    more = Repeat(Seq((Literal(b","), ws, item, ws)), 0, None)
    return Seq((Literal(open_), ws, optional(Seq((item, ws, more))), Literal(close)))


@cache
def json_rules(writing: bool = True) -> Rules:
    """Rules of any JSON text; `writing`: without white space around it."""
    ws = Repeat(Bytes(((0x09, 0x0A), (0x0D, 0x0D), (0x20, 0x20))), 0, None)
    value = Alt(
        (
            Ref("object"),
            Ref("array"),
            Ref("string"),
            Ref("number"),
            Literal(b"true"),
            Literal(b"false"),
            Literal(b"null"),
        )
    )
    member = Seq((Ref("string"), ws, Literal(b":"), ws, Ref("value")))
    rules: dict[str, Expr] = {
        "text": Ref("value") if writing else Seq((ws, Ref("value"), ws)),
        "value": value,
        "object": _listed(b"{", member, b"}", ws),
        "array": _listed(b"[", Ref("value"), b"]", ws),
        "string": string_rule(),
        "number": number_rule(),
    }
    return Rules(rules, "text", "JSON")
