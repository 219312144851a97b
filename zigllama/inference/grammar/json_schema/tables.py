"""What places and plans say, as numbers: what core/json_schema.c asks for, once each, and keeps.

C knows by itself what stands between the tokens of objects and arrays, and how a string is spelt. It asks which plan a
value has and what may begin it, which names may come, which object or array there is with one more member; and of a
string that is more than a list of texts or any text of a length, where each byte leads. Places of Python's own are the
digits of numbers only, unless whitespace is counted (`Options.whitespace`) or nothing is written: then all are, and
rows are asked for.

A place tells where, among the 256 bytes, what it does may change (`cuts`), so that each run of bytes is asked about
once.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable
from typing import Any, Generic, Protocol, TypeVar, cast

from zigllama.foundation.native_json_schema import ASKED, FREE, SAY, JsonSchemaMachine

from .arrays import ArrayPlan, Items
from .languages import Both
from .names import Key, Name
from .numbers import IN_NUMBERS, Digits
from .objects import Members, ObjectPlan
from .plans import Plan, Plans
from .printed import Printed
from .strings import Listener, Quoted
from .texts import TextPlan
from .transducer import SPACE, Go, Over, Place, Pop, Push, Result
from .whole import Whole, labelled

GO, PUSH, POP, OVER = range(4)
NONE = -1
BYTES = 256
INT_MAX = 2**31 - 1
KINDS = ("null", "true", "false", "string", "number", "array", "object")
FIRST_BYTES = b"-0123456789"
T = TypeVar("T", bound=Hashable)


class Cut(Place, Protocol):
    """A place that tells where its bytes change."""

    def cuts(self) -> Iterable[int]:
        """Bytes that may do something else than the one before them."""

    def like(self) -> Cut | None:
        """Another place, where all but whitespace does the same; None: no other is known."""


class Numbers(Generic[T]):
    """Things, numbered in the order in which they are come across."""

    def __init__(self) -> None:
        self.things: list[T] = []
        self._known: dict[T, int] = {}

    def of(self, thing: T) -> int:
        """The number of a thing."""
        found = self._known.get(thing)
        if found is None:
            found = self._known[thing] = len(self.things)
            self.things.append(thing)
        return found


class Tables:
    """What is said of the places and plans of a schema."""

    def __init__(self, plans: Plans) -> None:
        self.book = plans
        self.results: Numbers[Any] = Numbers()
        self.plans: Numbers[Plan] = Numbers()
        self.objects: Numbers[tuple[ObjectPlan, Members]] = Numbers()
        self.arrays: Numbers[tuple[ArrayPlan, Items]] = Numbers()
        self.root = self.plans.of(plans.root) if plans.writing and plans.spaces < 0 else NONE
        self._texts: dict[Hashable, int] = {}  # places of strings that are alike
        self._lists: dict[Hashable, int] = {}
        self._automata: dict[Whole | Printed, int] = {}
        self._kept: dict[int, tuple[list[int], list[int]]] = {}  # rows of places that others are like

    # --- what is said of plans, objects and arrays --------------------------------------------------------------------

    def say(self, machine: JsonSchemaMachine, what: int, a: int, b: int, c: int) -> list[int]:
        """As ZL_SAY_* of zl_text.h."""
        match SAY[what]:
            case "plan":
                return self._plan(machine, self.plans.things[a])
            case "object":
                return self._object(machine, *self.objects.things[a])
            case "value":
                plan, members = self.objects.things[a]
                return [self.plans.of(plan.plan_of(members, self.results.things[b]))]
            case "array":
                return self._array(*self.arrays.things[a])
            case "property_end":
                plan, members = self.objects.things[a]
                after = plan.add(members, self.results.things[b], self.results.things[c])
                return [NONE if after is None else self.objects.of((plan, after))]
            case "item_end":
                array, items = self.arrays.things[a]
                more = array.add(items, array.item_plan(items), self.results.things[b])
                return [NONE if more is None else self.arrays.of((array, more))]
            case _:
                return self._listener(cast(Listener, self.book.places[a]))

    def _result(self, result: object) -> int:
        return NONE if result is None else self.results.of(result)

    def _plan(self, machine: JsonSchemaMachine, plan: Plan) -> list[int]:
        made = {kind: plan.of_kind(kind) for kind in KINDS if plan.can_be(kind)}
        found = [self._result(made.get(kind)) for kind in ("null", "true", "false")]
        number, string, array, object_ = (made.get(kind) for kind in ("number", "string", "array", "object"))
        first = {} if number is None else dict(number.row("", ""))
        found += [first[byte].number if byte in first else NONE for byte in FIRST_BYTES]
        found.append(NONE if string is None else self._string(machine, string))
        found.append(NONE if array is None else self.arrays.of((array, array.none())))
        found.append(NONE if object_ is None else self.objects.of((object_, object_.none())))
        return found

    def _object(self, machine: JsonSchemaMachine, plan: ObjectPlan, members: Members) -> list[int]:
        name = self._name(machine, plan, members) if plan.can_go_on(members) else NONE
        return [self._result(plan.answers(members)), name]

    def _array(self, plan: ArrayPlan, items: Items) -> list[int]:
        after = self.plans.of(plan.item_plan(items)) if plan.can_go_on(items) else NONE
        return [self._result(plan.answers(items)), after]

    # --- strings ------------------------------------------------------------------------------------------------------

    def _text(
        self,
        machine: JsonSchemaMachine,
        texts: list[bytes],
        results: list[int],
        other: int,
        first: int = NONE,
        **automaton: Any,
    ) -> int:
        """The place of a string that is one of some texts, sorted, or another one (of which `first` listens, or an
        automaton)."""
        listed = tuple(texts)
        key = listed, tuple(results), other, first, automaton.get("automaton"), tuple(automaton.get("ends", ()))
        if key not in self._texts:
            if listed not in self._lists:
                self._lists[listed] = machine.list_of(texts)
            self._texts[key] = machine.text(self._lists[listed], results, other, first=first, **automaton)
        return self._texts[key]

    def _asked(self, machine: JsonSchemaMachine, listener: Any) -> int:
        if listener.searched:  # where it stands in a character matters too: rows are asked for
            return self.book.place(Quoted, listener, ()).number
        if listener not in self._texts:
            self._texts[listener] = machine.text(ASKED, first=listener.number)
        return self._texts[listener]

    def _string(self, machine: JsonSchemaMachine, plan: TextPlan) -> int:
        listed = plan.listed()
        if listed is not None:
            texts = sorted(listed)
            return self._text(machine, texts, [self._result(listed[text]) for text in texts], NONE)
        whole = plan.whole()
        if whole is not None:
            return self._whole(machine, *whole)
        printed = plan.printed()
        if printed is not None:
            ends = [self._result(result) for result in printed[1]]
            return machine.text(ASKED, first=0, automaton=self._automaton(machine, printed[0]), ends=ends)
        lengths = plan.lengths()
        if lengths is None:
            return self._asked(machine, plan.begin())
        least, most, result = lengths
        most = None if most is None else min(most, INT_MAX)  # C counts in int32; no text that is written is so long
        return machine.text(FREE, other=self._result(result), least=min(least, INT_MAX), most=most)

    def _whole(self, machine: JsonSchemaMachine, whole: Whole, most: int | None, result: Result) -> int:
        n = len(whole.shortest)
        if most is not None and n * (most + 2) > INT_MAX >> 3:
            most = (INT_MAX >> 3) // n - 2  # no text that is written is so long
        ended = self._result(result)
        key = whole, most, ended
        if key not in self._texts:
            ends = [ended if state in whole.finals else NONE for state in range(n)]
            self._texts[key] = machine.text(
                ASKED, most=most, first=0, automaton=self._automaton(machine, whole), ends=ends
            )
        return self._texts[key]

    def _automaton(self, machine: JsonSchemaMachine, whole: Whole | Printed) -> int:
        if whole not in self._automata:
            table = whole.table
            self._automata[whole] = machine.automaton(table.class_of, table.next, table.shortest)
        return self._automata[whole]

    def _name(self, machine: JsonSchemaMachine, plan: ObjectPlan, members: Members) -> int:
        if plan.tracked or plan.naming:
            return self._asked(machine, Name.first(self.book, plan, members))
        names, free = plan.next_names(members)
        other, first = NONE, NONE
        whole: dict[str, Any] = {}
        if plan.languages and free:
            whole = self._unknown(machine, plan, free)
            unknown = None if whole else Name.unknown(self.book, plan, members)
            first = 0 if whole else NONE if unknown is None else unknown.number
        elif free:
            other = self._result(Key(None, (), (), None))
        if not plan.known:
            return machine.text(FREE, other=other) if first < 0 else machine.text(ASKED, first=first, **whole)
        may = set(names.texts)
        results = [
            self._result(Key(plan.known[t], plan.matches(plan.known[t]), (), None)) if t in may else NONE
            for t in plan.trie.texts
        ]
        return self._text(machine, plan.trie.texts, results, other, first, **whole)

    def _unknown(self, machine: JsonSchemaMachine, plan: ObjectPlan, free: list[Both] | bool) -> dict[str, Any]:
        """The automaton of names that are not known, of which patterns are asked; none: it is too large."""
        members = tuple(each for each in plan.languages if isinstance(each, Whole))
        if not isinstance(free, list) or len(members) < len(plan.languages):
            return {}
        wanted = frozenset(tuple(so for _, so in both.members[: len(members)]) for both in free)
        found = labelled(members, wanted)
        if found is None:
            return {}
        ends = [NONE if so is None else self._result(Key(None, so, (), None)) for so in found.labels]
        return {"automaton": self._automaton(machine, found.whole), "ends": ends}

    def _listener(self, listener: Listener) -> list[int]:
        row = [NONE] * BYTES
        for low, high, after in listener.row():
            row[low : high + 1] = [after.number] * (high + 1 - low)
        alike = listener.any_character()
        return [*row, self._result(listener.close()), NONE if alike is None else alike.number]

    # --- rows ---------------------------------------------------------------------------------------------------------

    def row(self, place: int) -> tuple[list[int], list[int]]:
        """257 entries, and the pairs (child, frame) that those of kind PUSH are indices of, one after the other."""
        at = self.book.places[place]
        if isinstance(at, Digits):
            return self._digits(at), []
        other = at.like()
        if other is None:
            return self._row(at)
        if other.number not in self._kept:
            self._kept[other.number] = self._row(other)
        row, pairs = self._kept[other.number]
        if other is not at:
            row = row.copy()
            for byte in SPACE:
                match at.act(byte):
                    case Go(to):
                        row[byte] = to.number << 2 | GO
                    case action:
                        assert action is None, "whitespace only leads on"
                        row[byte] = NONE
        return row, pairs

    def _digits(self, at: Digits) -> list[int]:
        """The row of a place within a number: all that is no part of one ends it."""
        ended = self._result(at.ended())
        row = [NONE if ended < 0 else ended << 2 | OVER] * BYTES + [ended]
        for byte in IN_NUMBERS:
            row[byte] = NONE
        for byte, after in at.plan.row(at.phase, at.text or ""):
            row[byte] = after.number << 2 | GO
        return row

    def _row(self, at: Cut) -> tuple[list[int], list[int]]:
        row: list[int] = []
        pairs: dict[tuple[int, int], int] = {}
        bounds = sorted({0, BYTES, *at.cuts()})
        for low, end in itertools.pairwise(bounds):
            match at.act(low):
                case None:
                    entry = NONE
                case Go(to):
                    entry = to.number << 2 | GO
                case Push(child, frame):
                    entry = pairs.setdefault((child.number, frame.number), len(pairs)) << 2 | PUSH
                case Pop(result):
                    entry = self._result(result) << 2 | POP
                case Over(result):
                    entry = self._result(result) << 2 | OVER
            row += [entry] * (end - low)
        ended = at.ended()
        row.append(self._result(ended))
        return row, [n for pair in pairs for n in pair]

    def after(self, frame: int, result: int) -> int:
        """The place after a value with this result, or NONE."""
        place = self.book.places[frame].after(self.results.things[result])
        return NONE if place is None else place.number
