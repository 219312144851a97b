"""Tool calls in an answer that also speaks of them, breaks off, or means harm: which calls are found, in what time."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from zigllama.models.tool_calls import FORMATS, ParsedAnswer, ToolCall, parse_tool_calls

# A whole call g(y=2) in each form that looks for tags, the tag that opens it, and a beginning that breaks off within
# its head.
NS = "]<]minimax[>["
G = '{"name": "g", "arguments": {"y": 2}}'
CODER = "<function=g><parameter=y>2</parameter></function>"
GLM = "g<arg_key>y</arg_key><arg_value>2</arg_value>"
INVOKE = '<invoke name="g"><parameter name="y">2</parameter></invoke>'
DSML = (
    '<\uff5cDSML\uff5cinvoke name="g"><\uff5cDSML\uff5cparameter name="y" string="false">2</\uff5cDSML\uff5cparameter>'
)
DEEPSEEK = "<\uff5ctool\u2581call\u2581begin\uff5c>"
WHOLE = {
    "hermes": ("<tool_call>", f"{G}</tool_call>", '{"name": '),
    "qwen-coder": ("<tool_call>", f"{CODER}</tool_call>", "<function=f"),
    "seed": ("<seed:tool_call>", f"{CODER}</seed:tool_call>", "<function=f><parameter=x"),
    "mistral": ("[TOOL_CALLS]", 'g[ARGS]{"y": 2}', "f[ARGS]"),
    "command-r": ("<|START_ACTION|>", '[{"tool_name": "g", "parameters": {"y": 2}}]<|END_ACTION|>', "[{"),
    "functionary": ("<function=", 'g>{"y": 2}</function>', "f "),
    "deepseek": (DEEPSEEK, 'g<\uff5ctool\u2581sep\uff5c>{"y": 2}<\uff5ctool\u2581call\u2581end\uff5c>', "function "),
    "deepseek-dsml": (
        "<\uff5cDSML\uff5ctool_calls>",
        f"{DSML}</\uff5cDSML\uff5cinvoke></\uff5cDSML\uff5ctool_calls>",
        "<\uff5cDSML\uff5cinvoke ",
    ),
    "glm": ("<tool_call>", f"{GLM}</tool_call>", "f<arg_key>x"),
    "hunyuan": (
        "<tool_call:opensource>",
        "g<tool_sep:opensource><arg_key:opensource>y</arg_key:opensource><arg_value:opensource>2"
        "</arg_value:opensource></tool_call:opensource>",
        "f<tool_sep:opensource>",
    ),
    "kimi": (
        "<|tool_call_begin|>",
        'functions.g:0<|tool_call_argument_begin|>{"y": 2}<|tool_call_end|>',
        "functions.f:0 ",
    ),
    "kimi-3": (
        "<|open|>call ",
        'tool="g" index="1"<|sep|><|open|>argument key="y" type="number"<|sep|>2<|close|>argument<|sep|>'
        "<|close|>call<|sep|>",
        'tool="f" ',
    ),
    "minimax-1": ("<tool_calls>", f"{G}</tool_calls>", '{"name": '),
    "minimax": ("<minimax:tool_call>", f"{INVOKE}</minimax:tool_call>", '<invoke name="f'),
    "minimax-3": (
        f"{NS}<tool_call>",
        f'{NS}<invoke name="g">{NS}<y>2{NS}</y>{NS}</invoke>{NS}</tool_call>',
        f'{NS}<invoke name="f">',
    ),
    "glimmer": (
        "<atem:function_calls>",
        INVOKE.replace("<", "<atem:").replace("<atem:/", "</atem:") + "</atem:function_calls>",
        "<atem:invoke ",
    ),
    "gemma-4": ("<|tool_call>", "call:g{y:2}<tool_call|>", "call:f"),
    "gemma-function": ("<start_function_call>", "call:g{y:2}<end_function_call>", "call:f{"),
    "tool-code": ("```tool_code\n", "g(y=2)\n```", "f("),
    "lfm2": ("<|tool_call_start|>", "[g(y=2)]<|tool_call_end|>", "[f("),
    "apriel": ("<tool_calls>", f"[{G}]</tool_calls>", "[{"),
    "list": ("<|tool_call|>", f"[{G}]<|/tool_call|>", "["),
    "nemotron": ("<TOOLCALL>", f"[{G}]</TOOLCALL>", "[{"),
    "apertus": ("<|tools_prefix|>", '[{"g": {"y": 2}}]<|tools_suffix|>', "[{"),
    "gigachat": ("<|function_call|>", G, "{"),
    "solar": (
        "<|tool_call:begin|>",
        '1<|tool_call:name|>g<|tool_call:args|>{"y": 2}<|tool_call:end|>',
        "1<|tool_call:name|>f ",
    ),
    "firefunction": ("functools", f"[{G}]", " "),
    "minicpm": ('<function name="', 'g"><param name="y">2</param></function>', 'f"><param '),
}
OTHERS = {"llama-3", "pythonic", "functionary-2", "harmony"}  # not looked for by a tag


def calls(form: str, answer: str) -> list[tuple[str, dict[str, Any]]]:
    return [(c.name, c.arguments) for c in parse_tool_calls(answer, format=form).calls]


def test_every_form_is_here() -> None:
    assert {*WHOLE, *OTHERS} == {*FORMATS}


@pytest.mark.parametrize("form", WHOLE)
def test_an_answer_that_speaks_of_the_tag(form: str) -> None:
    """What the text says of a tag begins nothing; the call behind it is found, and only the call is taken out."""
    opening, rest, _ = WHOLE[form]
    for before in (f"I will use {opening} now: ", f'The tag "{opening}" first: ', f"{opening}.\n\n", opening * 3):
        found = parse_tool_calls(before + opening + rest, format=form)
        assert [(c.name, c.arguments) for c in found.calls] == [("g", {"y": 2})], before
        assert found.text == before.strip()


@pytest.mark.parametrize("form", WHOLE)
def test_the_call_behind_a_broken_head(form: str) -> None:
    opening, rest, broken = WHOLE[form]
    for between in ("", " ", "\n", " oops\n"):
        found = parse_tool_calls(opening + broken + between + opening + rest, format=form)
        assert [(c.name, c.arguments) for c in found.calls] == [("g", {"y": 2})], between
        assert found.text == (opening + broken + between).strip()
        assert calls(form, opening + broken + between) == []


def test_behind_broken_messages() -> None:
    """The forms without a tag that opens: a message that is no call hides no later one."""
    g = '<|start|>assistant to=functions.g<|channel|>commentary<|message|>{"y": 2}<|call|>'
    for broken in ("oops<|end|>", '{"x": <|end|>', "{}<|start|>user<|message|>hi<|end|>", '"{}"<|call|>'):
        assert calls("harmony", "<|channel|>commentary to=functions.f<|message|>" + broken + g) == [("g", {"y": 2})]
    spoken = "I write to=functions.f or so<|start|>assistant<|channel|>final<|message|>Hi<|end|>"
    assert parse_tool_calls(spoken + g, format="harmony").text == "I write to=functions.f or so\nHi"
    assert calls("functionary-2", 'all\nI write >>> and>>>f\noops>>>g\n{"y": 2}') == [("g", {"y": 2})]


INSIDE = [
    ("hermes", """<tool_call>{"s": '%s'}</tool_call>"""),
    ("hermes", '<tool_call>{"name": "f", "arguments": "%s"}</tool_call>'),
    ("hermes", '<tool_call>"%s"</tool_call>'),
    ("hermes", '<tool_call>["%s"]</tool_call>'),
    ("mistral", "[TOOL_CALLS]f[ARGS]{'s': '%s'}"),
    ("mistral", '[TOOL_CALLS]f[ARGS]"%s"'),
    ("mistral", '[TOOL_CALLS]f[ARGS]["%s"]'),
    ("kimi", '<|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>"%s"<|tool_call_end|>'),
    ("kimi", '<|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>["%s"]<|tool_call_end|>'),
    ("functionary", '<function=f>"%s"</function>'),
    ("solar", '<|tool_call:begin|>1<|tool_call:name|>f<|tool_call:args|>"%s"<|tool_call:end|>'),
    ("qwen-coder", "<tool_call><function=f><parameter=x>%s"),
    ("qwen-coder", "<tool_call><function=f><parameter=x>%s</parameter></function></tool_call>"),
    ("glm", "<tool_call>f<arg_key>x</arg_key><arg_value>%s</arg_value></tool_call>"),
    ("minimax", '<minimax:tool_call><invoke name="f"><parameter name="x">%s</parameter></invoke></minimax:tool_call>'),
    ("minicpm", '<function name="f"><param name="x">%s</param></function>'),
    ("kimi-3", '<|open|>call tool="f" index="1"<|sep|><|open|>argument key="x" type="string"<|sep|>%s'),
    ("gemma-4", '<|tool_call>call:f{x:oops <|"|>%s<|"|>}<tool_call|>'),
    ("lfm2", "<|tool_call_start|>[f(x=oops '%s')]<|tool_call_end|>"),
]


@pytest.mark.parametrize(("form", "broken"), INSIDE)
def test_what_is_inside_a_broken_value_is_no_call(form: str, broken: str) -> None:
    opening, rest, _ = WHOLE[form]
    inner = json.dumps(opening + rest, ensure_ascii=False)[1:-1] if '"%s"' in broken else opening + rest
    answer = broken % inner
    assert parse_tool_calls(answer, format=form) == ParsedAnswer(answer)
    assert calls(form, opening + rest) == [("g", {"y": 2})]


BAD = [
    "1e999",
    "-1e999",
    '[1, {"a": 1e400}]',
    "NaN",
    "Infinity",
    "-Infinity",
    '"\\ud800"',
    '["a\\udfff"]',
    '{"\\ud83d": 1}',
]


@pytest.mark.parametrize("value", BAD)
def test_what_json_cannot_carry_is_no_call(value: str) -> None:
    """Numbers beyond floats and half surrogates: what was called could neither be written down nor sent on."""
    answers = {
        "hermes": '<tool_call>{"name": "f", "arguments": {"x": %s}}</tool_call>',
        "llama-3": '{"name": "f", "parameters": {"x": %s}}',
        "mistral": '[TOOL_CALLS]f[ARGS]{"x": %s}',
        "harmony": 'to=functions.f<|message|>{"x": %s}<|call|>',
        "lfm2": "<|tool_call_start|>[f(x=%s)]<|tool_call_end|>",
        "gemma-4": "<|tool_call>call:f{x:%s}<tool_call|>",
        "kimi-3": '<|open|>call tool="f" index="1"<|sep|><|open|>argument key="x" type="number"<|sep|>%s'
        "<|close|>argument<|sep|><|close|>call<|sep|>",
    }
    for form, answer in answers.items():
        assert parse_tool_calls(answer % value, format=form) == ParsedAnswer(answer % value), form
    whole = '<tool_call>{"name": "f", "arguments": {}, "id": %s}</tool_call>'
    assert parse_tool_calls(whole % value, format="hermes").calls == ()


def test_numbers_in_tags() -> None:
    """What stands in a tag as it is may be a text; declared as a number it is none, if it is not finite."""
    answer = "<tool_call><function=f><parameter=x>%s</parameter></function></tool_call>"
    number = {"name": "f", "parameters": {"properties": {"x": {"type": ["number", "integer"]}}}}
    for value in ("1e999", "NaN", "-inf", "+1E+400"):
        found = parse_tool_calls(answer % value, format="qwen-coder")
        assert found.calls == (ToolCall("f", {"x": value}),)
        assert parse_tool_calls(answer % value, format="qwen-coder", tools=[number]).calls == ()
    assert parse_tool_calls(answer % "1e3", format="qwen-coder", tools=[number]).calls == (ToolCall("f", {"x": 1e3}),)
    half = answer % "\ud800"
    assert parse_tool_calls(half, format="qwen-coder") == ParsedAnswer(half)


HOSTILE = [
    '<|tool_call_start|>[f(a="',
    "<|tool_call_start|>[f(a='",
    "<|tool_call>call:f{",
    "<|tool_call>call:f",
    '<|tool_call>call:f{a:<|"|>',
    "<tool_call>f<arg_key>k</arg_key><arg_value>",
    "<tool_call>f<arg_key>k</arg_key><arg_value>x</arg_value>",
    '<minimax:tool_call><invoke name="f"><parameter name="k">',
    '<minimax:tool_call><invoke name="f">',
    ']<]minimax[>[<tool_call>]<]minimax[>[<invoke name="f">]<]minimax[>[<k>',
    "]<]minimax[>[<k>",
    '{"',
    "[{",
    '"',
    "'",
    "\\",
    "functools[",
    'functools[{"a":"',
    " ",
    '<|open|>call tool="f" index="1"<|sep|>',
    "<|message|>",
    "to=functions.f<|message|>{",
    '<tool_call>{"a":',
    '<tool_call>{"a":"',
    "<tool_call>{",
    "[f(",
    "[f(a=",
    "[f(a=[",
    "f(a=1)\n",
    "```tool_code\nf(a=1)",
    "<tool_call><function=f><parameter=k>",
    '<function name="f"><param name="k"><![CDATA[',
    '<function name="f">',
    "<|tool_call_begin|>f<|tool_call_argument_begin|>{",
    "<|tool_call_begin|>",
    "<|tool_call:begin|>",
    "<|tool_call:begin|>a<|tool_call:name|>",
    "<｜tool▁call▁begin｜>f<｜tool▁sep｜>",
    '<｜DSML｜tool_calls><｜DSML｜invoke name="f">',
    "<function=",
    "<function=f>",
    "[TOOL_CALLS]f{",
    "[TOOL_CALLS]f",
    ">>>f\n{",
    '<tool_calls>{"name": "f", "arguments": {}}',
    "<think>",
    "a",
    "<|tools_prefix|>[{",
    "\\u0041",
    "1",
    "a.",
    "f\n",
]


def tails(form: str) -> list[str]:
    """What is written over and over: beginnings of calls, and after a beginning what a reader might go back over."""
    if form not in WHOLE:
        return HOSTILE
    opening, rest, broken = WHOLE[form]
    own = [opening, opening + broken, opening + rest[: len(rest) // 2], opening + rest[:-3] + " "]
    return own + [p for p in HOSTILE if any(t in opening + rest for t in (p, p[:6]))]


RUNS = [
    " ",
    "a",
    "1",
    "{",
    "[",
    "(",
    "'",
    '"',
    "\\",
    "=",
    ",",
    '"a",',
    "a=1,",
    "'x",
    "<",
    ">",
    "</",
    "\n",
    "\\u0041",
]


def seconds(form: str, answer: str) -> float:
    begin = time.thread_time()
    found = parse_tool_calls(answer, format=form)
    took = time.thread_time() - begin
    assert found.calls or found.text == answer
    return took


@pytest.mark.parametrize("form", FORMATS)
def test_the_time_is_linear(form: str) -> None:
    """What takes long is taken again at a quarter of its size, and must not have taken a sixteenth of the time there,
    as squares do. A quiet machine has a megabyte of any of it done within a second; here it may take ten times that."""
    opening, rest, broken = WHOLE.get(form, ("", "", ""))
    heads = [opening, opening + broken, opening + rest[: len(rest) // 2], opening + rest[:-3]] if opening else [""]
    for head, piece in [(head, piece) for head in heads for piece in RUNS] + [("", piece) for piece in tails(form)]:
        long, short = (head + piece * (n // len(piece)) for n in (80_000, 20_000))
        if seconds(form, long) > 0.02:
            assert min(seconds(form, long) for _ in range(3)) < 9 * max(seconds(form, short) for _ in range(3)), piece
    for piece in tails(form)[:4]:
        assert seconds(form, piece * (1_000_000 // len(piece))) < 10, piece
