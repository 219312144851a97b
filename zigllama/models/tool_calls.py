"""Tool calls out of an answer: the inverse of what a chat template writes for them.

    parse_tool_calls('<tool_call>\\n{"name": "f", "arguments": {"x": 1}}\\n</tool_call>', chat.source)
    # ParsedAnswer(text='', calls=(ToolCall(name='f', arguments={'x': 1}, id=None),))

Every model family has a form of its own; which one, `format_of` reads off the template, or the caller names it:

    hermes        <tool_call>{"name": .., "arguments": {..}}</tool_call>             Hermes, Qwen 2.5 and 3, Granite 4
    qwen-coder    <tool_call><function=NAME><parameter=KEY>VALUE</parameter>..</function></tool_call>
    seed          the same in <seed:tool_call>
    llama-3       {"name": .., "parameters": {..}}, the whole answer, also after <|python_tag|>
    mistral       [TOOL_CALLS][{"name": .., "arguments": {..}, "id": ..}]            also NAME[ARGS]{..}, NAME{..}
    command-r     Action: ```json [{"tool_name": .., "parameters": {..}}] ```        also <|START_ACTION|>[..]
    functionary   <function=NAME>{..}</function>          version 3.1
    functionary-2 >>>NAME, a line's end, {..}            version 3.2
    deepseek      <｜tool▁call▁begin｜>NAME<｜tool▁sep｜>{..}<｜tool▁call▁end｜>   also function<..>NAME ```json
    apriel        <tool_calls>[{"name": .., "arguments": {..}}]</tool_calls>
    list          <|tool_call|>[{"name": .., "arguments": {..}}]<|/tool_call|>       Phi 4, Granite 3

Strict: a call is a name and a JSON object of arguments (no NaN, no key twice) in exactly its form; whatever is not
stays text, never half a call. The time is linear in the answer. Tags that are control tokens are in an answer's text
only if it was decoded with `special=True`. Nothing is run here, and no argument is checked against a tool's schema.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from zigllama.errors import UnknownName


@dataclass(frozen=True)
class ToolCall:
    """A call that a model asks for. `id` is what the answer gave it, None in forms that have none."""

    name: str
    arguments: dict[str, Any]
    id: str | None = None


@dataclass(frozen=True)
class ParsedAnswer:
    """What an answer says besides its calls, and the calls in order."""

    text: str
    calls: tuple[ToolCall, ...] = ()


class _NoCall(Exception):
    """What was looked at is no call."""


def parse_tool_calls(text: str, template: str = "", *, format: str | None = None) -> ParsedAnswer:
    """The calls of an answer, by the form that a template (its Jinja text) writes, or by a form's name.

    An answer to a template that writes none is text. Raises UnknownName for a form's name that does not exist.
    """
    if format is None:
        format = format_of(template)
    elif format not in FORMATS:
        raise UnknownName("tool call format", format, tuple(FORMATS))
    if format is None:
        return ParsedAnswer(text)
    return FORMATS[format](text)


def format_of(template: str) -> str | None:
    """The form in which a template writes calls; None where it writes none that is known."""
    for mark, name in _MARKS:
        if all(part in template for part in mark):
            return name
    return None


# --- JSON ---


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise _NoCall
    return made


def _constant(name: str) -> NoReturn:
    raise _NoCall


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant)


def _json(text: str) -> Any:
    """A whole text as JSON. Raises _NoCall."""
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        raise _NoCall from None


def _call(x: Any) -> ToolCall:
    """A call out of an object. Raises _NoCall."""
    if not isinstance(x, dict):
        raise _NoCall
    if isinstance(x.get("function"), dict):  # {"type": "function", "function": {..}}
        x = x["function"] | {k: v for k, v in x.items() if k in ("id", "tool_call_id")}
    name = x.get("name", x.get("tool_name"))
    found = [x[k] for k in ("arguments", "parameters") if k in x]
    id = x.get("id", x.get("tool_call_id"))
    if len(found) != 1:
        raise _NoCall
    return _named(name, found[0], None if id is None else str(id))


def _named(name: Any, arguments: Any, id: str | None = None) -> ToolCall:
    if not isinstance(name, str) or not isinstance(arguments, dict) or not re.fullmatch(r"[\w.:/-]{1,256}", name):
        raise _NoCall
    return ToolCall(name, arguments, id)


def _calls(x: Any) -> list[ToolCall]:
    """Calls out of a list of at least one. Raises _NoCall."""
    if not isinstance(x, list) or not x:
        raise _NoCall
    return [_call(item) for item in x]


# --- forms ---

Body = Callable[[str], list[ToolCall]]
Parser = Callable[[str], ParsedAnswer]


def _between(opening: str, closing: str, body: Body, *, to_end: bool = False, wrapper: Sequence[str] = ()) -> Parser:
    """A form whose calls stand between two tags. `to_end`: the last one may be closed by the answer's end. `wrapper`:
    tags around all calls, which go where there is a call."""

    def parse(text: str) -> ParsedAnswer:
        kept, calls = [], []
        for before, inside, whole in _parts(text, opening, closing, to_end):
            kept.append(before)
            if inside is not None:
                try:
                    calls += body(inside)
                except _NoCall:
                    kept.append(whole)
        said = "".join(kept)
        if calls:
            for tag in wrapper:
                said = said.replace(tag, "")
        return ParsedAnswer(said.strip() if calls else text, tuple(calls))

    return parse


def _parts(text: str, opening: str, closing: str, to_end: bool) -> Iterator[tuple[str, str | None, str]]:
    """What stands before a pair of tags, between them, and both with what is between."""
    at = 0
    while (start := text.find(opening, at)) >= 0:
        inside = start + len(opening)
        end = text.find(closing, inside)
        if end < 0 and not to_end:
            break
        after = len(text) if end < 0 else end + len(closing)
        yield text[at:start], text[inside : len(text) if end < 0 else end], text[start:after]
        at = after
    yield text[at:], None, ""


def _after(opening: str, body: Body) -> Parser:
    """A form whose calls each follow a tag, up to the next one."""

    def parse(text: str) -> ParsedAnswer:
        first, *rest = text.split(opening)
        kept, calls = [first], []
        for part in rest:
            try:
                calls += body(part)
            except _NoCall:
                kept.append(opening + part)
        return ParsedAnswer("".join(kept).strip(), tuple(calls)) if calls else ParsedAnswer(text)

    return parse


def _either(*parsers: Parser) -> Parser:
    """The first form that finds a call."""

    def parse(text: str) -> ParsedAnswer:
        for parser in parsers:
            found = parser(text)
            if found.calls:
                return found
        return ParsedAnswer(text)

    return parse


def _one(text: str) -> list[ToolCall]:
    return [_call(_json(text.strip()))]


def _several(text: str) -> list[ToolCall]:
    return _calls(_json(text.strip()))


def _whole(text: str) -> ParsedAnswer:
    """Llama 3: the answer is a call, or several with semicolons between them."""
    body = _ended(text).removeprefix("<|python_tag|>").strip()
    try:
        try:
            return ParsedAnswer("", (_call(_json(body)),))
        except _NoCall:
            return ParsedAnswer("", tuple(_calls(_json("[" + re.sub(r"\}\s*;\s*\{", "},{", body) + "]"))))
    except _NoCall:
        return ParsedAnswer(text)


def _coder(text: str) -> list[ToolCall]:
    """Qwen Coder: values are JSON where they are, else text."""
    found = re.fullmatch(r"\s*<function=([^>\n]+)>(.*)</function>\s*", text, re.DOTALL)
    if found is None:
        raise _NoCall
    arguments: dict[str, Any] = {}
    for before, inside, _ in _parts(found[2], "<parameter=", "</parameter>", False):
        if before.strip() or (inside is not None and ">" not in inside):
            raise _NoCall
        if inside is not None:
            key, _, value = inside.partition(">")
            if key in arguments:
                raise _NoCall
            value = value.removeprefix("\n").removesuffix("\n")
            try:
                arguments[key] = _json(value)
            except _NoCall:
                arguments[key] = value
    return [_named(found[1], arguments)]


def _attribute(text: str) -> list[ToolCall]:
    """NAME>{..} of <function=NAME>{..}</function>."""
    name, closed, body = text.partition(">")
    if not closed:
        raise _NoCall
    return [_named(name, _json(body.strip()))]


def _arrows(text: str) -> ParsedAnswer:
    """Functionary 3.2: the prompt ends with the first >>>, the answer begins with whom it is for; `all` are people."""
    kept, calls = [], []
    for part in text.removeprefix(">>>").split(">>>"):
        name, line, body = part.partition("\n")
        try:
            if not line or name.strip() == "all":
                raise _NoCall
            calls.append(_named(name.strip(), _json(_ended(body))))
        except _NoCall:
            kept.append(body if name.strip() == "all" else part)
    return ParsedAnswer(_ended("".join(kept)), tuple(calls)) if calls else ParsedAnswer(text)


def _ended(text: str) -> str:
    """Without the token that ends a turn."""
    for end in ("<|eom_id|>", "<|eot_id|>", "</s>"):
        text = text.strip().removesuffix(end)
    return text.strip()


def _mistral(text: str) -> list[ToolCall]:
    body = _ended(text)
    if body.startswith("["):
        return _several(body)
    found = re.fullmatch(r"([\w.:/-]+)(?:\[CALL_ID\]([\w-]+))?\s*(?:\[ARGS\])?\s*(\{.*\})", body, re.DOTALL)
    if found is None:
        raise _NoCall
    return [_named(found[1], _json(found[3]), found[2])]


def _deepseek(text: str) -> list[ToolCall]:
    name, separator, body = text.partition("<｜tool▁sep｜>")
    if not separator:
        raise _NoCall
    if name.strip() == "function":
        found = re.fullmatch(r"([^\n]+)\n```json\n(.*)\n```\s*", body, re.DOTALL)
        if found is None:
            raise _NoCall
        name, body = found[1], found[2]
    return [_named(name.strip(), _json(body.strip()))]


def _command_r(text: str) -> list[ToolCall]:
    calls = _several(text)
    # "directly-answer" is how the model says that it calls nothing
    return [c for c in calls if c.name != "directly-answer"]


FORMATS: dict[str, Parser] = {
    "hermes": _between("<tool_call>", "</tool_call>", _one),
    "qwen-coder": _between("<tool_call>", "</tool_call>", _coder),
    "seed": _between("<seed:tool_call>", "</seed:tool_call>", _coder),
    "llama-3": _whole,
    "mistral": _after("[TOOL_CALLS]", _mistral),
    "command-r": _either(
        _between("<|START_ACTION|>", "<|END_ACTION|>", _command_r),
        _between("Action:\n```json\n", "```", _command_r),
        _between("Action: ```json\n", "```", _command_r),
    ),
    "functionary": _between("<function=", "</function>", _attribute),
    "functionary-2": _arrows,
    "deepseek": _between(
        "<｜tool▁call▁begin｜>",
        "<｜tool▁call▁end｜>",
        _deepseek,
        wrapper=("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜end▁of▁sentence｜>"),
    ),
    "apriel": _between("<tool_calls>", "</tool_calls>", _several),
    "list": _between("<|tool_call|>", "<|/tool_call|>", _several, to_end=True),
}
"""Every form's parser, by name."""

# What a template contains that writes a form; the first that fits.
_MARKS: list[tuple[tuple[str, ...], str]] = [
    (("<｜tool▁call▁begin｜>",), "deepseek"),
    (("[TOOL_CALLS]",), "mistral"),
    (("<seed:tool_call>",), "seed"),
    (("<tool_call>", "<function="), "qwen-coder"),
    (("<tool_calls>[",), "apriel"),
    (("<tool_call>", '"arguments"'), "hermes"),
    (("<tool_call>", '\\"arguments\\"'), "hermes"),
    (("<|tool_call|>",), "list"),
    (("<|START_ACTION|>",), "command-r"),
    (("Action:", "```json", "tool_name"), "command-r"),
    ((">>>", "recipient"), "functionary-2"),
    (("<function=",), "functionary"),
    (("<|python_tag|>",), "llama-3"),
    (("<|start_header_id|>", '"parameters"'), "llama-3"),
]
