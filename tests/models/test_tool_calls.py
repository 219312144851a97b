"""Tool calls: what a template writes is read back; what is not exactly a call stays text."""

# ruff: noqa: RUF005

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from template_conversations import CALL, CALL_AS_TEXT, FIXED, FLAT, TOOL, USER

from zigllama.app.catalogue import cache_dir
from zigllama.errors import TemplateError, UnknownName
from zigllama.models.built_in_templates import BUILT_IN
from zigllama.models.template_sandbox import Sandbox
from zigllama.models.tool_calls import FORMATS, ParsedAnswer, ToolCall, format_of, parse_tool_calls

F = ToolCall("f", {"x": 1})
G = ToolCall("g", {})
ANSWERS: list[tuple[str, str, str, list[ToolCall]]] = [
    ("hermes", '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>', "", [F]),
    ("hermes", 'Let me see.\n<tool_call>{"arguments": {"x": 1}, "name": "f"}</tool_call>', "Let me see.", [F]),
    (
        "hermes",
        '<tool_call>{"name": "f", "arguments": {"x": 1}}</tool_call>'
        '\n<tool_call>{"name": "g", "arguments": {}}</tool_call>',
        "",
        [F, G],
    ),
    (
        "hermes",
        '<tool_call>{"name": "f"}</tool_call><tool_call>{"name": "g", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "f"}</tool_call>',
        [G],
    ),
    (
        "qwen-coder",
        "<tool_call>\n<function=f>\n<parameter=x>\n1\n</parameter>\n<parameter=s>\na\nb\n</parameter>\n</function>\n</tool_call>",
        "",
        [ToolCall("f", {"x": 1, "s": "a\nb"})],
    ),
    ("llama-3", '{"name": "f", "parameters": {"x": 1}}', "", [F]),
    (
        "llama-3",
        '<|python_tag|>{"name": "f", "parameters": {"x": 1}}; {"name": "g", "parameters": {}}<|eom_id|>',
        "",
        [F, G],
    ),
    (
        "mistral",
        '[TOOL_CALLS][{"name": "f", "arguments": {"x": 1}, "id": "abc"}]</s>',
        "",
        [ToolCall("f", {"x": 1}, "abc")],
    ),
    ("mistral", 'ok[TOOL_CALLS]f[ARGS]{"x": 1}[TOOL_CALLS]g{}', "ok", [F, G]),
    ("command-r", 'Action:\n```json\n[{"tool_name": "f", "parameters": {"x": 1}}]\n```', "", [F]),
    ("command-r", 'Action: ```json\n[\n  {\n"tool_name": "g", "parameters": {}}]```', "", [G]),
    ("functionary", '<function=f>{"x": 1}</function><function=g>{}</function>', "", [F, G]),
    ("functionary-2", 'all\nHello>>>f\n{"x": 1}<|eot_id|>', "Hello", [F]),
    (
        "deepseek",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>g\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        "",
        [G],
    ),
    ("deepseek", '<｜tool▁call▁begin｜>f<｜tool▁sep｜>{"x": 1}<｜tool▁call▁end｜>', "", [F]),
    ("list", '<|tool_call|>[{"name": "f", "arguments": {"x": 1}}]<|/tool_call|>', "", [F]),
    ("list", '<|tool_call|>[{"name": "f", "arguments": {"x": 1}}, {"name": "g", "arguments": {}}]', "", [F, G]),
]


@pytest.mark.parametrize(("form", "answer", "text", "calls"), ANSWERS)
def test_answers(form: str, answer: str, text: str, calls: list[ToolCall]) -> None:
    assert parse_tool_calls(answer, format=form) == ParsedAnswer(text, tuple(calls))


TEXTS = [
    '{"name": "f", "arguments": {"x": NaN}}',
    '{"name": "f", "arguments": {"x": 1, "x": 2}}',
    '{"name": "f", "arguments": {}, "parameters": {}}',
    '{"name": "f", "arguments": [1]}',
    '{"name": "f", "arguments": "{}"}',
    '{"name": "", "arguments": {}}',
    '{"name": "a b", "arguments": {}}',
    '{"name": 3, "arguments": {}}',
    '{"arguments": {}}',
    '{"name": "f", "arguments": {}} and more',
    '{"name": "f", "arguments": {}',
    "[" * 100_000,
    "",
]


@pytest.mark.parametrize("body", TEXTS)
def test_what_is_no_call_stays_text(body: str) -> None:
    for form, answer in {
        "hermes": f"<tool_call>{body}</tool_call>",
        "list": f"<|tool_call|>[{body}]",
        "llama-3": body,
    }.items():
        assert parse_tool_calls(answer, format=form) == ParsedAnswer(answer)


@pytest.mark.parametrize("form", FORMATS)
def test_any_text(form: str) -> None:
    tags = [
        "<tool_call>",
        "</tool_call>",
        "<function=",
        ">",
        "</function>",
        "<parameter=",
        "</parameter>",
        "[TOOL_CALLS]",
    ]
    tags += [
        "[ARGS]",
        "<|tool_call|>",
        "<｜tool▁call▁begin｜>",
        "<｜tool▁sep｜>",
        "<｜tool▁call▁end｜>",
        "Action:\n```json\n",
    ]
    tags += [
        "```",
        ">>>",
        "<|START_ACTION|>",
        "<|END_ACTION|>",
        '{"name": "f", "arguments": {}}',
        "[",
        "]",
        "f",
        "\n",
        "{}",
        ";",
    ]

    @given(st.lists(st.one_of(st.sampled_from(tags), st.text(max_size=3)), max_size=12).map("".join))
    def check(answer: str) -> None:
        found = parse_tool_calls(answer, format=form)
        assert found.calls or found.text == answer
        assert all(isinstance(c.arguments, dict) and c.name for c in found.calls)

    check()


def test_the_form_is_the_template_s() -> None:
    assert format_of(BUILT_IN["qwen"]) == "hermes" and format_of(BUILT_IN["chatml"]) is None
    assert parse_tool_calls(ANSWERS[0][1], BUILT_IN["qwen"]).calls == (F,)
    assert parse_tool_calls(ANSWERS[0][1], BUILT_IN["chatml"]) == ParsedAnswer(ANSWERS[0][1])
    with pytest.raises(UnknownName, match="hermes"):
        parse_tool_calls("", format="morse")


# What a template of the seventy makes of a call is read back. Left out: one that writes no call after a plain user.
WRITERS = {
    "hermes": [
        "Qwen-Qwen2.5-7B-Instruct",
        "Qwen-QwQ-32B",
        "Qwen-Qwen3-0.6B",
        "NousResearch-Hermes-3-Llama-3.1-8B-tool_use",
    ]
    + ["ibm-granite-granite-4.0", "MiMo-VL", "Bielik-11B-v3.0-Instruct", "Reka-Edge"],
    "qwen-coder": ["Qwen3-Coder", "Qwen3.5-4B", "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", "StepFun3.5-Flash"],
    "seed": ["ByteDance-Seed-OSS"],
    "llama-3": ["meta-llama-Llama-3.1-8B-Instruct", "meta-llama-Llama-3.3-70B-Instruct"],
    "mistral": ["mistralai-Mistral-Nemo-Instruct-2407", "Mistral-Small-3.2-24B-Instruct-2506"]
    + ["unsloth-mistral-Devstral-Small-2507", "mistralai-Ministral-3-14B-Reasoning-2512"],
    "command-r": [
        "CohereForAI-c4ai-command-r-plus-tool_use",
        "CohereForAI-c4ai-command-r7b-12-2024-tool_use",
        "Cohere2MoE",
    ],
    "functionary": ["meetkai-functionary-medium-v3.1"],
    "functionary-2": ["meetkai-functionary-medium-v3.2"],
    "deepseek": ["deepseek-ai-DeepSeek-V3.1", "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B"],
    "apriel": ["unsloth-Apriel-1.5"],
}


@pytest.mark.parametrize(("form", "name"), [(form, name) for form, names in WRITERS.items() for name in names])
def test_what_templates_write_is_read_back(form: str, name: str) -> None:
    path = cache_dir() / "vocabularies" / "templates" / f"{name}.jinja"
    if not path.is_file():
        pytest.skip("llama.cpp's vocabularies are not in the cache; tools/fetch_vocabularies.py fetches them")
    source = path.read_text("utf-8")
    assert format_of(source) == form
    sandbox = Sandbox()
    template = sandbox.compile_bounded(source)
    read = []
    for call in (CALL, CALL_AS_TEXT):
        for tool in (TOOL, FLAT):
            given: dict[str, Any] = {**FIXED, "messages": [USER], "tools": [tool]}
            try:
                asked = sandbox.render_bounded(template, given)
                answered = given | {"messages": [USER, call], "add_generation_prompt": False}
                whole = sandbox.render_bounded(template, answered)
            except TemplateError:
                continue
            at = next((i for i, (a, b) in enumerate(zip(asked, whole, strict=False)) if a != b), len(asked))
            while at and whole[at - 1] not in ">\n":  # both may begin with the same tag's first letters
                at -= 1
            at -= len("<|START_OF_TURN_TOKEN|>") if whole[:at].endswith("<|START_OF_TURN_TOKEN|>") else 0
            read.append(parse_tool_calls(whole[at:], source).calls)
    want = ToolCall("get_weather", {"city": "Malmö", "days": 2})
    # a template that writes arguments of text as a JSON string writes no call: the others must be there
    assert any(calls and (calls[0].name, calls[0].arguments) == (want.name, want.arguments) for calls in read), read
