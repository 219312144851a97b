"""A request on its way through the scheduler: what it wants to run next, and what it makes of the logits.

    waiting -> reading (its prompt, in chunks) -> writing (a token per step) -> ended

`tokens` is everything known of its text; its sequence in the cache holds the first `sequence.length` of them, and the
rest is to be run. That is a prompt at first and one token later on; after a step that failed, or whose draft was wrong,
it is simply more again.

What it is not: a thread or a loop. `BatchProcessor` calls it, in whatever thread drives the engine; readers talk to it
through streaming.py.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from zigllama.errors import ContextOverflow, InvalidArgument
from zigllama.foundation.runtime import F32
from zigllama.inference.advanced_sampling import Mask
from zigllama.inference.generation import Event, Result, TextGenerator
from zigllama.inference.images import Runs, check_tokens
from zigllama.inference.keyword_types import as_bool, as_float, as_int
from zigllama.inference.kv_cache import CachedSequence, ModelKVCache
from zigllama.inference.prefix_tree import Key
from zigllama.inference.prompt_lookup import PromptLookup
from zigllama.inference.sampling import Best
from zigllama.transformers.interfaces import PAGE

if TYPE_CHECKING:
    from zigllama.inference.grammar_constraints import Place
    from zigllama.models.tool_call_parts import ParsedAnswer

BUFFER = 32  # events that may wait for a reader before the sequence pauses


class Request:
    """Reads `tokens`; subclasses say what for.

    reserve    positions it may need in all
    sequence   one that belongs to a session and outlives the request, or None: one is made for it
    adopt      whether pages of others may be taken over
    deadline   seconds from now after which it ends, or None
    images     the rows that stand where tokens are -1

    Raises InvalidArgument when there is nothing to read or rows are missing, ContextOverflow when it cannot fit.
    """

    reading_most = 512  # rows of a chunk
    chooses = False  # whether it chooses tokens: then the best of its rows are looked for
    wants_hidden = False  # whether it wants the hidden states of its rows too, in `hidden_rows` when they are taken
    members: Sequence[Request] = ()  # requests that come and go with it (lanes.py)
    leader: Request | None = None  # whose member it is

    def __init__(
        self,
        tokens: Sequence[int],
        n_ctx: int,
        *,
        reserve: int,
        sequence: CachedSequence | None = None,
        adopt: bool = True,
        deadline: float | None = None,
        images: Runs = (),
    ) -> None:
        if not tokens:
            raise InvalidArgument("the prompt has no tokens: there is nothing to continue")
        if len(tokens) > n_ctx:
            raise ContextOverflow(len(tokens), n_ctx)
        if deadline is not None and not (deadline := as_float("deadline", deadline, "seconds >= 0 or None")) >= 0:
            raise InvalidArgument(f"deadline is {deadline}, want seconds >= 0 or None")
        check_tokens(tokens, images)
        self.tokens, self.n_prompt, self.images = list(tokens), len(tokens), images
        self.reserve = min(n_ctx, max(reserve, len(tokens)))
        self.sequence, self.owned, self.adopt = sequence, sequence is None, as_bool("reuse", adopt)
        self.submitted = time.monotonic()
        self.deadline = None if deadline is None else self.submitted + deadline
        self.cancelled = False  # set by anybody, at any time
        self.ended = False  # nothing more is to be run
        self.error: BaseException | None = None
        self.cached = 0
        self.cache: ModelKVCache  # set when it is let in
        self.hidden_rows: F32 | None = None
        # what a reader sees, under the scheduler's lock
        self.events: deque[Event] = deque()
        self.done = False
        self.bounded = False  # somebody reads event by event: wait for him
        self.changed: threading.Condition
        self.listener: Callable[[], None] | None = None

    # --- what the scheduler asks ---

    @property
    def n_due(self) -> int:
        """Tokens that are known and not run."""
        assert self.sequence is not None
        return len(self.tokens) - self.sequence.length

    @property
    def reading(self) -> bool:
        """Whether the prompt (or what was lost of it) is not run yet."""
        return self.n_due > 1 or len(self.tokens) == self.n_prompt

    @property
    def paused(self) -> bool:
        """Whether it waits for its reader."""
        return self.bounded and len(self.events) >= BUFFER

    def next_rows(self, most: int) -> list[int]:
        """The tokens to run next, `most` at most."""
        assert self.sequence is not None
        start = self.sequence.length
        return self.tokens[start : start + most]

    def next_page(self) -> Key:
        """The tokens of the page it is going to fill, () where that is not a whole page of its prompt's tokens."""
        assert self.sequence is not None
        start = self.sequence.length
        page = tuple(self.tokens[start : start + PAGE])
        return page if start % PAGE == 0 and self.n_due > PAGE and min(page) >= 0 else ()

    def wanted(self, n: int) -> int:
        """Of the last of the next `n` rows, how many have logits it wants."""
        return int(n >= self.n_due)

    def masks(self, n: int) -> list[Mask]:
        """For each of the wanted rows among the next `n` which tokens may follow it, None for all."""
        return [None] * self.wanted(n)

    def take(self, logits: F32, n: int, best: Best) -> int:
        """n rows were run, the logits (R, V) are those of the wanted ones; how many rows were right to run."""
        raise NotImplementedError

    def ahead(self) -> int:
        """How many tokens may be chosen for it in C, each the largest logit, before anybody looks at them."""
        return 0

    @property
    def end_ids(self) -> frozenset[int]:
        """Tokens after which it need not be run on."""
        return frozenset()

    def take_tokens(self, tokens: list[int]) -> int:
        """Tokens that were chosen so, each in a row of its own; how many rows were right to run."""
        raise NotImplementedError

    def stop(self, reason: str) -> None:
        """It ends for a reason from outside: "cancelled" or "deadline"."""
        self.ended = True

    def fail(self, error: BaseException) -> None:
        """It ends with an error, which its reader will get."""
        self.error, self.ended = error, True


class Writing(Request):
    """Continues a prompt. `result` is there when it has ended without an error."""

    chooses = True

    def __init__(
        self,
        tokens: Sequence[int],
        generator: TextGenerator,
        *,
        fingerprint: str,
        lookup: bool | int = False,
        read: Callable[[Sequence[int]], ParsedAnswer] | None = None,
        **options: Any,
    ) -> None:
        n_ctx, most = generator.n_ctx, generator.max_tokens
        reserve = n_ctx if most is None else len(tokens) + most
        super().__init__(tokens, n_ctx, reserve=reserve, **options)
        self.generator, self.fingerprint, self.read = generator, fingerprint, read
        self.result: Result | None = None
        draft = () if isinstance(lookup, bool) else (as_int("lookup", lookup, "True, False or a number of tokens"),)
        self._lookup = PromptLookup(*draft) if lookup is not False else None
        self._places: list[Place] = []  # where the text would stand after each token of a draft
        self._began = self._first = 0.0

    def next_rows(self, most: int) -> list[int]:
        """As Request; with prompt lookup, the last known token and a draft."""
        if not self._began:
            self._began = time.monotonic()
        if self._lookup is None or self.reading:
            return super().next_rows(most)
        room = self.reserve - len(self.tokens)
        if self.generator.max_tokens is not None:
            room = min(room, self.generator.max_tokens - len(self.generator.token_ids) - 1)
        return [self.tokens[-1], *self._allowed(self._lookup.draft(self.tokens, max(0, min(most - 1, room))))]

    def _allowed(self, draft: list[int]) -> list[int]:
        """A draft, as far as its constraint allows it."""
        constraint = self.generator.constraint
        if constraint is None:
            return draft
        self._places = [constraint.place]
        for i, token in enumerate(draft):
            after = constraint.follow(self._places[-1], token)
            if after is None:
                return draft[:i]
            self._places.append(after)
        return draft

    def masks(self, n: int) -> list[Mask]:
        """As Request; of a draft's rows, after each of its tokens."""
        constraint, wanted = self.generator.constraint, self.wanted(n)
        if constraint is None or not wanted:
            return [None] * wanted
        if wanted == 1:
            return [None if constraint.complete else constraint.allowed()[0]]
        return [None if constraint.is_complete(p) else constraint.allowed(p)[0] for p in self._places]

    def wanted(self, n: int) -> int:
        """The last of a prompt; all rows of a draft."""
        return n - self.n_due + 1 if n >= self.n_due else 0

    def begin(self) -> None:
        """The prompt is read: the first token is being chosen."""
        self._first = self._first or time.monotonic()

    def take(self, logits: F32, n: int, best: Best) -> int:
        """Each row gives a token; the next row counts if it was fed that token."""
        assert self.sequence is not None
        fed = self.sequence.tokens  # of which the last n were run now
        right = n - len(logits)
        self.begin()
        for i, row in enumerate(logits):
            right += 1
            few = None if best is None else (best[0][i], best[1][i])
            self.events.extend(self.generator.take(row, self.tokens, few))
            if self.generator.finish_reason is not None:
                self._end()
                break
            token = self.generator.token_ids[-1]
            self.tokens.append(token)
            if self._take_forced():
                break
            if right < n and fed[right - n] != token:
                break
        return right

    def _take_forced(self) -> bool:
        """Tokens that have no alternative are written without asking the model. Whether there were any."""
        constraint = self.generator.constraint
        if constraint is None or not constraint.forced:
            return False
        n = len(self.tokens)
        while not self.ended and (token := constraint.next_token()) is not None:
            self.events.extend(self.generator.accept(token, self.tokens))
            if self.generator.finish_reason is not None:
                self._end()
            else:
                self.tokens.append(token)
        return self.ended or len(self.tokens) > n

    def ahead(self) -> int:
        """As Request: while it writes greedily, without drafts, up to the end of the page that is being filled."""
        if self._lookup is not None or self.n_due != 1 or not self._first or not self.generator.sampler.greedy:
            return 0
        if self.generator.constraint is not None:
            return 0
        assert self.sequence is not None
        room = min(self.reserve - len(self.tokens), PAGE - self.sequence.length % PAGE)
        if self.generator.max_tokens is not None:
            room = min(room, self.generator.max_tokens - len(self.generator.token_ids))
        return min(room, BUFFER - len(self.events)) if self.bounded else room

    @property
    def end_ids(self) -> frozenset[int]:
        """As Request."""
        return self.generator.end_ids

    def take_tokens(self, tokens: list[int]) -> int:
        """As Request; those after the end are forgotten."""
        for i, token in enumerate(tokens):
            self.events.extend(self.generator.accept(token, self.tokens))
            if self.generator.finish_reason is not None:
                self._end()
                return i + 1
            self.tokens.append(token)
        return len(tokens)

    def stop(self, reason: str) -> None:
        """As Request; what was written so far is the result."""
        self.events.extend(self.generator.end(reason))
        self._end()

    def _end(self) -> None:
        self.ended = True
        now = time.monotonic()
        began = self._began or now
        first = self._first or now
        n, read, wrote = len(self.generator.token_ids), first - began, now - first
        rate = {
            "prefill_tps": (self.n_prompt - self.cached) / read if read > 0 else 0.0,
            "decode_tps": (n - 1) / wrote if wrote > 0 and n else 0.0,
        }
        self.result = Result(
            text=self.generator.text,
            token_ids=self.generator.token_ids,
            finish_reason=str(self.generator.finish_reason),
            usage={"prompt_tokens": self.n_prompt, "cached_tokens": self.cached, "completion_tokens": n},
            timings={"prefill_s": read, "decode_s": wrote, **rate},
            truncated=False,
            fingerprint=self.fingerprint,
            sampling=self.generator.sampler.params,
            seed=self.generator.sampler.seed,
            read=self.read,
            logprobs=self.generator.logprobs,
            explain=self.generator.explained,
        )


class Reading(Request):
    """Reads tokens for the logits of those from position `first` on. `see(at, logits)` gets them in order and once, as
    rows (R, V) of the positions at, at + 1 and so on, valid during the call only. Nothing is taken from the cache."""

    def __init__(
        self,
        tokens: Sequence[int],
        see: Callable[[int, F32], None],
        n_ctx: int,
        rows: int,
        first: int = 0,
        images: Runs = (),
    ) -> None:
        super().__init__(tokens, n_ctx, reserve=len(tokens), adopt=False, images=images)
        self.see, self.first, self.reading_most = see, first, rows

    def wanted(self, n: int) -> int:
        """All of them but those before `first`."""
        assert self.sequence is not None
        return min(n, max(0, self.sequence.length + n - self.first))

    def take(self, logits: F32, n: int, best: Best) -> int:
        """Show them."""
        assert self.sequence is not None
        end = self.sequence.length
        if len(logits):
            self.see(end - len(logits), logits)
        self.ended = end == len(self.tokens)
        return n
