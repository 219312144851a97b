"""Strings: which texts a schema allows, and where one stands within the quotes of JSON.

Within the quotes two things are kept apart. `Quoted` reads the spelling: escapes, UTF-8, the closing quote. What the
string says, byte by byte of its UTF-8, goes to a *listener*, which knows what may follow and what it has amounted to at
the end. `Said` is the listener of a string value, in names.py there is the one of a property's name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol, Self

from .ends import can_end
from .languages import DEAD, UTF8, utf8_step
from .transducer import Action, Go, Pop

if TYPE_CHECKING:
    from .plans import Plans

ESCAPES = {ord(k): ord(v) for k, v in zip('"\\/bfnrt', '"\\/\b\f\n\r\t', strict=True)}
HEX = {ord(c): int(c, 16) for c in "0123456789abcdefABCDEF"}


CUTS = sorted({c for row in UTF8.values() for low, high, _ in row for c in (low, high + 1)} | {0x22, 0x23, 0x5C, 0x5D})
ESCAPE_CUTS = sorted({c for b in (*ESCAPES, ord("u")) for c in (b, b + 1)})
HEX_CUTS = sorted({c for b in HEX for c in (b, b + 1)})


class Listener(Protocol):
    """What takes a string's text in."""

    number: int

    @property
    def searched(self) -> bool:
        """Whether it must be looked for an end, since those that are near may be barred."""

    def feed(self, byte: int) -> Self | None:
        """After one more byte of the text's UTF-8; None where no string that is allowed goes on so."""

    def row(self) -> Iterable[tuple[int, int, Listener]]:
        """Where bytes lead, as (lowest, highest, listener): the same as `feed` says of each."""

    def any_character(self) -> Listener | None:
        """Where each character leads, if all lead to the same."""

    def cuts(self) -> Iterable[int]:
        """Where, among the 256 bytes, what they lead to may change."""

    def close(self) -> object | None:
        """The result, if the string may end here."""


class Quoted:
    """A place within a string. `escape` is (): between characters; ("utf8", state); ("\\\\",); ("u", digits); and after
    the first half of a pair, h: ("pair", h), ("pair\\\\", h), ("pairu", h, digits).

    Where all characters are alike to the listener, digits are told apart only as far as surrogates go.
    """

    __slots__ = ("_plain", "escape", "listener", "number", "plans")

    def __init__(self, plans: Plans, number: int, listener: Listener, escape: tuple[Any, ...]) -> None:
        self.plans, self.number, self.listener, self.escape = plans, number, listener, escape

    def _at(self, listener: Listener | None, *escape: object) -> Action | None:
        return None if listener is None else Go(self.plans.place(Quoted, listener, escape))

    def _after(self, byte: int, state: int) -> Listener | None:
        """The listener after a byte, with UTF-8 in this state then; None where its text could not be brought to an
        end."""
        after = self.listener.feed(byte)
        return None if after is not None and after.searched and not can_end(after, self.plans.ends, state) else after

    def like(self) -> None:
        """No other place is known where all but whitespace does the same."""
        return

    def cuts(self) -> Iterable[int]:
        """Where what bytes do may change."""
        kind = self.escape[0] if self.escape else ""
        if kind in ("", "utf8"):
            found: set[int] = set(CUTS)
            if self.listener.any_character() is None:
                found.update(self.listener.cuts())
            return found
        return ESCAPE_CUTS if kind in ("\\", "pair", "pair\\") else HEX_CUTS

    def after(self, result: object) -> None:
        """Nothing is within a string."""
        raise AssertionError(result)

    def ended(self) -> None:
        """A string ends with its quote."""
        return

    def act(self, byte: int) -> Action | None:
        """What a byte does."""
        escape = self.escape
        if not escape:
            return self._between(byte)
        kind = escape[0]
        if kind == "utf8":
            state = utf8_step(escape[1], byte)
            if state == DEAD:
                return None
            uniform = self.listener.any_character()
            if uniform is not None:
                return self._at(self.listener, "utf8", state) if state else self._at(uniform)
            after = self._after(byte, state)
            return self._at(after, "utf8", state) if state else self._at(after)
        if kind == "\\":
            return self._escaped(byte)
        if kind == "u":
            return self._digit(byte, escape[1])
        if kind == "pair":
            return self._at(self.listener, "pair\\", escape[1]) if byte == 0x5C else None
        if kind == "pair\\":
            return self._at(self.listener, "pairu", escape[1], "") if byte == 0x75 else None
        return self._second(byte, escape[1], escape[2])

    def _between(self, byte: int) -> Action | None:
        listener = self.listener
        if byte == 0x22:
            result = listener.close()
            return None if result is None else Pop(result)
        if byte == 0x5C:
            return self._at(listener, "\\") if self._escapable() else None
        state = utf8_step(0, byte)
        if state == DEAD:
            return None
        uniform = listener.any_character()
        if state:
            if uniform is not None:
                return self._at(listener, "utf8", state)
            return self._at(self._after(byte, state), "utf8", state)
        return self._at(uniform if uniform is not None else self._after(byte, 0))

    def _escapable(self) -> bool:
        """Whether something that is written with a backslash may follow."""
        listener = self.listener
        if not self.plans.writing or listener.any_character() is not None:
            return listener.any_character() is not None or any(
                listener.feed(b) is not None for b in (*range(0x80), *range(0xC2, 0xF5))
            )
        return any(self._after(b, 0) is not None for b in (*range(0x20), *ESCAPES.values()))

    def _escaped(self, byte: int) -> Action | None:
        listener = self.listener
        if byte in ESCAPES:
            return self._at(self._say(ESCAPES[byte]))
        if byte != 0x75:
            return None
        if self.plans.writing and listener.any_character() is None and not self._some(""):
            return None
        return self._at(listener, "u", "")

    def _some(self, digits: str) -> bool:
        """When writing: whether a control character that begins with these digits may follow."""
        return any(f"{c:04x}".startswith(digits) and self._after(c, 0) is not None for c in range(0x20))

    def _say(self, code: int) -> Listener | None:
        """The listener after a character."""
        listener: Listener | None = self.listener.any_character()
        if listener is not None:
            return listener
        listener = self.listener
        for byte in chr(code).encode():
            listener = listener.feed(byte)
            if listener is None:
                return None
        return None if listener.searched and not can_end(listener, self.plans.ends) else listener

    def _digit(self, byte: int, digits: str) -> Action | None:
        if byte not in HEX:
            return None
        uniform = self.listener.any_character()
        if uniform is not None:
            digits = _surrogate_class(digits + chr(byte).lower())
        else:
            digits += chr(byte).lower()
            if self.plans.writing and not self._some(digits):
                return None
        if digits[0] == "d" and digits[1:2] >= "c":  # a second half without its first
            return None
        if len(digits) < 4:
            return self._at(self.listener, "u", digits)
        code = int(digits, 16)
        if 0xD800 <= code < 0xDC00:
            return self._at(self.listener, "pair", code)
        return self._at(self._say(code))

    def _second(self, byte: int, high: int, digits: str) -> Action | None:
        if byte not in HEX:
            return None
        digits += chr(byte).lower()
        if self.listener.any_character() is not None:
            digits = _surrogate_class(digits)
        if not (digits.ljust(4, "f") >= "dc00" and digits.ljust(4, "0") <= "dfff"):
            return None
        if len(digits) < 4:
            return self._at(self.listener, "pairu", high, digits)
        return self._at(self._say(0x10000 + ((high - 0xD800) << 10) + int(digits, 16) - 0xDC00))


def _surrogate_class(digits: str) -> str:
    """Digits, as far as it matters whether they become half of a pair."""
    if digits[0] != "d":
        return "0" * len(digits)
    if len(digits) == 1:
        return "d"
    second = digits[1]
    return "d" + ("0" if second < "8" else "8" if second < "c" else "c") + "0" * (len(digits) - 2)
