"""A conversation: messages, and the place in the cache where reading them ended.

Each turn renders the whole conversation again and reads only what differs from what the cache holds: usually the new
message alone.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from zigllama.errors import ClosedError, SessionBusy
from zigllama.inference.generation import Event, Result
from zigllama.inference.prefix_tree import common_prefix
from zigllama.inference.streaming import StreamingGenerator

if TYPE_CHECKING:
    from zigllama.inference.model import Model


class Session:
    """A conversation with a model: `session.chat("hi")`. It holds one of the model's sequences until `close`."""

    def __init__(self, model: Model, system: str | None = None) -> None:
        self.model = model
        self.messages: list[dict[str, str]] = [{"role": "system", "content": system}] if system else []
        model.engine.check()
        with model.engine.lock:
            self._sequence = model.engine.cache.add()
        self._closed, self._busy = False, threading.Lock()

    @overload
    def chat(self, text: str, *, stream: Literal[False] = False, **options: Any) -> Result: ...

    @overload
    def chat(self, text: str, *, stream: Literal[True], **options: Any) -> Iterator[Event]: ...

    def chat(self, text: str, *, stream: bool = False, **options: Any) -> Result | Iterator[Event]:
        """Say something; the answer. Options as in `Model.generate`. Raises ContextOverflow, with the conversation as
        it was; SessionBusy while another answer is being written."""
        if self._closed:
            raise ClosedError("the session is closed")
        self.model.engine.check()
        turn = self._turn(text, options)
        if stream:
            return turn
        while True:
            try:
                next(turn)
            except StopIteration as end:
                result: Result = end.value
                return result

    def _turn(self, text: str, options: dict[str, Any]) -> Generator[Event, None, Result]:
        if not self._busy.acquire(blocking=False):
            raise SessionBusy("another answer of this session is being written")
        try:
            messages = [*self.messages, {"role": "user", "content": text}]
            ids = self.model.render_chat(messages).ids
            request = self.model.request(ids, sequence=self._sequence, **options)
            common = min(common_prefix(self._sequence.tokens, ids), len(ids) - 1)  # the last row's logits are wanted
            with self.model.engine.lock:
                self.model.engine.cache.truncate(self._sequence, common)  # to 0 where a window has moved on
            result = yield from StreamingGenerator(self.model.scheduler, request)
            self.messages = [*messages, {"role": "assistant", "content": result.text}]
            return result
        finally:
            self._busy.release()

    def close(self) -> None:
        """Give the sequence back. Closing twice is allowed."""
        if not self._closed:
            self._closed = True
            if self.model.engine.forked:
                return
            with self.model.engine.lock:
                self.model.engine.cache.remove(self._sequence)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
