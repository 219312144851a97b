"""Formulas over what can be said of one value: atoms, and, or, not, exactly one; interned, evaluated in three values.

A schema is, for values of one kind (string, object ...), a formula over atoms such as "has the property x" or "is of at
least 3 characters". While the value is being read an atom is true, false or not known yet (None); so is the formula.

`alternatives` turns "these formulas must be true, those false" into a few ways of satisfying it, each a set of atoms
with the value they must have: what a writer has to keep possible. A part that would make too many ways is kept as it
is, a *residue*: it is evaluated, but nothing is planned for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

WAYS = 48  # at most so many alternatives
BRANCHES = 24  # a disjunction of more members is kept as a residue
EXCLUSIVE = 4  # of exactly one of more members, those that must be false are only evaluated

Truth = bool | None


class Formula:
    """op is "const", "atom", "and", "or", "not" or "one"; `atom` is a tuple whose first member says of which sort."""

    __slots__ = ("atom", "items", "number", "op")

    def __init__(self, op: str, items: tuple[Formula, ...] = (), atom: tuple[Any, ...] = (), number: int = 0) -> None:
        self.op, self.items, self.atom, self.number = op, items, atom, number

    def __repr__(self) -> str:
        return repr(self.atom) if self.op == "atom" else f"{self.op}{list(self.items) or self.number}"


TRUE = Formula("const", number=1)
FALSE = Formula("const", number=0)


class Formulas:
    """The table of all formulas of a schema: the same formula is the same object."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], Formula] = {}

    def _make(self, op: str, items: tuple[Formula, ...], atom: tuple[Any, ...] = ()) -> Formula:
        key = (op, atom, *map(id, items))
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = Formula(op, items, atom, len(self._known) + 2)
        return found

    def atom(self, *atom: object) -> Formula:
        """An atom; its members must be hashable."""
        return self._make("atom", (), atom)

    def all_of(self, items: Iterable[Formula]) -> Formula:
        """True where all are."""
        return self._join("and", items, TRUE, FALSE)

    def any_of(self, items: Iterable[Formula]) -> Formula:
        """True where one is at least."""
        return self._join("or", items, FALSE, TRUE)

    def _join(self, op: str, items: Iterable[Formula], unit: Formula, zero: Formula) -> Formula:
        flat: dict[int, Formula] = {}
        for item in items:
            if item is zero:
                return zero
            if item is unit:
                continue
            for part in item.items if item.op == op else (item,):
                flat[id(part)] = part
        for part in flat.values():
            if part.op == "not" and id(part.items[0]) in flat:
                return zero
        if len(flat) < 2:
            return next(iter(flat.values()), unit)
        return self._make(op, tuple(sorted(flat.values(), key=lambda f: f.number)))

    def negation(self, item: Formula) -> Formula:
        """True where it is false."""
        if item.op == "const":
            return FALSE if item is TRUE else TRUE
        if item.op == "not":
            return item.items[0]
        return self._make("not", (item,))

    def one_of(self, items: Iterable[Formula]) -> Formula:
        """True where exactly one is; one that is there twice is none of them."""
        rest = [item for item in items if item is not FALSE]
        twice = {item.number for item, n in Counter(rest).items() if n > 1 and item is not TRUE}
        if twice:
            never = self.any_of({item.number: item for item in rest if item.number in twice}.values())
            return self.all_of((self.one_of(i for i in rest if i.number not in twice), self.negation(never)))
        sure = sum(item is TRUE for item in rest)
        if sure > 1:
            return FALSE
        others = [item for item in rest if item is not TRUE]
        if sure:
            return self.negation(self.any_of(others))
        if len(others) < 2:
            return others[0] if others else FALSE
        return self._make("one", tuple(sorted(others, key=lambda f: f.number)))


def evaluate(f: Formula, truth: Callable[[Formula], Truth]) -> Truth:
    """True, False, or None where it depends on atoms that are not known."""
    op = f.op
    if op == "const":
        return f is TRUE
    if op == "atom":
        return truth(f)
    if op == "not":
        value = evaluate(f.items[0], truth)
        return None if value is None else not value
    unknown = False
    if op == "one":
        count = maybe = 0
        for item in f.items:
            value = evaluate(item, truth)
            if value:
                count += 1
                if count > 1:
                    return False
            elif value is None:
                maybe += 1
        return None if maybe else count == 1
    settles = op == "or"
    for item in f.items:
        value = evaluate(item, truth)
        if value is settles:
            return settles
        unknown = unknown or value is None
    return None if unknown else not settles


def atoms_of(formulas: Iterable[Formula]) -> list[Formula]:
    """All atoms, each once, in the order of their numbers. Those within an atom of unevaluated parts are among them."""
    seen: dict[int, Formula] = {}
    todo = list(formulas)
    while todo:
        f = todo.pop()
        if id(f) in seen:
            continue
        seen[id(f)] = f
        todo.extend(f.items)
        if f.op == "atom" and f.atom[0] == "unevaluated":
            todo.extend(path for _, path in f.atom[2])
    return sorted((f for f in seen.values() if f.op == "atom"), key=lambda f: f.number)


Wanted = list[tuple["Formula", bool]]


class Way(NamedTuple):
    """One way of satisfying: the atoms with the value they must have, and formulas that are only evaluated."""

    literals: tuple[tuple[Formula, bool], ...]
    residues: tuple[tuple[Formula, bool], ...]

    @property
    def wanted(self) -> dict[Formula, bool]:
        """The literals as a mapping."""
        return dict(self.literals)


def alternatives(wanted: Iterable[tuple[Formula, bool]]) -> tuple[Way, ...]:
    """The ways in which each formula has the value that is wanted of it; none: it is impossible.

    Every assignment that satisfies all is in one of them; not each that is in one satisfies (that is what residues are
    for, and the end of the value, where all is evaluated).
    """
    found: dict[Way, None] = {}
    # what is still to be looked at; literals; residues; disjunctions to branch on, of choices of which each is a few
    stack: list[tuple[Wanted, dict[Formula, bool], dict[tuple[Formula, bool], None], list[list[Wanted]]]] = [
        (list(wanted), {}, {}, [])
    ]
    budget = WAYS * 4
    while stack:
        todo, literals, residues, branches = stack.pop()
        possible = True
        while todo and possible:
            f, want = todo.pop()
            op = f.op
            if op == "const":
                possible = (f is TRUE) is want
            elif op == "atom":
                possible = literals.setdefault(f, want) is want
            elif op == "not":
                todo.append((f.items[0], not want))
            elif op == "one":
                if want and len(f.items) <= BRANCHES:
                    residues[(f, True)] = None
                    branches.append([_only(item, f.items) for item in f.items])
                else:
                    residues[(f, want)] = None
            elif (op == "and") is want:
                todo.extend((item, want) for item in f.items)
            elif len(f.items) <= (BRANCHES if want else 3):
                branches.append([[(item, want)] for item in f.items])
            else:
                residues[(f, want)] = None
        if not possible:
            continue
        if branches:
            first = branches[0]
            budget -= len(first)
            if budget < 0 or len(found) + len(stack) + len(first) > WAYS:
                for each in branches:  # too many: what is left is only evaluated
                    residues[(_Any([choice[0] for choice in each]), True)] = None
                branches = []
            else:
                for choice in reversed(first):
                    stack.append(([*choice], dict(literals), dict(residues), branches[1:]))
                continue
        way = Way(tuple(sorted(literals.items(), key=lambda x: x[0].number)), tuple(residues))
        found[way] = None
    return tuple(found)


def _only(item: Formula, items: tuple[Formula, ...]) -> Wanted:
    """One member of "exactly one" is true; those of the others are false that say little, such as bounds of a number:
    between 2 and the integers lies what no digits that come later can leave."""
    others = [other for other in items if other is not item and _says_little(other)]
    return [(item, True), *((other, False) for other in others if len(items) <= EXCLUSIVE)]


def _says_little(f: Formula) -> bool:
    literals = f.items if f.op in ("and", "or") else (f,)
    return len(literals) <= 3 and all(x.op == "atom" or (x.op == "not" and x.items[0].op == "atom") for x in literals)


class _Any(Formula):
    """A disjunction that was not branched on: one of its members has the value that is wanted of it."""

    __slots__ = ()

    def __init__(self, choices: list[tuple[Formula, bool]]) -> None:
        items = tuple(f if want else Formula("not", (f,)) for f, want in choices)
        super().__init__("or", items)
