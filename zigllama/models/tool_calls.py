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
    deepseek      <｜tool▁call▁begin｜>NAME<｜tool▁sep｜>{..}<｜tool▁call▁end｜>   V3, R1: function<..>NAME ```json
    deepseek-dsml <｜DSML｜invoke name="NAME"><｜DSML｜parameter name="KEY" string="true">VALUE..   V3.2, V4
    glm           <tool_call>NAME<arg_key>KEY</arg_key><arg_value>VALUE</arg_value>..</tool_call>   GLM 4.5, Laguna
    hunyuan       the same, names of tags with :opensource behind
    kimi          <|tool_call_begin|>functions.NAME:0<|tool_call_argument_begin|>{..}<|tool_call_end|>   Kimi K2
    kimi-3        <|open|>call tool="NAME" index="1"<|sep|>..<|close|>call<|sep|>
    minimax-1     <tool_calls>{"name": .., "arguments": {..}} ..</tool_calls>
    minimax       <minimax:tool_call><invoke name="NAME"><parameter name="KEY">VALUE..    M2
    minimax-3     the same with a token before each tag, and a tag for each value inside a value
    glimmer       <atem:function_calls>, the same
    harmony       <|channel|>commentary to=functions.NAME <|constrain|>json<|message|>{..}   gpt-oss
    gemma-4       <|tool_call>call:NAME{KEY:<|"|>TEXT<|"|>,..}<tool_call|>
    gemma-function  <start_function_call>call:NAME{KEY:<escape>TEXT<escape>}<end_function_call>   FunctionGemma
    tool-code     ```tool_code NAME(KEY=VALUE) ```       Gemma 3, where the prompt asks for it
    lfm2          <|tool_call_start|>[NAME(KEY=VALUE, ..)]<|tool_call_end|>
    pythonic      [NAME(KEY=VALUE, ..)], the whole answer    Llama 3.2 and 4, where the prompt asks for it
    apriel        <tool_calls>[{"name": .., "arguments": {..}}]</tool_calls>
    list          <|tool_call|>[{"name": .., "arguments": {..}}]<|/tool_call|>       Phi 4, Granite 3
    nemotron      <TOOLCALL>[{"name": .., "arguments": {..}}]</TOOLCALL>
    apertus       <|tools_prefix|>[{NAME: {..}}]<|tools_suffix|>
    gigachat      <|function_call|>{"name": .., "arguments": {..}}, or function call<|role_sep|>
    solar         <|tool_call:begin|>ID<|tool_call:name|>NAME<|tool_call:args|>{..}<|tool_call:end|>
    firefunction  functools[{"name": .., "arguments": {..}}]
    minicpm       <function name="NAME"><param name="KEY">VALUE</param></function>

Strict: a call is a name and a JSON object of arguments (no NaN, no infinite number, no half surrogate, no key twice)
in exactly its form; whatever is not stays text, never half a call. An answer that was cut has the calls before the cut,
and nothing that stood in the value that was cut. A tag inside a JSON string ends nothing, and one that the text only
speaks of begins nothing: the calls behind it are found. The time is linear in the answer. Tags that are control tokens
are in an answer's text only if it was decoded with `special=True`. Nothing is run here, and no argument is checked
against a tool's schema; `tools` only tell numbers from texts where the form writes both alike (tool_call_tags.py).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from zigllama.errors import InvalidArgument, UnknownName
from zigllama.models.tool_call_json import (
    arrows,
    attribute,
    by_key,
    command_r,
    deepseek,
    harmony,
    kimi,
    lines,
    mistral,
    one,
    parts,
    several,
    whole,
)
from zigllama.models.tool_call_parts import Declared, Found, ParsedAnswer, Parser, ToolCall, either, scanned
from zigllama.models.tool_call_tags import NS, coder, invokes, keys_and_values, nested, opened, parameters
from zigllama.models.tool_call_values import gemma, python, python_whole
from zigllama.models.tool_schemas import as_schemas

__all__ = ["FORMATS", "ParsedAnswer", "ToolCall", "format_of", "parse_tool_calls"]

_DSML = "<｜end▁of▁sentence｜>"
FORMATS: dict[str, Parser] = {
    "hermes": scanned("<tool_call>", "</tool_call>", one("</tool_call>")),
    "qwen-coder": scanned("<tool_call>", "</tool_call>", coder("</tool_call>")),
    "seed": scanned("<seed:tool_call>", "</seed:tool_call>", coder("</seed:tool_call>")),
    "llama-3": whole,
    "mistral": scanned("[TOOL_CALLS]", "", mistral),
    "command-r": either(
        scanned("<|START_ACTION|>", "<|END_ACTION|>", several("<|END_ACTION|>", command_r)),
        scanned("Action:\n```json\n", "```", several("```", command_r)),
        scanned("Action: ```json\n", "```", several("```", command_r)),
    ),
    "functionary": scanned("<function=", "</function>", attribute),
    "functionary-2": arrows,
    "deepseek": scanned(
        "<｜tool▁call▁begin｜>",
        "<｜tool▁call▁end｜>",
        deepseek,
        drop=("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", _DSML),
    ),
    "deepseek-dsml": either(
        invokes("｜DSML｜", "｜DSML｜function_calls", drop=(_DSML,)),
        invokes("｜DSML｜", "｜DSML｜tool_calls", drop=(_DSML,)),
    ),
    "glm": keys_and_values(),
    "hunyuan": keys_and_values(":opensource"),
    "kimi": scanned(
        "<|tool_call_begin|>",
        "<|tool_call_end|>",
        kimi,
        drop=("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
    ),
    "kimi-3": scanned(
        "<|open|>call ",
        "<|close|>call<|sep|>",
        opened,
        drop=(
            *(f"<|{side}|>{tag}<|sep|>" for side in ("open", "close") for tag in ("tools", "response", "message")),
            "<|end_of_msg|>",
        ),
    ),
    "minimax-1": scanned("<tool_calls>", "</tool_calls>", lines("</tool_calls>")),
    "minimax": invokes("", "minimax:tool_call"),
    "minimax-3": scanned(NS + "<tool_call>", NS + "</tool_call>", nested),
    "glimmer": invokes("atem:", "atem:function_calls"),
    "harmony": harmony,
    "gemma-4": scanned("<|tool_call>", "<tool_call|>", gemma('<|"|>', "<tool_call|>")),
    "gemma-function": scanned("<start_function_call>", "<end_function_call>", gemma("<escape>", "<end_function_call>")),
    "tool-code": scanned("```tool_code\n", "```", python("```")),
    "lfm2": scanned("<|tool_call_start|>", "<|tool_call_end|>", python("<|tool_call_end|>")),
    "pythonic": python_whole,
    "apriel": scanned("<tool_calls>", "</tool_calls>", several("</tool_calls>")),
    "list": scanned("<|tool_call|>", "<|/tool_call|>", several("<|/tool_call|>", to_end=True)),
    "nemotron": scanned("<TOOLCALL>", "</TOOLCALL>", several("</TOOLCALL>")),
    "apertus": scanned("<|tools_prefix|>", "<|tools_suffix|>", several("<|tools_suffix|>", by_key)),
    "gigachat": either(
        scanned("<|function_call|>", "", one("")),
        scanned("function call<|role_sep|>\n", "", one("")),
    ),
    "solar": scanned(
        "<|tool_call:begin|>",
        "<|tool_call:end|>",
        parts("<|tool_call:name|>", "<|tool_call:args|>", "<|tool_call:end|>"),
        drop=("<|tool_calls|>", "<|calls|>"),
    ),
    "firefunction": scanned("functools", "", several("", to_end=True)),
    "minicpm": scanned('<function name="', "</function>", parameters),
}
"""Every form's parser, by name."""

# What a template contains that writes a form; the first that fits.
_MARKS: list[tuple[tuple[str, ...], str]] = [
    (("<｜tool▁call▁begin｜>",), "deepseek"),
    (("｜DSML｜",), "deepseek-dsml"),
    (("[TOOL_CALLS]",), "mistral"),
    (("<seed:tool_call>",), "seed"),
    (("minimax:tool_call",), "minimax"),
    ((NS,), "minimax-3"),
    (("atem:function_calls",), "glimmer"),
    (("<arg_key>", "<tool_call>"), "glm"),
    (("arg_key", "hy_Assistant"), "hunyuan"),
    (("<|tool_call_argument_begin|>",), "kimi"),
    (("<|open|>", "<|close|>"), "kimi-3"),
    (("<|channel|>", "<|message|>", "functions."), "harmony"),
    (("<|tool_call>", "call:"), "gemma-4"),
    (("<start_function_call>",), "gemma-function"),
    (("<|tool_call_start|>",), "lfm2"),
    (("<|tool_list_start|>",), "lfm2"),
    (("List of tools: [", "<|im_start|>"), "lfm2"),
    (("<|tools_prefix|>",), "apertus"),
    (("<|function_call|>",), "gigachat"),
    (("function call", "<|role_sep|>"), "gigachat"),
    (("<|tool_call:begin|>",), "solar"),
    (("functools[",), "firefunction"),
    (("<TOOLCALL>",), "nemotron"),
    (('<function name="', "<param name="), "minicpm"),
    (("<tool_call>", "<function="), "qwen-coder"),
    (("<tool_calls>[",), "apriel"),
    (("<tool_calls>", "<beginning_of_sentence>"), "minimax-1"),
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
_THINK = r"<((?:\w{1,64}+:)?+think(?:ing)?+(?::\w{1,64}+)?+)>\s*+"
_BEGUN, _ENDED = re.compile(r"\s*+" + _THINK), re.compile(_THINK + r"\Z")


def parse_tool_calls(
    text: str,
    template: str = "",
    *,
    format: str | None = None,
    tools: Sequence[Any] | None = None,
    prompt: str = "",
) -> ParsedAnswer:
    """The calls of an answer, by the form that a template (its Jinja text) writes, or by a form's name.

    tools    what the model was given: schemas, or Python functions
    prompt   the prompt's text. Where it ends with <think>, or the answer begins so, what stands before the thought's
             end is no call, and all is thought where it has none

    An answer to a template that writes none is text. Raises UnknownName for a form's name that does not exist,
    InvalidArgument for what is no text, for tools that are none.
    """
    for name, given in (("an answer", text), ("a template", template), ("a prompt", prompt)):
        if not isinstance(given, str):
            raise InvalidArgument(f"{name} is a text, not {type(given).__name__}")
    if format is not None and (not isinstance(format, str) or format not in FORMATS):
        raise UnknownName("tool call format", str(format), tuple(FORMATS))
    schemas = as_schemas(tools)
    form = format_of(template) if format is None else format
    if form is None:
        return ParsedAnswer(text)
    found = find_tool_calls(text, form, schemas or [], prompt)
    return (
        ParsedAnswer(said([text[a:b] for a, b in found.kept], found.joint), tuple(found.calls))
        if found.calls
        else (ParsedAnswer(text))
    )


def find_tool_calls(text: str, form: str, schemas: Sequence[Any], prompt: str) -> Found:
    """The same as places: which characters of the answer are text, where there are calls."""
    begun = _BEGUN.match(text) or _ENDED.search(prompt[-64:])
    after = 0
    if begun is not None:
        closing = f"</{begun[1]}>"
        found = text.find(closing)
        after = len(text) if found < 0 else found + len(closing)
    made = FORMATS[form](text[after:], Declared(schemas))
    return made._replace(kept=[(0, after), *((after + a, after + b) for a, b in made.kept)])


def said(pieces: Sequence[str], joint: str) -> str:
    """What stands before the calls and between them; the first piece is a thought, which is left as it is."""
    thought, *others = pieces
    return thought + (joint.join(s for p in others if (s := p.strip())) if joint else "".join(others).strip())


def format_of(template: str) -> str | None:
    """The form in which a template writes calls; None where it writes none that is known. Raises InvalidArgument."""
    if not isinstance(template, str):
        raise InvalidArgument(f"a template is a text, not {type(template).__name__}")
    for mark, name in _MARKS:
        if all(part in template for part in mark):
            return name
    return None
