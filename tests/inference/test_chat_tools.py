"""Tools in a chat: what the model asks for is in the result, and the conversation goes on from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import small_vocabularies
from tool_functions import weather

from zigllama.errors import InvalidArgument
from zigllama.inference.model import Model
from zigllama.models.chat_templates import ChatTemplates, RenderedChat
from zigllama.models.tokenizer import Tokenizer
from zigllama.models.tool_calls import ParsedAnswer, ToolCall

CALL = ToolCall("weather", {"city": "Malmö"}, "c1")
MESSAGE = {
    "role": "assistant",
    "content": "I look.",
    "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": {"city": "Malmö"}}},
    ],
}
SEEN: list[dict[str, Any]] = []


def render(
    self: Model, messages: Sequence[Mapping[str, Any]], tools: Any = None, template: Any = None, **more: Any
) -> RenderedChat:
    """Stands for a template: any tokenizer can do it, and an answer to tools is a call."""
    SEEN.append({"messages": list(messages), "tools": tools, "template": template, **more})
    text = "".join(f"{m['role'][0]}:{m['content']}\n" for m in messages)
    read = (lambda ids: ParsedAnswer("I look.", (CALL,))) if tools else None
    return RenderedChat(text, [3 + b % 197 for b in text.encode()], (), read)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch, small_model: Callable[[str], Path]) -> Any:
    monkeypatch.setattr(Model, "render_chat", render)
    SEEN.clear()
    with Model(small_model("llama-mix"), n_threads=1, n_ctx=512) as m:
        yield m


OPTIONS: dict[str, Any] = {"max_tokens": 4, "temperature": 0.0, "ignore_eos": True}


def test_a_result_has_the_calls(model: Model) -> None:
    result = model.chat("hi", tools=[weather], template="t", template_variables={"enable_thinking": False}, **OPTIONS)
    assert SEEN[0] == {
        "messages": [{"role": "user", "content": "hi"}],
        "tools": [weather],
        "template": "t",
        "enable_thinking": False,
    }
    assert result.tool_calls == (CALL,) and result.message == MESSAGE
    plain = model.chat("hi", **OPTIONS)
    assert plain.tool_calls == () and plain.message == {"role": "assistant", "content": plain.text}
    assert plain.token_ids == result.token_ids


def test_a_stream_has_them_at_its_end(model: Model) -> None:
    stream = model.chat("hi", tools=[weather], stream=True, **OPTIONS)
    text = "".join(e.text for e in stream)
    result: Any = stream.result
    assert result.text == text and result.tool_calls == (CALL,)


def test_a_session_goes_on(model: Model, tmp_path: Path) -> None:
    told = {"role": "tool", "name": "weather", "content": "20 degrees"}
    with model.session() as s:
        assert s.chat("hi", tools=[weather], template="t", **OPTIONS).tool_calls == (CALL,)
        assert s.messages[-1] == MESSAGE
        list(s.chat([told], stream=True, **OPTIONS))  # the tools hold for the next turn too
        assert s.result.tool_calls == (CALL,) and SEEN[-1]["tools"] == [weather] and SEEN[-1]["template"] == "t"
        assert SEEN[-1]["messages"] == [{"role": "user", "content": "hi"}, MESSAGE, told]
        assert s.chat("well?", tools=None, **OPTIONS).tool_calls == ()
        s.save(tmp_path / "s.zls")
        messages = s.messages
    with model.session() as s:
        s.load(tmp_path / "s.zls")
        assert s.messages == messages and s.messages[1] == MESSAGE


def test_types(model: Model) -> None:
    for variables in (5, "x", {1: 2}, ["x"]):
        with pytest.raises(InvalidArgument, match="template_variables is a mapping"):
            model.chat("hi", template_variables=variables)
    with pytest.raises(InvalidArgument, match="template_variables has 'tools'"):
        model.chat("hi", template_variables={"tools": []})
    with model.session() as s, pytest.raises(InvalidArgument, match="not int"):
        s.chat(5)


def test_calls_are_read_out_of_ids() -> None:
    """Tags that are control tokens are not in an answer's text; they are among its ids."""
    metadata: dict[str, Any] = small_vocabularies.bpe()
    metadata["tokenizer.ggml.tokens"] += ["<tool_call>", "</tool_call>"]
    metadata["tokenizer.ggml.token_type"] += [small_vocabularies.CONTROL] * 2
    tokenizer = Tokenizer.from_metadata(metadata)
    chat = ChatTemplates.from_metadata({}, tokenizer, "qwen")
    answer = 'I look.<tool_call>{"name": "weather", "arguments": {"city": "Malmö"}}</tool_call><|im_end|>'
    ids = tokenizer.encode(answer, add_special=False, parse_special=True)
    assert "<tool_call>" not in tokenizer.decode(ids)
    made = chat.render_chat([{"role": "user", "content": "x"}], [weather])
    assert made.read is not None
    assert made.read(ids) == ParsedAnswer("I look.", (ToolCall("weather", {"city": "Malmö"}),))
    assert made.read(ids[:-4]) == ParsedAnswer(tokenizer.decode(ids[:-4]))
    assert chat.render_chat([{"role": "user", "content": "x"}]).read is None
    assert '"description": "Which one, written in full' in made.text


def test_names_of_control_tokens_in_ordinary_text_stay() -> None:
    """Beside a call: what a model writes about `<|im_end|>`, letter by letter, is said; the token itself is not."""
    metadata: dict[str, Any] = small_vocabularies.bpe()
    metadata["tokenizer.ggml.tokens"] += ["<tool_call>", "</tool_call>"]
    metadata["tokenizer.ggml.token_type"] += [small_vocabularies.CONTROL] * 2
    tokenizer = Tokenizer.from_metadata(metadata)
    chat = ChatTemplates.from_metadata({}, tokenizer, "qwen")
    made = chat.render_chat([{"role": "user", "content": "x"}], [weather])
    call = '<tool_call>{"name": "weather", "arguments": {"city": "a <|im_end|> b"}}</tool_call>'
    control = tokenizer.encode("<|im_end|>", add_special=False, parse_special=True)
    assert len(control) == 1 and made.read is not None

    def letters(text: str) -> list[int]:
        return tokenizer.encode(text, add_special=False)

    found = made.read([*letters("A turn ends in <|im_end|>, Malm\u00f6."), *control, *letters(call), *control])
    assert found.text == "A turn ends in <|im_end|>, Malm\u00f6."
    assert found.calls == (ToolCall("weather", {"city": "a <|im_end|> b"}),)
    tags = tokenizer.encode(call, add_special=False, parse_special=True)
    spoken = letters("Never write </tool_call> or <|im_start|>.")
    inside = made.read([*spoken, *letters(call)])
    assert inside.text == "Never write </tool_call> or <|im_start|>." and len(inside.calls) == 1
    assert made.read([*spoken, *control, *tags[:1]]).text == "Never write </tool_call> or <|im_start|>."
    whole, places = tokenizer.decode_with_controls([*control, *spoken, *control * 2])
    assert whole == tokenizer.decode([*control, *spoken, *control * 2], special=True)
    n = len("<|im_end|>")
    assert places == [(0, n), (len(whole) - 2 * n, len(whole))]
