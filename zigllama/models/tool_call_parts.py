"""What the readers of tool calls share: the call, the answer without its calls, and a text that is read once.

A reader stands behind a tag that opens a call and says which calls are there and where they end. Two things may be
wrong: `NoCall`, it is something else; `Unfinished`, the text ends within it. After the second the search ends, for what
is left is inside a value that nobody closed. After the first it goes on

    behind the tag                     where nothing had begun: the text only speaks of it
    behind what was read               where that was whole: heads, values with both their ends
    at the opening tag that stands     where a value breaks off: the call begins anew
    behind the next closing tag        where a value breaks off otherwise; nothing says where it should have ended

So what looks like a call inside an argument is none, whatever else is wrong, and a call behind a broken one is found.

Whatever an answer holds, the time is linear in it: a tag that was not found is not looked for again, and what was read
before an error is not read again.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn


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


class Found(NamedTuple):
    """The calls of an answer, and which of its characters are text: (begin, end), ascending, `joint` between them."""

    calls: list[ToolCall]
    kept: list[tuple[int, int]]
    joint: str = ""


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
        listed = kinds if isinstance(kinds, list | tuple) else [kinds]
        return frozenset(k for k in listed if isinstance(k, str))

    def value(self, name: str, key: str, text: str) -> Any:
        """A value that stands in an answer as it is: a text where that is declared, else JSON where it is that, else a
        text. Raises NoCall for what is declared as a number and written as one that is not finite."""
        kinds = self.types(name, key)
        if "string" in kinds and not ("null" in kinds and text == "null"):
            return text
        if not text and kinds in ({"object"}, {"array"}):
            return {} if "object" in kinds else []
        try:
            return from_json(text)
        except NoCall:
            if kinds and kinds <= {"number", "integer"} and _NOT_FINITE.fullmatch(text.strip()):
                raise
            return text


# --- JSON ---

_NOT_FINITE = re.compile(r"[-+]?(?:\d[\d.]*[eE]\+?\d+|nan|inf(?:inity)?)", re.IGNORECASE)


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise NoCall
    return made


def _constant(name: str) -> NoReturn:
    raise NoCall


def _finite(number: str) -> float:
    made = float(number)
    if math.isinf(made):
        raise NoCall
    return made


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant, parse_float=_finite)
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
_SPACE = re.compile(r"\s*+")
# JSON up to a run of brackets that open or close, or to where it breaks off; brackets with none inside are passed over.
_PLAIN = r'[\s,:\-+.\w]++|"(?:[^"\\]++|\\.)*+"'
_FLAT = rf"(?:{_PLAIN}|(?!\[TOOL_CALLS\])[\[{{](?:{_PLAIN})*+[\]}}])*+"  # but a tag in brackets
_STRETCH = re.compile(rf"{_FLAT}(?:([\[{{]++)|([\]}}]++))?+", re.DOTALL)
MAX_DEPTH = 512  # of brackets
_QUOTED = re.compile(r'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_NAME = re.compile(r"[\w.:/-]{1,256}")
_HEAD = re.compile(r"[^<>\"\n]{0,512}+")


def _skip(what: re.Pattern[str], text: str, at: int) -> int:
    found = what.match(text, at)
    assert found is not None  # it matches nothing too
    return found.end()


def from_json(text: str) -> Any:
    """A whole text as JSON, without numbers that are not finite and without a key twice. Raises NoCall."""
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        raise NoCall from None


def named(name: Any, arguments: Any, id: str | None = None) -> ToolCall:
    """A call, if a name and arguments are what they should be: JSON that can be written, in UTF-8 and with finite
    numbers (a half surrogate is an escape that JSON allows and no text). Raises NoCall."""
    if not isinstance(name, str) or not isinstance(arguments, dict) or not _NAME.fullmatch(name):
        raise NoCall
    try:
        _ENCODER.encode([name, arguments, id]).encode()
    except (ValueError, RecursionError):
        raise NoCall from None
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
    if len(found) != 1 or isinstance(id, bool) or not isinstance(id, str | int | None):
        raise NoCall
    return named(name, found[0], None if id is None else str(id))


def calls_of(x: Any) -> list[ToolCall]:
    """Calls out of a list of at least one. Raises NoCall."""
    if not isinstance(x, list) or not x:
        raise NoCall
    return [call_of(item) for item in x]


# --- a text that is read once ---


class Text:
    """An answer, and where its tags are.

    opening     the tag that opens a call, "" where the form has none; `closing`: the one that ends it
    begin       behind the tag that opened the call that is read; what was read further was its head
    inside      whether what is read now is a value with brackets of its own
    furthest    up to where it was read as something
    """

    def __init__(self, text: str, opening: str = "", closing: str = "") -> None:
        self.text, self.opening, self.closing = text, opening, closing
        self.begin, self.furthest, self.inside = 0, 0, False
        self._found: dict[str, tuple[int, int]] = {}

    def reached(self, at: int, inside: bool | None = None) -> int:
        """What stands before `at` was read; a value begins there or ends, where `inside` says so."""
        self.furthest = max(self.furthest, at)
        self.inside = self.inside if inside is None else inside
        return at

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
        """A value: what stands before a tag, and where it goes on behind the tag. Raises Unfinished."""
        end = self.find(tag, at)
        if end < 0:
            raise Unfinished
        self.reached(end + len(tag))
        return self.text[at:end], end + len(tag)

    def value(self, tag: str, at: int, again: re.Pattern[str]) -> tuple[str, int]:
        """The same of a value that is written as it is. Raises NoCall for one that holds the beginning of a call up to
        its first value: the call before may have broken off, or this one be quoted, so that neither is one."""
        found, end = self.until(tag, at)
        if again.search(found):
            self.inside = True
            raise NoCall
        return found, end

    def head(self, tag: str, at: int) -> tuple[str, int]:
        """A name, a key or an id: the same of a short piece of one line without tags and quotes. Raises NoCall."""
        begin = self.space(at)
        found = _HEAD.match(self.text, begin)
        assert found is not None  # it matches nothing too
        end = found.end() if self.has(tag, found.end()) else self.space(found.end())
        if not self.has(tag, end):
            raise NoCall
        self.reached(end + len(tag))
        return found[0].rstrip(), end + len(tag)

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
        self.reached(at + len(tag))
        return at + len(tag)

    def json(self, at: int, opening: str = "{") -> tuple[Any, int]:
        """An object (or a list, by `opening`) that begins here, after spaces, and its end. Raises NoCall, Unfinished.

        Its end is where its brackets close, strings apart: a tag inside a string ends nothing.
        """
        begin = self.space(at)
        if self.opening and self.has(self.opening, begin):
            raise NoCall
        if self.ends(opening, begin):
            self.reached(begin, inside=True)
            end = self._brackets(begin)
            made = from_json(self.text[begin:end])
            return made, self.reached(end, inside=False)
        other = self.text[begin : begin + 1]
        if other == '"':
            self._skip_text(begin)
        elif other and other in "[{":  # JSON of another kind, or prose
            try:
                end = self._brackets(begin, mark=False)
                from_json(self.text[begin:end])
                self.reached(end)
            except NoCall:
                pass
        raise NoCall

    def _brackets(self, at: int, mark: bool = True) -> int:
        """Where the bracket that stands here closes. Raises NoCall, Unfinished; `mark`: and is furthest then."""
        at, depth = at + 1, 1
        while (found := _STRETCH.match(self.text, at)) and found.lastindex:
            opens, closes = found.span(1), found.span(2)
            at = found.end()
            depth += opens[1] - opens[0]
            again = self.opening and opens[1] > 0 and self.has(self.opening, at - 1)
            if depth > MAX_DEPTH or again:  # too deep; a call begins anew, its tag in brackets
                at -= 1
                break
            if closes[1] > 0 and depth <= closes[1] - closes[0]:
                at = closes[0] + depth
                return self.reached(at) if mark else at
            depth -= closes[1] - closes[0]
        else:
            at = at if found is None else found.end()
        self.reached(at if mark else 0)
        raise Unfinished if self.text[at : at + 1] in ("", '"') else NoCall  # a text that nobody closed

    def _skip_text(self, at: int) -> None:
        """Pass over a JSON text where an object is wanted, behind a head or before the closing tag: a value, which may
        hold calls. Another is prose."""
        found = _QUOTED.match(self.text, at)
        if found is None:
            if self.furthest > self.begin:
                raise Unfinished
        elif self.furthest > self.begin or (self.closing and self.has(self.closing, self.space(found.end()))):
            self.reached(found.end())


Read = Callable[[Text, int, Declared], tuple[list[ToolCall], int]]
Parser = Callable[[str, Declared], Found]


def scanned(opening: str, closing: str, read: Read, *, drop: Sequence[str] = ()) -> Parser:
    """A form whose calls each follow a tag. `closing`: behind what the search goes on where a value breaks off; "" for
    a form that has none. `drop`: tags around all calls, which go where there is a call."""
    dropped = re.compile("|".join(map(re.escape, drop))) if drop else None

    def parse(answer: str, declared: Declared) -> Found:
        text, kept, calls, at = Text(answer, opening, closing), list[tuple[int, int]](), list[ToolCall](), 0
        while (start := text.find(opening, at)) >= 0:
            text.begin = text.reached(start + len(opening), inside=False)
            try:
                found, end = read(text, text.begin, declared)
            except Unfinished:
                break
            except NoCall:
                end = text.furthest
                if text.inside and not text.has(opening, text.space(end)):
                    end = text.find(closing, end) if closing else -1
                    if end < 0:
                        break
                    end += len(closing)
                kept.append((at, end))
            else:
                kept.append((at, start))
                calls += found
            at = end
        kept.append((at, len(answer)))
        return Found(calls, kept if dropped is None else without(answer, kept, dropped))

    return parse


def without(answer: str, kept: list[tuple[int, int]], dropped: re.Pattern[str]) -> list[tuple[int, int]]:
    """The same places without the tags in them."""
    made: list[tuple[int, int]] = []
    for begin, end in kept:
        for tag in dropped.finditer(answer, begin, end):
            made.append((begin, tag.start()))
            begin = tag.end()
        made.append((begin, end))
    return made


def either(*parsers: Parser) -> Parser:
    """The first form that finds a call."""

    def parse(answer: str, declared: Declared) -> Found:
        for parser in parsers:
            found = parser(answer, declared)
            if found.calls:
                return found
        return Found([], [(0, len(answer))])

    return parse
