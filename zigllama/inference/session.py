"""A conversation: messages, and the place in the cache where reading them ended.

Each turn renders the whole conversation again and reads only what differs from what the cache holds: usually the new
message alone.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from zigllama.errors import ClosedError, InvalidArgument, SessionBusy, SessionFileError
from zigllama.foundation.byte_source import StrPath
from zigllama.inference.chat_prompt import chat_prompt
from zigllama.inference.generation import Event, Result
from zigllama.inference.images import Runs, as_rows, same_until
from zigllama.inference.prefix_tree import common_prefix
from zigllama.inference.session_file import Head, SavedSession, save, saved_length
from zigllama.inference.streaming import StreamingGenerator
from zigllama.models.image_parts import is_image, source

if TYPE_CHECKING:
    from zigllama.inference.model import Model


Content = str | Sequence[Mapping[str, Any]]


class Session:
    """A conversation with a model: `session.chat("hi")`. It holds one of the model's sequences until `close`."""

    def __init__(self, model: Model, system: str | None = None) -> None:
        self.model = model
        self.messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
        model.engine.check()
        with model.engine.lock:
            self._sequence = model.engine.cache.add()
        self._images: Runs = ()  # of what the sequence holds
        self._tools: Any = None
        self._template: Any = None
        self.result: Result | None = None  # of the last turn
        self._closed, self._busy = False, threading.Lock()

    @overload
    def chat(self, text: Content, *, stream: Literal[False] = False, **options: Any) -> Result: ...

    @overload
    def chat(self, text: Content, *, stream: Literal[True], **options: Any) -> Iterator[Event]: ...

    def chat(self, text: Content, *, stream: bool = False, **options: Any) -> Result | Iterator[Event]:
        """Say something, a text or a list of parts with images among them (models/image_parts.py); the answer.

        A list of messages (they have a role) goes as it is: what the tools said that `result.tool_calls` asked for,
        [{"role": "tool", "name": .., "content": ..}]. Options as in `Model.chat`; `tools` and `template` that a turn
        is given hold for the next ones. A stream's result is `s.result` once it has ended. Raises ContextOverflow, with
        the conversation as it was; SessionBusy while another answer is being written."""
        self.model.engine.check()
        if self._closed:
            raise ClosedError("the session is closed")
        turn = self._turn(text, options)
        if stream:
            return turn
        while True:
            try:
                next(turn)
            except StopIteration as end:
                result: Result = end.value
                return result

    def _turn(self, text: Content, options: dict[str, Any]) -> Generator[Event, None, Result]:
        with self._exclusive():
            messages = [*self.messages, *self._said(text)]
            tools = options.pop("tools", self._tools)
            template = options.pop("template", self._template)
            prompt = chat_prompt(self.model, messages, tools, template, options)
            request = self.model.request(prompt, sequence=self._sequence, **options)
            ids, same = request.tokens, same_until(self._images, request.images)
            common = min(common_prefix(self._sequence.tokens, ids), len(ids) - 1)  # the last row's logits are wanted
            with self.model.engine.lock:  # to 0 where a window has moved on
                self.model.engine.cache.truncate(self._sequence, common if same is None else min(common, same))
            self._images = request.images
            result = yield from StreamingGenerator(self.model.scheduler, request)
            self.messages, self.result = [*messages, result.message], result
            self._tools, self._template = tools, template
            return result

    def _said(self, text: Content) -> list[dict[str, Any]]:
        """What is said as messages. Raises InvalidArgument."""
        if not isinstance(text, str) and not isinstance(text, Sequence):
            raise InvalidArgument(f"a text, parts or messages are said, not {type(text).__name__}")
        if text and not isinstance(text, str) and all(isinstance(m, Mapping) and "role" in m for m in text):
            return [{**m, "content": self._read(m.get("content") or "")} for m in text]
        return [{"role": "user", "content": self._read(text)}]

    def _read(self, text: Content) -> Content:
        """With the rows of its images in place of the images, so that each goes through the tower once."""
        vision = self.model.vision
        if isinstance(text, str) or vision is None:
            return text
        return [{"type": "image", "image": as_rows(source(p), vision)} if is_image(p) else p for p in text]

    # --- on the disk ---

    def save(self, path: StrPath) -> None:
        """Write the conversation and what was read of it to a file, whole or not at all (session_file.py).

        Raises SessionFileError for a conversation with images, which no file holds; SessionBusy, ClosedError, OSError,
        OutOfMemory when there is no slot left to hold its pages meanwhile.
        """
        with self._exclusive():
            if self._images or not all(isinstance(m.get("content"), str) for m in self.messages):
                raise SessionFileError(os.fspath(path), "a conversation with images or other parts cannot be saved")
            cache, lock = self.model.engine.cache, self.model.engine.lock
            with lock:
                held = cache.fork(self._sequence)  # the pages stay as they are, and nobody else has to wait
            try:
                save(path, self._head(saved_length(cache, held)), cache, held)
            finally:
                with lock:
                    cache.remove(held)

    def load(self, path: StrPath) -> None:
        """Go on with a conversation that was saved, in place of this one.

        Raises SessionFileError, SessionMismatch, SessionBusy, ClosedError, OutOfMemory, OSError, with this conversation
        as it was.
        """
        with self._exclusive():
            cache, lock = self.model.engine.cache, self.model.engine.lock
            with SavedSession(path, cache, self.model.spec.n_vocab, self._head(0)) as saved:
                with lock:
                    made = cache.add(len(saved.tokens))
                try:
                    with lock:
                        made.private = True
                        for i in range(0, len(saved.tokens), cache.chunk):
                            cache.extend(made, saved.tokens[i : i + cache.chunk])
                        cache.trim(made)
                    saved.fill(made.slot)
                except BaseException:
                    with lock:
                        cache.remove(made)
                    raise
                with lock:
                    cache.remove(self._sequence)
                self._sequence, self.messages, self._images = made, list(saved.head.messages), ()

    def _head(self, n_tokens: int) -> Head:
        m = self.model
        return Head(m.digest, m.fingerprint, m.engine.cache.type_name, n_tokens, self.messages)

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Nothing else happens to the session. Raises SessionBusy, ClosedError, ForkedContext."""
        self.model.engine.check()
        if self._closed:
            raise ClosedError("the session is closed")
        if not self._busy.acquire(blocking=False):
            raise SessionBusy("another answer of this session is being written")
        try:
            yield
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
