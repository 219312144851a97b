"""The reader's side of a request: events as they come, the result at the end, and the way to stop it.

    Handle               of a request that runs by itself: `cancel`, `result(timeout)`, iteration
    StreamingGenerator   an iterator of events that is the request's only reader: closing it stops the request
    agenerate            the same for asyncio

Back-pressure: once somebody reads event by event, at most BUFFER of them wait for him; then his sequence pauses until
he reads on. It keeps its place in the cache, and all others go on.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Generator, Iterator, Sequence
from types import TracebackType
from typing import Any

from zigllama.inference.batching import BatchProcessor
from zigllama.inference.generation import Event, Result
from zigllama.inference.request import BUFFER, Writing

__all__ = ["BUFFER", "Handle", "StreamingGenerator", "agenerate"]


class Handle:
    """A request that was submitted. Iterate over it for its events; any number of threads may ask for its result."""

    def __init__(self, processor: BatchProcessor, request: Writing) -> None:
        self._processor, self._request = processor, request

    @property
    def done(self) -> bool:
        """Whether it has ended: with a result or with an error."""
        return self._request.done

    def cancel(self) -> None:
        """Stop before the next step, while the prompt is read too. The result is what was written so far."""
        if not self._processor.engine.forked:
            self._request.cancelled = True
            self._processor.wake()

    def result(self, timeout: float | None = None) -> Result:
        """Wait for the end. Raises TimeoutError when it takes longer than so many seconds (the request goes on), and
        what ended it: NonFinite, OutOfMemory, ClosedError, ForkedContext."""
        self._processor.engine.check_process()
        self._request.bounded = False  # nobody needs to read
        self._processor.wake()
        if not self._processor.wait(self._request, lambda: self._request.done, timeout):
            raise TimeoutError(f"no result after {timeout:g} s; the request goes on")
        return self._finished()

    def __iter__(self) -> Iterator[Event]:
        """The events that nobody has read yet, as they come. Raises what `result` raises."""
        self._request.bounded = True
        while (event := self._next()) is not None:
            yield event
        self._finished()

    def _next(self) -> Event | None:
        """The next event; None when it has ended."""
        r = self._request
        self._processor.wait(r, lambda: bool(r.events) or r.done)
        return self._read()

    def _read(self) -> Event | None:
        """An event that is there."""
        r = self._request
        if not r.events:
            return None
        paused = r.paused
        event = r.events.popleft()
        if paused:
            self._processor.wake()
        return event

    def _finished(self) -> Result:
        if self._request.error is not None:
            raise self._request.error
        assert self._request.result is not None
        return self._request.result

    def __del__(self) -> None:
        if self._request.bounded and not self._request.done:  # its reader went away
            self.cancel()


class StreamingGenerator(Generator[Event, None, Result]):
    """The events of one request, as an iterator: `for event in stream`; then `stream.result`.

    Nothing runs ahead of its reader by more than BUFFER events. Closing it stops the request and gives back its place;
    so does losing it, a little later. As any generator its return value is the result: `result = yield from stream`.
    """

    def __init__(self, processor: BatchProcessor, request: Writing) -> None:
        request.bounded = True
        self._handle = Handle(processor, request)
        self._processor, self._request = processor, request
        self._submitted = False

    def send(self, value: None, /) -> Event:
        """The next event. Raises StopIteration with the result, and what ended the request."""
        try:
            if not self._submitted:  # as with any generator, nothing happens before the first event is asked for
                self._submitted = True
                self._processor.submit(self._request, alone=True)
            event = self._handle._next()
        except BaseException:  # Ctrl-C while this thread drove the engine
            self.close()
            raise
        if event is None:
            raise StopIteration(self._handle._finished())
        return event

    def throw(self, kind: Any, value: Any = None, traceback: TracebackType | None = None, /) -> Event:
        """Stop, and raise."""
        self.close()
        raise kind if value is None else value

    def close(self) -> None:
        """Stop the request, if it has not ended, and wait until its pages are given back. Closing twice is allowed."""
        if self._submitted and not self._request.done:
            self._handle.cancel()
            self._processor.settle(self._request)
        elif not self._submitted:
            self._submitted, self._request.done = True, True
            self._request.stop("cancelled")
        self._request.events.clear()

    def run(self) -> Result:
        """To the end, without looking at the events."""
        self._request.bounded = False
        if not self._submitted:
            self._submitted = True
            self._processor.submit(self._request, alone=True)
        self._processor.finish(self._request)
        return self._handle._finished()

    @property
    def result(self) -> Result | None:
        """What was generated; None before the end."""
        return self._request.result if self._request.done else None


async def agenerate(processor: BatchProcessor, request: Writing) -> AsyncIterator[Event]:
    """The events of one request, for `async for`. The event loop is never blocked; leaving the loop stops it."""
    import asyncio  # 30 ms that nobody else should pay for

    loop, news = asyncio.get_running_loop(), asyncio.Event()

    def tell() -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody listens
            loop.call_soon_threadsafe(news.set)

    request.bounded, request.listener = True, tell
    processor.submit(request)
    handle = Handle(processor, request)
    try:
        while True:
            done = request.done  # before the events are read: those of the end come before it
            while (event := handle._read()) is not None:
                yield event
            if done:
                handle._finished()
                return
            await news.wait()
            news.clear()
    finally:
        handle.cancel()


def together(scheduler: BatchProcessor, requests: Sequence[Writing]) -> list[Result]:
    """The results of requests that run together. Raises what the first that fails raises; the others are cancelled."""
    handles: list[Handle] = []
    try:
        for request in requests:
            scheduler.submit(request)
            handles.append(Handle(scheduler, request))
        return [handle.result() for handle in handles]
    finally:
        for handle in handles:
            handle.cancel()
