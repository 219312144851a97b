"""What the values of keywords must be: each function gives the value in its plain form, or raises InvalidArgument with
the keyword's name and the value. NumPy's numbers are numbers; a bool is none, nor is a number a bool.

What it is not: ranges, which are with the keywords (sampling.py).
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

import numpy as np

from zigllama.errors import InvalidArgument

SHOWN = 80  # characters of a value that a message holds


def refuse(name: str, value: Any, want: str) -> NoReturn:
    """Raises InvalidArgument."""
    shown = repr(value)
    shown = shown if len(shown) <= SHOWN else shown[:SHOWN] + "..."
    raise InvalidArgument(f"{name} is {shown}, want {want}")


def as_int(name: str, value: Any, want: str = "a whole number") -> int:
    """Of int and NumPy's integers."""
    if isinstance(value, (bool, np.bool_)):
        refuse(name, value, want)
    try:
        return operator.index(value)
    except TypeError:
        refuse(name, value, want)


def as_float(name: str, value: Any, want: str = "a number") -> float:
    """Of int, float and NumPy's."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        refuse(name, value, want)
    try:
        return float(value)
    except OverflowError:
        refuse(name, value, want)


def as_bool(name: str, value: Any) -> bool:
    """Of bool and NumPy's."""
    if not isinstance(value, (bool, np.bool_)):
        refuse(name, value, "True or False")
    return bool(value)


def as_texts(name: str, value: Any) -> list[str]:
    """Of a list (or another iterable) of texts."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        refuse(name, value, "a list of texts")
    texts = list(value)
    for text in texts:
        if not isinstance(text, str):
            refuse(name, text, "texts only")
    return texts


def as_ids(name: str, value: Any) -> list[int]:
    """Of a list (or another iterable) of token ids."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        refuse(name, value, "a list of token ids")
    return [as_int(name, i, "token ids only") for i in value]


def as_bias(name: str, value: Any) -> dict[int, float]:
    """Of a mapping of token ids to numbers."""
    if not isinstance(value, Mapping):
        refuse(name, value, "a mapping of token ids to numbers")
    made = {as_int(name, i, "token ids as keys"): b for i, b in value.items()}
    return {i: as_float(f"{name} of token {i}", b) for i, b in made.items()}
