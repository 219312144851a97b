"""Objects: which properties may come, in any order, and when the object may end.

Names that the schemas mention are *known* to the plan; the rest are told apart only by the patterns found in them. A
known name never comes twice. Nor does any other, except where its coming twice could change no answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from zigllama.errors import GrammarBudget

from .contents import Contents
from .ends import can_end
from .formula import Formula, Way, evaluate
from .inside import Inside
from .languages import Both, Texts, contains, every_text
from .names import Facts, Key, Name
from .nodes import NameCover, Schema
from .outlook import MemberOutlook, differs, outcomes
from .prints import FINGERPRINTS, folded
from .transducer import Result
from .unknown import PATTERNS, any_named, few_names

if TYPE_CHECKING:
    from .plans import Plan, Plans, Valued


class Members(NamedTuple):
    """What is kept of the properties so far.

    seen      known names that have come
    others    other names that have come, where it matters that they do not come again; where that matters only once a
              value has failed ("careful"): None until then, and then no other name may come
    n         how many, or the plan's cap
    failed    numbers of the atoms "properties" and "names" that are false
    open      of each "unevaluated" atom: sets of covers, one of which must count for each
    identity  of each property, where the object's own is asked for
    """

    seen: frozenset[str]
    others: frozenset[object] | None
    n: int
    failed: frozenset[int]
    open: tuple[frozenset[frozenset[int]], ...]
    identity: frozenset[object] | None


class ObjectPlan(Contents[Members]):
    """What is to be kept of an object, and what may come next in it."""

    def __init__(self, plans: Plans, valued: Valued) -> None:
        super().__init__(plans, valued)
        self.mappings = [f for f in self.atoms if f.atom[0] == "properties"]
        self.naming = [f for f in self.atoms if f.atom[0] == "names"]
        counts: list[int] = [f.atom[1] for f in self.atoms if f.atom[0] == "count"]
        self.cap = max(counts, default=0)
        known: set[str] = {f.atom[1] for f in self.atoms if f.atom[0] == "has"}
        patterns: dict[str, None] = {}
        self.named: dict[Formula, dict[str, Schema]] = {}
        for f in self.mappings:
            self.named[f] = members_of(plans, f)
            known.update(self.named[f])
            patterns.update(dict.fromkeys(source for source, _ in f.atom[2]))
        for f in self.unevaluated:
            for cover, _ in f.atom[2]:
                known.update(cover.names)
                patterns.update(dict.fromkeys(cover.patterns))
        self.known, self.trie = names_of(plans, frozenset(known))
        self.patterns = list(patterns)
        self.languages = [plans.schemas.expression(source, "", "patternProperties") for source in self.patterns]
        self.automata = [*self.languages, every_text()] if self.languages else []
        self.outlook: MemberOutlook | None = None
        self.facts = {id(way): Facts(way) for way in valued.ways}
        # A name that comes twice may change an answer: what is counted may be too many; a value that is the last of its
        # name may make up for one that failed. One property is one, however often it comes; and one too many counted
        # where there may be no more than so many only bars what might have come.
        open_answer = valued.fixed is None or any(
            way.residues or any(not want for f, want in way.literals if f.atom[0] != "count") for way in valued.ways
        )
        counting = bool(counts) and (open_answer or any(facts.least > 1 for facts in self.facts.values()))
        self.tracked = self.identity or counting  # whether written or read: what is written must be read as valid
        self.careful = not self.tracked and open_answer and self._value_of_others_counts()
        few = few_names(self) if plans.writing and (self.identity or counts or open_answer) else None
        self.closed = few is not None  # all names that may ever come are known
        if few:
            self.known = self.known | {raw: raw.decode() for raw in few}
            self.trie = Texts(list(self.known))
        if plans.writing and self._far():
            self.outlook = MemberOutlook(self)
        self._last: tuple[Members, Way, tuple[frozenset[str], int, int | None]] | None = None

    def _far(self) -> bool:
        """Whether more than names and their number decides how it can end."""
        for way in self.valued.ways:
            negative = {f.atom[0] for f, want in way.literals if not want} - {"count", "has"}
            if way.residues or negative:
                return True
            # What evaluates a property may be the schema of the way that was not taken: its value decides.
            covers = [c for f, want in way.literals if want and f.atom[0] == "unevaluated" for c in f.atom[2]]
            if any(evaluate(path, self.wanted(way).get) is None for _, path in covers):
                return True
        return False

    def _value_of_others_counts(self) -> bool:
        """Whether an answer may depend on the value of a property that is not known, and not only on its name."""
        rests = [f.atom[3] for f in self.mappings]
        asked = any(rest is not None and rest.place.value not in (True, False, {}) for rest in rests)
        return asked or bool(self.patterns) or bool(self.unevaluated)

    def like(self, m: Members, free: list[Both] | bool) -> Members:
        """The first members after which the same names that are not known may come."""
        key = ("like", tuple(map(id, free)) if isinstance(free, list) else free)
        return self.kept(key, lambda: m)

    def none(self) -> Members:
        """Before the first property."""
        empty: frozenset[Any] = frozenset()
        others = empty if self.tracked else None
        return Members(empty, others, 0, empty, (empty,) * len(self.unevaluated), empty if self.identity else None)

    def begin(self) -> Inside:
        """After the opening brace."""
        return self.plans.place(Inside, self, self.none(), "first", None, self.plans.spaces)

    def can_finish(self) -> bool:
        """Whether there is an object."""
        return bool(self.ways(self.none()))

    def outcomes(self) -> dict[Any, tuple[bool, ...]] | None:
        """All objects there are, as identities, with what they satisfy; None: too many to look for."""
        return outcomes(self)

    # --- what is true -------------------------------------------------------------------------------------------------

    def happened(self, so_far: Members, f: Formula) -> bool:
        """Whether there are so many properties, or one of this name."""
        return bool(so_far.n >= f.atom[1] if f.atom[0] == "count" else f.atom[1] in so_far.seen)

    def answers(self, m: Members) -> Result | None:
        """The result, if the object may end here."""
        satisfied = self.satisfied(m)
        if satisfied is None:
            return None
        identity = None if m.identity is None else folded(("o", m.identity), self.plans.writing)
        return None if identity and self.valued.plan.barred.bars(identity) else Result(satisfied, identity)

    def ways(self, m: Members) -> list[Way]:
        """The ways that are still open and can be gone to their end."""

        def look() -> list[Way]:
            found = [w for w in self.valued.ways if self.possible(m, w) and self.reachable(m, w)]
            if found and self.outlook is not None and not self.outlook.finishes(m):
                return []
            return found if not self.valued.plan.barred or differs(self, m, found) else []

        return self.kept(("ways", m), look)

    def missing(self, m: Members, way: Way) -> tuple[frozenset[str], int, int | None]:
        """Names that a way still needs, how many properties it still needs, how many it can have."""
        if self._last is not None and self._last[0] is m and self._last[1] is way:
            return self._last[2]  # asked for name by name: the same again and again
        facts = self.facts[id(way)]
        names = facts.names - m.seen
        need = max(len(names), facts.least - m.n)
        found = names, need, None if facts.most is None else facts.most - m.n
        self._last = (m, way, found)
        return found

    def reachable(self, m: Members, way: Way) -> bool:
        """Whether the properties that a way still needs can come."""
        names, need, room = self.missing(m, way)
        if room is not None and need > room:
            return False
        if not all(self.allowed(m, name, self.matches(name), [way]) for name in names):
            return False
        if need > len(names) and not self.free(m, [way]):
            more = sum(
                name not in m.seen and self.allowed(m, name, self.matches(name), [way]) for name in self.known.values()
            )
            return more >= need
        if self.plans.writing and self.tracked and need > len(names) + FINGERPRINTS - len(m.others or ()):
            self.plans.short = GrammarBudget("names that are told apart", need, FINGERPRINTS)
            return False
        return True

    # --- names --------------------------------------------------------------------------------------------------------

    def matches(self, name: str) -> tuple[bool, ...]:
        """Which patterns are found in a known name."""
        return self.kept(
            ("matches", name), lambda: tuple(contains(language, name.encode()) for language in self.languages)
        )

    def named_so(self, name: str) -> tuple[bool, ...]:
        """Of each "names" atom, whether a known name satisfies its schema."""

        def look() -> tuple[bool, ...]:
            return tuple(self.plans.satisfies(f.atom[1], name) for f in self.naming)

        return self.kept(("named", name), look) if self.naming else ()

    def open_to(self, m: Members, name: str | None, ways: list[Way]) -> list[Way]:
        """The ways on which a name may come next: there is room for it beside those that are needed, and it is not
        forbidden.
        """
        found: list[Way] = []
        if name is None and self.careful and m.others is not None:
            return found
        so = self.named_so(name) if name is not None else ()
        for way in ways:
            names, _need, room = self.missing(m, way)
            if room is not None and (room < 1 or (name not in names and room - 1 < len(names))):
                continue
            facts = self.facts[id(way)]
            if name in facts.barred:
                continue
            if any(self.wanted(way).get(f) and not ok for f, ok in zip(self.naming, so, strict=False)):
                continue
            found.append(way)
        return found

    def allowed(self, m: Members, name: str | None, matches: tuple[bool, ...], ways: list[Way]) -> bool:
        """Whether a property of this name may come, on one of these ways."""
        ways = self.open_to(m, name, ways)
        return bool(ways) and self.value_plan(m, name, matches, ways).alive()

    def free(self, m: Members, ways: list[Way]) -> list[Both] | bool:
        """Whether names that are not known may come: False, True, or the sets of those that may."""
        if self.closed:
            return False
        if self.naming and self.name_text(m, ways) is None:
            return False
        if not self.languages:
            return self.allowed(m, None, (), ways)
        if len(self.languages) > PATTERNS:
            return True
        found = []
        for matches in product((False, True), repeat=len(self.languages)):
            if self.allowed(m, None, matches, ways):
                members = [*zip(self.automata, (*matches, True), strict=True), (self.trie, False)]
                both = self.plans.both(("name", self, matches), members)
                if both.live(both.start, 0) and (not self.naming or any_named(self, matches, ways)):
                    found.append(both)
        return found

    def next_names(self, m: Members) -> tuple[Texts, list[Both] | bool]:
        """The known names that may come next, and what other ones may."""

        def look() -> tuple[Texts, list[Both] | bool]:
            ways = self.ways(m)
            names = [
                raw
                for raw, name in self.known.items()
                if name not in m.seen and self.allowed(m, name, self.matches(name), ways)
            ]
            return Texts(names), self.free(m, ways)

        return self.kept(("next", m), look)

    def name_text(self, m: Members, ways: list[Way]) -> Any:
        """What the "names" atoms ask of the next name (a listener), or None where no name is possible."""
        made = self.name_plan(ways)
        return None if made is None else made.begin()

    def name_plan(self, ways: list[Way]) -> Any:
        """The same as a plan."""
        schemas = tuple(f.atom[1] for f in self.naming)
        goal: dict[Any, None] = {}
        for way in ways:
            wanted = self.wanted(way)
            goal[(frozenset(i for i, f in enumerate(self.naming) if wanted.get(f)), frozenset())] = None
        if not goal:
            return None
        made = self.plans.plan(schemas, tuple(goal), False).of_kind("string")
        return made if made is not None and made.can_finish() else None

    @cached_property
    def _concerned(self) -> tuple[list[Formula], dict[str | None, list[Formula]]]:
        """The "properties" atoms that any name may concern, and those that only names of theirs do, by these: of an
        enum of objects there may be thousands."""
        general = [f for f in self.mappings if f.atom[2] or f.atom[3] is not None]
        naming: dict[str | None, list[Formula]] = {}
        for f in self.mappings:
            if not f.atom[2] and f.atom[3] is None:
                for name in self.named[f]:
                    naming.setdefault(name, []).append(f)
        return general, naming

    # --- values -------------------------------------------------------------------------------------------------------

    def asked(
        self, m: Members, name: str | None, matches: tuple[bool, ...]
    ) -> tuple[list[tuple[Formula, Schema]], list[list[int]]]:
        """The schemas that are asked about a property's value, each with the atom that asks; of each "unevaluated" atom
        the covers that hold of it.
        """
        found: list[tuple[Formula, Schema]] = []
        there = {source for source, yes in zip(self.patterns, matches, strict=True) if yes}
        general, naming = self._concerned
        for f in sorted([*general, *naming.get(name, ())], key=lambda f: f.number) if naming else general:
            if f.number in m.failed:
                continue
            mine = [s for source, s in f.atom[2] if source in there]
            if name is not None and name in self.named[f]:
                mine.append(self.named[f][name])
            if not mine and f.atom[3] is not None:
                mine.append(f.atom[3])
            found += [(f, s) for s in mine]
        placed: list[list[int]] = []
        for f in self.unevaluated:
            here = []
            for i, (cover, _) in enumerate(f.atom[2]):
                assert isinstance(cover, NameCover)
                if cover.everything or name in cover.names or not there.isdisjoint(cover.patterns):
                    here.append(i)
            placed.append(here)
            found.append((f, f.atom[1]))
        return found, placed

    def value_plan(self, m: Members, name: str | None, matches: tuple[bool, ...], ways: list[Way]) -> Plan:
        """The plan of a property's value, for some ways."""
        whole = m if m.open or self.outlook is not None or self.valued.plan.barred else None
        key = ("value", m.failed, whole, name, matches, tuple(map(id, ways)))
        if key in self._known:
            return cast("Plan", self._known[key])
        before = self.plans.guessed
        asked, placed = self.asked(m, name, matches)
        schemas = tuple(sorted({s for _, s in asked}, key=lambda s: s.number))
        index = {s: i for i, s in enumerate(schemas)}
        goal: dict[tuple[frozenset[int], frozenset[int]], None] = {}
        for way in ways:
            wanted = self.wanted(way)
            must = set()
            for f, schema in asked:
                if not wanted.get(f):
                    continue
                if f.atom[0] == "properties":
                    must.add(index[schema])
                else:
                    covers = f.atom[2]
                    here = placed[self.unevaluated.index(f)]
                    if not any(self.may_count(m, covers[i][1], wanted) for i in here):
                        must.add(index[schema])
            goal[(frozenset(must), frozenset())] = None
        wanted_goal = tuple(goal)
        if self.outlook is not None:
            ahead = self.outlook.goal(m, name, matches, schemas)
            wanted_goal = wanted_goal if ahead is None else ahead
        plan = self.plans.plan(schemas, wanted_goal, self.identity)
        if self.valued.plan.barred and name is not None and (found := plan.outcomes()):
            this = Key(name, matches, self.named_so(name), None)
            same = frozenset(i for i, so in found.items() if self.add(m, this, Result(so, i), plan) is None)
            plan = self.plans.plan(schemas, wanted_goal, True, same)
        if self.plans.sure(before) or not (self.outlook or self.valued.plan.barred):
            self._known[key] = plan
        return plan

    def plan_of(self, m: Members, key: Key) -> Plan:
        """The plan of the value that comes after a name."""
        ways = self.open_to(m, key.name, self.ways(m))
        return self.value_plan(m, key.name, key.matches, ways)

    def add(self, m: Members, key: Key, result: Result, plan: Plan | None = None) -> Members | None:
        """With one more property; None where no way is left. `plan`: of its value, if not `plan_of`'s."""
        plan = self.plan_of(m, key) if plan is None else plan
        after = self.added(m, key, dict(zip(plan.schemas, result.satisfied, strict=True)))
        if m.identity is not None:
            after = after._replace(identity=m.identity | {(key.name or key.text, result.identity)})
        return after if self.ways(after) else None

    def added(self, m: Members, key: Key, satisfied: Mapping[Schema, bool]) -> Members:
        """With one more property, of whose value this is true."""
        asked, placed = self.asked(m, key.name, key.matches)
        failed = set(m.failed)
        failed.update(f.number for f, s in asked if f.atom[0] == "properties" and not satisfied[s])
        failed.update(f.number for f, ok in zip(self.naming, key.named, strict=True) if not ok)
        still_open = []
        for number, f in enumerate(self.unevaluated):
            sets = m.open[number]
            if not satisfied[f.atom[1]]:
                sets = sets | {frozenset(placed[number])}
            still_open.append(sets)
        others = m.others
        if key.name is None and others is not None:
            others |= {key.text}
        if key.name is None and self.careful and (len(failed) > len(m.failed) or tuple(still_open) != m.open):
            others = frozenset()
        return Members(
            m.seen if key.name is None else m.seen | {key.name},
            others,
            min(m.n + 1, self.cap),
            frozenset(failed),
            tuple(still_open),
            m.identity,
        )

    def can_go_on(self, m: Members) -> bool:
        """Whether another property may come."""
        names, free = self.next_names(m)
        if names.texts or not free or not m.others:
            return bool(names.texts or free)
        return can_end(Name.first(self.plans, self, m), self.plans.ends)


def members_of(plans: Plans, f: Formula) -> dict[str, Schema]:
    """The schemas of a "properties" atom by name. Objects that are alike, of which there may be as many as they have
    properties, share them."""
    if f not in plans.members:
        plans.members[f] = dict(f.atom[1])
    return plans.members[f]


def names_of(plans: Plans, names: frozenset[str]) -> tuple[dict[bytes, str], Texts]:
    """Names by how they are written, and as a language; shared likewise."""
    if names not in plans.names:
        known = {name.encode(): name for name in sorted(names)}
        plans.names[names] = known, Texts(list(known))
    return plans.names[names]
