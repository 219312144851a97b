"""What stands between the tokens of an object (objects.py): braces, names, colons, commas. C has its own of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .names import Key, Name
from .strings import Quoted
from .transducer import SPACE, TOKENS, Action, Go, Pop, Push, Result

if TYPE_CHECKING:
    from .objects import Members, ObjectPlan
    from .plans import Plans


class Inside:
    """Between the tokens of an object. `phase`: "first" (after the brace), "name" (one must come), "named" (within its
    quotes), "colon" (after one), "value" (one must come), "waits" (for its end), "comma" (after a property).
    """

    __slots__ = ("key", "members", "number", "phase", "plan", "plans", "spaces")

    def __init__(
        self, plans: Plans, number: int, plan: ObjectPlan, members: Members, phase: str, key: Key | None, spaces: int
    ) -> None:
        self.plans, self.number, self.plan = plans, number, plan
        self.members, self.phase, self.key, self.spaces = members, phase, key, spaces

    def _to(self, phase: str, key: Key | None = None) -> Go:
        return Go(self.plans.place(Inside, self.plan, self.members, phase, key, self.plans.spaces))

    def act(self, byte: int) -> Action | None:
        """What a byte does."""
        plan, phase, m = self.plan, self.phase, self.members
        if byte in SPACE:
            left = self.plans.fewer(self.spaces)
            return None if left is None else Go(self.plans.place(Inside, plan, m, phase, self.key, left))
        if byte == 0x7D and phase in ("first", "comma"):
            result = plan.answers(m)
            return None if result is None else Pop(result)
        if byte == 0x22 and phase in ("first", "name"):
            if not plan.can_go_on(m):
                return None
            frame = self.plans.place(Inside, plan, m, "named", None, 0)
            return Push(self.plans.place(Quoted, Name.first(self.plans, plan, m), ()), frame)
        if phase == "comma":
            return self._to("name") if byte == 0x2C and plan.can_go_on(m) else None
        if phase == "colon":
            return self._to("value", self.key) if byte == 0x3A else None
        if phase == "value":
            assert self.key is not None
            frame = self.plans.place(Inside, plan, m, "waits", self.key, 0)
            return plan.plan_of(m, self.key).begin(byte, frame)
        return None

    def like(self) -> Inside:
        """The place before any whitespace, where all but whitespace does the same."""
        return self.plans.place(Inside, self.plan, self.members, self.phase, self.key, self.plans.spaces)

    def cuts(self) -> tuple[int, ...]:
        """Where what bytes do may change."""
        return TOKENS

    def after(self, result: object) -> Inside | None:
        """A name or a value has ended."""
        plan = self.plan
        if self.phase == "named":
            assert isinstance(result, Key)
            return self.plans.place(Inside, plan, self.members, "colon", result, self.plans.spaces)
        assert isinstance(result, Result) and self.key is not None
        members = plan.add(self.members, self.key, result)
        if members is None:
            return None
        return self.plans.place(Inside, plan, members, "comma", None, self.plans.spaces)

    def ended(self) -> None:
        """An object ends with its brace."""
        return
