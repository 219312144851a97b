"""What arrays and objects share: what is true of one that is being read, as far as it is known; which ways are open.

An array or object is judged by what is kept of it so far (`Items` in arrays.py, `Members` in objects.py). An atom about
its contents is true, false, or not known yet (None); a way is open while none of its atoms has the wrong value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

from .formula import Formula, Truth, Way, atoms_of, evaluate

if TYPE_CHECKING:
    from .plans import Plans, Valued
T = TypeVar("T")


class SoFar(Protocol):
    """What is kept of either.

    n         how many items or properties, or the plan's cap
    failed    numbers of the atoms that are false whatever comes
    open      of each "unevaluated" atom: sets of covers, one of which must count for each
    """

    @property
    def n(self) -> int: ...
    @property
    def failed(self) -> frozenset[int]: ...
    @property
    def open(self) -> tuple[frozenset[frozenset[int]], ...]: ...


S = TypeVar("S", bound=SoFar)


class Contents(Generic[S]):
    """The part of a plan that does not depend on which of the two it is."""

    def __init__(self, plans: Plans, valued: Valued) -> None:
        self.plans, self.valued = plans, valued
        residues = [f for way in valued.ways for f, _ in way.residues]
        literals = [f for way in valued.ways for f, _ in way.literals]
        self.atoms = atoms_of([*valued.formulas, *literals, *residues])
        self.identity = valued.plan.identity
        self.unevaluated: list[Formula] = [f for f in self.atoms if f.atom[0] == "unevaluated"]
        # by identity: to hash a way is to hash all its formulas; `valued` keeps them alive
        self._wanted = {id(way): way.wanted for way in valued.ways}
        self._known: dict[Any, Any] = {}

    def kept(self, key: Any, make: Callable[[], T]) -> T:
        """What has been found before, as far as it was sure."""
        if key in self._known:
            return cast(T, self._known[key])
        before = self.plans.guessed
        made = make()
        if self.plans.sure(before):
            self._known[key] = made
        return made

    def wanted(self, way: Way) -> dict[Formula, bool]:
        """The value that each atom must have on a way."""
        return self._wanted[id(way)]

    def happened(self, so_far: S, f: Formula) -> bool:
        """Whether an atom has come true for good: one that says that something is among the contents."""
        raise NotImplementedError

    def truth(self, so_far: S, f: Formula, ended: bool, assumed: dict[Formula, bool] | None = None) -> Truth:
        """Whether an atom is true: of the whole, or as far as it is known; what is not, as it is assumed."""
        sort = f.atom[0]
        unknown: Truth = ended or None
        found: Truth
        if sort in ("count", "contains", "has"):
            found = self.happened(so_far, f) or (False if ended else None)
        elif sort == "unevaluated":
            found = self._covered(so_far, f, ended, assumed)
            found = unknown if found else found
        else:
            found = False if f.number in so_far.failed else unknown
        if found is None and assumed is not None:
            return assumed.get(f)
        return found

    def _covered(self, so_far: S, f: Formula, ended: bool, assumed: dict[Formula, bool] | None) -> Truth:
        """Whether each part that must have been evaluated by others has been, or may have been."""
        covers = f.atom[2]
        found: Truth = True
        for open_to in so_far.open[self.unevaluated.index(f)]:
            best: Truth = False
            for i in open_to:
                value = evaluate(covers[i][1], lambda g: self.truth(so_far, g, ended, assumed))
                if value:
                    best = True
                    break
                best = None if value is None else best
            if best is False:
                return False
            found = None if best is None else found
        return found

    def satisfied(self, so_far: S) -> tuple[bool, ...] | None:
        """Which formulas hold if it ends here; None: it may not."""
        found = tuple(evaluate(f, lambda g: self.truth(so_far, g, True)) is True for f in self.valued.formulas)
        return found if self.valued.plan.allows(found) else None

    def possible(self, so_far: S, way: Way) -> bool:
        """Whether a way is still open, as far as what has been read goes."""
        for f, want in way.literals:
            now = self.truth(so_far, f, False)
            if now is not None and now is not want:
                return False
        wanted = self.wanted(way)
        return all(
            evaluate(f, lambda g: self.truth(so_far, g, False, wanted)) in (None, want) for f, want in way.residues
        )

    def may_count(self, so_far: S, path: Formula, wanted: dict[Formula, bool]) -> bool:
        """Whether a cover may still count, if a way is gone."""
        return evaluate(path, lambda g: self.truth(so_far, g, False, wanted)) is not False
