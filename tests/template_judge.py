"""Is a chat template handled as it should be, whatever it says? For the fuzzer and for the replay of its corpus.

A template renders, or a TemplateError comes within the bounds of CPU time; nothing else is raised, what it was given is
as it was, and what it makes is no longer than the budget.
"""

from __future__ import annotations

import copy
import time

from zigllama.errors import TemplateError
from zigllama.models.template_meter import MAX_SIZE
from zigllama.models.template_sandbox import Sandbox
from zigllama.models.tool_calls import FORMATS, parse_tool_calls

SECONDS = 10.0  # the bound is 1 s where nothing else runs; a busy machine was seen to take five times the CPU time
GIVEN = {
    "messages": [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "Hi <b>"},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}]},
        {"role": "tool", "content": "é"},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"x": {"type": "integer"}}}}],
    "add_generation_prompt": True,
    "bos_token": "<s>",
}
SANDBOX = Sandbox()


def judge(data: bytes) -> None:
    """Raises AssertionError, or what the code let through."""
    source = data.decode("utf-8", "replace")
    given = copy.deepcopy(GIVEN)
    started = time.thread_time()
    try:
        made = SANDBOX.render_bounded(SANDBOX.compile_bounded(source), given)
        assert len(made) <= 16 * MAX_SIZE
    except TemplateError:
        made = source
    assert time.thread_time() - started < SECONDS, time.thread_time() - started
    assert given == GIVEN
    for form in FORMATS:
        parse_tool_calls(made[:4096], format=form)
