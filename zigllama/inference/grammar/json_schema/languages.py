"""Sets of strings as automata over UTF-8: expressions, finite sets, and what is in some of them and not in others.

A language has states from 0 on, 0 the first; `row(state)` lists where bytes lead as (lowest, highest, next), `step`
is one byte of it (DEAD where it leads nowhere), `finished` says whether the string may end. States are made when
asked for.
"""

from __future__ import annotations

import itertools
import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Protocol

from zigllama.errors import EmptyLanguage, GrammarBudget, GrammarError, UnsupportedSchema
from zigllama.inference.grammar import dfa, regex
from zigllama.inference.grammar.subsets import Work

from .whole import Whole, soon

DEAD = -1
KEPT = 512  # expressions
MOST_STATES = 4_000  # of a product that is searched for a string
MOST_CELLS = 200_000  # of its states' members together: with over 50 patterns at once, fewer states
MOST_STEPS = 800_000  # that its languages take to make states of their own, in all searches
MOST_LENGTH = 4_000  # characters up to which lengths are told apart in such a search
Row = Sequence[tuple[int, int, int]]


# UTF-8 as an automaton: state -> [(lowest, highest, next)], 0 between characters
UTF8 = {
    0: (
        (32, 127, 0),
        (194, 223, 1),
        (224, 224, 4),
        (225, 236, 2),
        (237, 237, 5),
        (238, 239, 2),
        (240, 240, 6),
        (241, 243, 3),
        (244, 244, 7),
    ),
    1: ((0x80, 0xBF, 0),),
    2: ((0x80, 0xBF, 1),),
    3: ((0x80, 0xBF, 2),),
    4: ((0xA0, 0xBF, 1),),
    5: ((0x80, 0x9F, 1),),
    6: ((0x90, 0xBF, 2),),
    7: ((0x80, 0x8F, 2),),
}


def utf8_step(state: int, byte: int) -> int:
    """The state after a byte, or DEAD."""
    for lo, hi, after in UTF8[state]:
        if lo <= byte <= hi:
            return after
    return DEAD


class Language(Protocol):
    """See above."""

    def row(self, state: int) -> Row:
        """Where which bytes lead."""

    def step(self, state: int, byte: int) -> int:
        """The state after a byte, or DEAD."""

    def finished(self, state: int) -> bool:
        """Whether the string may end here."""


def contains(language: Language, text: bytes) -> bool:
    """Whether a string is one of a language."""
    state = 0
    for byte in text:
        state = language.step(state, byte)
        if state == DEAD:
            return False
    return language.finished(state)


_expressions: OrderedDict[str, Language] = OrderedDict()
_lock = threading.Lock()


def _expression(source: str, purse: Work) -> Language:
    """Of an expression, shared by all that ask for it, until what they have come to is half of what it may make."""
    with _lock:
        found = _expressions.get(source)
        if found is not None and not (isinstance(found, dfa.Lazy) and found.worn):
            _expressions.move_to_end(source)
            return found
    try:
        found = soon(regex.expression(source), purse) or Texts([])
    except EmptyLanguage:
        found = Texts([])
    with _lock:
        _expressions[source] = found
        if len(_expressions) > KEPT:
            _expressions.popitem(last=False)
    return found


def found_in(source: str, pointer: str, keyword: str, purse: Work) -> Language:
    """All strings in which an ECMA-262 expression is found. Raises UnsupportedSchema for one that is not regular.
    `purse`: as `soon` has it."""
    try:
        return _expression(source, purse)
    except GrammarBudget:
        raise
    except GrammarError as error:
        raise UnsupportedSchema(pointer, keyword, f"{source!r:.80}: {error}") from None


@lru_cache(maxsize=1)
def every_text() -> Whole:
    """All strings: what is UTF-8."""
    return Whole(dfa.all_text())


class Texts:
    """A finite set of strings, sorted: a state is a range of them with how many bytes all of them share."""

    def __init__(self, texts: Sequence[bytes]) -> None:
        self.texts = sorted(set(texts))
        self._states: list[tuple[int, int, int]] = [(0, len(self.texts), 0)]
        self._known: dict[tuple[int, int, int], int] = {self._states[0]: 0}
        self._rows: dict[int, Row] = {}

    def row(self, state: int) -> Row:
        """Where which bytes lead."""
        found = self._rows.get(state)
        if found is None:
            lo, hi, depth = self._states[state]
            made = []
            if lo < hi and len(self.texts[lo]) == depth:
                lo += 1
            while lo < hi:
                byte = self.texts[lo][depth]
                bound = self.texts[lo][:depth] + bytes((byte + 1,)) if byte < 255 else None
                end = hi if bound is None else bisect_left(self.texts, bound, lo, hi)
                key = (lo, end, depth + 1)
                if key not in self._known:
                    self._known[key] = len(self._states)
                    self._states.append(key)
                made.append((byte, byte, self._known[key]))
                lo = end
            found = self._rows[state] = made
        return found

    def step(self, state: int, byte: int) -> int:
        """The state after a byte, or DEAD."""
        for lo, _, after in self.row(state):
            if lo == byte:
                return after
        return DEAD

    def finished(self, state: int) -> bool:
        """Whether a string of the set ends here."""
        lo, hi, depth = self._states[state]
        return lo < hi and len(self.texts[lo]) == depth

    def text(self, state: int) -> bytes:
        """The string of the set that ends here."""
        return self.texts[self._states[state][0]]

    def contains(self, text: bytes) -> bool:
        """Whether it is one of them."""
        i = bisect_left(self.texts, text)
        return i < len(self.texts) and self.texts[i] == text


State = tuple[int, ...]


def joined(rows: Sequence[Row]) -> Iterator[tuple[int, int, State]]:
    """Where bytes lead in several languages at once: (lowest, highest, state of each, DEAD where none), ascending and
    without bytes that lead nowhere in all."""
    if len(rows) == 1:
        yield from ((low, high, (after,)) for low, high, after in rows[0])
        return
    at = [0] * len(rows)
    cuts = sorted({cut for row in rows for low, high, _ in row for cut in (low, high + 1)})
    for low, end in itertools.pairwise(cuts):
        states = []
        for i, row in enumerate(rows):
            while at[i] < len(row) and row[at[i]][1] < low:
                at[i] += 1
            states.append(row[at[i]][2] if at[i] < len(row) and row[at[i]][0] <= low else DEAD)
        if any(q != DEAD for q in states):
            yield low, end - 1, tuple(states)


class Both:
    """Strings that are in some languages and not in others, of `least` to `most` characters.

    A state is a state of each language. It is only stepped into while a string can still be completed, which is
    looked for among the states of all languages together; where those are more than MOST_STATES, their members more
    than MOST_CELLS, or it takes the languages more than MOST_STEPS, it is taken for granted.
    """

    def __init__(self, members: Sequence[tuple[Language, bool]], least: int = 0, most: int | None = None) -> None:
        self.least, self.most = least, most
        self.members = list(members)
        if not any(wanted for _, wanted in self.members):
            self.members.append((every_text(), True))
        self.whole = self._as_whole()
        self.start: State = (0,) * len(self.members)
        self._edges: dict[State, list[tuple[int, int, State]]] = {}
        self._lengths: dict[State, int] | None = None
        self._live: dict[State, bool] = {}
        self._patience = MOST_STEPS
        self._searched = False
        self.bounded = least > 0 or most is not None

    def _as_whole(self) -> Whole | None:
        """The one automaton that says it all but for how many characters there may be at most; None: there is none.
        Then `least` is part of it."""
        language = self.members[0][0]
        if len(self.members) > 1 or not isinstance(language, Whole):
            return None
        if self.most is not None and self.most < self.least:
            return None
        found = language.at_least(self.least)
        if found is not None:
            self.members, self.least = [(found, True)], 0
        return found

    def step(self, state: State, byte: int) -> State | None:
        """The state after a byte; None where no string goes on so. Whether it can be completed: `live`."""
        after = []
        for (language, wanted), q in zip(self.members, state, strict=True):
            q = language.step(q, byte) if q != DEAD else DEAD
            if q == DEAD and wanted:
                return None
            after.append(q)
        return tuple(after)

    @property
    def n_states(self) -> int:
        """How many states have been looked at."""
        return len(self._edges)

    def possible(self, state: State) -> bool:
        """Whether no language that must be satisfied has failed already."""
        return all(q != DEAD or not wanted for (_, wanted), q in zip(self.members, state, strict=True))

    def finished(self, state: State, count: int) -> bool:
        """Whether the string may end here, being of `count` characters."""
        if count < self.least or (self.most is not None and count > self.most):
            return False
        return self._final(state)

    def _final(self, state: State) -> bool:
        return all(
            (q != DEAD and language.finished(q)) == wanted
            for (language, wanted), q in zip(self.members, state, strict=True)
        )

    def edges(self, state: State) -> list[tuple[int, int, State]]:
        """Where ranges of bytes lead."""
        found = self._edges.get(state)
        if found is None:
            rows = [language.row(q) if q != DEAD else () for (language, _), q in zip(self.members, state, strict=True)]
            found = self._edges[state] = [each for each in joined(rows) if self.possible(each[2])]
        return found

    def live(self, state: State, count: int) -> bool:
        """Whether a string can still be completed from here."""
        if self.whole is not None:
            return self.most is None or count + self.whole.shortest[state[0]] <= self.most
        if not self.bounded:
            known = self._live.get(state)
            return self._search(state) if known is None else known
        if self.most is not None and count > self.most:
            return False
        lengths = self._all_lengths()
        if lengths is None:
            return True
        span = lengths.get(state, 0) >> max(0, self.least - count)
        if self.most is not None:
            span &= (1 << (self.most - max(count, self.least) + 1)) - 1 if self.most >= self.least else 0
        return span != 0

    def texts(self, most: int) -> list[bytes] | None:
        """All strings, where they are no more than `most`; None: more, or it takes too long to say."""
        found: list[bytes] = []
        todo: list[tuple[State, int, bytes]] = [(self.start, 0, b"")] if self.live(self.start, 0) else []
        patience = 32 * most
        while todo:
            state, count, text = todo.pop()
            if self.finished(state, count):
                found.append(text)
            for lo, hi, after in self.edges(state):
                n = count + (not 0x80 <= lo <= 0xBF)
                if self.live(after, n):
                    patience -= hi - lo + 1
                    if patience < 0:
                        return None
                    todo += [(after, n, text + bytes((byte,))) for byte in range(lo, hi + 1)]
            if len(found) > most:
                return None
        return found

    def _search(self, state: State) -> bool:
        """A walk from a state to one where a string may end, as long as there is patience for it: what the languages
        take to make states of their own is taken off that, for all walks together."""
        lazy = [language for language, _ in self.members if isinstance(language, dfa.Lazy)]
        until = sum(each.source.work.done for each in lazy) + self._patience
        found = self._walk(state, lambda: sum(each.source.work.done for each in lazy) > until)
        self._patience = until - sum(each.source.work.done for each in lazy)
        return found

    def _walk(self, state: State, tired: Callable[[], bool]) -> bool:
        came: dict[State, State | None] = {state: None}
        todo = [state]
        most = min(MOST_STATES, MOST_CELLS // len(self.members))
        while todo:
            at = todo.pop()
            if self._live.get(at) or self._final(at):
                back: State | None = at
                while back is not None:
                    self._live[back] = True
                    back = came[back]
                return True
            if at in self._live:
                continue
            if len(came) > most or tired():
                return True
            for _, _, after in reversed(self.edges(at)):
                if after not in came:
                    came[after] = at
                    todo.append(after)
        for at in came:
            self._live[at] = False
        return False

    def _all_lengths(self) -> dict[State, int] | None:
        """Of each state a number whose bit n says that n more characters may complete a string; None: too many states.
        The highest bit stands for all lengths from there on.
        """
        if self._searched:
            return self._lengths
        self._searched = True
        top = (self.most if self.most is not None else self.least) + 1
        if top > MOST_LENGTH:
            return None
        order: list[State] = [self.start]
        seen = {self.start}
        before: dict[State, list[tuple[State, int]]] = {}
        for at in order:
            for lo, _, after in self.edges(at):
                before.setdefault(after, []).append((at, 0 if 0x80 <= lo <= 0xBF else 1))
                if after not in seen:
                    seen.add(after)
                    order.append(after)
            if len(order) > MOST_STATES:
                return None
        keep, high = (1 << top) - 1, 1 << top
        lengths = {at: int(self._final(at)) for at in order}
        todo = [at for at in order if lengths[at]]
        while todo:
            at = todo.pop()
            for other, more in before.get(at, ()):
                moved = lengths[at] << more
                moved = (moved & keep) | (high if moved >> top else 0)
                if moved | lengths[other] != lengths[other]:
                    lengths[other] |= moved
                    todo.append(other)
        self._lengths = lengths
        return lengths


_both: OrderedDict[tuple[object, ...], Both] = OrderedDict()
BOTH_KEPT, BOTH_STATES = 32, 300  # of languages that many schemas ask for: how many, and of up to how many states


def both_of(members: Sequence[tuple[Language, bool]], least: int, most: int | None) -> Both:
    """What is in languages and not in others; of expressions and formats, which are kept, this is kept too."""
    if any(isinstance(language, Texts) for language, _ in members):
        return Both(members, least, most)
    key = tuple(members), least, most
    found = _both.get(key)
    if found is None or found.n_states > BOTH_STATES:
        found = _both[key] = Both(members, least, most)
        while len(_both) > BOTH_KEPT:
            with suppress(KeyError):
                _both.popitem(last=False)
    return found
