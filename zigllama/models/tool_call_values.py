"""Tool calls in notations of their own: Gemma's call:NAME{key:value}, and Python's NAME(key=value).

    gemma     call:get_weather{city:<|"|>Malmö<|"|>,days:2}
    python    [get_weather(city='Malmö', days=2)]

Values are texts in quotes, numbers, true and false, null, lists and mappings. Nothing is evaluated. Python's texts have
its escapes; as the templates write them without any, a quote ends a text only where a comma or bracket follows.
"""

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
    from_json,
    named,
)

MAX_DEPTH = 64
_WORDS = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}
_WORD = re.compile(r"[^\s,:=(){}\[\]<>\"'`]++")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_NAME = re.compile(r"\s*+([\w.:/-]{1,256}+)\s*+(?=\{)")
_CALLED = re.compile(r"([\w.:/-]{1,256}+)\(")
_KEY = re.compile(r"(\w++)\s*+=")
_CUT = re.compile(r"\w*+\s*+\Z")
_PLAIN = re.compile(r"[^\\'\"]++")
_AFTER = re.compile(r"\s*+(?:[,:)}\]]|\Z)")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "\\": "\\", "'": "'", '"': '"', "/": "/", "\n": ""}
_CODE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|U([0-9a-fA-F]{8}))")

Quoted = Callable[[Text, int], "tuple[str, int] | None"]


def _between(mark: str) -> Quoted:
    """A text between two of Gemma's tokens."""

    def read(text: Text, at: int) -> tuple[str, int] | None:
        return text.until(mark, at + len(mark)) if text.has(mark, at) else None

    return read


def _python(text: Text, at: int) -> tuple[str, int] | None:
    """A text in quotes, of either kind. Pairs of surrogates, as JSON has them, become their character."""
    quote = text.text[at : at + 1]
    if quote not in ("'", '"') or not quote:
        return None
    at, made = at + 1, list[str]()
    while at < len(text.text):
        c = text.text[at]
        if c == quote and _AFTER.match(text.text, at + 1):
            found = "".join(made)
            try:
                return found.encode("utf-16", "surrogatepass").decode("utf-16"), at + 1
            except UnicodeDecodeError:
                raise NoCall from None
        code = _CODE.match(text.text, at)
        if code is not None:
            number = int(code[1] or code[2] or code[3], 16)
            if number > 0x10FFFF:
                raise NoCall
            made.append(chr(number))
            at = code.end()
        elif c == "\\" and text.text[at + 1 : at + 2] in _ESCAPES:
            made.append(_ESCAPES[text.text[at + 1]])
            at += 2
        else:
            plain = _PLAIN.match(text.text, at)
            made.append(c if plain is None else plain[0])
            at += 1 if plain is None else len(plain[0])
    raise Unfinished


def _value(text: Text, at: int, quoted: Quoted, depth: int = 0) -> tuple[Any, int]:
    """A value, and its end. Raises NoCall, Unfinished."""
    at = text.space(at)
    if at == len(text.text):
        raise Unfinished
    if depth > MAX_DEPTH:
        raise NoCall
    found = quoted(text, at)
    if found is not None:
        return found
    if text.has("[", at):
        items: list[Any] = []
        at = text.space(at + 1)
        while not text.has("]", at):
            item, at = _value(text, at, quoted, depth + 1)
            items.append(item)
            at = text.space(at)
            if not text.has("]", at):
                at = text.space(text.after(",", at))
        return items, at + 1
    if text.has("{", at):
        return _mapping(text, at, quoted, depth + 1)
    word = _WORD.match(text.text, at)
    if word is None:
        raise Unfinished if text.text.startswith("<", at) and text.find(">", at) < 0 else NoCall
    if text.reached(word.end()) == len(text.text):
        raise Unfinished
    if word[0] in _WORDS:
        return _WORDS[word[0]], word.end()
    if _NUMBER.fullmatch(word[0]):
        return from_json(word[0]), word.end()
    raise NoCall


def _mapping(text: Text, at: int, quoted: Quoted, depth: int = 0) -> tuple[dict[str, Any], int]:
    """{key:value, ..}: keys are words, or texts in quotes."""
    found: dict[str, Any] = {}
    at = text.space(text.after("{", at))
    while not text.has("}", at):
        key = quoted(text, at)
        if key is None:
            word = _WORD.match(text.text, at)
            if word is None:
                raise Unfinished if at == len(text.text) else NoCall
            key = word[0], text.reached(word.end())
        at = text.after(":", key[1])
        value, at = _value(text, at, quoted, depth)
        if key[0] in found:
            raise NoCall
        found[key[0]] = value
        at = text.space(at)
        if not text.has("}", at):
            at = text.space(text.after(",", at))
    return found, at + 1


def gemma(mark: str, closing: str) -> Read:
    """call:NAME{..}, then the closing tag; `mark` is the token around texts."""

    def read(text: Text, at: int, declared: Declared) -> tuple[list[ToolCall], int]:
        head = _NAME.match(text.text, text.after("call:", at))
        if head is None:
            raise NoCall
        text.reached(head.end(), inside=True)
        found, end = _mapping(text, head.end(), _between(mark))
        return [named(head[1], found)], text.after(closing, text.reached(end, inside=False))

    return read


def _called(text: Text, at: int) -> tuple[ToolCall, int]:
    """NAME(key=value, ..)"""
    at = text.space(at)
    head = _CALLED.match(text.text, at)
    if head is None:
        raise NoCall
    arguments: dict[str, Any] = {}
    at = text.space(text.reached(head.end(), inside=True))
    while not text.has(")", at):
        key = _KEY.match(text.text, at)
        if key is None:
            word = _WORD.match(text.text, at)
            text.reached(at if word is None else word.end())
            raise Unfinished if _CUT.match(text.text, at) else NoCall
        text.reached(key.end())
        value, at = _value(text, key.end(), _python)
        if key[1] in arguments:
            raise NoCall
        arguments[key[1]] = value
        at = text.space(at)
        if not text.has(")", at):
            at = text.space(text.after(",", at))
    return named(head[1], arguments), text.reached(at + 1, inside=False)


def _list(text: Text, at: int) -> tuple[list[ToolCall], int]:
    """[call, ..], or a call alone."""
    at = text.space(at)
    if not text.has("[", at):
        call, at = _called(text, at)
        return [call], at
    calls, at = list[ToolCall](), at + 1
    while not calls or not text.has("]", at):
        call, at = _called(text, at)
        calls.append(call)
        at = text.space(at)
        if not text.has("]", at):
            at = text.after(",", at)
    return calls, at + 1


def python(closing: str) -> Read:
    """[NAME(key=value, ..), ..], or one call alone, then the closing tag."""

    def read(text: Text, at: int, declared: Declared) -> tuple[list[ToolCall], int]:
        calls, at = _list(text, at)
        while not text.ends(closing, at := text.space(at)) and closing == "```":  # a call a line
            call, at = _called(text, at)
            calls.append(call)
        return calls, text.after(closing, at)

    return read


def python_whole(answer: str, declared: Declared) -> Found:
    """The whole answer is [NAME(key=value, ..), ..]."""
    text, nothing = Text(answer), Found([], [(0, len(answer))])
    try:
        if not text.has("[", text.space(0)):
            return nothing
        calls, at = _list(text, 0)
    except NoCall:
        return nothing
    return Found(calls, []) if text.space(at) == len(answer) else nothing


def literal_of(written: str) -> Any:
    """A value as Python writes it, else the text itself."""
    text = Text(written + ",")  # a number ends where something follows
    try:
        value, at = _value(text, 0, _python)
    except NoCall:
        return written
    return value if at == len(written) and not isinstance(value, str) else written
