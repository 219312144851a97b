"""Tool calls whose arguments are JSON: what stands around the object differs, and where the name is."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from zigllama.models.tool_call_parts import (
    Declared,
    NoCall,
    ParsedAnswer,
    Read,
    Text,
    ToolCall,
    Unfinished,
    call_of,
    calls_of,
    named,
)

_NAME = re.compile(r"\s*+([\w.:/-]{1,256}+)")
_MISTRAL = re.compile(r"([\w.:/-]+)(?:\[CALL_ID\]([\w-]+))?\s*(?:\[ARGS\])?\s*(?=\{)")
_ENDS = ("<|eom_id|>", "<|eot_id|>", "</s>")


def one(closing: str) -> Read:
    """{"name": .., "arguments": {..}}, then the closing tag."""

    def read(text: Text, at: int, declared: Declared) -> tuple[list[ToolCall], int]:
        found, at = text.json(at)
        return [call_of(found)], text.after(closing, at)

    return read


def several(closing: str, calls: Callable[[Any], list[ToolCall]] = calls_of, *, to_end: bool = False) -> Read:
    """A list of them. `to_end`: the answer's end closes it too."""

    def read(text: Text, at: int, declared: Declared) -> tuple[list[ToolCall], int]:
        found, at = text.json(at, "[")
        made = calls(found)
        if to_end and text.space(at) == len(text.text):
            return made, len(text.text)
        return made, text.after(closing, at)

    return read


def lines(closing: str) -> Read:
    """One after the other, with spaces between."""

    def read(text: Text, at: int, declared: Declared) -> tuple[list[ToolCall], int]:
        calls: list[ToolCall] = []
        while not calls or not text.ends(closing, text.space(at)):
            found, at = text.json(at)
            calls.append(call_of(found))
        return calls, text.after(closing, at)

    return read


def by_key(x: Any) -> list[ToolCall]:
    """[{NAME: {..}}, ..]"""
    if not isinstance(x, list) or not x or not all(isinstance(item, dict) and len(item) == 1 for item in x):
        raise NoCall
    return [named(*pair) for item in x for pair in item.items()]


def command_r(x: Any) -> list[ToolCall]:
    """A list; "directly-answer" is how the model says that it calls nothing."""
    return [c for c in calls_of(x) if c.name != "directly-answer"]


def attribute(text: Text, at: int, declared: Declared) -> tuple[list[ToolCall], int]:
    """NAME>{..}</function>"""
    name, at = text.until(">", at)
    found, at = text.json(at)
    return [named(name, found)], text.after("</function>", at)


def parts(separator: str, opening: str, closing: str, *, to_end: bool = False) -> Read:
    """What stands before `separator` is an id or nothing, then a name up to `opening`, JSON, `closing`."""

    def read(text: Text, at: int, declared: Declared) -> tuple[list[ToolCall], int]:
        id = None
        if separator:
            id, at = text.until(separator, at)
        name, at = text.until(opening, at)
        found, at = text.json(at)
        if to_end and text.space(at) == len(text.text):
            return [named(name.strip(), found, id)], len(text.text)
        return [named(name.strip(), found, id)], text.after(closing, at)

    return read


def kimi(text: Text, at: int, declared: Declared) -> tuple[list[ToolCall], int]:
    """functions.NAME:INDEX<|tool_call_argument_begin|>{..}<|tool_call_end|>"""
    id, at = text.until("<|tool_call_argument_begin|>", at)
    found, at = text.json(at)
    name = re.sub(r":\d+\Z", "", id.strip().removeprefix("functions."))
    return [named(name, found, id.strip())], text.after("<|tool_call_end|>", at)


def deepseek(text: Text, at: int, declared: Declared) -> tuple[list[ToolCall], int]:
    """NAME, the separator, {..}; or "function", the separator, NAME and the object between ```json and ```."""
    name, at = text.until("<｜tool▁sep｜>", at)
    fenced = name.strip() == "function"
    if fenced:
        name, at = text.until("\n```json\n", at)
    found, at = text.json(at)
    if fenced:
        at = text.after("```", at)
    return [named(name.strip(), found)], text.after("<｜tool▁call▁end｜>", at)


def mistral(text: Text, at: int, declared: Declared) -> tuple[list[ToolCall], int]:
    """[{..}, ..], or NAME[CALL_ID]id[ARGS]{..}; nothing but the next call may follow."""
    at = text.space(at)
    if text.has("[", at):
        found, at = text.json(at, "[")
        calls = calls_of(found)
    else:
        head = _MISTRAL.match(text.text, at)
        if head is None:
            raise NoCall
        found, at = text.json(head.end())
        calls = [named(head[1], found, head[2])]
    at = _end(text, at)
    if at < len(text.text) and not text.has("[TOOL_CALLS]", at):
        raise NoCall
    return calls, at


def _end(text: Text, at: int) -> int:
    """Behind spaces and what ends a turn."""
    at = text.space(at)
    for end in _ENDS:
        if text.has(end, at):
            at = text.space(at + len(end))
    return at


def whole(answer: str, declared: Declared) -> ParsedAnswer:
    """Llama 3: the answer is a call, or several with semicolons between them."""
    text, calls = Text(answer), list[ToolCall]()
    try:
        at = text.space(0)
        at = text.after("<|python_tag|>", at) if text.has("<|python_tag|>", at) else at
        while True:
            found, at = text.json(at)
            calls.append(call_of(found))
            at = _end(text, at)
            if at == len(answer):
                return ParsedAnswer("", tuple(calls))
            at = text.after(";", at)
    except NoCall:
        return ParsedAnswer(answer)


def arrows(answer: str, declared: Declared) -> ParsedAnswer:
    """Functionary 3.2: the prompt ends with the first >>>, the answer begins with whom it is for; `all` are people."""
    text, kept, calls = Text(answer), list[str](), list[ToolCall]()
    at = len(">>>") if text.has(">>>", 0) else 0
    while at < len(answer):
        stop = text.find(">>>", at)
        begin, end = at, len(answer) if stop < 0 else stop
        line = text.find("\n", at)
        name = answer[at:line].strip() if 0 <= line < end else ""
        try:
            if name in ("", "all"):
                raise NoCall
            found, at = text.json(line + 1)
            call = named(name, found)
            at = _end(text, at)
            if at < len(answer) and not text.has(">>>", at):
                raise NoCall
            calls.append(call)
        except Unfinished:
            kept.append(answer[begin:])
            break
        except NoCall:
            kept.append(answer[line + 1 : end] if name == "all" else answer[begin:end])
            at = end
        at += len(">>>")
    said = "".join(kept).strip()
    for token in _ENDS:
        said = said.removesuffix(token).strip()
    return ParsedAnswer(said, tuple(calls)) if calls else ParsedAnswer(answer)


_TO = re.compile(r"\bto=functions\.([\w.:/-]{1,256})")
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)")


def harmony(answer: str, declared: Declared) -> ParsedAnswer:
    """gpt-oss: messages of a header, <|message|> and a content; a header with to=functions.NAME makes it a call. What
    is on the channel `analysis` is thought, and not said."""
    text, kept, calls, at, begin = Text(answer), list[str](), list[ToolCall](), 0, 0
    try:
        while at < len(answer):
            begin = at
            head, at = text.until("<|message|>", at)
            to, channel = _TO.search(head), _CHANNEL.search(head)
            if to is not None:
                found, at = text.json(at)
                calls.append(named(to[1], found))
                at = text.space(at)
                if at < len(answer):
                    at = text.after("<|end|>" if text.has("<|end|>", at) else "<|call|>", at)
                continue
            ends = [e for tag in ("<|end|>", "<|return|>", "<|start|>") if (e := text.find(tag, at)) >= 0]
            end = min(ends, default=len(answer))
            if channel is None or channel[1] != "analysis":
                kept.append(answer[at:end])
            at = end
            for tag in ("<|end|>", "<|return|>"):
                at += len(tag) if text.has(tag, at) else 0
    except NoCall:
        kept.append(answer[begin:])
    return (
        ParsedAnswer("\n".join(s for s in map(str.strip, kept) if s), tuple(calls)) if calls else ParsedAnswer(answer)
    )
