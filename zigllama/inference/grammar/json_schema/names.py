"""Names of properties, while they are being read: which known ones they may become, and what is found in them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from .formula import Way
from .languages import DEAD, joined
from .prints import longer
from .transducer import Result

if TYPE_CHECKING:
    from .objects import Members, ObjectPlan
    from .plans import Plans


class Key(NamedTuple):
    """A name that has been read: which known one it is, which patterns are found in it, of which "names" atoms the
    schema is satisfied, and, where it is told apart from others, the name itself.
    """

    name: str | None
    matches: tuple[bool, ...]
    named: tuple[bool, ...]
    text: bytes | int | None


class Facts:
    """What a way asks of names and their number: those that must come, that must not, how many at least and most."""

    __slots__ = ("barred", "least", "most", "names")

    def __init__(self, way: Way) -> None:
        has = [(f.atom[1], want) for f, want in way.literals if f.atom[0] == "has"]
        self.names: frozenset[str] = frozenset(name for name, want in has if want)
        self.barred: frozenset[str] = frozenset(name for name, want in has if not want)
        self.least, self.most = 0, None
        for f, want in way.literals:
            if f.atom[0] == "count":
                n: int = f.atom[1]
                if want:
                    self.least = max(self.least, n)
                else:
                    self.most = n - 1 if self.most is None else min(self.most, n - 1)


class Name:
    """The listener of a name (strings.py).

    known     state among all known names, to say at the end which it is; DEAD: none
    allowed   state among those that may come
    found     of each pattern the state of its language, and of all text
    said      the listener of what "names" atoms ask, or None
    """

    __slots__ = ("_any", "allowed", "found", "known", "members", "number", "plan", "plans", "said", "text")

    def __init__(
        self,
        plans: Plans,
        number: int,
        plan: ObjectPlan,
        members: Members,
        known: int,
        allowed: int,
        found: tuple[int, ...],
        said: Any,
        text: bytes | int | None,
    ) -> None:
        self.plans, self.number, self.plan, self.members = plans, number, plan, members
        self.known, self.allowed, self.found, self.said, self.text = known, allowed, found, said, text
        self._any: Name | bool | None = False

    @staticmethod
    def first(plans: Plans, plan: ObjectPlan, members: Members) -> Name:
        """Before the first character."""
        said = plan.name_text(members, plan.ways(members)) if plan.naming else None
        text = None if not plan.tracked else 0 if plans.writing else b""
        start = 0 if plan.known else DEAD  # DEAD: there is no known name to follow
        return plans.place(Name, plan, members, start, start, (0,) * len(plan.automata), said, text)

    @property
    def searched(self) -> bool:
        """Whether the name may come to be one that has come already, or one that two languages have not in common."""
        plan = self.plan
        return self.plans.writing and (bool(self.members.others) or bool(plan.naming and plan.languages))

    @staticmethod
    def unknown(plans: Plans, plan: ObjectPlan, members: Members) -> Name | None:
        """Before the first character of a name that is not known; None where none may come. Nothing but patterns is
        asked of it, and it is the same for all members after which the same ones may come."""
        free = plan.next_names(members)[1]
        if not free:
            return None
        same = plan.like(members, free)
        return plans.place(Name, plan, same, DEAD, DEAD, (0,) * len(plan.automata), None, None)

    def row(self) -> Iterable[tuple[int, int, Name]]:
        """Where bytes lead, as (lowest, highest, listener)."""
        plan = self.plan
        free = plan.next_names(self.members)[1]
        if self.known != DEAD or self.said is not None or self.text is not None:
            for low, end in pairwise(sorted({0, 0x80, 0xC0, 256, *self.cuts()})):
                after = self.feed(low)
                if after is not None:
                    yield low, end - 1, after
        elif not plan.automata:
            if free:
                yield 0, 255, self
        else:
            automata, found = plan.automata, self.found
            rows = [language.row(q) if q != DEAD else () for language, q in zip(automata, found, strict=True)]
            for low, high, states in joined(rows):
                if not isinstance(free, list) or any(
                    both.possible((*states, DEAD)) and both.live((*states, DEAD), 0) for both in free
                ):
                    yield low, high, self.plans.place(Name, plan, self.members, DEAD, DEAD, states, None, None)

    def feed(self, byte: int) -> Name | None:
        """After one more byte."""
        plan = self.plan
        names, free = plan.next_names(self.members)
        allowed = names.step(self.allowed, byte) if self.allowed != DEAD else DEAD
        if allowed == DEAD and not free:
            return None
        known = plan.trie.step(self.known, byte) if self.known != DEAD else DEAD
        found = tuple(
            language.step(q, byte) if q != DEAD else DEAD for language, q in zip(plan.automata, self.found, strict=True)
        )
        if allowed == DEAD and isinstance(free, list):
            state = (*found, known)
            if not any(both.live(state, 0) for both in free if both.possible(state)):
                return None
        said = None
        if self.said is not None:
            said = self.said.feed(byte)
            if said is None:
                return None
        text = longer(self.text, byte)
        return self.plans.place(Name, plan, self.members, known, allowed, found, said, text)

    def any_character(self) -> Name | None:
        """Where each character leads: known where it can only be a name that nothing is asked of."""
        if self._any is False:
            plan = self.plan
            free = self.known == DEAD and not plan.languages and self.text is None
            if self.said is None:
                self._any = self if free else None
            else:
                plain = free and self.said.any_character() is not None
                self._any = self.feed(0x61) if plain else None
        return cast("Name | None", self._any)

    def cuts(self) -> Iterable[int]:
        """Where what bytes lead to may change."""
        if self.text is not None:
            return range(256)
        plan = self.plan
        names, _ = plan.next_names(self.members)
        followed = [*zip(plan.automata, self.found, strict=True), (plan.trie, self.known), (names, self.allowed)]
        found = {c for rows, q in followed if q != DEAD for low, high, _ in rows.row(q) for c in (low, high + 1)}
        if self.said is not None:
            found.update(self.said.cuts())
        return found

    def close(self) -> Key | None:
        """The name, if it may end here."""
        plan, members = self.plan, self.members
        named: tuple[bool, ...] = ()
        if self.said is not None:
            result: Result | None = self.said.close()
            if result is None:
                return None
            named = result.satisfied
        matches = tuple(
            q != DEAD and language.finished(q) for language, q in zip(plan.languages, self.found, strict=False)
        )
        if self.known != DEAD and plan.trie.finished(self.known):
            names, _ = plan.next_names(members)
            if self.allowed == DEAD or not names.finished(self.allowed):
                return None
            return Key(plan.known[plan.trie.text(self.known)], matches, named, None)
        if members.others is not None and self.text in members.others:
            return None
        if not plan.allowed(members, None, matches, plan.ways(members)):
            return None
        return Key(None, matches, named, self.text)
