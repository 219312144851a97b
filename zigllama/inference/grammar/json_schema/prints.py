"""Fingerprints of texts and values that must differ.

Where no two items may be equal, or no two names, what has come must be remembered. When a model writes there would be
as many places as texts; so texts of which there are many are remembered by one of FINGERPRINTS numbers, and two that
have the same number pass for equal: the second is not written.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from .values import spelled

FINGERPRINTS = 127
FEW = 64  # values that are told apart as such, where there are no more


def longer(text: bytes | int | None, byte: int) -> bytes | int | None:
    """What is kept of a text after one more byte: all of it; when writing a fingerprint below FINGERPRINTS, or there
    would be as many places as texts. Two texts of one fingerprint pass for the same then: both are not written.
    """
    if text is None:
        return None
    return (text * 31 + byte + 1) % FINGERPRINTS if isinstance(text, int) else text + bytes((byte,))


def of_text(text: bytes) -> int:
    """The fingerprint of a whole text."""
    found = 0
    for byte in text:
        found = (found * 31 + byte + 1) % FINGERPRINTS
    return found


def of_number(text: str) -> int:
    """That of a number as it is written, without zeros at the end of its fraction."""
    found = 0
    for c in text:
        found = (found * 10 + int(c) if c.isdigit() else found * 7 + 64) % FINGERPRINTS
    return found


Identity = tuple[Any, ...]  # ("s", text), ("n", number), ("l", word), ("a", ...), ("o", ...); or with a fingerprint


def rough(identity: Identity) -> bool:
    """Whether it is a mere fingerprint."""
    return len(identity) > 1 and isinstance(identity[1], int)


def roughly(identity: Identity) -> Identity:
    """The same with a fingerprint, as a model's text has it where there are many."""
    match identity:
        case ("s", bytes(text)):
            return ("s", of_text(text))
        case ("n", Decimal() as value):
            return ("n", of_number(spelled(value)))
    return identity


def folded(identity: Identity, writing: bool) -> Identity:
    """An array's or object's identity; when writing with a fingerprint in place of its members."""
    if not writing:
        return identity
    total = 0
    if identity[0] == "o":
        for name, member in identity[1]:
            total += _number((of_text(name) if isinstance(name, bytes) else name, roughly(member)))
    else:
        for item in identity[1:]:
            total = total * 31 + _number(roughly(item)) + 1
    return (identity[0], total % FINGERPRINTS)


def _number(identity: object) -> int:
    return zlib.crc32(repr(identity).encode())


class Barred:
    """Values that must not come. Of some only the fingerprint may be known; what has the same passes for equal."""

    def __init__(self, identities: Iterable[Identity]) -> None:
        self.whole = frozenset(identities)
        self._prints = frozenset(map(roughly, self.whole))
        self._rough = frozenset(filter(rough, self.whole))

    def bars(self, identity: Identity) -> bool:
        """Whether it is one of them."""
        if not self.whole:
            return False
        if rough(identity):
            return identity in self._prints
        return identity in self.whole or (bool(self._rough) and roughly(identity) in self._rough)

    def __len__(self) -> int:
        return len(self.whole)
