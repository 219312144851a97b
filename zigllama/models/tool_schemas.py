"""Tools as templates and models read them: JSON schemas of functions, also made from Python functions.

    def weather(city: str, days: int = 1) -> str:
        \"\"\"The weather of a city.

        Args:
            city: which one
            days: how many
        \"\"\"

    function_schema(weather)
    # {"type": "function", "function": {"name": "weather", "description": "The weather of a city.",
    #  "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "which one"},
    #                 "days": {"type": "integer", "description": "how many"}}, "required": ["city"]}, ..}}

The types are those of the signature, the words those of the docstring, in Google's form; both must be there, for the
model knows nothing else of the tool. The schema is the one transformers makes (`get_json_schema`), since models were
trained on it. What it is not: nothing is called, no argument of a call is checked.
"""

from __future__ import annotations

import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin

from zigllama.errors import InvalidArgument

_PLAIN: dict[Any, dict[str, Any]] = {
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    bool: {"type": "boolean"},
    list: {"type": "array"},
    tuple: {"type": "array"},
    dict: {"type": "object"},
    type(None): {"type": "null"},
    None: {"type": "null"},
    Any: {},
}
_SECTION = re.compile(r"\s*(Args|Arguments|Returns|Raises):\s*\Z")
_ENTRY = re.compile(r"(\s*)(\w+)(?:\s*\([^()]*\))?:\s*(.*)\Z")
_CHOICES = re.compile(r"\(choices:\s*(\[.*?\])\)\s*\Z", re.IGNORECASE)
Schema = dict[str, Any]


def as_schemas(tools: Any) -> list[Any] | None:
    """What is passed as tools: a list of schemas and functions, each function by its schema; None stays None.

    Raises InvalidArgument for anything else.
    """
    if tools is None:
        return None
    if isinstance(tools, str | bytes | Mapping) or not isinstance(tools, Sequence):
        raise InvalidArgument(f"tools are a list of schemas or functions, not {type(tools).__name__}")
    made = []
    for i, tool in enumerate(tools):
        if not isinstance(tool, Mapping) and not callable(tool):
            raise InvalidArgument(f"tool {i} is neither a schema nor a function but {type(tool).__name__}")
        made.append(tool if isinstance(tool, Mapping) else function_schema(tool))
    return made


def function_schema(function: Callable[..., Any]) -> Schema:
    """The JSON schema of a Python function, by its signature and docstring.

    Types: int, float, str, bool, None, Any, list, tuple and dict with or without their parts, unions, Literal, Enum.
    `(choices: ["a", "b"])` at the end of an argument's words lists its values. Raises InvalidArgument for a function
    without a docstring or annotations, for an argument that the docstring does not speak of, for other types.
    """
    name = getattr(function, "__name__", None)
    if not callable(function) or not isinstance(name, str):
        raise InvalidArgument(f"a tool is a function with a name, not {type(function).__name__}")
    says, words, result = _read(inspect.getdoc(function) or "")
    if not says:
        raise InvalidArgument(f"the function {name} has no docstring, from which a model could know what it does")
    try:
        signature = inspect.signature(function)
        hints = typing.get_type_hints(function)
    except Exception as error:  # an annotation that is a text is a program, which may end in any way
        raise InvalidArgument(f"the annotations of {name} cannot be read: {error}") from None
    properties: Schema = {}
    required: list[str] = []
    for key, parameter in signature.parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise InvalidArgument(f"{name} takes any number of arguments (*{key}), which no schema says")
        if key not in hints:
            raise InvalidArgument(f"the argument {key} of {name} has no type annotation")
        if key not in words:
            raise InvalidArgument(f"the docstring of {name} has no words for the argument {key}")
        properties[key] = _described(_type(hints[key], f"the argument {key} of {name}"), words[key])
        if parameter.default is parameter.empty:
            required.append(key)
    parameters: Schema = {"type": "object", "properties": properties} | ({"required": required} if required else {})
    made: Schema = {"name": name, "description": says, "parameters": parameters}
    if "return" in hints and (hints["return"] is not type(None) or result):
        made["return"] = _type(hints["return"], f"the result of {name}") | ({"description": result} if result else {})
    return {"type": "function", "function": made}


def _described(schema: Schema, words: str) -> Schema:
    found = _CHOICES.search(words)
    if found is None:
        return schema | {"description": words}
    try:
        values = json.loads(found[1])
        json.dumps(values, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        raise InvalidArgument(f"the choices {found[1]:.200} are no JSON list") from None
    return schema | {"enum": values, "description": words[: found.start()].strip()}


def _read(text: str) -> tuple[str, dict[str, str], str]:
    """A docstring's description, its arguments' words and its result's."""
    parts: dict[str, list[str]] = {"": []}
    at = ""
    for line in text.splitlines():
        section = _SECTION.match(line)
        at = section[1][:3] if section else at
        if section:
            parts.setdefault(at, [])
        else:
            parts[at].append(line)
    words: dict[str, str] = {}
    indent, key = 0, ""
    for line in parts.get("Arg", []):
        entry = _ENTRY.match(line)
        if entry is not None and (not words or len(entry[1]) <= indent):
            indent, key = len(entry[1]), entry[2]
            words[key] = entry[3].strip()
        elif key:
            words[key] = f"{words[key]} {line.strip()}".strip()
    return "\n".join(parts[""]).strip(), words, " ".join(s.strip() for s in parts.get("Ret", [])).strip()


def _enum(values: Sequence[Any], what: str) -> Schema:
    kinds = [_PLAIN[type(v)]["type"] for v in values if type(v) in (int, float, str, bool)]
    if not values or any(type(v) not in (int, float, str, bool, type(None)) for v in values):
        raise InvalidArgument(f"{what} has values that JSON has no words for: {list(values)!r:.200}")
    listed = list(dict.fromkeys(kinds))
    made: Schema = {"type": listed[0] if len(listed) == 1 else listed, "enum": [v for v in values if v is not None]}
    return made | ({"nullable": True} if None in values else {})


def _type(hint: Any, what: str) -> Schema:
    """The schema of a type. Raises InvalidArgument."""
    origin, args = get_origin(hint), get_args(hint)
    if isinstance(hint, type) and origin is None and issubclass(hint, Enum):
        return _enum([m.value for m in hint], what)
    if not args and origin in (list, tuple, dict):  # typing.List, which says no more than list
        origin, hint = None, origin
    if origin is None:
        try:
            return dict(_PLAIN[hint])
        except (KeyError, TypeError):
            raise InvalidArgument(f"{what} has the type {hint!r}; a schema is made of the types of JSON") from None
    if origin is Union or origin is types.UnionType:
        made = [_type(a, what) for a in args if a is not type(None)]
        null = {"nullable": True} if type(None) in args else {}
        if len(made) == 1:
            return made[0] | null
        if all(set(m) == {"type"} for m in made):
            names = sorted({m["type"] for m in made})
            return {"type": names[0] if len(names) == 1 else names} | null
        return {"anyOf": made} | null
    if origin is Literal:
        return _enum(args, what)
    if origin is list:
        return {"type": "array", "items": _type(args[0], what)}
    if origin is tuple and ... not in args:
        return {"type": "array", "prefixItems": [_type(a, what) for a in args]}
    if origin is dict:
        return {"type": "object", "additionalProperties": _type(args[1], what)}
    raise InvalidArgument(f"{what} has the type {hint!r}; a schema is made of the types of JSON")
