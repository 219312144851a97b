"""Schemas of Python functions: what transformers makes of the same ones; what no schema can be made of is an error."""

from __future__ import annotations

import json
import typing
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from tool_functions import FUNCTIONS, plain, weather

from zigllama.errors import InvalidArgument
from zigllama.models.tool_schemas import as_schemas, function_schema

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "tool_schemas.json").read_text("utf-8"))


def test_golden_is_from_outside() -> None:
    assert GOLDEN["oracle"] == "transformers" and GOLDEN["command"] and len(GOLDEN["schemas"]) == len(FUNCTIONS)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_as_transformers(function: Callable[..., Any]) -> None:
    want = GOLDEN["schemas"][function.__name__]
    assert json.dumps(function_schema(function)) == json.dumps(want)


class Color(Enum):
    RED = "red"
    BLUE = "blue"


def test_enums_choices_and_indents() -> None:
    def paint(color: Color, size: str) -> None:
        """Paints.

        Args:
            color (Color): the color: a bright one
            size: how much
                more: of it (choices: ["s", "l"])
        """

    paint.__annotations__ = {"color": Color, "size": str}
    properties = function_schema(paint)["function"]["parameters"]["properties"]
    assert properties["color"] == {"type": "string", "enum": ["red", "blue"], "description": "the color: a bright one"}
    assert properties["size"] == {"type": "string", "enum": ["s", "l"], "description": "how much more: of it"}


def no_words(x: int) -> None:
    """Does."""


def no_docstring(x: int) -> None: ...


def no_type(x):  # type: ignore[no-untyped-def]
    """Does.

    Args:
        x: what
    """


def starred(*x: int) -> None:
    """Does.

    Args:
        x: what
    """


def odd(x: complex) -> None:
    """Does.

    Args:
        x: what
    """


def unknown(x: Nowhere) -> None:  # type: ignore[name-defined]  # noqa: F821
    """Does.

    Args:
        x: what
    """


def endless(x: tuple[int, ...]) -> None:
    """Does.

    Args:
        x: what
    """


def no_choices(x: int) -> None:
    """Does.

    Args:
        x: what (choices: [a])
    """


def fails(x: 1 / 0) -> None:  # type: ignore[valid-type]
    """Does.

    Args:
        x: what
    """


def no_attribute(x: json.nothing) -> None:  # type: ignore[name-defined]
    """Does.

    Args:
        x: what
    """


def deep_choices(x: int) -> None:
    pass


deep_choices.__doc__ = "Does.\n\nArgs:\n    x: what (choices: " + "[" * 5000 + "])"


def infinite_choices(x: float) -> None:
    """Does.

    Args:
        x: what (choices: [1e999])
    """


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (fails, "annotations of fails cannot be read: division by zero"),
        (no_attribute, "annotations of no_attribute cannot be read"),
        (deep_choices, "no JSON list"),
        (infinite_choices, "no JSON list"),
        (None, "not NoneType"),
        ({}, "not dict"),
        (no_words, "no words for the argument x"),
        (no_docstring, "no_docstring has no docstring"),
        (no_type, "x of no_type has no type"),
        (starred, "any number of arguments"),
        (odd, "type <class 'complex'>"),
        (unknown, "annotations of unknown cannot be read"),
        (endless, "types of JSON"),
        (no_choices, "choices"),
        (5, "not int"),
    ],
)
def test_what_has_no_schema(function: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        function_schema(function)


def test_names_of_typing_without_parts() -> None:
    def many(a: typing.List, b: typing.Dict, c: typing.Tuple) -> None:  # type: ignore[type-arg]  # noqa: UP006
        """Does.

        Args:
            a: one
            b: two
            c: three
        """

    many.__annotations__ = {"a": typing.List, "b": typing.Dict, "c": typing.Tuple}  # noqa: UP006
    properties = function_schema(many)["function"]["parameters"]["properties"]
    assert [p["type"] for p in properties.values()] == ["array", "object", "array"]


def test_lists_of_both() -> None:
    schema = function_schema(plain)
    assert as_schemas([plain, schema, weather]) == [schema, schema, function_schema(weather)]
    assert as_schemas(None) is None and as_schemas(()) == []
    for bad in (5, "f", {"name": "f"}, b"f", plain):
        with pytest.raises(InvalidArgument, match="a list of schemas or functions"):
            as_schemas(bad)
    with pytest.raises(InvalidArgument, match="tool 1 is neither"):
        as_schemas([schema, 5])
