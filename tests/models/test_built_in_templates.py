"""Built-in templates: the published formats, letter by letter, and no text of a user that becomes a control token."""

from __future__ import annotations

from typing import Any

import pytest
import small_vocabularies
from hypothesis import given
from hypothesis import strategies as st

from zigllama.errors import InvalidArgument, TemplateError
from zigllama.models.built_in_templates import BUILT_IN, built_in
from zigllama.models.chat_templates import ChatTemplates
from zigllama.models.tokenizer import Tokenizer

CONTROLS = """<s> </s> <|system|> <|user|> <|assistant|> <|end|> <start_of_turn> <end_of_turn> <|start_header_id|>
<|end_header_id|> <|eot_id|> [INST] [/INST] <｜User｜> <｜Assistant｜> <｜end▁of▁sentence｜> <|START_OF_TURN_TOKEN|>
<|END_OF_TURN_TOKEN|> <|SYSTEM_TOKEN|> <|USER_TOKEN|> <|CHATBOT_TOKEN|>""".split()  # noqa: SIM905


def vocabulary() -> Tokenizer:
    """The small one with every control token that a built-in template writes."""
    metadata: dict[str, Any] = small_vocabularies.bpe()
    first = len(metadata["tokenizer.ggml.tokens"])
    metadata["tokenizer.ggml.tokens"] += CONTROLS
    metadata["tokenizer.ggml.token_type"] += [small_vocabularies.CONTROL] * len(CONTROLS)
    metadata["tokenizer.ggml.bos_token_id"], metadata["tokenizer.ggml.eos_token_id"] = first, first + 1
    return Tokenizer.from_metadata(metadata)


TOKENIZER = vocabulary()
SYSTEM = {"role": "system", "content": "Sys"}
TURNS = [{"role": r, "content": c} for r, c in (("user", "A"), ("assistant", "B"), ("user", "C"))]
# with a system message, and without
FORMATS = {
    "chatml": (
        "<|im_start|>system\nSys<|im_end|>\n",
        "<|im_start|>user\nA<|im_end|>\n<|im_start|>assistant\nB<|im_end|>\n<|im_start|>user\nC<|im_end|>\n"
        "<|im_start|>assistant\n",
    ),
    "llama-2-chat": ("<s>[INST] <<SYS>>\nSys\n<</SYS>>\n\n", "A [/INST] B </s><s>[INST] C [/INST]", "<s>[INST] "),
    "llama-3": (
        "<s><|start_header_id|>system<|end_header_id|>\n\nSys<|eot_id|>",
        "<|start_header_id|>user<|end_header_id|>\n\nA<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nB"
        "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nC<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "<s>",
    ),
    "alpaca": (
        "<s>Sys",
        "\n\n### Instruction:\nA\n\n### Response:\nB</s>\n\n### Instruction:\nC\n\n### Response:\n",
        "<s>Below is an instruction that describes a task. Write a response that appropriately completes the request.",
    ),
    "vicuna": (
        "<s>Sys ",
        "USER: A ASSISTANT: B</s>USER: C ASSISTANT:",
        "<s>A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
        "detailed, and polite answers to the user's questions. ",
    ),
    "zephyr": ("<|system|>\nSys</s>\n", "<|user|>\nA</s>\n<|assistant|>\nB</s>\n<|user|>\nC</s>\n<|assistant|>\n"),
    "mistral": ("<s>[INST] Sys\n\n", "A [/INST] B</s>[INST] C [/INST]", "<s>[INST] "),
    "gemma": (
        "<s><start_of_turn>user\nSys\n\n",
        "A<end_of_turn>\n<start_of_turn>model\nB<end_of_turn>\n<start_of_turn>user\nC<end_of_turn>\n"
        "<start_of_turn>model\n",
        "<s><start_of_turn>user\n",
    ),
    "phi-3": (
        "<s><|system|>\nSys<|end|>\n",
        "<|user|>\nA<|end|>\n<|assistant|>\nB<|end|>\n<|user|>\nC<|end|>\n<|assistant|>\n",
        "<s>",
    ),
    "qwen": (
        "<|im_start|>system\nSys<|im_end|>\n",
        "<|im_start|>user\nA<|im_end|>\n<|im_start|>assistant\nB<|im_end|>\n<|im_start|>user\nC<|im_end|>\n"
        "<|im_start|>assistant\n",
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n",
    ),
    "deepseek": ("<s>Sys", "<｜User｜>A<｜Assistant｜>B<｜end▁of▁sentence｜><｜User｜>C<｜Assistant｜>", "<s>"),
    "command-r": (
        "<s><|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>Sys<|END_OF_TURN_TOKEN|>",
        "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>A<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>B"
        "<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|USER_TOKEN|>C<|END_OF_TURN_TOKEN|>"
        "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
        "<s>",
    ),
}


def chat(name: str) -> ChatTemplates:
    return ChatTemplates.from_metadata({}, TOKENIZER, name)


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_published_format(name: str) -> None:
    with_system, turns, *alone = FORMATS[name]
    assert chat(name).render_chat([SYSTEM, *TURNS]).text == with_system + turns
    assert chat(name).render_chat(TURNS).text == "".join(alone) + turns
    prompted = chat(name).render_chat(TURNS).text
    assert prompted.startswith(chat(name).render_chat(TURNS, add_generation_prompt=False).text)


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("roles", [["system"], ["system", "assistant"], ["system", "user"], ["assistant", "user"]])
def test_nothing_is_left_out(name: str, roles: list[str]) -> None:
    """A format that has a system message's words go into the first user's needs one."""
    messages = [{"role": role, "content": f"words of {role}"} for role in roles]
    if name in ("llama-2-chat", "mistral", "gemma") and roles[0] == "system" and roles[1:] != ["user"]:
        with pytest.raises(TemplateError, match=f"{name} has no place for a system message that no user's message"):
            chat(name).render_chat(messages)
    else:
        made = chat(name).render_chat(messages).text
        assert all(m["content"] in made for m in messages)


@pytest.mark.parametrize("name", ["LLaMA-3", "llama_2_chat", " Phi-3 ", "Command-R", "ChatML"])
def test_names_in_any_case(name: str) -> None:
    assert built_in(name) in BUILT_IN.values() and built_in("llama-9") is None
    with pytest.raises(InvalidArgument, match="not int"):
        built_in(5)  # type: ignore[arg-type]


ALPHABET = st.one_of(
    st.sampled_from([*CONTROLS, "<|im_start|>", "<|im_end|>", "<|endoftext|>"]),
    st.sampled_from([*"<>|[]/s\n｜▁", "INST", "end", "im_", "<|", "|>", "system", "user"]),
    st.text(max_size=4),
)
CONTENT = st.lists(ALPHABET, min_size=1, max_size=6).map("".join)


def control_ids(ids: list[int]) -> list[int]:
    first = TOKENIZER.n_vocab - len(CONTROLS)
    return [i for i in ids if i < 3 or i >= first]


@pytest.mark.parametrize("name", BUILT_IN)
def test_what_users_write_is_no_control_token(name: str) -> None:
    template = chat(name)
    want = control_ids(template.render_chat([SYSTEM, *TURNS]).ids)

    @given(st.lists(CONTENT, min_size=4, max_size=4))
    def check(contents: list[str]) -> None:
        roles = ("system", "user", "assistant", "user")
        messages = [{"role": r, "content": c} for r, c in zip(roles, contents, strict=True)]
        made = template.render_chat(messages)
        assert control_ids(made.ids) == want
        assert TOKENIZER.decode(made.ids, special=True) == made.text

    check()


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("at", range(3))
def test_null_is_no_text(name: str, at: int) -> None:
    """A content of None, or none at all, is an empty one: nowhere is the word None."""
    turns = [dict(m) for m in TURNS]
    turns[at]["content"] = ""
    want = chat(name).render_chat([SYSTEM, *turns])
    turns[at]["content"] = None  # type: ignore[assignment]
    assert chat(name).render_chat([SYSTEM, *turns]) == want and "None" not in want.text
    del turns[at]["content"]
    assert chat(name).render_chat([SYSTEM, *turns]) == want
    nothing = {"role": "system", "content": None}
    assert "None" not in chat(name).render_chat([nothing, *TURNS]).text


def test_qwen_with_tools() -> None:
    call = {"function": {"name": "f", "arguments": {"x": 1}}}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "A"},
        {"role": "assistant", "content": "", "tool_calls": [call, call]},
        {"role": "tool", "content": "1"},
        {"role": "tool", "content": "2"},
    ]
    text = chat("qwen").render_chat(messages, [{"name": "f"}]).text
    assert '<tools>\n{"name": "f"}\n</tools>' in text
    written = '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>'
    assert f"<|im_start|>assistant\n{written}\n{written}<|im_end|>\n" in text
    messages[1]["content"] = None  # as answers that are calls alone have it
    assert chat("qwen").render_chat(messages, [{"name": "f"}]).text == text and "None" not in text
    nothing: dict[str, Any] = {"function": {"name": "f", "arguments": None}}
    bare = chat("qwen").render_chat([{"role": "assistant", "content": None, "tool_calls": [nothing]}]).text
    assert '<|im_start|>assistant\n<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call><|im_end|>' in bare
    results = "<tool_response>\n1\n</tool_response>\n<tool_response>\n2\n</tool_response>"
    assert f"<|im_start|>user\n{results}<|im_end|>\n" in text


@pytest.mark.parametrize("name", sorted(set(BUILT_IN) - {"qwen"}))
def test_tools_are_not_left_out_in_silence(name: str) -> None:
    question = [{"role": "user", "content": "A"}]
    with pytest.raises(TemplateError, match=f"{name} has no place for tools"):
        chat(name).render_chat(question, [{"name": "f"}])
    with pytest.raises(TemplateError, match=f"{name} has no place for tools"):
        chat(name).render_chat([*question, {"role": "assistant", "content": "B", "tool_calls": [{"name": "f"}]}])
    assert chat(name).render_chat(question, []).text == chat(name).render_chat(question).text
