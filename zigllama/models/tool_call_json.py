"""Tool calls whose arguments are JSON: what stands around the object differs, and where the name is."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from zigllama.models.tool_call_parts import (
    Declared,
    Found,
    NoCall,
    Read,
    Text,
    ToolCall,
    Unfinished,
    call_of,
    calls_of,
    named,
)

_MISTRAL = re.compile(r"([\w.:/-]{1,256}+)(?:\[CALL_ID\]([\w-]{1,256}+))?+\s*+(?:\[ARGS\])?+\s*+(?=\{)")
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
    name, at = text.head(">", at)
    found, at = text.json(at)
    return [named(name, found)], text.after("</function>", at)


def parts(separator: str, opening: str, closing: str, *, to_end: bool = False) -> Read:
    """What stands before `separator` is an id or nothing, then a name up to `opening`, JSON, `closing`."""

    def read(text: Text, at: int, declared: Declared) -> tuple[list[ToolCall], int]:
        id = None
        if separator:
            id, at = text.head(separator, at)
        name, at = text.head(opening, at)
        found, at = text.json(at)
        if to_end and text.space(at) == len(text.text):
            return [named(name, found, id)], len(text.text)
        return [named(name, found, id)], text.after(closing, at)

    return read


def kimi(text: Text, at: int, declared: Declared) -> tuple[list[ToolCall], int]:
    """functions.NAME:INDEX<|tool_call_argument_begin|>{..}<|tool_call_end|>"""
    id, at = text.head("<|tool_call_argument_begin|>", at)
    found, at = text.json(at)
    name = re.sub(r":\d+\Z", "", id.removeprefix("functions."))
    return [named(name, found, id)], text.after("<|tool_call_end|>", at)


def deepseek(text: Text, at: int, declared: Declared) -> tuple[list[ToolCall], int]:
    """NAME, the separator, {..}; or "function", the separator, NAME and the object between ```json and ```."""
    name, at = text.head("<｜tool▁sep｜>", at)
    fenced = name == "function"
    if fenced:
        name, at = text.head("\n```json\n", at)
    found, at = text.json(at)
    if fenced:
        at = text.after("```", at)
    return [named(name, found)], text.after("<｜tool▁call▁end｜>", at)


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
        found, at = text.json(text.reached(head.end()))
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


def whole(answer: str, declared: Declared) -> Found:
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
                return Found(calls, [])
            at = text.after(";", at)
    except NoCall:
        return Found([], [(0, len(answer))])


def arrows(answer: str, declared: Declared) -> Found:
    """Functionary 3.2: the prompt ends with the first >>>, the answer begins with whom it is for; `all` are people."""
    text, kept, calls = Text(answer), list[tuple[int, int]](), list[ToolCall]()
    at = len(">>>") if text.has(">>>", 0) else 0
    while at < len(answer):
        stop = text.find(">>>", at)
        begin, end = at, len(answer) if stop < 0 else stop
        line = text.find("\n", at)
        name = answer[at : min(line, at + 300)].strip() if 0 <= line < end else ""
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
            kept.append((begin, len(answer)))
            break
        except NoCall:
            if text.furthest > end:  # those inside a value begin nothing
                stop = text.find(">>>", text.furthest)
                end = len(answer) if stop < 0 else stop
            kept.append((line + 1 if name == "all" else begin, end))
            at = end
        at += len(">>>")
    return Found(calls, _trimmed(answer, kept))


def _trimmed(answer: str, kept: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same places without what ends a turn behind the last of them."""
    if not kept:
        return kept
    *most, (begin, end) = kept
    for token in _ENDS:
        said = answer[begin:end].rstrip()
        end = begin + len(said.removesuffix(token).rstrip())
    return [*most, (begin, end)]


_TO = re.compile(r"\bto=functions\.([\w.:/-]{1,256})")
_CHANNEL = re.compile(r"<\|channel\|>\s*+(\w++)")
_MESSAGE_ENDS = ("<|end|>", "<|return|>", "<|call|>", "<|start|>")


def harmony(answer: str, declared: Declared) -> Found:
    """gpt-oss: messages of a header, <|message|> and a content; a header with to=functions.NAME makes it a call. What
    is on the channel `analysis` is thought, and not said. What comes before a header is text."""
    text, kept, calls, at = Text(answer), list[tuple[int, int]](), list[ToolCall](), 0
    while at < len(answer):
        begin, stop = at, text.find("<|message|>", at)
        if stop < 0:
            kept.append((begin, len(answer)))
            break
        start = max(begin, answer.rfind("<|start|>", begin, stop))
        if start > begin:
            kept.append((begin, start))
        head, at = answer[start:stop], stop + len("<|message|>")
        to, channel = _TO.search(head), _CHANNEL.search(head)
        text.reached(at, inside=False)
        if to is not None:
            try:
                found, after = text.json(at)
                call = named(to[1], found)
                after = text.space(after)
                if after < len(answer):
                    after = text.after("<|end|>" if text.has("<|end|>", after) else "<|call|>", after)
            except Unfinished:
                kept.append((start, len(answer)))
                break
            except NoCall:
                at = text.furthest
            else:
                calls.append(call)
                at = after
                continue
        ends = [e for tag in _MESSAGE_ENDS if (e := text.find(tag, at)) >= 0]
        end = min(ends, default=len(answer))
        if to is not None:
            kept.append((start, end))
        elif channel is None or channel[1] != "analysis":
            kept.append((at, end))
        at = end
        for tag in _MESSAGE_ENDS[:-1]:
            at += len(tag) if text.has(tag, at) else 0
    return Found(calls, kept, "\n")
