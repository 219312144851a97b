"""Names of properties that the schemas do not mention: which there are, told apart by the patterns found in them."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from .formula import Way
from .languages import Both
from .names import Key
from .prints import FEW

if TYPE_CHECKING:
    from .objects import ObjectPlan

PATTERNS = 5  # up to so many, all combinations of them are looked at to see which names are possible


def few_names(plan: ObjectPlan) -> list[bytes] | None:
    """All names beside the known ones that some way allows; None: too many to be told apart one by one."""
    found: set[bytes] = set()
    if len(plan.languages) > PATTERNS:
        return None
    for way in plan.valued.ways:
        for matches in product((False, True), repeat=len(plan.languages)):
            goal = plan.value_plan(plan.none(), None, matches, [way])
            if all(any(goal.schemas[i].place.value is False for i in must) for must, _ in goal.goal):
                continue
            for both in unknown(plan, matches, [way]):
                texts = both.texts(FEW)
                if texts is None or len(found | {*texts}) > FEW:
                    return None
                found.update(texts)
    return sorted(found)


def unknown(plan: ObjectPlan, matches: tuple[bool, ...], ways: list[Way]) -> list[Both]:
    """Names that are not known, in which these patterns are found, as sets: the "names" atoms hold of each."""
    members = [*zip(plan.automata, (*matches, True)[: len(plan.automata)], strict=True), (plan.trie, False)]
    if not plan.naming:
        return [Both(members)]
    said = plan.name_plan(ways)
    acceptors = [] if said is None else [acceptor for _, acceptor in said.ways]
    return [Both([*members, *(a.both.members if a.both else ())], a.least, a.most) for a in acceptors]


def unknown_keys(plan: ObjectPlan) -> list[Key] | None:
    """Names that are not known, one for each way in which patterns are found in them and "names" atoms hold; None:
    too many ways."""
    if plan.closed:
        return []
    if len(plan.languages) + len(plan.naming) > PATTERNS:
        return None
    found = []
    schemas = tuple(f.atom[1] for f in plan.naming)
    for matches in product((False, True), repeat=len(plan.languages)):
        members = [*zip(plan.automata, (*matches, True)[: len(plan.automata)], strict=True), (plan.trie, False)]
        for named in product((False, True), repeat=len(plan.naming)):
            must = frozenset(i for i, yes in enumerate(named) if yes)
            goal = ((must, frozenset(range(len(named))) - must),)
            said = plan.plans.plan(schemas, goal, False).of_kind("string") if named else None
            sets = [Both(members)] if not named else []
            for _, a in [] if said is None else said.ways:
                sets.append(Both([*members, *(a.both.members if a.both else ())], a.least, a.most))
            if any(both.live(both.start, 0) for both in sets):
                found.append(Key(None, matches, named, None))
    return found


def any_named(plan: ObjectPlan, matches: tuple[bool, ...], ways: list[Way]) -> bool:
    """Whether there is a name in which these patterns are found and of which the "names" atoms hold."""
    key = ("named so", matches, tuple(map(id, ways)))
    return plan.kept(key, lambda: any(both.live(both.start, 0) for both in unknown(plan, matches, ways)))
