"""Texts: which strings a schema allows, and what one has amounted to so far.

`TextPlan` is what is to be known of a string before it begins, `Said` the listener (strings.py) that takes its text in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

from .ends import can_end
from .formats import format_language
from .formula import Formula, Way, atoms_of, evaluate
from .languages import DEAD, Both, Language, Texts, both_of, contains, every_text
from .printed import PURSE, Printed, printed
from .prints import FEW, FINGERPRINTS, longer
from .transducer import Result
from .whole import Whole, one_of

if TYPE_CHECKING:
    from .plans import Plans, Valued


class Acceptor:
    """The texts of one way of satisfying a schema: a language with bounds on the number of characters."""

    def __init__(self, plans: Plans, way: Way, barred: Callable[[bytes], bool], few: int = 0) -> None:
        least, most = 0, None
        texts: set[str] | None = None
        excluded: set[str] = set()
        members: list[tuple[Language, bool]] = []
        for f, wanted in way.literals:
            sort, argument = f.atom[0], f.atom[1]
            if sort == "length":
                if wanted:
                    least = max(least, argument)
                else:
                    most = argument - 1 if most is None else min(most, argument - 1)
            elif sort == "texts":
                if wanted:
                    texts = set(argument) if texts is None else texts & set(argument)
                else:
                    excluded |= set(argument)
            else:
                members.append((language_of(plans, f), wanted))
        self.empty = most is not None and least > most
        self.texts: list[bytes] = []
        self.free = texts is None and not members and not excluded
        if texts is not None:
            kept = [
                t.encode()
                for t in texts - excluded
                if len(t) >= least
                and (most is None or len(t) <= most)
                and not barred(t.encode())
                and all(contains(language, t.encode()) == wanted for language, wanted in members)
            ]
            members, least, most, self.texts = [(Texts(kept), True)], 0, None, kept
            self.empty = self.empty or not kept
        elif excluded:
            members.append((Texts([t.encode() for t in excluded]), False))
        self.least, self.most = least, most
        self.finite = texts is not None
        self.both = None if self.free else both_of(members, least, most)
        if self.both is not None and not self.empty and not self.finite:
            self.empty = not self.both.live(self.both.start, 0)
            found = self.both.texts(few) if few and not self.empty else None
        elif few and most == 0 and self.free:
            found = [b""]
        else:
            found = None
        if found is not None:
            self.texts, self.finite, self.free = [t for t in found if not barred(t)], True, False
            self.both, self.empty = Both([(Texts(self.texts), True)]), not self.texts
        self.cap = max(least, most + 1 if most is not None else 0)


def language_of(plans: Plans, f: Formula) -> Language:
    """The language of a pattern's, a format's or a set's atom."""
    sort, argument = f.atom[0], f.atom[1]
    if sort == "pattern":
        return plans.schemas.expression(str(argument), "", "pattern")
    if sort == "format":
        return format_language(str(argument))
    return Texts([t.encode() for t in argument])


class TextPlan:
    """What is to be kept of a string: the ways in which it may still satisfy, the atoms whose truth is asked for."""

    def __init__(self, plans: Plans, valued: Valued) -> None:
        self.plans, self.valued = plans, valued
        self.barred = valued.plan.barred
        few = FEW if valued.plan.identity and plans.writing else 0
        made = [(way, Acceptor(plans, way, lambda text: self.barred.bars(("s", text)), few)) for way in valued.ways]
        self.ways = [(way, acceptor) for way, acceptor in made if not acceptor.empty]
        self.alive = bool(self.ways)
        residues = [f for way, _ in self.ways for f, _ in way.residues]
        open_formulas = [] if valued.fixed is not None else list(valued.formulas)
        self.asked = atoms_of(open_formulas + residues)
        self.languages = [None if f.atom[0] == "length" else language_of(plans, f) for f in self.asked]
        lengths = [int(f.atom[1]) for f in self.asked if f.atom[0] == "length"]
        self.cap = max([a.cap for _, a in self.ways] + lengths + [0])
        self.identity = valued.plan.identity
        exactly = not plans.writing or all(a.finite for _, a in self.ways)
        self.nothing: bytes | int | None = None if not self.identity else b"" if exactly else 0
        self.searched = plans.writing and ((bool(self.barred) and not exactly) or any(w.residues for w, _ in self.ways))

    def can_finish(self) -> bool:
        """Whether there is a string."""
        return self.alive and (not self.searched or can_end(self.begin(), self.plans.ends))

    def outcomes(self) -> dict[Any, tuple[bool, ...]] | None:
        """All strings there are, as identities, with what they satisfy; None: many."""
        size = self.size()
        if size is None or size > FEW:
            return None
        found = {}
        for text in sorted({text for _, a in self.ways for text in a.texts}):
            listener: Said | None = self.begin()
            for byte in text:
                listener = None if listener is None else listener.feed(byte)
            result = None if listener is None else listener.close()
            if result is not None:
                found[result.identity] = result.satisfied
        return found

    def size(self) -> int | None:
        """How many strings there are; None: many."""
        if not all(a.finite for _, a in self.ways):
            return None
        return len({text for _, a in self.ways for text in a.texts})

    def _one_result(self, text: bytes | int | None) -> Result | None:
        """The result, if it is the same for all texts."""
        if self.valued.fixed is None or any(way.residues for way, _ in self.ways):
            return None
        return Result(self.valued.fixed, ("s", text))

    def listed(self) -> dict[bytes, Result] | None:
        """All texts that it may be, with their results, where they are a list."""
        if not all(a.finite for _, a in self.ways):
            return None
        found: dict[bytes, Result] = {}
        for text in {text for _, a in self.ways for text in a.texts}:
            result = self._one_result(None if self.nothing is None else text)
            if result is None:
                listener: Said | None = self.begin()
                for byte in text:
                    listener = listener.feed(byte) if listener is not None else None
                result = listener.close() if listener is not None else None
            if result is not None and not self.barred.bars(result.identity):
                found[text] = result
        return found

    def lengths(self) -> tuple[int, int | None, Result] | None:
        """The least and most characters and the result, where any text of such a length may come and is as good as
        another."""
        result = self._one_result(None)
        if result is None or len(self.ways) != 1 or self.nothing is not None or not self.ways[0][1].free:
            return None
        return self.ways[0][1].least, self.ways[0][1].most, result

    def whole(self) -> tuple[Whole, int | None, Result] | None:
        """The automaton of all strings, the most characters and the result, where one says which may come and each
        is as good as another."""
        result = self._one_result(None)
        if result is None or self.nothing is not None or self.searched:
            return None
        if len(self.ways) == 1 and self.ways[0][1].free:
            return None
        every = every_text()
        found = one_of([(every.at_least(a.least) if a.both is None else a.both.whole, a.most) for _, a in self.ways])
        return None if found is None else (*found, result)

    def printed(self) -> tuple[Printed, list[Result | None]] | None:
        """The automaton of all strings with their fingerprints, and the result of each of its states, where it is
        fingerprints that are kept and nothing else is asked; None: it is not so, or not known."""
        if self.nothing != 0 or self._one_result(None) is None or any(a.most is not None for _, a in self.ways):
            return None
        language: Whole | None = None
        if not all(a.free and not a.least for _, a in self.ways):
            every = every_text()
            one = one_of([(every.at_least(a.least) if a.both is None else a.both.whole, None) for _, a in self.ways])
            if one is None:
                return None
            language = one[0]
        made = self.plans.printed.get(language) or printed(language)
        if made is None or (language not in self.plans.printed and self.plans.printed_cells > PURSE):
            return None
        if language not in self.plans.printed:
            self.plans.printed[language] = made
            self.plans.printed_cells += made.table.next.size
        found = [self._one_result(i) for i in range(FINGERPRINTS)]
        ends = made.ends([None if r is None or self.barred.bars(r.identity) else r for r in found])
        return None if ends is None else (made, ends)

    def begin(self) -> Said:
        """Before the first character."""
        states = tuple(a.both.start if a.both else () for _, a in self.ways)
        asked = tuple(0 for _ in self.asked)
        return self.plans.place(Said, self, states, 0, asked, self.nothing)


class Said:
    """A string's text so far: the state of each way (None: it has failed), how many characters (as far as it matters),
    and of each atom that is asked for the state of its language.
    """

    __slots__ = ("_any", "asked", "count", "number", "plan", "plans", "states", "text")

    def __init__(
        self,
        plans: Plans,
        number: int,
        plan: TextPlan,
        states: tuple[tuple[int, ...] | None, ...],
        count: int,
        asked: tuple[int, ...],
        text: bytes | int | None,
    ) -> None:
        self.plans, self.number, self.plan = plans, number, plan
        self.states, self.count, self.asked, self.text = states, count, asked, text
        self._any: Said | bool | None = False

    @property
    def searched(self) -> bool:
        """As Listener."""
        return self.plan.searched

    def feed(self, byte: int) -> Said | None:
        """After one more byte."""
        plan = self.plan
        count = min(self.count + (not 0x80 <= byte <= 0xBF), plan.cap)
        states: list[tuple[int, ...] | None] = []
        alive = False
        for (_, acceptor), state in zip(plan.ways, self.states, strict=True):
            if state is not None:
                if acceptor.both is not None:
                    state = acceptor.both.step(state, byte)
                    if state is not None and not acceptor.finite and not acceptor.both.live(state, count):
                        state = None
                elif acceptor.most is not None and count > acceptor.most:
                    state = None
            alive = alive or state is not None
            states.append(state)
        if not alive:
            return None
        asked = tuple(
            0 if language is None else language.step(q, byte) if q != DEAD else DEAD
            for language, q in zip(plan.languages, self.asked, strict=True)
        )
        text = longer(self.text, byte)
        return self.plans.place(Said, plan, tuple(states), count, asked, text)

    def row(self) -> Iterable[tuple[int, int, Said]]:
        """Where bytes lead, as (lowest, highest, listener)."""
        plan = self.plan
        acceptor, state = plan.ways[0][1], self.states[0]
        both = acceptor.both
        if len(plan.ways) > 1 or plan.asked or self.text is not None or both is None or state is None:
            for low, end in pairwise(sorted({0, 0x80, 0xC0, 256, *self.cuts()})):
                after = self.feed(low)
                if after is not None:
                    yield low, end - 1, after
            return
        for low, high, to in both.edges(state):
            count = min(self.count + (not 0x80 <= low <= 0xBF), plan.cap)
            if acceptor.finite or both.live(to, count):
                yield low, high, self.plans.place(Said, plan, (to,), count, (), None)

    def any_character(self) -> Said | None:
        """Where each character leads: known where only lengths matter."""
        if self._any is False:
            plain = self.text is None and not any(self.plan.languages)
            for (_, acceptor), state in zip(self.plan.ways, self.states, strict=True):
                plain = plain and (state is None or acceptor.both is None)
            found = self.feed(0x61) if plain else None
            dead = found is not None and found.searched and not can_end(found, self.plans.ends)
            self._any = None if dead else found
        return cast("Said | None", self._any)

    def cuts(self) -> Iterable[int]:
        """Where what bytes lead to may change."""
        if self.text is not None:
            return range(256)
        found: set[int] = set()
        for (_, acceptor), state in zip(self.plan.ways, self.states, strict=True):
            if state is not None and acceptor.both is not None:
                found.update(c for low, high, _ in acceptor.both.edges(state) for c in (low, high + 1))
        for language, q in zip(self.plan.languages, self.asked, strict=True):
            if language is not None and q != DEAD:
                found.update(c for low, high, _ in language.row(q) for c in (low, high + 1))
        return found

    def close(self) -> Result | None:
        """The result, if the string may end here."""
        plan, valued = self.plan, self.plan.valued
        known = {
            f: self.count >= f.atom[1] if language is None else q != DEAD and language.finished(q)
            for f, language, q in zip(plan.asked, plan.languages, self.asked, strict=True)
        }
        good = False
        for (way, acceptor), state in zip(plan.ways, self.states, strict=True):
            if state is None:
                continue
            ends = acceptor.both.finished(state, self.count) if acceptor.both else self.count >= acceptor.least
            if ends and all(evaluate(f, known.get) is wanted for f, wanted in way.residues):
                good = True
                break
        identity = ("s", self.text)
        if not good or plan.barred.bars(identity):
            return None
        if valued.fixed is not None:
            return Result(valued.fixed, identity)
        satisfied = tuple(evaluate(f, known.get) is True for f in valued.formulas)
        return Result(satisfied, identity) if valued.plan.allows(satisfied) else None
