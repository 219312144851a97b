"""Functions that are passed as tools; what transformers.utils.get_json_schema says of them is in
tests/golden/tool_schemas.json, made by tools/make_template_golden.py."""

# Optional and Union as people write them
# ruff: noqa: UP007, UP045

from __future__ import annotations

from typing import Any, Literal, Optional, Union


def plain(x: int) -> int:
    """Doubles a number.

    Args:
        x: The number
    """
    return 2 * x


def weather(
    city: str, days: int = 1, units: Literal["C", "F"] = "C", near: Optional[list[str]] = None, *, exact: bool = False
) -> dict[str, float]:
    """
    The weather of a city.
    It is looked up.

    Args:
        city: Which one,
            written in full: "Malmö"
        days: How many
        units: Of the temperature
        near: Cities nearby
        exact: Whether to round (choices: ["true", "false"])

    Returns:
        Temperatures by day
    """
    return {}


def many(a: float, b: Union[int, str], c: int | None, d: dict, e: list, f: Any, g: tuple[int, str], h: bool):  # type: ignore[no-untyped-def, type-arg]
    """Many types.

    Args:
        a: one
        b: two
        c: three
        d: four
        e: five
        f: six
        g: seven
        h: eight
    """


def nested(rows: list[dict[str, list[int]]], mode: Literal[1, 2], either: Literal["a", 3], none: None = None) -> None:
    """Nested types.

    Args:
        rows: rows
        mode: mode
        either: either
        none: none

    Returns:
        nothing
    """


def nothing() -> str:
    """Takes nothing."""
    return ""


FUNCTIONS = [plain, weather, many, nested, nothing]
