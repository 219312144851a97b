"""The unigram model's search and SentencePiece's normalisation, the textbook forms.

    pieces  a -2   b -2   ab -3   bc -3.5   c -4           "abc":  a b c -8    ab c -7    a bc -5.5   the best

A text is cut into pieces so that the sum of their scores (logarithms of probabilities) is the highest. The best cut up
to a byte is the best cut up to where its last piece begins, and that piece: so every byte is looked at once (Viterbi).

These are the twins of what tokenizers run, `zigllama.foundation.native_unigram` (ckernels/core/unigram.c), which walks
a trie and keeps no more scores than the longest piece has bytes.

Source: T. Kudo, "Subword Regularization", 2018, arXiv 1804.10959; the normalisation is SentencePiece's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

SPACE = "\u2581"
LONGEST_KEY = 1024  # bytes, as in C


def most_probable(text: str, pieces: Mapping[str, tuple[int, float]], unknown: float) -> list[tuple[int | None, str]]:
    """(id, text) of the pieces with the highest sum of scores; of equal sums the one found first, short pieces before
    long ones. `pieces`: ids and scores. A character that is no piece has the score `unknown` and the id None."""
    best = [0.0] + [-math.inf] * len(text)
    last = [(0, 0)] * (len(text) + 1)
    longest = max(map(len, pieces), default=1)
    for begin in range(len(text)):
        for end in range(begin + 1, min(len(text), begin + longest) + 1):
            found = pieces.get(text[begin:end])
            if found is None and end > begin + 1:
                continue
            i, score = found or (-1, unknown)
            if best[begin] + score > best[end]:
                best[end], last[end] = best[begin] + score, (begin, i)
    found_backwards: list[tuple[int | None, str]] = []
    end = len(text)
    while end:
        begin, i = last[end]
        found_backwards.append((None if i < 0 else i, text[begin:end]))
        end = begin
    return found_backwards[::-1]


def key_values(units: Sequence[int], replacements: bytes) -> dict[bytes, bytes]:
    """The character map that a double array holds: each key with its replacement.

    Unit u: label = u & 0x800000ff, a leaf if u & 256, offset = (u >> 10) << ((u & 512) >> 6). The child of node i by
    byte c stands at i ^ offset ^ c if its label is c; a leaf's value, the unit at i ^ offset without its highest bit,
    is where the replacement begins, which a zero byte ends. Raises ValueError for a key of more than LONGEST_KEY bytes:
    a unit that is its own descendant has keys without end.
    """
    found: dict[bytes, bytes] = {}
    waiting = [(0, b"")]
    while waiting:
        node, key = waiting.pop()
        if len(key) > LONGEST_KEY:
            raise ValueError(f"a key of more than {LONGEST_KEY} bytes, at unit {node}")
        base = node ^ (units[node] >> 10 << ((units[node] & 512) >> 6))
        if key and units[node] & 256:
            begin = units[base] & 0x7FFFFFFF
            found[key] = replacements[begin : replacements.index(0, begin)]
        for byte in range(1, 256):
            if base ^ byte < len(units) and units[base ^ byte] & 0x800000FF == byte and base ^ byte != node:
                waiting.append((base ^ byte, key + bytes((byte,))))
    return found


def normalize(
    text: bytes, table: Mapping[bytes, bytes], kept: Sequence[bytes], prefix: bool, merge: bool, escape: bool = True
) -> bytes:
    """A text as the search sees it: from left to right a piece of `kept` that begins here stays, else the longest key
    of `table` that begins here becomes its value, else a character stays. Spaces: `prefix` puts one before the text,
    `merge` takes them off its ends and makes one of several, `escape` writes them U+2581."""
    longest = max(map(len, table), default=0)
    parts = list[bytes]()
    at = 0
    while at < len(text):
        mine = max((k for k in kept if k and text.startswith(k, at)), key=len, default=b"")
        n = next((n for n in range(longest, 0, -1) if text[at : at + n] in table and at + n <= len(text)), 0)
        if mine:
            part, n = mine, len(mine)
        elif n:
            part = table[text[at : at + n]]
        else:
            n = 1 if text[at] < 0xC0 else 2 if text[at] < 0xE0 else 3 if text[at] < 0xF0 else 4
            part = text[at : at + n]
        parts.append(part)
        at += n
    space = SPACE.encode() if escape else b" "
    while merge and parts and parts[0] == b" ":
        parts.pop(0)
    out = bytearray(space if prefix and parts else b"")
    after_space = merge
    for part in parts:
        part = part.lstrip(b" ") if after_space else part
        out += part.replace(b" ", space)
        after_space = (merge and part.endswith(b" ")) if part else after_space
    while merge and out.endswith(space):
        del out[-len(space) :]
    return bytes(out)
