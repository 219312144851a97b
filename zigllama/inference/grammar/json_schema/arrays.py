"""Arrays: which items may come, how many, and when it may end.

What is kept of an array that is being read (`Items`): how many items there were, as far as that matters; which of the
atoms have failed; how many items satisfied each `contains`; the items themselves, where no two may be equal; and, for
`unevaluatedItems`, which items nothing but the adjacent keywords could have evaluated, and which of those.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from zigllama.errors import GrammarBudget

from .contents import Contents
from .formula import Formula, Way
from .nodes import ItemCover, Schema
from .outlook import Outlook
from .prints import FEW, FINGERPRINTS, Identity, folded
from .transducer import SPACE, TOKENS, Action, Go, Pop, Result

if TYPE_CHECKING:
    from .plans import Plan, Plans, Valued


class Items(NamedTuple):
    """What is kept of the items so far.

    n         how many, or the plan's cap
    failed    numbers of the atoms "items" and "unique" that are false
    hits      of each "contains" schema how many items satisfied it, or the plan's cap
    seen      the identities of all items (for "unique" and for the array's own identity), None: not kept
    open      of each "unevaluated" atom: sets of covers, one of which must count for each
    """

    n: int
    failed: frozenset[int]
    hits: tuple[int, ...]
    seen: tuple[Identity, ...] | None
    open: tuple[frozenset[frozenset[int]], ...]


class ArrayPlan(Contents[Items]):
    """What is to be kept of an array, and what may come next in it."""

    def __init__(self, plans: Plans, valued: Valued) -> None:
        super().__init__(plans, valued)
        sorts = {sort: [f for f in self.atoms if f.atom[0] == sort] for sort in ("items", "contains")}
        self.sequences: list[Formula] = sorts["items"]
        self.contained: list[Schema] = list(dict.fromkeys(f.atom[1] for f in sorts["contains"]))
        self.unique = next((f for f in self.atoms if f.atom[0] == "unique"), None)
        counts: list[int] = [f.atom[1] for f in self.atoms if f.atom[0] == "count"]
        positions = [len(f.atom[1]) for f in self.sequences]
        positions += [c.first for f in self.unevaluated for c, _ in f.atom[2]]
        hits: list[int] = [f.atom[2] for f in sorts["contains"]]
        self.hit_cap = max(hits, default=0)
        self.cap = max([*counts, *positions, int(self.unique is not None)])
        self.positions = max([*positions, 0])  # from there on all items are alike
        self.outlook = Outlook(self) if plans.writing and self._far() else None

    def _far(self) -> bool:
        """Whether more than the number of items decides how it can end."""
        for way in self.valued.ways:
            wanted = self.wanted(way)
            sorts = {(f.atom[0], want) for f, want in wanted.items()}
            plain = sorts <= {("count", True), ("count", False), ("items", True), ("contains", True), ("unique", True)}
            beside = sorts & {("count", False), ("unique", True)} if ("contains", True) in sorts else ()
            if way.residues or not plain or beside or (("unique", True) in sorts and self.positions):
                return True
        return self.unique is not None and any(not self.wanted(way).get(self.unique) for way in self.valued.ways)

    def none(self) -> Items:
        """Before the first item."""
        seen = () if self.unique is not None or self.identity else None
        empty: frozenset[frozenset[int]] = frozenset()
        return Items(0, frozenset(), (0,) * len(self.contained), seen, (empty,) * len(self.unevaluated))

    def begin(self) -> Within:
        """After the opening bracket."""
        return self.plans.place(Within, self, self.none(), "first", self.plans.spaces)

    # --- what is true -------------------------------------------------------------------------------------------------

    def happened(self, so_far: Items, f: Formula) -> bool:
        """Whether there are so many items, or so many that satisfy what they are to contain."""
        if f.atom[0] == "count":
            return bool(so_far.n >= f.atom[1])
        return bool(so_far.hits[self.contained.index(f.atom[1])] >= f.atom[2])

    def answers(self, items: Items) -> Result | None:
        """The result, if the array may end here."""
        satisfied = self.satisfied(items)
        if satisfied is None:
            return None
        identity = folded(("a", *items.seen), self.plans.writing) if self.identity and items.seen is not None else None
        return None if identity and self.valued.plan.barred.bars(identity) else Result(satisfied, identity)

    def ways(self, items: Items) -> list[Way]:
        """The ways that are still open and can be gone to their end."""

        def look() -> list[Way]:
            found = [w for w in self.valued.ways if self.possible(items, w) and self.reachable(items, w)]
            if found and self.outlook is not None and not self.outlook.finishes(items):
                return []
            if found and self.valued.plan.barred and not self._differs(items, found):
                return []
            return found

        return self.kept(("ways", items), look)

    def _differs(self, items: Items, ways: list[Way]) -> bool:
        """Whether the array can come to be another than those that must not come; as far as its items are few."""
        if self.answers(items) is not None:
            return True
        ways = [w for w in ways if (room := self._room(items, w)[1]) is None or room > 0]
        plan = self.next_plan(items, ways)
        found = plan.outcomes()
        return found is None or any(self.add(items, plan, Result(so, i)) is not None for i, so in found.items())

    def _room(self, items: Items, way: Way) -> tuple[int, int | None]:
        """How many more items a way needs, and how many it can have."""
        need, room = 0, None
        for f, want in way.literals:
            if f.atom[0] == "count":
                left = f.atom[1] - items.n
                if want:
                    need = max(need, left)
                else:
                    room = left - 1 if room is None else min(room, left - 1)
            elif f.atom[0] == "contains" and want:
                hits = items.hits[self.contained.index(f.atom[1])]
                need = max(need, f.atom[2] - hits)
        return need, room

    def reachable(self, items: Items, way: Way) -> bool:
        """Whether the items that a way still needs can come."""
        need, room = self._room(items, way)
        if room is not None and need > room:
            return False
        if self.unique is not None and need > 1 and self.wanted(way).get(self.unique):
            size = self.next_plan(items, [way]).size()
            if size is not None and need > size and items.n >= self.positions:
                return False
            if size is None and self.plans.writing and need > FINGERPRINTS - len(items.seen or ()):
                self.plans.short = GrammarBudget("items that are told apart", need, FINGERPRINTS)
                return False
        # position by position, as long as the items' schemas differ
        last = max(self.positions, items.n)
        for position in range(items.n, min(items.n + need - 1, last) + 1):
            if not self.next_plan(items._replace(n=position), [way]).alive():
                return False
        return True

    # --- the next item ------------------------------------------------------------------------------------------------

    def asked(self, items: Items) -> tuple[list[tuple[Formula, Schema]], list[list[int]]]:
        """The schemas that are asked about the next item, each with the atom that asks; of each "unevaluated" atom the
        covers that hold of the item by its position.
        """
        found: list[tuple[Formula, Schema]] = []
        for f in self.sequences:
            if f.number in items.failed:
                continue
            first, rest = f.atom[1], f.atom[2]
            schema = first[items.n] if items.n < len(first) else rest
            if schema is not None:
                found.append((f, schema))
        found += [(f, f.atom[1]) for f in self.atoms if f.atom[0] == "contains"]
        placed: list[list[int]] = []
        for f in self.unevaluated:
            here = []
            for i, (cover, _) in enumerate(f.atom[2]):
                assert isinstance(cover, ItemCover)
                if cover.first < 0 or items.n < cover.first:
                    here.append(i)
                elif cover.schema is not None:
                    found.append((f, cover.schema))
            placed.append(here)
            found.append((f, f.atom[1]))
        return found, placed

    def next_plan(self, items: Items, ways: list[Way]) -> Plan:
        """The plan of the next item, for some ways."""
        key = ("plan", items, tuple(map(id, ways)))
        if key in self._known:
            return cast("Plan", self._known[key])
        before = self.plans.guessed
        asked, placed = self.asked(items)
        schemas = tuple(sorted({s for _, s in asked}, key=lambda s: s.number))
        index = {s: i for i, s in enumerate(schemas)}
        goal: dict[tuple[frozenset[int], frozenset[int]], None] = {}
        for way in ways:
            wanted = self.wanted(way)
            must: set[int] = set()
            must_not: set[int] = set()
            _, room = self._room(items, way)
            for f, schema in asked:
                want = wanted.get(f)
                if want is None:
                    continue
                sort = f.atom[0]
                if sort == "items" and want:
                    must.add(index[schema])
                elif sort == "contains":
                    left = f.atom[2] - items.hits[self.contained.index(schema)]
                    if not want and left == 1:
                        must_not.add(index[schema])
                    elif want and room is not None and left >= room:
                        must.add(index[schema])
                elif sort == "unevaluated" and want and schema is f.atom[1]:
                    number = self.unevaluated.index(f)
                    covers = f.atom[2]
                    maybe = [i for i in placed[number] if self.may_count(items, covers[i][1], wanted)]
                    holds = any(c.schema is not None and self.may_count(items, path, wanted) for c, path in covers)
                    if not maybe and not holds:
                        must.add(index[schema])
            if not must & must_not:
                goal[(frozenset(must), frozenset(must_not))] = None
        excluded: frozenset[Identity] = frozenset()
        if items.seen and self.unique is not None and all(self.wanted(way).get(self.unique) for way in ways):
            excluded = frozenset(items.seen)
        wanted_goal = tuple(goal)
        ahead = None if self.outlook is None else self.outlook.goal(items)
        if ahead is not None and self.outlook is not None:
            schemas, (wanted_goal, barred) = self.outlook.asked, ahead
            excluded |= barred
        plan = self.plans.plan(schemas, wanted_goal, items.seen is not None, excluded)
        if self.valued.plan.barred and (found := plan.outcomes()):
            same = {i for i, so in found.items() if self.add(items, plan, Result(so, i)) is None}
            plan = self.plans.plan(schemas, wanted_goal, True, excluded | same)
        if self.plans.sure(before) or not (self.outlook or self.valued.plan.barred):
            self._known[key] = plan
        return plan

    def add(self, items: Items, plan: Plan, result: Result) -> Items | None:
        """With one more item; None where no way is left."""
        after = self.added(items, dict(zip(plan.schemas, result.satisfied, strict=True)))
        seen = items.seen
        if seen is not None:
            failed = after.failed
            if self.unique is not None and result.identity in seen:
                failed |= {self.unique.number}
            seen = (*seen, result.identity)
            if not self.identity and self.unique is not None and self.unique.number in failed:
                seen = None
            after = after._replace(failed=failed, seen=seen)
        return after if self.ways(after) else None

    def added(self, items: Items, satisfied: Mapping[Schema, bool]) -> Items:
        """With one more item, of which this is true; whether it was there before is not looked at."""
        asked, placed = self.asked(items)
        failed = set(items.failed)
        failed.update(f.number for f, s in asked if f.atom[0] == "items" and not satisfied[s])
        hits = tuple(min(n + satisfied[s], self.hit_cap) for n, s in zip(items.hits, self.contained, strict=True))
        still_open = []
        for number, f in enumerate(self.unevaluated):
            sets = items.open[number]
            if not satisfied[f.atom[1]]:
                here = set(placed[number])
                for i, (cover, _) in enumerate(f.atom[2]):
                    if cover.schema is not None and satisfied[cover.schema]:
                        here.add(i)
                sets = sets | {frozenset(here)}
            still_open.append(sets)
        return Items(min(items.n + 1, self.cap), frozenset(failed), hits, items.seen, tuple(still_open))

    def outcomes(self) -> dict[Any, tuple[bool, ...]] | None:
        """All arrays there are, as identities, with what they satisfy; None: too many to look for."""
        found: dict[Any, tuple[bool, ...]] = {}
        todo = [self.none()]
        seen = set(todo)
        while todo:
            items = todo.pop()
            ended = self.answers(items)
            if ended is not None:
                found[ended.identity] = ended.satisfied
            if not self.can_go_on(items):
                continue
            plan = self.item_plan(items)
            those = plan.outcomes()
            if those is None or len(seen) > 4 * FEW:
                return None
            for identity, satisfied in those.items():
                after = self.add(items, plan, Result(satisfied, identity))
                if after is not None and after not in seen:
                    seen.add(after)
                    todo.append(after)
        return found

    def can_go_on(self, items: Items) -> bool:
        """Whether another item may come."""
        ways = self.ways(items)
        ways = [w for w in ways if (room := self._room(items, w)[1]) is None or room > 0]
        return bool(ways) and self.next_plan(items, ways).alive()

    def item_plan(self, items: Items) -> Plan:
        """The plan of an item that comes here."""
        ways = [w for w in self.ways(items) if (room := self._room(items, w)[1]) is None or room > 0]
        return self.next_plan(items, ways)

    def can_finish(self) -> bool:
        """Whether there is an array."""
        return bool(self.ways(self.none()))


class Within:
    """Between the tokens of an array. `phase`: "first" (after the bracket), "item" (one must come), "comma" (after),
    "waits" (for the end of one).
    """

    __slots__ = ("items", "number", "phase", "plan", "plans", "spaces")

    def __init__(self, plans: Plans, number: int, plan: ArrayPlan, items: Items, phase: str, spaces: int) -> None:
        self.plans, self.number, self.plan = plans, number, plan
        self.items, self.phase, self.spaces = items, phase, spaces

    def act(self, byte: int) -> Action | None:
        """What a byte does."""
        plan, phase = self.plan, self.phase
        if byte in SPACE:
            left = self.plans.fewer(self.spaces)
            return None if left is None else Go(self.plans.place(Within, plan, self.items, phase, left))
        if byte == 0x5D and phase in ("first", "comma"):
            result = plan.answers(self.items)
            return None if result is None else Pop(result)
        if phase == "comma":
            if byte == 0x2C and plan.can_go_on(self.items):
                return Go(self.plans.place(Within, plan, self.items, "item", self.plans.spaces))
            return None
        if phase in ("first", "item") and plan.can_go_on(self.items):
            frame = self.plans.place(Within, plan, self.items, "waits", 0)
            return plan.item_plan(self.items).begin(byte, frame)
        return None

    def like(self) -> Within:
        """The place before any whitespace, where all but whitespace does the same."""
        return self.plans.place(Within, self.plan, self.items, self.phase, self.plans.spaces)

    def cuts(self) -> tuple[int, ...]:
        """Where what bytes do may change."""
        return TOKENS

    def after(self, result: object) -> Within | None:
        """An item has ended."""
        assert isinstance(result, Result)
        items = self.plan.add(self.items, self.plan.item_plan(self.items), result)
        if items is None:
            return None
        return self.plans.place(Within, self.plan, items, "comma", self.plans.spaces)

    def ended(self) -> None:
        """An array ends with its bracket."""
        return
