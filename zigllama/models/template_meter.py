"""The budget of a chat template: steps, bytes made, and time, counted while it renders.

    steps   iterations of loops, calls of macros and filters, output pieces
    bytes   of everything that is made, added up, whether or not it is dropped again: what lives is never more
    size    of one value, nested parts included as often as they occur: no single operation on it takes long
    time    of this thread's CPU, so a busy machine does not make a template fail

Budgets grow with what is rendered: a conversation of 10 MB may be rendered, a template alone cannot make one.
This file knows nothing of Jinja; template_sandbox.py and template_filters.py call it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from zigllama.errors import TemplateLimit

MAX_STEPS = 200_000
MAX_SIZE = 4 << 20  # bytes of one value
MAX_NODES = 1 << 16  # values in one value
MAX_MADE = 24 << 20  # bytes in all
MAX_SECONDS = 0.5
STEPS_PER_NODE = 100  # what each value of a conversation adds
SECONDS_PER_NODE = 200e-6
NODES_PER_NODE = 4
SIZE_PER_BYTE, MADE_PER_BYTE = 8, 256  # what each byte of it adds: some templates write by `all = all + more`
CLOCK_EVERY = 32  # steps
LARGE = 1 << 16  # bytes: an operation on more than that looks at the clock itself
MAX_INT_BITS = 4096
POINTER = 8  # bytes an element takes in a list
ITEM = 64  # bytes of an element that is made for it
TICKS = 256

ELEMENTS: Any = (list, tuple, set, frozenset, type({}.keys()), type({}.values()), type({}.items()))


def text_bytes(x: str) -> int:
    """Bytes of a text in memory, an upper bound without its head."""
    return len(x) if x.isascii() else 4 * len(x)


def joined_bytes(texts: Sequence[str]) -> int:
    """Bytes of texts one behind the other: one wide character makes all of them wide."""
    return sum(map(len, texts)) * (1 if all(map(str.isascii, texts)) else 4)


class Meter:
    """What one rendering has used. Every method raises TemplateLimit when a budget is passed."""

    def __init__(self, given: Any = None, marker: str = "") -> None:
        """`given`: the values that the template gets, lists and mappings of plain values."""
        size, nodes = _measure(given, float("inf"), float("inf"))
        self.max_steps = MAX_STEPS + STEPS_PER_NODE * nodes
        self.max_size = MAX_SIZE + SIZE_PER_BYTE * size
        self.max_nodes = MAX_NODES + NODES_PER_NODE * nodes
        self.max_made = MAX_MADE + MADE_PER_BYTE * size
        self.max_seconds = MAX_SECONDS + SECONDS_PER_NODE * nodes
        self.marker = marker  # see chat_templates.py
        self._steps = self._made = self._ticks = 0
        self._until = time.thread_time() + self.max_seconds

    def step(self, n: int = 1) -> None:
        """Count a step which may leave n pieces of output behind."""
        self._steps += 1
        self._made += POINTER * n
        if self._steps > self.max_steps:
            raise TemplateLimit("steps", self.max_steps)
        if self._steps % CLOCK_EVERY == 0:
            self.clock()

    def clock(self) -> None:
        """Look at the time."""
        if time.thread_time() > self._until:
            raise TemplateLimit("seconds", self.max_seconds)

    def tick(self) -> None:
        """Something small happened that is no step of the template: now and then, look at the time."""
        self._ticks += 1
        if self._ticks % TICKS == 0:
            self.clock()

    def each(self, x: Any) -> None:
        """A value is going to be gone through item by item. A text is as many values as it has characters."""
        if isinstance(x, str):
            if len(x) > self.max_nodes:
                raise TemplateLimit("values within one", self.max_nodes)
            self.make(ITEM * len(x))

    def make(self, n: int) -> None:
        """Count n bytes that are made, before or after."""
        if n > self.max_size:
            raise TemplateLimit("bytes of one value", self.max_size)
        self._made += n
        if self._made > self.max_made:
            raise TemplateLimit("bytes in all", self.max_made)
        if n > LARGE:
            self.clock()

    def made(self, x: Any) -> Any:
        """Count a value that was just made, without the parts it shares with others; the value."""
        if isinstance(x, str):
            self.make(text_bytes(x))
        elif isinstance(x, list | tuple | dict):
            self.make(2 * POINTER * len(x))
        return x

    def look(self, *values: Any) -> int:
        """The size of values with all their parts; an operation may now go through them."""
        total = 0
        for x in values:
            kind = type(x)
            if kind is str:
                total += text_bytes(x)
            elif kind is int and x.bit_length() > MAX_INT_BITS:
                raise TemplateLimit("bits of an integer", MAX_INT_BITS)
            elif kind is not int and kind is not bool and x is not None:
                total += _measure(x, self.max_size, self.max_nodes)[0]
        if total > self.max_size:
            raise TemplateLimit("bytes of one value", self.max_size)
        if total > LARGE:
            self.clock()
        return total


def _measure(x: Any, max_size: float, max_nodes: float) -> tuple[int, int]:
    """Bytes of a value and how many values are in it, shared ones as often as they occur. Raises TemplateLimit."""
    stack, size, nodes = [x], 0, 0
    while stack:
        v = stack.pop()
        nodes += 1
        inner: Iterable[Any] = ()
        if isinstance(v, str):
            size += text_bytes(v)
        elif isinstance(v, bool | int):
            size += v.bit_length() // 4  # as text
        elif isinstance(v, range):
            size += ITEM * len(v)
            nodes += len(v)
        elif isinstance(v, Mapping):
            size += 4 * POINTER * len(v)
            inner = [*v.keys(), *v.values()]
        elif isinstance(v, ELEMENTS):
            size += 2 * POINTER * len(v)
            inner = v
        elif isinstance(v, Attributes):
            inner = type(v).attributes(v)  # an instance hides its methods from templates
        if size > max_size:
            raise TemplateLimit("bytes of one value", max_size)
        if nodes > max_nodes:
            raise TemplateLimit("values within one", max_nodes)
        stack.extend(inner)
        size += 2 * POINTER
    return size, nodes


class Attributes:
    """What has values inside that are no elements: a namespace."""

    def attributes(self) -> list[Any]:
        raise NotImplementedError


_current: ContextVar[Meter] = ContextVar("template_meter")


def meter() -> Meter:
    """The meter of the rendering that runs in this thread."""
    return _current.get()


class metering:
    """A context in which `meter()` is a given one."""

    def __init__(self, m: Meter) -> None:
        self._meter = m

    def __enter__(self) -> Meter:
        self._token = _current.set(self._meter)
        return self._meter

    def __exit__(self, *exc: object) -> None:
        _current.reset(self._token)
