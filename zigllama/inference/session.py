"""A conversation: messages, and the place in the cache where reading them ended.

Each turn renders the whole conversation again and reads only what differs from what the cache holds: usually the new
message alone.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from zigllama.errors import ClosedError
from zigllama.inference.generation import Event, Result, TextGenerator, drain

if TYPE_CHECKING:
    from zigllama.inference.model import Model


class Session:
    """A conversation with a model: `session.chat("hi")`. It holds one of the model's sequences until `close`."""

    def __init__(self, model: Model, system: str | None = None) -> None:
        self.model = model
        self.messages: list[dict[str, str]] = [{"role": "system", "content": system}] if system else []
        with model.engine.lock:
            self._sequence = model.engine.cache.add()
        self._closed = False

    @overload
    def chat(self, text: str, *, stream: Literal[False] = False, **options: Any) -> Result: ...

    @overload
    def chat(self, text: str, *, stream: Literal[True], **options: Any) -> Iterator[Event]: ...

    def chat(self, text: str, *, stream: bool = False, **options: Any) -> Result | Iterator[Event]:
        """Say something; the answer. Options as in `Model.generate`. Raises ContextOverflow, with the conversation as
        it was."""
        if self._closed:
            raise ClosedError("the session is closed")
        generator = self.model.generator(**options)
        events = self._turn(generator, text)
        if stream:
            return events
        drain(events)
        assert generator.result is not None
        return generator.result

    def _turn(self, generator: TextGenerator, text: str) -> Generator[Event, None, Any]:
        messages = [*self.messages, {"role": "user", "content": text}]
        ids = self.model.render_chat(messages).ids
        held = self._sequence.tokens
        common = next((i for i, (a, b) in enumerate(zip(held, ids, strict=False)) if a != b), min(len(held), len(ids)))
        common = min(common, len(ids) - 1)  # the last row must be run, its logits are wanted
        with self.model.engine.lock:
            common = self.model.engine.cache.truncate(self._sequence, common)  # less where a window has moved on
        result = yield from generator.stream(self._sequence, ids[common:], cached=common)
        self.messages = [*messages, {"role": "assistant", "content": result.text}]
        return result

    def close(self) -> None:
        """Give the sequence back. Closing twice is allowed."""
        if not self._closed:
            self._closed = True
            with self.model.engine.lock:
                self.model.engine.cache.remove(self._sequence)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
