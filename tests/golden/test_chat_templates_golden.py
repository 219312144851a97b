"""The chat templates of seventy models, rendered as transformers renders them; those that cannot say the same reason.

The templates are fetched by tools/fetch_vocabularies.py; what transformers made of them is in chat_templates.json.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from template_conversations import CONVERSATIONS, FIXED, NOW

from zigllama.app.catalogue import cache_dir
from zigllama.errors import TemplateError
from zigllama.models import template_filters
from zigllama.models.built_in_templates import BUILT_IN
from zigllama.models.template_sandbox import Sandbox

GOLDEN = json.loads((Path(__file__).parent / "chat_templates.json").read_text("utf-8"))
TEMPLATES: dict[str, dict[str, Any]] = GOLDEN["templates"]

# Why a template renders nothing of a conversation: a part of what is said, and what it means. Both sides refuse alike.
WHY = {
    "'NoneType' object is not iterable": "it goes through the tools without asking whether there are any",
    "'dict object' has no attribute 'description'": "it wants tools in its own flat format",
    "'dict object' has no attribute 'function'": "it wants tools in OpenAI's format",
    "Object of type Undefined is not JSON serializable": "it wants tools in OpenAI's format",
    "'append' of 'list' object is unsafe": "it changes a list, which the sandbox of transformers forbids too",
    "Can only get item pairs from a mapping": "it takes arguments as a mapping only",
    "'str object' has no attribute 'items'": "it takes arguments as a mapping only",
    "Invalid tool call arguments passed": "it takes arguments as a mapping only, and says so",
    "arguments must be a dictionary": "it takes arguments as a mapping only, and says so",
    "chat template requires tool_call.function.argum": "it takes arguments as a mapping only, and says so",
    'can only concatenate str (not "dict") to str': "it takes arguments as text only",
    "No filter named 'from_json'": "it reads arguments that are text with a filter that neither side has",
    "'functions' is undefined": "it needs the variables functions and datetime",
    "System role not supported": "the model has no system messages, and it says so",
    "Conversation roles must alternate": "the model has no tools, and it says so",
    "Object of type generator is not JSON serializable": "it makes JSON of a generator",
    "This model only supports single tool-calls": "the model calls one tool at a time, and it says so",
    "argument of type 'NoneType' is not iterable": "it takes no content of None",
    'can only concatenate str (not "NoneType") to str': "it takes no content of None",
    "'None' has no attribute 'split'": "it takes no content of None",
    "Assistant message must have a string or a list": "it takes no content of None, and says so",
    "object of type 'NoneType' has no len()": "it takes no content of None",
    "unsupported operand type(s) for +: 'NoneType' and 'str'": "it takes no content of None",
    "None has no element 0": "it takes no content of None",
    "has no place for tools": "a built-in template without tools, and it says so",
}


class Clock:
    class datetime:
        @staticmethod
        def now() -> Any:
            return NOW


@pytest.mark.parametrize("name", TEMPLATES)
def test_as_transformers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = cache_dir() / "vocabularies" / "templates" / f"{name}.jinja"
    if name.startswith("built-in "):
        source = BUILT_IN[name.removeprefix("built-in ")].encode()
    elif path.is_file():
        source = path.read_bytes()
    else:
        pytest.skip("llama.cpp's vocabularies are not in the cache; tools/fetch_vocabularies.py fetches them")
    assert hashlib.sha256(source).hexdigest() == TEMPLATES[name]["sha256"]
    monkeypatch.setattr(template_filters, "datetime", Clock)
    sandbox = Sandbox()
    template = sandbox.compile_bounded(source.decode())
    for case, (messages, tools, variables) in CONVERSATIONS.items():
        want = TEMPLATES[name][case]
        given = {**FIXED, **variables, "messages": messages, "tools": tools}
        if isinstance(want, list):
            text = sandbox.render_bounded(template, given)
            assert [len(text), hashlib.sha256(text.encode()).hexdigest()[:32]] == want, case
        else:
            with pytest.raises(TemplateError) as e:
                sandbox.render_bounded(template, given)
            assert want.partition(": ")[2] in str(e.value), case


def test_every_refusal_has_its_reason() -> None:
    refusals = {r for rows in TEMPLATES.values() for c in CONVERSATIONS if isinstance(r := rows[c], str)}
    used = {part for part in WHY for r in refusals if part in r}
    assert [r for r in refusals if not any(part in r for part in WHY)] == [] and used == set(WHY)
    never = [n for n, rows in TEMPLATES.items() if all(isinstance(rows[c], str) for c in CONVERSATIONS)]
    assert never == [] and len(TEMPLATES) == 70 + len(BUILT_IN)
