"""Plans: which schemas are asked about a value, and what must come of it; the beginning of a value; the whole document.

While a value is read, several schemas may be asked about it: those that its properties' schemas, `allOf` branches and
so on come down to. A plan names them, and a *goal*: the combinations of answers that what is around can still use. A
value that could only end in other answers is not begun, and one that comes to it is dead at once.

    goal    ((must be satisfied, must not be), ...): indices into the schemas; one of the pairs must hold
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from zigllama.errors import EmptyLanguage, GrammarBudget, GrammarError

from .arrays import ArrayPlan
from .check import check
from .formula import FALSE, TRUE, Formula, Way, alternatives
from .languages import Both, Texts
from .nodes import Schema
from .numbers import NumberPlan
from .objects import ObjectPlan
from .options import Json, Options
from .printed import Printed
from .prints import FEW, Barred
from .schema import Schemas
from .strings import Quoted
from .texts import TextPlan
from .transducer import SPACE, TOKENS, Action, Go, Pop, Push, Result
from .whole import Whole

Goal = tuple[tuple[frozenset[int], frozenset[int]], ...]
T = TypeVar("T")
ANYTHING: Goal = ((frozenset(), frozenset()),)
THE_ONE: Goal = ((frozenset((0,)), frozenset()),)  # that schema 0 holds, and nothing else
FIRST = {ord("{"): "object", ord("["): "array", ord('"'): "string", ord("-"): "number"}
FIRST |= {ord("t"): "true", ord("f"): "false", ord("n"): "null"} | {ord(d): "number" for d in "0123456789"}
PATIENCE = 20_000  # plans looked at to see whether a value can be finished at all; then it is taken for granted
LISTED = 6  # values within one another of which all that there are is looked for
LOOKED = 300  # searches while it is found out what can be finished; then an end is taken for granted
NESTED = 40  # plans within one another, likewise
PLACES = 200_000


class Valued:
    """What a plan says of values of one kind: the formula of each schema, the ways to the goal, and the answers, where
    they are the same in all ways.
    """

    def __init__(self, plan: Plan, kind: str) -> None:
        self.plan = plan
        self.formulas: list[Formula] = [plan.plans.schemas.formula(s, kind) for s in plan.schemas]
        ways: dict[Way, None] = {}
        for must, must_not in plan.goal:
            if any(self.formulas[i] is FALSE for i in must) or any(self.formulas[i] is TRUE for i in must_not):
                continue
            wanted = [(self.formulas[i], True) for i in must] + [(self.formulas[i], False) for i in must_not]
            ways.update(dict.fromkeys(alternatives(wanted)))
        self.ways = tuple(ways)
        must, must_not = plan.goal[0] if plan.goal else ANYTHING[0]
        known = len(plan.goal) == 1 and len(must) + len(must_not) == len(plan.schemas)
        self.fixed = tuple(i in must for i in range(len(plan.schemas))) if known else None


class Plan:
    """The schemas that are asked about a value, the goal, and whether it must be known what the value is."""

    def __init__(
        self, plans: Plans, number: int, schemas: tuple[Schema, ...], goal: Goal, identity: bool, excluded: Any
    ) -> None:
        self.plans, self.number, self.schemas, self.goal, self.identity = plans, number, schemas, goal, identity
        self.barred = Barred(excluded)  # identities that the value must not have
        self._kinds: dict[str, Any] = {}
        self._outcomes: Any = False  # not looked for yet
        self._listing = False
        self._alive: bool | None = None

    def allows(self, satisfied: tuple[bool, ...]) -> bool:
        """Whether these answers are in the goal."""
        return any(
            all(satisfied[i] for i in must) and not any(satisfied[i] for i in must_not) for must, must_not in self.goal
        )

    def of_kind(self, kind: str) -> Any:
        """The plan for values of a kind; for a literal its result; None: there can be none."""
        if kind not in self._kinds:
            self._kinds[kind] = self._make(kind)
        return self._kinds[kind]

    def _make(self, kind: str) -> Any:
        if self.goal == THE_ONE and self.schemas[0].kind not in ("", kind):
            return None
        valued = Valued(self, kind)
        if not valued.ways:
            return None
        if kind in ("true", "false", "null"):
            satisfied = tuple(f is TRUE for f in valued.formulas)
            identity = ("l", kind)
            return Result(satisfied, identity) if self.allows(satisfied) and not self.barred.bars(identity) else None
        made = {"string": TextPlan, "number": NumberPlan, "array": ArrayPlan, "object": ObjectPlan}[kind]
        return made(self.plans, valued)

    def can_be(self, kind: str) -> bool:
        """Whether a value of a kind can be finished."""
        made = self.of_kind(kind)
        return made is not None and (isinstance(made, Result) or bool(made.can_finish()))

    def outcomes(self) -> dict[Any, tuple[bool, ...]] | None:
        """All values there can be, as identities, each with what it satisfies; None: more than FEW, or of those within
        one another. For plans that know what a value is."""
        if self._outcomes is not False:
            return cast("dict[Any, tuple[bool, ...]] | None", self._outcomes)
        if self._listing or self.plans.listing > LISTED or not self.plans.may_look():
            self.plans.guessed += 1
            return None
        self._listing = True
        self.plans.listing += 1
        before = self.plans.guessed
        try:
            found = self._list()
        finally:
            self._listing = False
            self.plans.listing -= 1
        if self.plans.sure(before):
            self._outcomes = found
        return found

    def _list(self) -> dict[Any, tuple[bool, ...]] | None:
        found: dict[Any, tuple[bool, ...]] = {}
        for kind in ("true", "false", "null", "number", "string", "array", "object"):
            made = self.of_kind(kind)
            if isinstance(made, Result):
                found[made.identity] = made.satisfied
            elif made is not None:
                more = made.outcomes()
                if more is None or len(found) + len(more) > FEW:
                    return None
                found |= more
        return found

    def size(self) -> int | None:
        """How many different values there can be; None: more than it is worth counting."""
        if self.can_be("array") or self.can_be("object"):
            listed = self.outcomes() if self.identity else None
            return None if listed is None else len(listed)
        found = sum(self.of_kind(kind) is not None for kind in ("true", "false", "null"))
        for kind in ("string", "number"):
            made = self.of_kind(kind)
            more = 0 if made is None else made.size()
            if more is None:
                return None
            found += more
        return found

    def alive(self) -> bool:
        """Whether any value can be finished."""
        return self.plans.alive(self) if self._alive is None else self._alive

    def begin(self, byte: int, frame: Any) -> Action | None:
        """What the first byte of the value does, where `frame` waits for it."""
        kind = FIRST.get(byte)
        if kind is None or not self.can_be(kind):
            return None
        made = self.of_kind(kind)
        plans = self.plans
        if isinstance(made, Result):
            return Push(plans.place(Literal, kind.encode(), 1, made), frame)
        if kind == "string":
            return Push(plans.place(Quoted, made.begin(), ()), frame)
        if kind == "number":
            child = made.begin(byte)
            return None if child is None else Push(child, frame)
        return Push(made.begin(), frame)


class Literal:
    """Within true, false or null."""

    __slots__ = ("_plans", "at", "number", "result", "word")

    def __init__(self, plans: Plans, number: int, word: bytes, at: int, result: Result) -> None:
        self.number, self.word, self.at, self.result = number, word, at, result
        self._plans = plans

    def act(self, byte: int) -> Action | None:
        """What a byte does."""
        if byte != self.word[self.at]:
            return None
        if self.at + 1 == len(self.word):
            return Pop(self.result)
        return Go(self._plans.place(Literal, self.word, self.at + 1, self.result))

    def like(self) -> None:
        """No other place is known where all but whitespace does the same."""
        return

    def cuts(self) -> tuple[int, ...]:
        """Where what bytes do may change."""
        byte = self.word[self.at]
        return byte, byte + 1

    def after(self, result: object) -> None:
        """Nothing is within a literal."""
        raise AssertionError(result)

    def ended(self) -> None:
        """It ends with its last letter."""
        return


class Document:
    """Before the document's value, or after it; `spaces` more characters of whitespace may come (-1: any number)."""

    __slots__ = ("done", "number", "plan", "plans", "spaces")

    def __init__(self, plans: Plans, number: int, plan: Plan, done: bool, spaces: int) -> None:
        self.plans, self.number, self.plan, self.done, self.spaces = plans, number, plan, done, spaces

    def act(self, byte: int) -> Action | None:
        """What a byte does."""
        if byte in SPACE:
            if self.done:
                return None if self.plans.writing else Go(self)
            after = self.plans.fewer(self.spaces)
            return None if after is None else Go(self.plans.place(Document, self.plan, False, after))
        return None if self.done else self.plan.begin(byte, self)

    def like(self) -> None:
        """No other place is known where all but whitespace does the same."""
        return

    def cuts(self) -> tuple[int, ...]:
        """Where what bytes do may change."""
        return TOKENS

    def after(self, result: object) -> Document | None:
        """The document's value has ended."""
        assert isinstance(result, Result)
        return self.plans.place(Document, self.plan, True, 0) if self.plan.allows(result.satisfied) else None

    def ended(self) -> None:
        """It is no value."""
        return


class Plans:
    """All plans and places of a schema."""

    def __init__(self, schema: Json, options: Options) -> None:
        self.options, self.writing = options, options.writing
        self.schemas = Schemas(schema, options)
        self._plans: dict[tuple[Any, ...], Plan] = {}
        self._places: dict[tuple[Any, ...], Any] = {}
        self.places: list[Any] = []
        self.ends: dict[Any, bool] = {}  # of texts that may come to one that is barred, whether they can end (ends.py)
        self.printed: dict[Whole | None, Printed] = {}  # languages with fingerprints, for C
        self.printed_cells = 0
        self.members: dict[Formula, dict[str, Schema]] = {}  # objects.py: what objects that are alike share
        self.names: dict[frozenset[str], tuple[dict[bytes, str], Texts]] = {}
        self.listing = 0  # plans whose values are being listed
        self._waiting: dict[int, int] = {}  # plans that are being looked at -> how deep
        self._both: dict[tuple[Any, ...], Both] = {}
        self._lowest = 1 << 30
        self.short: GrammarError | None = None  # what was wanting where a value seemed to have no end
        self._patience = PATIENCE
        self._looked = 0
        self.guessed = 0  # answers so far that may be others at another time
        self.spaces = options.whitespace if options.writing else -1
        check(self.schemas)
        root = self.root = self.plan((self.schemas.root,), THE_ONE, False)
        if not root.alive():
            raise EmptyLanguage("the schema") if self.short is None else self.short
        self.first = self.place(Document, root, False, self.spaces)
        self.last = self.place(Document, root, True, 0)

    def fewer(self, spaces: int) -> int | None:
        """How many more characters of whitespace may come after one; None: none may come."""
        if spaces < 0:
            return spaces
        return spaces - 1 if spaces else None

    def place(self, sort: Callable[..., T], *key: Any) -> T:
        """The place of a sort with these members: the same ones, the same place."""
        whole = (sort, *key)
        found = self._places.get(whole)
        if found is None:
            number = len(self.places)
            if number >= PLACES:
                raise GrammarBudget("places in the document", number, PLACES)
            found = self._places[whole] = sort(self, number, *key)
            self.places.append(found)
        return cast(T, found)

    def plan(
        self, schemas: tuple[Schema, ...], goal: Goal, identity: bool, excluded: frozenset[Any] = frozenset()
    ) -> Plan:
        """The plan of these schemas and this goal."""
        key = (schemas, goal, identity, excluded)
        found = self._plans.get(key)
        if found is None:
            found = self._plans[key] = Plan(self, len(self._plans), schemas, goal, identity, excluded)
        return found

    @property
    def asking(self) -> bool:
        """Whether it is being found out what can be finished."""
        return bool(self._waiting)

    def sure(self, before: int) -> bool:
        """Whether what has been found since `guessed` was `before` may be kept. While it is being found out what can
        be finished, what is false because of a plan that waits for itself may be true later, and what was taken for
        granted false."""
        return self.guessed == before or not self.asking

    def may_look(self) -> bool:
        """Whether one more search may be made. While it is being found out what can be finished, what is not sure is
        not kept: searches within searches would be made again and again, so they are counted."""
        if not self.asking:
            return True
        self._looked += 1
        self.guessed += self._looked > LOOKED
        return self._looked <= LOOKED

    def both(self, key: tuple[Any, ...], members: Any) -> Both:
        """The language of a key, made once."""
        found = self._both.get(key)
        if found is None:
            found = self._both[key] = Both(members)
        return found

    def satisfies(self, schema: Schema, text: str) -> bool:
        """Whether a string satisfies a schema."""
        made = self.plan((schema,), ANYTHING, False).of_kind("string")
        listener = made.begin()
        for byte in text.encode():
            listener = listener.feed(byte)
        return bool(listener.close().satisfied[0])

    def anything(self, identity: bool) -> Plan:
        """The plan of a value that nothing is asked about."""
        return self.plan((), ANYTHING, identity)

    def alive(self, plan: Plan) -> bool:
        """Whether a value can be finished under a plan. A plan within itself is no help to it: what needs another of
        its kind for ever is never finished. What was found false only because of that is not kept.
        """
        if plan._alive is not None:
            return plan._alive
        if plan.goal == THE_ONE and plan.schemas[0].kind and not plan.barred:
            plan._alive = True  # a constant, which can always be written
            return True
        depth = len(self._waiting)
        if plan.number in self._waiting:
            self._lowest = min(self._lowest, self._waiting[plan.number])
            self.guessed += 1
            return False
        self._patience -= 1
        if self._patience < 0 or depth > NESTED:
            self.guessed += 1
            return True
        if not depth:
            self._looked = 0
        self._waiting[plan.number] = depth
        outer, self._lowest = self._lowest, 1 << 30
        found = False
        for kind in ("null", "true", "false", "string", "number", "array", "object"):
            made = plan.of_kind(kind)
            if made is not None and (isinstance(made, Result) or made.can_finish()):
                found = True
                break
        del self._waiting[plan.number]
        if found or self._lowest >= depth:
            plan._alive = found
        self._lowest = min(outer, self._lowest if self._lowest < depth else outer)
        return found
