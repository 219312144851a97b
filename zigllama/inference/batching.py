"""The scheduler: many requests, one engine. Each step carries a row of every sequence that writes, and pieces of the
prompts that are being read; who has finished leaves, who waits enters, between any two steps (Yu et al., 2022, "Orca").

    step      | a | b | c |  d d d d d d  |  e e e e e e  |      a, b, c write a token each, d and e read their prompts
    next step | a | c | d |  e e e e e e  |  f f f f f f  |      b has ended, d writes, f was let in

Rows are ragged: a step holds as many rows of each sequence as it has tokens to run. Padding all to the longest would
compute rows that nobody asked for and, worse, make what a sequence costs depend on its company. What it computes does
not depend on company either way: rows do not mix but through their own sequence's pages, and the order of every sum is
fixed (tests compare the bits).

Who is in a step with how many rows is turns.py's business: decoding first and always, then prompts in turns.

Who runs it: one thread at a time. A lone `generate` drives the engine in its own thread, which costs no hand-over; as
soon as there is company a thread of the scheduler's does, for all, until nobody is left. Readers that are slow pause
their own sequence and nobody else's.
"""

from __future__ import annotations

import atexit
import math
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable

import numpy as np

from zigllama.errors import ClosedError, OutOfMemory
from zigllama.foundation.runtime import F32, I32, Step
from zigllama.inference.engine import Engine
from zigllama.inference.images import rows_between
from zigllama.inference.request import Mask, Request
from zigllama.inference.sampling import Best
from zigllama.inference.turns import Turns, TurnTaking

AHEAD, AHEAD_S = 8, 0.02  # steps that the engine runs in a row at most, and their seconds

_running: weakref.WeakSet[BatchProcessor] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:  # a thread must not be inside C while the interpreter takes everything down
    for processor in list(_running):
        processor.close()


class BatchProcessor:
    """Runs requests on an engine, at most `max_batch` at once; others wait in order of arrival.

    `submit` hands one over, `wait` blocks until it has news. Both may be called from any thread.
    """

    def __init__(self, engine: Engine, max_batch: int) -> None:
        self.engine, self.cache, self.max_batch = engine, engine.cache, max_batch
        self.active: list[Request] = []  # changed by the driver alone: who holds the engine's lock
        self.waiting: deque[Request] = deque()
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._news = False  # something happened that a sleeping thread should look at
        self._thread: threading.Thread | None = None
        self._turns = TurnTaking(self.cache)
        self._pace = 0.0  # seconds of the last step
        self._ends: tuple[set[int], I32] = set(), np.zeros(0, np.int32)  # of those who write ahead, for C
        self._step: Step | None = None  # the last one, whose arrays the next one takes over
        self._closed = False

    # --- one step for everybody ---

    def step(self) -> bool:
        """The finished leave, the waiting enter, writers write a token, readers read on. False: nothing to run."""
        with self.engine.lock:
            self._leave()
            self._enter()
            turns = self._turns.plan(self.active)
            if turns:
                self._run(turns)
                self._leave()
            return bool(turns)

    def _run(self, turns: Turns) -> None:
        """One run of the engine. Where it fails, each is run alone: an error is its own and nobody else's."""
        starts = [r.sequence.length for r, _ in turns if r.sequence is not None]
        wanted = [r.wanted(len(tokens)) for r, tokens in turns]
        n_ahead = self._ahead(turns)
        try:
            masks = self._masks(turns)
            pieces = [(r.sequence, tokens) for r, tokens in turns if r.sequence is not None]
            step = self._step = self.cache.step(pieces, self._step)
            step.inputs = self._inputs(turns, starts)
            if n_ahead > 1 and (chosen := self._run_ahead(turns, step, n_ahead)):
                for (r, _), written in zip(turns, chosen, strict=True):
                    self._hand_over_tokens(r, written)
                return
            began = time.perf_counter()
            if any(n != 1 for n in wanted):
                ends = [last + 1 for last in step.out_rows.tolist()]
                rows = [row for end, n in zip(ends, wanted, strict=True) for row in range(end - n, end)]
                step.out_rows = np.array(rows, np.int32)
            step.best = any(r.chooses for r, _ in turns)
            step.masks = masks
            step.hidden = any(r.wants_hidden for r, _ in turns)
            logits = self.engine.run(step)
            best, hidden = self.engine.best, self.engine.hidden_rows
            self._pace = time.perf_counter() - began
        except BaseException as error:
            for (r, _), start in zip(turns, starts, strict=True):
                if r.sequence is not None:
                    self.cache.truncate(r.sequence, start)
            if not isinstance(error, Exception):
                raise  # Ctrl-C in the thread of a lone `generate`
            if len(turns) == 1:
                turns[0][0].fail(error)
            for turn in turns if len(turns) > 1 else ():
                self._run([turn])
            return
        # NaN and +inf reach the maximum
        fine = [math.isfinite(v) for v in (best[0][:, 0].tolist() if best else logits.max(axis=1).tolist())]
        at = 0
        for (r, tokens), n, start in zip(turns, wanted, starts, strict=True):
            mine = slice(at, at + n)
            few = None if best is None else (best[0][mine], best[1][mine])
            r.hidden_rows = None if hidden is None else hidden[mine]
            self._hand_over(r, tokens, start, logits[mine] if all(fine[mine]) else None, few)
            at += n

    def _inputs(self, turns: Turns, starts: list[int]) -> F32 | None:
        """The rows of images in a step, None where there are none. Rows of tokens are zeros, which nothing reads."""
        if not any(r.images and min(tokens) < 0 for r, tokens in turns):
            return None
        out = np.zeros((sum(len(tokens) for _, tokens in turns), self.engine.decoder.spec.n_embd), np.float32)
        at = 0
        for (r, tokens), start in zip(turns, starts, strict=True):
            rows_between(r.images, start, start + len(tokens), out[at : at + len(tokens)])
            at += len(tokens)
        return out

    def _masks(self, turns: Turns) -> list[Mask] | None:
        """Which tokens may follow each wanted row; None where all may follow all of them."""
        masks = [mask for r, tokens in turns for mask in r.masks(len(tokens))]
        return masks if any(mask is not None for mask in masks) else None

    def _ahead(self, turns: Turns) -> int:
        """How many steps the engine may run in a row before anybody looks at what was written.

        Between two steps Python costs some hundred microseconds, since the weights that C has just read have driven all
        else out of the caches: a tenth of a step of a small model. Where all write greedily the next token is known in
        C, and nobody misses what happens here meanwhile, as long as that is short.
        """
        if not self.engine.runs_ahead or not self._pace:
            return 1
        return min(int(AHEAD_S / self._pace), AHEAD, *(r.ahead() for r, _ in turns))

    def _run_ahead(self, turns: Turns, step: Step, n: int) -> list[list[int]]:
        """Up to n steps in a row for the writers of a step: what each wrote; [] where already the first went wrong."""
        step.best, step.masks = True, None
        began = time.perf_counter()
        ends = set[int]().union(*(r.end_ids for r, _ in turns))
        if ends != self._ends[0]:
            self._ends = ends, np.array(sorted(ends), np.int32)
        chosen = self.engine.run_ahead(step, n, self._ends[1])
        if not len(chosen):
            return []
        self._pace = (time.perf_counter() - began) / len(chosen)
        written: list[list[int]] = chosen.T.tolist()
        return written

    def _hand_over_tokens(self, r: Request, tokens: list[int]) -> None:
        """A request takes what was written for it in several steps, of which the first's row is in its sequence."""
        assert r.sequence is not None
        start = r.sequence.length - 1
        try:
            r.sequence.tokens.extend(tokens[:-1])
            self._keep(r, start, r.take_tokens(tokens), len(tokens))
        except Exception as error:
            r.fail(error)
        self._tell(r)

    def _hand_over(self, r: Request, tokens: list[int], start: int, logits: F32 | None, best: Best) -> None:
        """A request takes its rows, or the error for logits that are not finite (None)."""
        assert r.sequence is not None
        try:
            if logits is None:
                self.cache.truncate(r.sequence, start)
                step = self.cache.extend(r.sequence, tokens)
                step.inputs = self._inputs([(r, tokens)], [start])
                error = self.engine.blame(step)
                self.cache.truncate(r.sequence, start)
                raise error
            self._keep(r, start, r.take(logits, len(tokens), best), len(tokens))
        except Exception as error:
            r.fail(error)
        self._tell(r)

    def _keep(self, r: Request, start: int, right: int, n: int) -> None:
        """Of n rows from `start` on those that were right to run: the rest is forgotten, others may find them."""
        assert r.sequence is not None
        if right < n:
            self.cache.truncate(r.sequence, start + right)
        self.cache.commit(r.sequence)

    # --- coming and going ---

    def submit(self, request: Request, *, alone: bool = False) -> None:
        """Hand a request over. With `alone` the caller is going to `wait` for it, and drives while it has no company.

        Raises ClosedError, ForkedContext.
        """
        self.engine.check()
        with self._lock:
            if self._closed:
                raise ClosedError("the model is closed")
            request.changed = threading.Condition(self._lock)
            company = bool(self.active or self.waiting)
            self.waiting.append(request)
            if self._thread is None and (company or not alone):
                _running.add(self)
                self._thread = threading.Thread(target=self._main, name="zigllama-engine", daemon=True)
                self._thread.start()
            self.wake()

    def _enter(self) -> None:
        """Let in who waited longest, while there is a place and room for all that he may need."""
        while self.waiting and len(self.active) + len(self.waiting[0].members) < self.max_batch:
            r = self.waiting[0]
            together = [r, *r.members]
            try:
                for x in together:
                    x.cache = self.cache
                    if x.sequence is None:
                        x.sequence = self.cache.add(x.reserve)
                    else:
                        self.cache.reserve(x.sequence, x.reserve)
                    x.cached = x.sequence.length
            except OutOfMemory as error:
                for x in together:
                    if x.owned and x.sequence is not None:
                        self.cache.remove(x.sequence)
                        x.sequence = None
                if self.active:
                    return  # somebody will leave
                r.fail(error)
            with self._lock:
                self.waiting.popleft()
                self.active.extend(together)
            if r.error is not None:
                self._leave()

    def _leave(self) -> None:
        """Who ended, was cancelled or is too late goes, and gives back what was his; then his reader knows."""
        now = time.monotonic()
        for r in [*self.active, *self.waiting]:
            if r.leader is None and not r.ended and r.cancelled:
                r.stop("cancelled")
            elif not r.ended and r.deadline is not None and now >= r.deadline:
                r.stop("deadline")
            if not r.ended:
                continue
            if r.sequence is not None and r.sequence.slot >= 0:
                if r.owned:
                    self.cache.remove(r.sequence)
                else:
                    self.cache.reserve(r.sequence, 0)
            with self._lock:
                (self.active if r in self.active else self.waiting).remove(r)
                r.done = True
            self._tell(r)

    def _tell(self, r: Request) -> None:
        r = r.leader or r
        with self._lock:
            r.changed.notify_all()
        if r.listener is not None:
            r.listener()

    # --- who drives ---

    def wait(self, request: Request, ready: Callable[[], bool], timeout: float | None = None) -> bool:
        """Until `ready()`: runs steps here while there is no thread for it, else sleeps. False when time ran out."""
        self.engine.check_process()
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            with self._lock:
                if ready():
                    return True
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    return False
                if self._thread is not None:
                    request.changed.wait(left)
                    continue
            self.step()

    def finish(self, request: Request) -> None:
        """Until it has ended. Raises what ended it; when the wait is broken off (Ctrl-C), so is the request."""
        try:
            self.wait(request, lambda: request.done)
        except BaseException:
            request.cancelled = True
            self.settle(request)
            raise
        if request.error is not None:
            raise request.error

    def settle(self, request: Request) -> None:
        """Until a cancelled request has given back what it had."""
        if self.engine.forked:
            return
        self.wait(request, lambda: request.done)

    def wake(self) -> None:
        """Something changed: look again."""
        with self._lock:
            self._news = True
            self._changed.notify_all()

    def _main(self) -> None:
        """The thread: steps until nobody is left, sleeping while all wait for their readers."""
        try:
            while True:
                with self._lock:
                    self._news = False
                worked = self.step()
                with self._lock:
                    if not self.active and not self.waiting:
                        self._thread = None
                        return
                    if not worked and not self._news:
                        self._changed.wait(self._until_deadline())
        except BaseException as error:  # a defect: nobody may be left waiting for a thread that is gone
            self._abandon(error)

    def _until_deadline(self) -> float | None:
        times = [r.deadline for r in (*self.active, *self.waiting) if r.deadline is not None]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _abandon(self, error: BaseException) -> None:
        with self._lock:
            self._thread = None
            for r in [*self.active, *self.waiting]:
                r.fail(r.error or error)
        with self.engine.lock:
            self._leave()

    def close(self) -> None:
        """Every request ends with ClosedError, and the thread. Closing twice is allowed."""
        if self.engine.forked:
            return
        with self._lock:
            self._closed = True
            thread = self._thread
            for r in [*self.active, *self.waiting]:
                r.fail(ClosedError("the model is closed"))
        with self.engine.lock:
            self._leave()
        self.wake()
        if thread is not None and thread is not threading.current_thread():
            thread.join()
