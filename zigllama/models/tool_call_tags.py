"""Tool calls whose arguments each have a tag, their values as they are: <parameter=KEY>VALUE</parameter>.

Nothing in these forms says where a value ends but its closing tag, and nothing but the tool's schema whether `5` is a
number or a text: a value that holds its own closing tag cannot be read back, nor one that quotes a call with arguments
(which has such tags), and the types are those that are declared (tool_call_parts.Declared).
"""

from __future__ import annotations

import re
from typing import Any

from zigllama.models.tool_call_parts import (
    Declared,
    NoCall,
    Parser,
    Read,
    Text,
    ToolCall,
    Unfinished,
    from_json,
    named,
    scanned,
)
from zigllama.models.tool_call_values import literal_of

MAX_DEPTH = 64  # of values inside values


def _put(arguments: dict[str, Any], key: str, value: Any) -> None:
    if key in arguments:
        raise NoCall
    arguments[key] = value


def _read(declared: Declared, name: str, key: str, text: str) -> Any:
    """`Declared.value`; where that is a text and should be none, what some templates write as Python does."""
    made, kinds = declared.value(name, key, text), declared.types(name, key)
    as_python = isinstance(made, str) and "string" not in kinds and (kinds or text[:1] in ("{", "["))
    return literal_of(text) if as_python else made


def coder(closing: str) -> Read:
    """<function=NAME> <parameter=KEY>VALUE</parameter> .. </function>, a line's end around each value."""
    again = re.compile(closing.replace("/", "") + r"\s*+<function=[^<>\n]{0,512}+>\s*+<parameter=")

    def read(text: Text, at: int, declared: Declared) -> tuple[list[ToolCall], int]:
        name, at = text.head(">", text.after("<function=", at))
        arguments: dict[str, Any] = {}
        while not text.ends("</function>", at := text.space(at)):
            key, at = text.head(">", text.after("<parameter=", at))
            value, at = text.value("</parameter>", at, again)
            _put(arguments, key, _read(declared, name, key, value.removeprefix("\n").removesuffix("\n")))
        return [named(name, arguments)], text.after(closing, text.after("</function>", at))

    return read


_GLM_NAME = re.compile(r"\s*+([^<\s]*+)")


def keys_and_values(suffix: str = "") -> Parser:
    """GLM's: <tool_call>NAME, then <arg_key>KEY</arg_key> <arg_value>VALUE</arg_value> in turn. `suffix`: Hy3's names
    of tags end in one, and <tool_sep> follows the name."""
    tag = {n: (f"<{n}{suffix}>", f"</{n}{suffix}>") for n in ("tool_call", "arg_key", "arg_value", "tool_calls")}
    separator = f"<tool_sep{suffix}>"
    again = re.compile(rf"{tag['tool_call'][0]}\s*+[^<\s]{{0,512}}+(?:{separator})?+\s*+{tag['arg_key'][0]}")

    def read(text: Text, at: int, declared: Declared) -> tuple[list[ToolCall], int]:
        head = _GLM_NAME.match(text.text, at)
        assert head is not None  # it matches nothing too
        name, at = head[1], head.end()
        arguments: dict[str, Any] = {}
        if text.has(separator, at):
            at += len(separator)
        while not text.ends(tag["tool_call"][1], at := text.space(at)):
            key, at = text.head(tag["arg_key"][1], text.after(tag["arg_key"][0], at))
            value, at = text.value(tag["arg_value"][1], text.after(tag["arg_value"][0], at), again)
            _put(arguments, key, declared.value(name, key, value))
        return [named(name, arguments)], text.after(tag["tool_call"][1], at)

    return scanned(*tag["tool_call"], read, drop=tag["tool_calls"])


_INVOKE = re.compile(r'name="([^"<>]{1,512})"(?: string="(true|false)")?>')


def invokes(prefix: str, section: str, *, drop: tuple[str, ...] = ()) -> Parser:
    """<invoke name="NAME"> <parameter name="KEY">VALUE</parameter> .. </invoke> .., in a section of calls; DeepSeek's
    say with string="true" which values are texts."""

    again = re.compile(rf"<{section}>\s*+<{prefix}invoke [^<>]{{0,1024}}+>\s*+<{prefix}parameter ")

    def head(text: Text, tag: str, at: int) -> tuple[re.Match[str], int]:
        at = text.after(f"<{prefix}{tag} ", at)
        found = _INVOKE.match(text.text, at)
        if found is None:
            raise NoCall
        text.reached(found.end())
        return found, found.end()

    def read(text: Text, at: int, declared: Declared) -> tuple[list[ToolCall], int]:
        calls: list[ToolCall] = []
        while not calls or not text.ends(f"</{section}>", text.space(at)):
            call, at = head(text, "invoke", at)
            arguments: dict[str, Any] = {}
            while not text.ends(f"</{prefix}invoke>", at := text.space(at)):
                found, at = head(text, "parameter", at)
                value, at = text.value(f"</{prefix}parameter>", at, again)
                kind = found[2]
                made = declared.value(call[1], found[1], value) if kind is None else value
                _put(arguments, found[1], from_json(value) if kind == "false" else made)
            calls.append(named(call[1], arguments))
            at = text.after(f"</{prefix}invoke>", at)
        return calls, text.after(f"</{section}>", at)

    return scanned(f"<{section}>", f"</{section}>", read, drop=drop)


NS = "]<]minimax[>["  # MiniMax M3's token before each tag
_TAG = re.compile(r"<([^<>/\s]{1,512}+)>")


def nested(text: Text, at: int, declared: Declared) -> tuple[list[ToolCall], int]:
    """MiniMax M3: <invoke name="NAME">, then a tag for each argument, for each value in a mapping, <item> for each in a
    list. None is left out, so lists cannot hold it."""

    def mark(at: int) -> int:
        """Behind the token that must stand here, unless a call begins anew."""
        at = text.space(at)
        if text.has(text.opening, at):
            raise NoCall
        return text.after(NS, at)

    def value(name: str, key: str, at: int, depth: int) -> tuple[Any, int]:
        end = text.find(NS, at)
        if end < 0:
            raise Unfinished
        text.reached(end)
        leaf, after = text.text[at:end], mark(end)
        if text.has(f"</{key}>", after):
            closed = text.reached(after + len(f"</{key}>"))
            return declared.value(name, key, leaf) if depth == 0 else _leaf(leaf), closed
        if leaf.strip() or depth == MAX_DEPTH:
            raise NoCall
        found, at = list[tuple[str, Any]](), after
        while not text.ends(f"</{key}>", at):
            tag = _TAG.match(text.text, at)
            if tag is None:
                raise NoCall
            made, at = value(name, tag[1], tag.end(), depth + 1)
            found.append((tag[1], made))
            at = mark(at)
        at = text.reached(at + len(f"</{key}>"))
        if all(k == "item" for k, _ in found):
            return [v for _, v in found], at
        if len(dict(found)) != len(found):
            raise NoCall
        return dict(found), at

    calls: list[ToolCall] = []
    at = mark(at)
    while not calls or not text.ends("</tool_call>", at):
        at = text.after("<invoke ", at)
        call = _INVOKE.match(text.text, at)
        if call is None:
            raise NoCall
        arguments: dict[str, Any] = {}
        at = mark(call.end())
        while not text.ends("</invoke>", at):
            tag = _TAG.match(text.text, at)
            if tag is None:
                raise NoCall
            made, at = value(call[1], tag[1], tag.end(), 0)
            _put(arguments, tag[1], made)
            at = mark(at)
        calls.append(named(call[1], arguments))
        at = mark(text.after("</invoke>", at))
    return calls, text.after("</tool_call>", at)


def _leaf(text: str) -> Any:
    try:
        return from_json(text)
    except NoCall:
        return text


_OPENED = re.compile(r'(tool|key)="([^"<>]{0,512})" (?:index|type)="([^"<>]{0,512})"<\|sep\|>')
_OPENED_AGAIN = re.compile(r"<\|open\|>call [^<>]{0,1024}+<\|sep\|>\s*+<\|open\|>argument ")


def opened(text: Text, at: int, declared: Declared) -> tuple[list[ToolCall], int]:
    """Kimi K3: tool="NAME" index="1"<|sep|>, arguments with their types, <|close|>call<|sep|>."""

    def head(kind: str, at: int) -> re.Match[str]:
        found = _OPENED.match(text.text, at)
        if found is None or found[1] != kind:
            raise NoCall
        text.reached(found.end())
        return found

    call = head("tool", at)
    at, arguments = call.end(), dict[str, Any]()
    closing = "<|close|>call<|sep|>"
    while not text.ends(closing, at := text.space(at)):
        found = head("key", text.after("<|open|>argument ", at))
        value, at = text.value("<|close|>argument<|sep|>", found.end(), _OPENED_AGAIN)
        _put(arguments, found[2], value if found[3] == "string" else from_json(value))
    return [named(call[2], arguments)], text.after(closing, at)


_CDATA = "<![CDATA["
_PARAMETERS_AGAIN = re.compile(r'<function name="[^<>"]{0,512}+">\s*+<param name="')


def parameters(text: Text, at: int, declared: Declared) -> tuple[list[ToolCall], int]:
    """MiniCPM 5: NAME"> <param name="KEY">VALUE</param> .. </function>, where VALUE may stand in CDATA."""
    name, at = text.head('">', at)
    arguments: dict[str, Any] = {}
    while not text.ends("</function>", at := text.space(at)):
        key, at = text.head('">', text.after('<param name="', at))
        if text.has(_CDATA, at):
            value, at = text.until("]]></param>", at + len(_CDATA))
            _put(arguments, key, value)
            continue
        value, at = text.value("</param>", at, _PARAMETERS_AGAIN)
        _put(arguments, key, _read(declared, name, key, value))
    return [named(name, arguments)], text.after("</function>", at)
