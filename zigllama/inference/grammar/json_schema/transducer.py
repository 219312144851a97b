"""The machine itself: places within one value, a stack of the values around it, and what a finished value says upwards.

A *place* knows what each byte does, and nothing of what is around it:

    Go(place)             the next place within the same value
    Push(child, frame)    a value within begins with this byte: go to `child`; `frame` is the place that waits for it
    Pop(result)           the value ends with this byte; the frame goes on at frame.after(result)
    Over(result)          the value has ended before this byte (a number), which is for the frame to read
    None                  no text goes on so

A state is a place and the stack of frames below it; both are interned, so that the same state is the same number. This
is the twin of core/json_schema.c, which keeps what places said in tables and asks only once.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from zigllama.errors import GrammarBudget
from zigllama.inference.grammar.machine import DEAD, LIMIT_BYTES

SPACE = b" \t\n\r"  # what JSON calls whitespace
TOKENS = tuple(
    sorted({c for b in b' \t\n\r",-0123456789:[]{}tfn' for c in (b, b + 1)})
)  # where tokens' first bytes change

BYTES_PER_STATE = 400  # of a state in Python, about


class Result(NamedTuple):
    """What a value turned out to be: which of the schemas asked about it are satisfied, and what it is."""

    satisfied: tuple[bool, ...]
    identity: Any


class Place(Protocol):
    """See above. `number` is the place's own, from 0 on."""

    number: int

    def act(self, byte: int) -> Action | None:
        """What a byte does here."""

    def after(self, result: object) -> Place | None:
        """Where it goes on when the value it waits for has ended."""

    def ended(self) -> object | None:
        """The result, where the value may have ended here without a further byte."""


class Go(NamedTuple):
    """To a place in the same value."""

    place: Place


class Push(NamedTuple):
    """Into a value within."""

    child: Place
    frame: Place


class Pop(NamedTuple):
    """Out of the value, with this byte."""

    result: object


class Over(NamedTuple):
    """Out of the value, before this byte."""

    result: object


Action = Go | Push | Pop | Over


class Transducer:
    """Runs places as a machine (grammar/machine.py). `first` is the place before the document, and `last` the one after
    it: in that, and only there, a document may end.
    """

    def __init__(self, first: Place, last: Place, limit: int = LIMIT_BYTES // BYTES_PER_STATE) -> None:
        self.last, self.limit = last, limit
        self._frames: list[tuple[Place, int]] = []
        self._frame_numbers: dict[tuple[int, int], int] = {}
        self._states: list[tuple[Place, int]] = []
        self._state_numbers: dict[tuple[int, int], int] = {}
        self._actions: dict[tuple[int, int], Action | None] = {}
        self._next: dict[tuple[int, int], int] = {}
        self.start = self._state(first, -1)

    def _state(self, place: Place, frame: int) -> int:
        key = (place.number, frame)
        found = self._state_numbers.get(key)
        if found is None:
            found = self._state_numbers[key] = len(self._states)
            self._states.append((place, frame))
            if found > self.limit:
                raise GrammarBudget("states", found, self.limit)
        return found

    def _frame(self, place: Place, below: int) -> int:
        key = (place.number, below)
        found = self._frame_numbers.get(key)
        if found is None:
            found = self._frame_numbers[key] = len(self._frames)
            self._frames.append((place, below))
        return found

    def place(self, state: int) -> Place:
        """The place of a state."""
        return self._states[state][0]

    def step(self, state: int, byte: int) -> int:
        """The state after a byte, or DEAD."""
        if state == DEAD:
            return DEAD
        found = self._next.get((state, byte))
        if found is None:
            found = self._next[(state, byte)] = self._step(*self._states[state], byte)
        return found

    def _step(self, place: Place, frame: int, byte: int) -> int:
        while True:
            key = (place.number, byte)
            if key in self._actions:
                action = self._actions[key]
            else:
                action = self._actions[key] = place.act(byte)
            match action:
                case None:
                    return DEAD
                case Go(after):
                    return self._state(after, frame)
                case Push(child, waiting):
                    return self._state(child, self._frame(waiting, frame))
                case Pop(result) | Over(result):
                    waiting, frame = self._frames[frame]
                    after_value = waiting.after(result)
                    if after_value is None:
                        return DEAD
                    if isinstance(action, Pop):
                        return self._state(after_value, frame)
                    place = after_value

    def finished(self, state: int) -> bool:
        """Whether the document may end here."""
        place, frame = self._states[state]
        if frame >= 0 and self._frames[frame][1] < 0:
            result = place.ended()
            if result is None:
                return False
            after = self._frames[frame][0].after(result)
            return after is self.last
        return place is self.last
