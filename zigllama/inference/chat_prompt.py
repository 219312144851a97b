"""From messages to a prompt: what `Model.chat` and a session ask of a template, and how they read the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from zigllama.errors import InvalidArgument
from zigllama.inference.images import Prompt

if TYPE_CHECKING:
    from zigllama.inference.model import Model


def chat_prompt(
    model: Model, messages: str | Sequence[Mapping[str, Any]], tools: Any, template: Any, options: dict[str, Any]
) -> Prompt:
    """The prompt of a conversation; with tools it knows how calls are read out of the answer. `template_variables` is
    taken out of the options. Raises as `Model.render_chat`."""
    variables = options.pop("template_variables", None) or {}
    if not isinstance(variables, Mapping) or not all(isinstance(k, str) for k in variables):
        raise InvalidArgument(f"template_variables is a mapping by names, not {type(variables).__name__}")
    taken = sorted({"messages", "tools", "template", "add_generation_prompt"} & set(variables))
    if taken:
        raise InvalidArgument(f"template_variables has {taken[0]!r}, which is an argument of its own")
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    chat = model.render_chat(messages, tools, template=template, **variables)
    return replace(model.prompt(chat.ids, chat.images or None), read=chat.read)
