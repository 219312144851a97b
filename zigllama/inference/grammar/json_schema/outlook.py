"""The items that may still come, where the end of an array depends on more than how many there are.

`contains` with a bound above, items that must not all satisfy something, `uniqueItems` beside `prefixItems`: there a
single look at the next item does not tell whether the array can be finished. The values that an item may be fall into
few *sorts*, by which of the schemas that are ever asked they satisfy; `Outlook` searches what follows from taking one
sort after the other, and lets an item begin only as one of a sort that leads to an end.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from zigllama.errors import UnsupportedSchema

from .ends import reaches
from .formula import Way
from .names import Key
from .nodes import Schema
from .prints import FEW, Barred, Identity, rough
from .transducer import Result
from .unknown import unknown_keys

if TYPE_CHECKING:
    from .arrays import ArrayPlan, Items
    from .objects import Members, ObjectPlan
    from .plans import Goal, Plans

SORTS = 32  # then it is not looked ahead
NAMES = 40  # known names, likewise
FEWER = 300  # objects that a search comes to
ASKED = 6  # schemas by which sorts are told apart, where there are many values


class Sort(NamedTuple):
    """The schemas that values of a sort satisfy, and all values; None: many."""

    satisfied: frozenset[Schema]
    values: frozenset[Identity] | None


class Node(NamedTuple):
    """What matters of an array, and of each sort how many of its values have been taken."""

    items: Items
    used: tuple[int, ...]


def split(plans: Plans, asked: tuple[Schema, ...]) -> list[tuple[frozenset[int], frozenset[int]]] | None:
    """Which of some schemas a value can satisfy, and which not, at the same time; None: too many ways."""
    if len(asked) > ASKED:
        return None
    ways: list[tuple[frozenset[int], frozenset[int]]] = [(frozenset(), frozenset())]
    for i in range(len(asked)):
        both = [way for must, not_ in ways for way in ((must | {i}, not_), (must, not_ | {i}))]
        ways = [way for way in both if plans.plan(asked[: i + 1], (way,), False).alive()]
        if len(ways) > SORTS:
            return None
    return ways


class Outlook:
    """See above."""

    def __init__(self, plan: ArrayPlan) -> None:
        self.plan = plan
        found: dict[Schema, None] = dict.fromkeys(plan.contained)
        for f in plan.sequences:
            found.update(dict.fromkeys(s for s in (*f.atom[1], f.atom[2]) if s is not None))
        for f in plan.unevaluated:
            found.update(dict.fromkeys(s for s in (f.atom[1], *(c.schema for c, _ in f.atom[2])) if s is not None))
        self.asked = tuple(sorted(found, key=lambda s: s.number))
        self._known: dict[Node, bool] = {}
        self._any_again = False
        self._sorts: list[Sort] | bool | None = False

    def sorts(self) -> list[Sort] | None:
        """All sorts of items; None: too many."""
        if self._sorts is False:
            before = self.plan.plans.guessed
            made = self._make()
            if not self.plan.plans.sure(before):
                return made
            self._sorts = made
        return self._sorts if isinstance(self._sorts, list) else None

    def _make(self) -> list[Sort] | None:
        plans = self.plan.plans
        outcomes = plans.plan(self.asked, ((frozenset(), frozenset()),), True).outcomes()
        if outcomes is not None:
            by: dict[frozenset[Schema], set[Identity]] = {}
            for identity, satisfied in outcomes.items():
                so = frozenset(s for s, yes in zip(self.asked, satisfied, strict=True) if yes)
                by.setdefault(so, set()).add(identity)
            listed = [Sort(so, None if any(map(rough, v)) else frozenset(v)) for so, v in by.items()]
            return listed if len(listed) <= SORTS else None
        ways = split(plans, self.asked)
        if ways is None:
            return None
        found = []
        for must, must_not in ways:
            values = plans.plan(self.asked, ((must, must_not),), True).outcomes()
            exactly = values is not None and not any(map(rough, values))
            found.append(Sort(frozenset(self.asked[i] for i in must), frozenset(values or ()) if exactly else None))
        return found

    def node(self, items: Items) -> Node:
        """Where an array stands."""
        sorts = self.sorts() or []
        if self.plan.unique is None:
            return Node(items._replace(seen=None), (0,) * len(sorts))
        seen = Barred(items.seen or ())
        used = tuple(0 if s.values is None else sum(map(seen.bars, s.values)) for s in sorts)
        return Node(items._replace(seen=None), used)

    def finishes(self, items: Items) -> bool:
        """Whether the array can be brought to an end."""
        if not self.plan.plans.may_look() or self.sorts() is None:
            return True
        found = self._ends(self.node(items))
        if not found and self.plan.unique is not None and not self._any_again:
            self._any_again = True  # would it be otherwise if items of which there are many could be told to be equal?
            if self._search(self.node(items), {}):
                why = "whether items are equal decides, and there are too many values to tell which are"
                self.plan.plans.short = UnsupportedSchema("", "uniqueItems", why)
            self._any_again = False
        return found

    def _ends(self, node: Node) -> bool:
        plans = self.plan.plans
        before, known = plans.guessed, dict(self._known) if plans.asking else self._known
        found = self._search(node, known)
        if plans.asking and plans.sure(before):
            self._known.update(known)
        return found

    def _search(self, node: Node, known: dict[Node, bool]) -> bool:
        return reaches(node, lambda n: self.plan.answers(n.items) is not None, self._after, known)

    def _after(self, node: Node) -> Iterator[Node]:
        for i in range(len(self.sorts() or ())):
            for again in (False, True):
                following = self.take(node, i, again)
                if following is not None:
                    yield following

    def take(self, node: Node, i: int, again: bool) -> Node | None:
        """After an item of a sort, a new one or one that was there before; None where that cannot be."""
        plan, (so, values) = self.plan, (self.sorts() or [])[i]
        used = node.used
        if plan.unique is None:
            if again:
                return None
        elif again:
            if not (self._any_again and node.items.n) and (not used[i] or values is None):
                return None
        elif values is not None:
            if used[i] >= len(values):
                return None
            used = (*used[:i], used[i] + 1, *used[i + 1 :])
        after = plan.added(node.items, dict.fromkeys(self.asked, False) | dict.fromkeys(so, True))
        if again and plan.unique is not None:
            after = after._replace(failed=after.failed | {plan.unique.number})
        return Node(after, used) if any(plan.possible(after, way) for way in plan.valued.ways) else None

    def goal(self, items: Items) -> tuple[Goal, frozenset[Identity]] | None:
        """What the next item must be, of the schemas that are ever asked, and which values it must not be, so that the
        array can be brought to an end after it; None: it is not known."""
        plan = self.plan
        sorts = self.sorts() if plan.plans.may_look() else None
        if sorts is None:
            return None
        start = self.node(items)
        leads: dict[bool, list[Sort]] = {False: [], True: []}
        for i, sort in enumerate(sorts):
            for again, those in leads.items():
                to = self.take(start, i, again)
                if to and self._ends(to):
                    those.append(sort)
        new, repeated = leads[False], leads[True]
        barred: frozenset[Identity] = frozenset()
        if plan.unique is not None and new:
            free = all(sort in repeated or not start.used[i] for i, sort in enumerate(sorts) if sort in new)
            if not free or any(sort.values is None for sort in new):
                barred = frozenset(items.seen or ())
        elif repeated:
            seen, new = Barred(items.seen or ()), repeated
            barred = frozenset(v for sort in repeated for v in sort.values or () if not seen.bars(v))
        here = [frozenset(i for i, s in enumerate(self.asked) if s in sort.satisfied) for sort in new]
        everything = frozenset(range(len(self.asked)))
        return tuple((must, everything - must) for must in dict.fromkeys(here)), barred


class MemberOutlook:
    """The same of an object: the properties that may still come, whose names are a sort of their own each, or one by
    the patterns found in it where it is not known.
    """

    def __init__(self, plan: ObjectPlan) -> None:
        self.plan = plan
        self._known: dict[Members, bool] = {}
        self._values: dict[Key, list[dict[Schema, bool]] | None] = {}
        self._keys: list[Key] | bool | None = False

    def keys(self) -> list[Key] | None:
        """The names that may come, as far as they matter; None: too many."""
        if self._keys is False:
            plan = self.plan
            found = [Key(name, plan.matches(name), plan.named_so(name), None) for name in plan.known.values()]
            unknown = unknown_keys(plan) if len(found) <= NAMES else None
            self._keys = None if unknown is None else [*found, *unknown]
        return self._keys if isinstance(self._keys, list) else None

    def _sorts(self, key: Key) -> list[dict[Schema, bool]] | None:
        """What a property's value can satisfy at the same time."""
        if key not in self._values:
            plan = self.plan
            asked, _ = plan.asked(plan.none(), key.name, key.matches)
            schemas = tuple(sorted({s for _, s in asked}, key=lambda s: s.number))
            before = plan.plans.guessed
            ways = split(plan.plans, schemas)
            found = None if ways is None else [{s: i in must for i, s in enumerate(schemas)} for must, _ in ways]
            if not plan.plans.sure(before):
                return found
            self._values[key] = found
        return self._values[key]

    def finishes(self, m: Members) -> bool:
        """Whether the object can be brought to an end."""
        keys = self.keys() if self.plan.plans.may_look() else None
        if keys is None or any(self._sorts(key) is None for key in keys):
            return True
        plans = self.plan.plans
        before, known = plans.guessed, dict(self._known) if plans.asking else self._known
        found = reaches(self.node(m), lambda n: self.plan.answers(n) is not None, self._after, known, FEWER)
        if plans.asking and plans.sure(before):
            self._known.update(known)
        return found

    def node(self, m: Members) -> Members:
        """What matters of an object."""
        return m._replace(others=None, identity=None)

    def _after(self, m: Members) -> Iterator[Members]:
        for key in self.keys() or ():
            if key.name is None or key.name not in m.seen:
                for satisfied in self._sorts(key) or ():
                    after = self.plan.added(m, key, satisfied)
                    if any(self.plan.possible(after, way) for way in self.plan.valued.ways):
                        yield after

    def goal(self, m: Members, name: str | None, matches: tuple[bool, ...], schemas: tuple[Schema, ...]) -> Goal | None:
        """What the value of a property must be so that the object can be brought to an end after it."""
        keys = self.keys()
        if keys is None or any(self._sorts(key) is None for key in keys):
            return None
        found: dict[frozenset[int], None] = {}
        for key in keys:
            if (key.name, key.matches) == (name, matches):
                for satisfied in self._sorts(key) or ():
                    after = self.plan.added(self.node(m), key, satisfied)
                    ways = any(self.plan.possible(after, way) for way in self.plan.valued.ways)
                    if ways and self.finishes(after):
                        found[frozenset(i for i, s in enumerate(schemas) if satisfied[s])] = None
        everything = frozenset(range(len(schemas)))
        return tuple((must, everything - must) for must in found)


def outcomes(o: ObjectPlan) -> dict[Identity, tuple[bool, ...]] | None:
    """All objects of a plan, as identities, with what they satisfy; None: too many to look for."""
    found: dict[Identity, tuple[bool, ...]] = {}
    todo = [o.none()]
    seen = set(todo)
    while todo:
        m = todo.pop()
        ended = o.answers(m)
        if ended is not None:
            found[ended.identity] = ended.satisfied
        names, free = o.next_names(m)
        if free:
            return None
        for name in (o.known[raw] for raw in names.texts):
            key = Key(name, o.matches(name), o.named_so(name), None)
            values = o.plan_of(m, key).outcomes()
            if values is None or len(seen) > 4 * FEW:
                return None
            for i, so in values.items():
                after = o.add(m, key, Result(so, i))
                if after is not None and after not in seen:
                    seen.add(after)
                    todo.append(after)
    return found


def differs(o: ObjectPlan, m: Members, ways: list[Way]) -> bool:
    """Whether an object can come to be another than those that must not come; as far as its values are few."""
    if o.answers(m) is not None or o.free(m, ways):
        return True
    for name in o.known.values():
        if name not in m.seen:
            key = Key(name, o.matches(name), o.named_so(name), None)
            plan = o.value_plan(m, name, key.matches, o.open_to(m, name, ways))
            values = plan.outcomes()
            if values is None or any(o.add(m, key, Result(so, i), plan) is not None for i, so in values.items()):
                return True
    return False
