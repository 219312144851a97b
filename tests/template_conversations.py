"""Conversations that chat templates are compared over: with transformers by tools/make_template_golden.py, and here."""

from __future__ import annotations

import datetime as dates
from typing import Any

NOW = dates.datetime(2026, 1, 2, 3, 4, 5)
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": 'The weather "of" a <city>',
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "which one"},
                "days": {"type": "integer", "default": 1},
                "units": {"type": "string", "enum": ["C", "F"]},
            },
            "required": ["city"],
        },
    },
}
FLAT = {  # as templates of the first years want them
    "name": "get_weather",
    "description": "The weather of a city",
    "parameter_definitions": {"city": {"type": "str", "description": "which one", "required": True}},
    "parameters": TOOL["function"]["parameters"],  # type: ignore[index]
}
SYSTEM = {"role": "system", "content": "Be brief & <polite>."}
USER = {"role": "user", "content": " Hur är vädret i Malmö? 😀 "}
ANSWER = {"role": "assistant", "content": "Fine.\n\nIndeed."}
MORE = {"role": "user", "content": "And\ttomorrow?"}


def call(arguments: Any) -> dict[str, Any]:
    function = {"name": "get_weather", "arguments": arguments}
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "abcdef123", "type": "function", "function": function}],
    }


RESULT = {"role": "tool", "tool_call_id": "abcdef123", "name": "get_weather", "content": '{"t": 20, "sky": "blå"}'}
CALL, CALL_AS_TEXT = call({"city": "Malmö", "days": 2}), call('{"city": "Malmö", "days": 2}')
FIXED = {"bos_token": "<s>", "eos_token": "</s>", "documents": None, "add_generation_prompt": True}
MORE_VARIABLES = {
    "functions": '[{"name": "get_weather"}]',
    "datetime": "2026-01-02",
    "enable_thinking": False,
    "date_string": "02 Jan 2026",
    "reasoning_effort": "low",
}

# name: (messages, tools, further variables)
CONVERSATIONS: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]] | None, dict[str, Any]]] = {
    "user": ([USER], None, {}),
    "system": ([SYSTEM, USER], None, {}),
    "turns": ([USER, ANSWER, MORE], None, {}),
    "no prompt": ([SYSTEM, USER, ANSWER], None, {"add_generation_prompt": False}),
    "tools": ([SYSTEM, USER], [TOOL], {}),
    "call": ([SYSTEM, USER, CALL], [TOOL], {"add_generation_prompt": False}),
    "result": ([USER, CALL, RESULT], [TOOL], {}),
    "result of text": ([USER, CALL_AS_TEXT, RESULT, ANSWER, MORE], [TOOL], {}),
    "two calls": ([USER, CALL | {"tool_calls": CALL["tool_calls"] * 2}, RESULT, RESULT], [TOOL], {}),
    "flat tools": ([SYSTEM, USER, ANSWER, MORE], [FLAT], {}),
    "null": ([SYSTEM, USER, ANSWER | {"content": None}, MORE], None, {}),
    "null with a call": ([USER, CALL | {"content": None}, RESULT], [TOOL], {}),
    "variables": ([USER, ANSWER, MORE], None, MORE_VARIABLES),
    "variables and tools": ([SYSTEM, USER], [TOOL], MORE_VARIABLES),
}
