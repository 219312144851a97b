"""Requests of several sequences, which run in the same steps and choose together: lanes.

    guidance        the prompt and a negative prompt       (guided.py)
    contrastive     a lane per candidate for the next token
    beam search     a lane per beam

    step      | a: 1 row | b: 1 row | c: 1 row |   other requests' rows        all lanes of one request
              `----------+----------'
                choose: when the last of them has its logits

The scheduler knows lanes as requests of their own, which come and go with the first of them; a lane that has its logits
pauses until all have. What it is not: the choice itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zigllama.errors import InvalidArgument
from zigllama.foundation.runtime import F32
from zigllama.inference.generation import TextGenerator
from zigllama.inference.kv_cache import ModelKVCache
from zigllama.inference.request import Request, Writing
from zigllama.inference.sampling import Best


class Lane(Request):
    """A further sequence of `leader`. `asleep`: it has nothing to run yet."""

    chooses = False

    def __init__(self, leader: ManyLanes, tokens: Sequence[int], *, asleep: bool) -> None:
        super().__init__(tokens, leader.n_ctx, reserve=leader.reserve, adopt=leader.adopt and not asleep)
        self.leader: ManyLanes = leader
        self.asleep, self.row = asleep, None
        self.wants_hidden, self.reading_most = leader.wants_hidden, leader.reading_most

    @property
    def paused(self) -> bool:
        """Until all lanes have their logits."""
        return self.asleep or self.row is not None or self.leader.held

    def take(self, logits: F32, n: int, best: Best) -> int:
        """As Request."""
        self.leader.arrive(self, logits, self.hidden_rows)
        return n

    def fail(self, error: BaseException) -> None:
        """Ends all of them."""
        self.leader.fail(error)


class ManyLanes(Writing):
    """A Writing with lanes. Subclasses make them in `start` and say in `choose` what comes of their logits."""

    chooses = False

    def __init__(
        self, tokens: Sequence[int], generator: TextGenerator, *, lookup: bool | int = False, **o: Any
    ) -> None:
        if lookup is not False:
            raise InvalidArgument(f"lookup with {type(self).__name__.lower()}: only one of them is possible")
        super().__init__(tokens, generator, **o)
        self.n_ctx = generator.n_ctx
        self.row: F32 | None = None
        self.members: list[Lane] = []

    @property
    def lanes(self) -> list[Any]:
        """Itself, and the others."""
        return [self, *self.members]

    @property
    def held(self) -> bool:
        """Whether its reader makes it wait."""
        return super().paused

    @property
    def paused(self) -> bool:
        """As Lane."""
        return self.row is not None or self.held

    def take(self, logits: F32, n: int, best: Best) -> int:
        """As Lane."""
        self.arrive(self, logits, self.hidden_rows)
        return n

    def ahead(self) -> int:
        """None: every token is chosen here."""
        return 0

    def arrive(self, lane: Any, logits: F32, hidden: F32 | None) -> None:
        """A lane's rows; when it was the last that was waited for, the choice. Raises what the choice raises."""
        if not len(logits) or self.ended:
            return
        self.see(lane, hidden)
        if lane.n_due:
            return  # rows of a prompt that is not read to its end
        lane.row = logits[-1].copy()
        awake = [x for x in self.lanes if not getattr(x, "asleep", False)]
        if all(x.row is not None for x in awake):
            self.begin()
            rows = [x.row for x in awake]
            for x in awake:
                x.row = None
            self.choose(rows)

    def see(self, lane: Any, hidden: F32 | None) -> None:
        """The rows of hidden states of a lane, where they are wanted."""

    def choose(self, rows: list[F32]) -> None:
        """Logits of all lanes that are awake -> every lane has a token more, or it has ended."""
        raise NotImplementedError

    def wake(self) -> None:
        """All lanes run from now on."""
        for lane in self.members:
            lane.asleep = False

    def fail(self, error: BaseException) -> None:
        """As Request; the lanes end with it."""
        super().fail(error)
        self._end_lanes()

    def _end(self) -> None:
        super()._end()
        self._end_lanes()

    def _end_lanes(self) -> None:
        for lane in self.members:
            lane.ended = True


def rearrange(cache: ModelKVCache, lanes: Sequence[Any], sources: Sequence[int]) -> None:
    """Lane i goes on from where lane sources[i] is now; where several want the same one they share its pages.

    A lane's sequence stays the same object, which may be a session's: what changes is what it holds.
    """
    sequences = [lane.sequence for lane in lanes]
    held = [dict(vars(s)) for s in sequences]
    keeper: dict[int, int] = {}
    for i, source in enumerate(sources):
        if source not in keeper or source == i:
            keeper[source] = i
    unused = iter([s for s in range(len(lanes)) if s not in keeper])
    others = []
    for i, source in enumerate(sources):
        if keeper[source] != i:
            others.append(i)
            source = next(unused)
        vars(sequences[i]).update(held[source])
    for i in others:
        cache.remove(sequences[i])
    for i in others:
        twin = cache.fork(sequences[keeper[sources[i]]])
        vars(sequences[i]).update(vars(twin))
        cache.reserve(sequences[i], lanes[i].reserve)
