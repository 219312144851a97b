"""Chat templates by name, for files that have none or a wrong one: `template="llama-3"`.

The formats are those that the models of the name were trained on; the text is our own Jinja. They are chosen by whoever
calls, never guessed. A role that a format has no words for is an error; a system message goes before the first user's
where a format has no place of its own for it.

A format whose turns are written in ordinary words (Alpaca, Vicuna, `[INST]` where it is no control token) cannot tell a
turn from a user who writes the same words; formats of control tokens can, see chat_templates.py.
"""

from __future__ import annotations

from zigllama.errors import InvalidArgument

REFUSE = "{{ raise_exception('the template NAME has no role ' ~ message.role) }}"

# The system message goes into the first turn, which must be a user's then: else it would be left out.
INTO_FIRST = """\
{% if system is not none and (not turns or turns[0].role != 'user') %}
{{ raise_exception("the template NAME has no place for a system message that no user's message follows") }}
{%- endif %}
"""

# The system message, if any, as `system`; what is left as `turns`.
SPLIT = """\
{% if messages and messages[0].role == 'system' %}
{% set system, turns = messages[0].content, messages[1:] %}
{% else %}
{% set system, turns = none, messages %}
{% endif %}
"""

CHATML = """\
{% for message in messages %}
{{ '<|im_start|>' ~ message.role ~ '\\n' ~ (message.content or '') ~ '<|im_end|>\\n' }}
{%- endfor %}
{% if add_generation_prompt %}
{{ '<|im_start|>assistant\\n' }}
{%- endif %}
"""

LLAMA_2 = (
    SPLIT
    + INTO_FIRST
    + """\
{% for message in turns %}
{% if message.role == 'user' %}
{% set head = '<<SYS>>\\n' ~ system ~ '\\n<</SYS>>\\n\\n' if loop.first and system is not none else '' %}
{{ bos_token ~ '[INST] ' ~ head ~ (message.content or '') | trim ~ ' [/INST]' }}
{%- elif message.role == 'assistant' %}
{{ ' ' ~ (message.content or '') | trim ~ ' ' ~ eos_token }}
{%- else %}
REFUSE
{%- endif %}
{% endfor %}
"""
)

LLAMA_3 = """\
{{ bos_token }}
{%- for message in messages %}
{{ '<|start_header_id|>' ~ message.role ~ '<|end_header_id|>\\n\\n' ~ (message.content or '') | trim ~ '<|eot_id|>' }}
{%- endfor %}
{% if add_generation_prompt %}
{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

ALPACA = (
    SPLIT
    + """\
{{ bos_token }}
{%- if system is none %}
{{ 'Below is an instruction that describes a task. Write a response that appropriately completes the request.' }}
{%- else %}
{{ system }}
{%- endif %}
{% for message in turns %}
{% if message.role == 'user' %}
{{ '\\n\\n### Instruction:\\n' ~ (message.content or '') }}
{%- elif message.role == 'assistant' %}
{{ '\\n\\n### Response:\\n' ~ (message.content or '') ~ eos_token }}
{%- else %}
REFUSE
{%- endif %}
{% endfor %}
{% if add_generation_prompt %}
{{ '\\n\\n### Response:\\n' }}
{%- endif %}
"""
)

VICUNA = (
    SPLIT
    + """\
{{ bos_token }}
{%- if system is none %}
{{ 'A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, '
   ~ "and polite answers to the user's questions. " }}
{%- else %}
{{ system ~ ' ' }}
{%- endif %}
{% for message in turns %}
{% if message.role == 'user' %}
{{ 'USER: ' ~ (message.content or '') ~ ' ' }}
{%- elif message.role == 'assistant' %}
{{ 'ASSISTANT: ' ~ (message.content or '') ~ eos_token }}
{%- else %}
REFUSE
{%- endif %}
{% endfor %}
{% if add_generation_prompt %}
{{ 'ASSISTANT:' }}
{%- endif %}
"""
)

ZEPHYR = """\
{% for message in messages %}
{% if message.role in ['system', 'user', 'assistant'] %}
{{ '<|' ~ message.role ~ '|>\\n' ~ (message.content or '') ~ eos_token ~ '\\n' }}
{%- else %}
REFUSE
{%- endif %}
{% endfor %}
{% if add_generation_prompt %}
{{ '<|assistant|>\\n' }}
{%- endif %}
"""

MISTRAL = (
    SPLIT
    + INTO_FIRST
    + """\
{{ bos_token }}
{%- for message in turns %}
{% if message.role == 'user' %}
{% set head = system ~ '\\n\\n' if loop.first and system is not none else '' %}
{{ '[INST] ' ~ head ~ (message.content or '') ~ ' [/INST]' }}
{%- elif message.role == 'assistant' %}
{{ ' ' ~ (message.content or '') ~ eos_token }}
{%- else %}
REFUSE
{%- endif %}
{% endfor %}
"""
)

GEMMA = (
    SPLIT
    + INTO_FIRST
    + """\
{{ bos_token }}
{%- for message in turns %}
{% if message.role not in ['user', 'assistant'] %}
REFUSE
{%- endif %}
{{ '<start_of_turn>' ~ ('model' if message.role == 'assistant' else 'user') ~ '\\n' }}
{%- if loop.first and system is not none %}
{{ system | trim ~ '\\n\\n' }}
{%- endif %}
{{ (message.content or '') | trim ~ '<end_of_turn>\\n' }}
{%- endfor %}
{% if add_generation_prompt %}
{{ '<start_of_turn>model\\n' }}
{%- endif %}
"""
)

PHI_3 = """\
{{ bos_token }}
{%- for message in messages %}
{% if message.role in ['system', 'user', 'assistant'] %}
{{ '<|' ~ message.role ~ '|>\\n' ~ (message.content or '') ~ '<|end|>\\n' }}
{%- else %}
REFUSE
{%- endif %}
{% endfor %}
{% if add_generation_prompt %}
{{ '<|assistant|>\\n' }}
{%- endif %}
"""

# ChatML with tools as Qwen 2.5 and its kin know them: calls and results in tags (tool_calls.py reads them).
QWEN = (
    SPLIT
    + """\
{{ '<|im_start|>system\\n' ~ ('You are a helpful assistant.' if system is none else system) }}
{%- if tools %}
{{ '\\n\\n# Tools\\n\\nYou may call one or more functions to assist with the user query.\\n\\nYou are provided with '
   ~ 'function signatures within <tools></tools> XML tags:\\n<tools>' }}
{%- for tool in tools %}
{{ '\\n' ~ tool | tojson }}
{%- endfor %}
{{ '\\n</tools>\\n\\nFor each function call, return a json object with function name and arguments within '
   ~ '<tool_call></tool_call> XML tags:\\n<tool_call>\\n{"name": <function-name>, "arguments": <args-json-object>}'
   ~ '\\n</tool_call>' }}
{%- endif %}
{{ '<|im_end|>\\n' }}
{%- for message in turns %}
{% if message.role == 'tool' %}
{{ '<|im_start|>user' if loop.previtem is not defined or loop.previtem.role != 'tool' }}
{{- '\\n<tool_response>\\n' ~ (message.content or '') ~ '\\n</tool_response>' }}
{{- '<|im_end|>\\n' if loop.nextitem is not defined or loop.nextitem.role != 'tool' }}
{%- else %}
{{ '<|im_start|>' ~ message.role }}
{%- if message.content or not message.tool_calls %}
{{ '\\n' ~ (message.content or '') }}
{%- endif %}
{% for call in message.tool_calls or [] %}
{% set call = call.function or call %}
{{ '\\n<tool_call>\\n{"name": ' ~ call.name | tojson ~ ', "arguments": '
   ~ (call.arguments if call.arguments is string else (call.arguments or {}) | tojson) ~ '}\\n</tool_call>' }}
{%- endfor %}
{{ '<|im_end|>\\n' }}
{%- endif %}
{% endfor %}
{% if add_generation_prompt %}
{{ '<|im_start|>assistant\\n' }}
{%- endif %}
"""
)

DEEPSEEK = (
    SPLIT
    + """\
{{ bos_token ~ (system or '') }}
{%- for message in turns %}
{% if message.role == 'user' %}
{{ '<｜User｜>' ~ (message.content or '') }}
{%- elif message.role == 'assistant' %}
{{ '<｜Assistant｜>' ~ (message.content or '') ~ '<｜end▁of▁sentence｜>' }}
{%- else %}
REFUSE
{%- endif %}
{% endfor %}
{% if add_generation_prompt %}
{{ '<｜Assistant｜>' }}
{%- endif %}
"""
)

COMMAND_R = """\
{% set tokens = {'system': '<|SYSTEM_TOKEN|>', 'user': '<|USER_TOKEN|>', 'assistant': '<|CHATBOT_TOKEN|>'} %}
{{ bos_token }}
{%- for message in messages %}
{% if message.role in tokens %}
{{ '<|START_OF_TURN_TOKEN|>' ~ tokens[message.role] ~ (message.content or '') | trim ~ '<|END_OF_TURN_TOKEN|>' }}
{%- else %}
REFUSE
{%- endif %}
{% endfor %}
{% if add_generation_prompt %}
{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}
{%- endif %}
"""

_SOURCES = {
    "chatml": CHATML,
    "llama-2-chat": LLAMA_2,
    "llama-3": LLAMA_3,
    "alpaca": ALPACA,
    "vicuna": VICUNA,
    "zephyr": ZEPHYR,
    "mistral": MISTRAL,
    "gemma": GEMMA,
    "phi-3": PHI_3,
    "qwen": QWEN,
    "deepseek": DEEPSEEK,
    "command-r": COMMAND_R,
}

# Nothing is left out without a word: those that know no tools refuse them, and calls in a message.
NO_TOOLS = """\
{% if tools or messages | selectattr('tool_calls') | list %}
{{ raise_exception('the template NAME has no place for tools') }}
{%- endif %}
"""


def _made(name: str, source: str) -> str:
    source = source.replace("REFUSE", REFUSE)
    return (source if "tools" in source else NO_TOOLS + source).replace("NAME", name)


BUILT_IN = {name: _made(name, source) for name, source in _SOURCES.items()}
"""Jinja text of every built-in template, by name."""


def built_in(name: str) -> str | None:
    """The built-in template of a name, in any case and with _ for -; None where there is none.

    Raises InvalidArgument for what is no text.
    """
    if not isinstance(name, str):
        raise InvalidArgument(f"a template's name is a text, not {type(name).__name__}")
    return BUILT_IN.get(name.strip().lower().replace("_", "-"))
