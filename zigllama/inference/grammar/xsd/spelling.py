"""How values are written in a document: what is escaped, white space, the parts that every document has.

What could be written in several ways is written in one: `&amp;` `&lt;` `&gt;` in both places, `&quot;` and `&#9;`
`&#10;` `&#13;` in attributes, `&#13;` between tags; anything else stands for itself.
"""

from __future__ import annotations

from zigllama.inference.grammar.ir import Alt, Automaton, Bytes, Chars, Expr, Literal, Repeat, Seq, optional

IN_TEXT = {0x26: b"&amp;", 0x3C: b"&lt;", 0x3E: b"&gt;", 0x0D: b"&#13;"}
IN_ATTRIBUTE = {**IN_TEXT, 0x22: b"&quot;", 0x09: b"&#9;", 0x0A: b"&#10;"}
MAX_SPACE = 40  # characters between two tags: what is written comes to an end

_SPACE = Bytes(((0x9, 0xA), (0xD, 0xD), (0x20, 0x20)))
MIXED = Repeat(
    Alt(
        (
            Chars(
                (
                    (0x9, 0xA),
                    (0x20, 0x25),
                    (0x27, 0x3B),
                    (0x3D, 0x3D),
                    (0x3F, 0xD7FF),
                    (0xE000, 0xFFFD),
                    (0x10000, 0x10FFFF),
                )
            ),
            *(Literal(text) for text in IN_TEXT.values()),
        )
    ),
    0,
    None,
)


def _run(least: int) -> Automaton:
    """White space, as an automaton, which is called and not written out wherever it is used."""
    row = [((0x9, 0xA, i + 1), (0xD, 0xD, i + 1), (0x20, 0x20, i + 1)) for i in range(MAX_SPACE)]
    return Automaton((*row, ()), frozenset(range(least, MAX_SPACE + 1)))


SPACE, SOME_SPACE = _run(0), _run(1)


def prologue(space: Expr, some: Expr) -> Expr:
    """The XML declaration, which need not be there, and white space behind it."""
    said = Literal(b'<?xml version="1.0"')
    encoding = Seq((some, Alt((Literal(b'encoding="UTF-8"'), Literal(b'encoding="utf-8"')))))
    alone = Seq((some, Alt((Literal(b'standalone="yes"'), Literal(b'standalone="no"')))))
    return optional(Seq((said, optional(encoding), optional(alone), optional(Literal(b" ")), Literal(b"?>"), space)))


def escaped(a: Automaton, escapes: dict[int, bytes]) -> Automaton:
    """The same texts, with some ASCII characters written as others. ASCII bytes are never inside a character of UTF-8,
    so that an edge of such a byte is a way of its own."""
    rows = [list[tuple[int, int, int]]() for _ in a.edges]
    cuts = sorted(escapes)
    for state, row in enumerate(a.edges):
        first: dict[tuple[bytes, int], int] = {}
        for lo, hi, to in row:
            begin = lo
            for byte in (c for c in cuts if lo <= c <= hi):
                if begin < byte:
                    rows[state].append((begin, byte - 1, to))
                begin = byte + 1
                first[escapes[byte], to] = to
            if begin <= hi:
                rows[state].append((begin, hi, to))
        _trie(rows, state, [(text, to) for text, to in first])
        rows[state].sort()
    return Automaton(tuple(map(tuple, rows)), a.finals)


def _trie(rows: list[list[tuple[int, int, int]]], state: int, words: list[tuple[bytes, int]]) -> None:
    """Ways from a state by words, none the beginning of another; beginnings that they share are shared."""
    todo = [(state, words)]
    while todo:
        at, some = todo.pop()
        for byte in sorted({text[0] for text, _ in some}):
            rest = [(text[1:], to) for text, to in some if text[0] == byte]
            if len(rest) == 1 and not rest[0][0]:
                rows[at].append((byte, byte, rest[0][1]))
                continue
            rows.append([])
            rows[at].append((byte, byte, len(rows) - 1))
            todo.append((len(rows) - 1, rest))
