"""The engine: runs steps of a decoder, in one of three ways with the same definition.

    tape        recorded once, one call of the C library per step (the default)
    eager       one call per op (ZIGLLAMA_TAPE=0): the same bits
    reference   the NumPy twins (backend="reference"): the textbook

What it is not: it knows nothing of text, sampling or sessions.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any, Self

import numpy as np

from zigllama.errors import ClosedError, ForkedContext, NonFinite
from zigllama.foundation.runtime import F32, I32, EagerRuntime, Lowered, Observer, Op, Rows, Step, TwinRuntime
from zigllama.foundation.tape import TapeProgram, record
from zigllama.foundation.tape_passes import Tape
from zigllama.inference.kv_cache import ModelKVCache
from zigllama.models.decoder import Decoder
from zigllama.neural_primitives.fusion import FUSIONS
from zigllama.neural_primitives.softmax import top_k, top_k_ids

CHUNK = 512  # most rows of a step: prompts are read in chunks of this size
BEST = 128  # largest logits found for each wanted row: 40 that are kept (sampling.py), 64 that penalties may push out


class Turnstile:
    """A lock that serves in order of arrival, and its holder again at once.

    With Python's own, whoever releases a lock and wants it back wins: a thread that runs steps would starve all others.
    """

    def __init__(self) -> None:
        self._next, self._lock = threading.Lock(), threading.Lock()
        self._holder, self._depth = 0, 0

    def __enter__(self) -> Self:
        me = threading.get_ident()
        if self._holder != me:
            with self._next:  # the one who is next waits here, the others behind him
                self._lock.acquire()
            self._holder = me
        self._depth += 1
        return self

    def __exit__(self, *exc: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._holder = 0
            self._lock.release()


class Engine:
    """A decoder, its cache, and whatever executes them. Whoever uses either holds `lock`; `run` takes it."""

    def __init__(self, decoder: Decoder, cache: ModelKVCache, context: Any | None) -> None:
        self.decoder, self.cache, self.context = decoder, cache, context
        self.lock = Turnstile()
        self.pid = os.getpid()
        self._tape: Tape | None = None  # recorded ahead
        self._program: TapeProgram | None = None
        self._hidden_program: TapeProgram | None = None  # the same, which keeps the hidden states of the wanted rows
        self.hidden_rows: F32 | None = None
        self._native_step: Any = None
        self.best: tuple[F32, I32] | None = None
        # called after each step of the tape with the program and the nanoseconds that the step took, or None
        self.watch: Callable[[Step, TapeProgram, int], None] | None = None
        self.closed = False
        self.mode = "reference" if context is None else "eager" if os.environ.get("ZIGLLAMA_TAPE") == "0" else "tape"

    @property
    def program(self) -> TapeProgram | None:
        """The tape as C holds it, once a step was run."""
        return self._program

    @property
    def forked(self) -> bool:
        """Whether this is a child of the process that made the engine: its threads and locks are not here."""
        return os.getpid() != self.pid

    def check_process(self) -> None:
        """Raises ForkedContext in a forked child: to be called before any lock is taken."""
        if self.forked:
            raise ForkedContext(f"the model was loaded by process {self.pid}; load it again after fork()")

    def check(self) -> None:
        """Raises ForkedContext in a forked child, ClosedError after `close`."""
        self.check_process()
        if self.closed:
            raise ClosedError("the model is closed")

    def run(self, step: Step) -> F32:
        """Logits (R, V) of step.out_rows: valid until the next run, so copy what is kept. Raises ClosedError,
        ForkedContext, and what the ops raise.

        Where step.best, `best` then holds the values and ids (R, BEST) of each row's largest logits, best first, found
        by the last op of the tape; None in the reference runtime, whose sampler sorts. Where step.hidden, `hidden_rows`
        holds the normalised hidden states (R, C) that they were made of.
        """
        with self.lock:
            self.check()
            self.best = self.hidden_rows = None
            if self.context is None:
                self.hidden_rows = self.decoder.wanted_rows(step, self.cache)
                logits: F32 = self.decoder.logits(self.hidden_rows)
                return logits
            if self.mode == "eager":
                return self._eager(step, None)
            program = self._prepare(step)
            start = time.perf_counter_ns() if self.watch is not None else 0
            program.run(self._native_step)
            if self.watch is not None:
                self.watch(step, program, time.perf_counter_ns() - start)
            logits, values, ids = (program.result(i, step.n_out) for i in range(3))
            self.hidden_rows = program.result(3, step.n_out) if step.hidden else None
            self.best = (values, ids.view(np.int32)) if step.best else None
            return logits

    @property
    def runs_ahead(self) -> bool:
        """Whether `run_ahead` is to be had: on the tape, while nobody watches steps. Not where layers keep a state:
        a step goes on from a page that only whoever plans it can name."""
        return self.mode == "tape" and self.watch is None and not self.cache.has_states

    def run_ahead(self, step: Step, n: int, ends: I32) -> I32:
        """Up to n greedy steps in a row in one call of C: the tokens chosen, (steps, rows of `step`), of those steps
        that went well. See TapeProgram.run_ahead. The step itself stays as it is. Raises ClosedError, ForkedContext."""
        with self.lock:
            self.check()
            program = self._prepare(step)
            self.best = None
            ids: I32 = program.run_ahead(self._native_step, n, ends)
            return ids

    def prepare(self) -> None:
        """Record the tape, for which no weight need be packed. An encoder has none: its steps are embedding.py's."""
        if self.mode == "tape" and self.decoder.spec.causal:
            self._tape = record(self._forward, FUSIONS)

    def _recorded(self, hidden: bool) -> Tape:
        if hidden:
            return record(self._forward_hidden, FUSIONS)
        tape, self._tape = self._tape, None
        return tape or record(self._forward, FUSIONS)

    def _prepare(self, step: Step) -> TapeProgram:
        """The program, and the step as C reads it in `_native_step`."""
        program = self._hidden_program if step.hidden else self._program
        if program is None:
            program = TapeProgram(self._recorded(step.hidden), self.context, CHUNK)
            if step.hidden:
                self._hidden_program = program
            else:
                self._program = program
        if self._native_step is None:
            assert self.context is not None
            self._native_step = self.context.make_step(step)
        else:
            self._native_step.update(step)
        return program

    def _forward(self, step: Step) -> tuple[Any, Any, Any]:
        """Logits, and the best of them with their ids."""
        logits = self.decoder.forward(step, self.cache)
        return logits, *top_k(logits, step, k=min(BEST, self.decoder.spec.n_vocab))

    def _forward_hidden(self, step: Step) -> tuple[Any, ...]:
        """The same, and the hidden states."""
        hidden = self.decoder.wanted_rows(step, self.cache)
        logits = self.decoder.logits(hidden)
        return logits, *top_k(logits, step, k=min(BEST, self.decoder.spec.n_vocab)), hidden

    def hidden(self, step: Step, cache: ModelKVCache, observer: Observer) -> F32:
        """The stream after the last layer, normalised, (T, C), of a step of any cache of this model: run op by op, each
        of which `observer` is told of. The bits are those of `run`. Raises as `run`."""
        with self.lock:
            self.check()
            rows: F32 = self.decoder.hidden(self._at_once(step, observer).bind(), cache).array
            return rows

    def logits(self, hidden: F32) -> F32:
        """Logits (R, V) of rows of `hidden`. Raises as `run`."""
        with self.lock:
            self.check()
            runtime = self._at_once(Step.of_rows(len(hidden)), None)
            rows: F32 = self.decoder.logits(runtime.rows(hidden)).array
            return rows

    def _at_once(self, step: Step, observer: Observer | None) -> EagerRuntime | TwinRuntime:
        return TwinRuntime(step, observer) if self.context is None else EagerRuntime(self.context, step, observer)

    def _eager(self, step: Step, observer: Observer | None) -> F32:
        bound = EagerRuntime(self.context, step, observer).bind()
        if step.best or step.hidden:
            logits, values, ids, hidden = self._forward_hidden(bound)
            self.best, self.hidden_rows = (values.array, top_k_ids(ids)), hidden.array
        else:
            logits = self.decoder.forward(bound, self.cache)
        array: F32 = logits.array
        return array

    def blame(self, step: Step) -> NonFinite:
        """The error for logits that are not finite: the step is run once more, op by op, to name the first op that did
        it."""
        layer = -1
        found: list[NonFinite] = []

        def observe(op: Op, call: Lowered, result: Any) -> None:
            nonlocal layer
            if op.name == "rope" and layer < 0:
                layer = 0
            for value in result if isinstance(result, tuple) else (result,):
                array = value.array if isinstance(value, Rows) else value
                if array is not None and not found and not np.isfinite(array).all():
                    found.append(NonFinite(op.name, max(layer, 0)))
            if op.name == "kv_store":
                layer = max(layer, 0)
            if op.name == "glu":
                layer += 1

        with self.lock:
            if self.context is not None:
                self._eager(step, observe)
        return found[0] if found else NonFinite("logits", None)

    def close(self) -> None:
        """Stop: the program, then the context's threads. In a forked child there is nothing to stop."""
        if self.forked:
            return
        with self.lock:
            if not self.closed:
                self.closed = True
                for program in (self._program, self._hidden_program):
                    if program is not None:
                        program.close()
                if self.context is not None:
                    self.context.close()
