"""What the readers of tool calls share: the call, the answer without its calls, and a text that is read once.

A reader stands behind a tag that opens a call and says which calls are there and where they end. Two things may be
wrong: `NoCall`, it is something else; `Unfinished`, the text ends within it. After the first the search goes on behind
the closing tag that follows what was read; after the second it ends, for what is left is inside a value that nobody
closed. So what looks like a call inside an argument is none, whatever else is wrong.

Whatever an answer holds, the time is linear in it: a tag that was not found is not looked for again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn


@dataclass(frozen=True)
class ToolCall:
    """A call that a model asks for. `id` is what the answer gave it, None in forms that have none."""

    name: str
    arguments: dict[str, Any]
    id: str | None = None

    def message(self) -> dict[str, Any]:
        """The call as a message's `tool_calls` has it: what templates read."""
        made: dict[str, Any] = {"type": "function", "function": {"name": self.name, "arguments": self.arguments}}
        return made if self.id is None else {"id": self.id, **made}


@dataclass(frozen=True)
class ParsedAnswer:
    """What an answer says besides its calls, and the calls in order."""

    text: str
    calls: tuple[ToolCall, ...] = ()


class NoCall(Exception):
    """What was looked at is no call."""


class Unfinished(NoCall):
    """The text ends before the call does."""


# --- what is declared of a tool ---


class Declared:
    """The types of parameters, where the tools are known: `<parameter=zip>02139` is a text or a number."""

    def __init__(self, tools: Sequence[Any] = ()) -> None:
        self._properties: dict[str, Mapping[str, Any]] = {}
        for tool in tools:
            function = tool.get("function", tool) if isinstance(tool, Mapping) else None
            parameters = function.get("parameters") if isinstance(function, Mapping) else None
            properties = parameters.get("properties") if isinstance(parameters, Mapping) else None
            if isinstance(function, Mapping) and isinstance(properties, Mapping):
                self._properties[str(function.get("name"))] = properties

    def types(self, name: str, key: str) -> frozenset[str]:
        """The JSON Schema types of a parameter; none where nothing is declared."""
        schema = self._properties.get(name, {}).get(key)
        if not isinstance(schema, Mapping):
            return frozenset()
        kinds = schema.get("type")
        if kinds is None and isinstance(schema.get("enum"), list) and all(isinstance(v, str) for v in schema["enum"]):
            kinds = "string"
        return frozenset(k for k in ([kinds] if isinstance(kinds, str) else kinds or ()) if isinstance(k, str))

    def value(self, name: str, key: str, text: str) -> Any:
        """A value that stands in an answer as it is: a text where that is declared, else JSON where it is that, else a
        text."""
        kinds = self.types(name, key)
        if "string" in kinds and not ("null" in kinds and text == "null"):
            return text
        if not text and kinds in ({"object"}, {"array"}):
            return {} if "object" in kinds else []
        try:
            return from_json(text)
        except NoCall:
            return text


# --- JSON ---


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise NoCall
    return made


def _constant(name: str) -> NoReturn:
    raise NoCall


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant)
_SPACE = re.compile(r"\s*+")
_BETWEEN = re.compile(r"[\s,:]*+")
_TOKEN = re.compile(r'[\s,:]*+(?:([\[{])|([\]}])|"(?:[^"\\]++|\\.)*+"|[-+.\w]++)', re.DOTALL)
_NAME = re.compile(r"[\w.:/-]{1,256}")


def _skip(what: re.Pattern[str], text: str, at: int) -> int:
    found = what.match(text, at)
    assert found is not None  # it matches nothing too
    return found.end()


def from_json(text: str) -> Any:
    """A whole text as JSON, without NaN and without a key twice. Raises NoCall."""
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        raise NoCall from None


def named(name: Any, arguments: Any, id: str | None = None) -> ToolCall:
    """A call, if a name and arguments are what they should be. Raises NoCall."""
    if not isinstance(name, str) or not isinstance(arguments, dict) or not _NAME.fullmatch(name):
        raise NoCall
    return ToolCall(name, arguments, id)


def call_of(x: Any) -> ToolCall:
    """A call out of an object. Raises NoCall."""
    if not isinstance(x, dict):
        raise NoCall
    if isinstance(x.get("function"), dict):  # {"type": "function", "function": {..}}
        x = x["function"] | {k: v for k, v in x.items() if k in ("id", "tool_call_id")}
    name = x.get("name", x.get("tool_name"))
    found = [x[k] for k in ("arguments", "parameters") if k in x]
    id = x.get("id", x.get("tool_call_id"))
    if len(found) != 1:
        raise NoCall
    return named(name, found[0], None if id is None else str(id))


def calls_of(x: Any) -> list[ToolCall]:
    """Calls out of a list of at least one. Raises NoCall."""
    if not isinstance(x, list) or not x:
        raise NoCall
    return [call_of(item) for item in x]


# --- a text that is read once ---


class Text:
    """An answer, and where its tags are. `furthest`: up to where it was read as something."""

    def __init__(self, text: str) -> None:
        self.text, self.furthest = text, 0
        self._found: dict[str, tuple[int, int]] = {}

    def find(self, tag: str, at: int) -> int:
        """Where a tag stands, from `at` on; -1."""
        begin, found = self._found.get(tag, (0, -2))
        if found == -2 or at < begin or 0 <= found < at:
            begin, found = at, self.text.find(tag, at)
            self._found[tag] = begin, found
        return found

    def has(self, tag: str, at: int) -> bool:
        """Whether a tag stands here."""
        return self.text.startswith(tag, at)

    def space(self, at: int) -> int:
        """Where what is no space goes on."""
        return _skip(_SPACE, self.text, at)

    def until(self, tag: str, at: int) -> tuple[str, int]:
        """What stands before a tag, and where it goes on behind the tag. Raises Unfinished."""
        end = self.find(tag, at)
        if end < 0:
            raise Unfinished
        self.furthest = max(self.furthest, end + len(tag))
        return self.text[at:end], end + len(tag)

    def ends(self, tag: str, at: int) -> bool:
        """Whether a tag stands here that ends something. Raises Unfinished where only its beginning is there."""
        if len(self.text) - at < len(tag) and tag.startswith(self.text[at:]):
            raise Unfinished
        return self.has(tag, at)

    def after(self, tag: str, at: int) -> int:
        """Where it goes on behind a tag that must stand here, after spaces. Raises NoCall, Unfinished."""
        at = self.space(at)
        if not self.ends(tag, at):
            raise NoCall
        self.furthest = max(self.furthest, at + len(tag))
        return at + len(tag)

    def json(self, at: int, opening: str = "{") -> tuple[Any, int]:
        """An object (or a list, by `opening`) that begins here, after spaces, and its end. Raises NoCall, Unfinished.

        Its end is where its brackets close, strings apart: a tag inside a string ends nothing.
        """
        begin = self.space(at)
        depth, at = 0, begin
        while found := _TOKEN.match(self.text, at):
            at = found.end()
            depth += 1 if found[1] else -1 if found[2] else 0
            if depth <= 0:
                self.furthest = max(self.furthest, at)
                if not self.has(opening, begin):
                    raise NoCall
                return from_json(self.text[begin:at]), at
        at = _skip(_BETWEEN, self.text, at)
        self.furthest = max(self.furthest, at if depth else 0)
        raise Unfinished if self.text[at : at + 1] in ("", '"') else NoCall  # a text that nobody closed


Read = Callable[[Text, int, Declared], tuple[list[ToolCall], int]]
Parser = Callable[[str, Declared], ParsedAnswer]


def scanned(opening: str, closing: str, read: Read, *, drop: Sequence[str] = ()) -> Parser:
    """A form whose calls each follow a tag. `closing`: behind what the search goes on after what is no call; "" for a
    form that has none. `drop`: tags around all calls, which go where there is a call."""

    def parse(answer: str, declared: Declared) -> ParsedAnswer:
        text, kept, calls, at = Text(answer), list[str](), list[ToolCall](), 0
        while (start := text.find(opening, at)) >= 0:
            inside = start + len(opening)
            try:
                found, end = read(text, inside, declared)
            except Unfinished:
                break
            except NoCall:
                end = inside
                if text.furthest > text.space(inside):  # else nothing has begun
                    end = text.find(closing, text.furthest) if closing else text.furthest
                    if end < 0:
                        break
                    end += len(closing)
                kept.append(answer[at:end])
            else:
                kept.append(answer[at:start])
                calls += found
            at = end
        kept.append(answer[at:])
        if not calls:
            return ParsedAnswer(answer)
        said = "".join(kept)
        for tag in drop:
            said = said.replace(tag, "")
        return ParsedAnswer(said.strip(), tuple(calls))

    return parse


def either(*parsers: Parser) -> Parser:
    """The first form that finds a call."""

    def parse(answer: str, declared: Declared) -> ParsedAnswer:
        for parser in parsers:
            found = parser(answer, declared)
            if found.calls:
                return found
        return ParsedAnswer(answer)

    return parse
