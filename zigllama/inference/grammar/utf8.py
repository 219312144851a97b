"""The bytes of characters: sets of code points as a tree of ranges of bytes, in which equal parts are one object.

    tree(((0x61, 0x7a), (0xe9, 0xe9)))    ((0x61, 0x7a, None), (0xc3, 0xc3, ((0xa9, 0xa9, None),)))

A node is a tuple of (lowest byte, highest byte, node that follows, or, where the character ends, its label):
ascending, not overlapping. `labelled` tells several sets apart at once. Surrogates have no UTF-8 and are left out;
what is no UTF-8 is matched by nothing.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from .ir import Ranges

Node = tuple[tuple[int, int, Any], ...]
P = ParamSpec("P")
R = TypeVar("R", bound=tuple[Any, ...])
Labelled = tuple[
    tuple[int, int, Any], ...
]  # (first code point, last, label: anything that can be hashed and is no tuple)

# (first code point, last, first byte's base, bytes that follow): the four lengths, three bytes without surrogates
LENGTHS = (
    (0x0, 0x7F, 0x00, 0),
    (0x80, 0x7FF, 0xC0, 1),
    (0x800, 0xD7FF, 0xE0, 2),
    (0xE000, 0xFFFF, 0xE0, 2),
    (0x10000, 0x10FFFF, 0xF0, 3),
)

MOST_KEPT = 100_000  # ranges, of all sets whose results one function remembers; with their trees some 300 bytes each


def remembered(function: Callable[P, R]) -> Callable[P, R]:
    """The function, remembering what it made of which sets: of the last ones, by how many ranges they have. A number of
    sets would be no bound, for one may have a hundred thousand ranges."""
    known: OrderedDict[tuple[Any, ...], R] = OrderedDict()
    lock = threading.Lock()
    kept = 0

    @wraps(function)
    def remembering(*args: P.args, **kwargs: P.kwargs) -> R:
        assert not kwargs, "what is remembered is known by its place"
        nonlocal kept
        key: tuple[Any, ...] = args
        with lock:
            if key in known:
                known.move_to_end(key)
                return known[key]
        found = function(*args, **kwargs)
        with lock:
            if key not in known:
                kept += 1 + len(key[0]) + len(found)
            known[key] = found
            while kept > MOST_KEPT:
                old, made = known.popitem(last=False)
                kept -= 1 + len(old[0]) + len(made)
        return found

    return remembering


def _append(node: list[tuple[int, int, Any]], lo: int, hi: int, what: Any) -> None:
    """One more range at the end of a node; joined with the last where it continues it."""
    if node and node[-1][1] == lo - 1 and node[-1][2] == what:
        node[-1] = (node[-1][0], hi, what)
    else:
        node.append((lo, hi, what))


@remembered
def _node(ranges: Labelled, base: int, follow: int) -> Node:
    """Numbers below 64^(follow + 1), as one byte (base + the highest 6 bits) and `follow` more of 6 bits each."""
    size = 64**follow
    parts: list[
        tuple[int, int, list[tuple[int, int, Any]]]
    ] = []  # first and last of the highest digit; what follows them
    for lo, hi, label in ranges:
        while lo <= hi:
            top, rest = divmod(lo, size)
            if rest == 0 and hi - lo + 1 >= size:
                last = (hi + 1) // size - 1
                parts.append((top, last, [(0, size - 1, label)]))
                lo = (last + 1) * size
                continue
            end = min(hi, (top + 1) * size - 1)
            piece = (rest, end - top * size, label)
            if parts and parts[-1][:2] == (top, top):
                parts[-1][2].append(piece)
            else:
                parts.append((top, top, [piece]))
            lo = end + 1
    node: list[tuple[int, int, Any]] = []
    for first, last, below in parts:
        _append(node, base + first, base + last, _node(tuple(below), 0x80, follow - 1) if follow else below[0][2])
    return tuple(node)


@remembered
def labelled(ranges: Labelled) -> Node:
    """The tree of characters with labels; the ranges are ascending and do not overlap."""
    node: list[tuple[int, int, Any]] = []
    for first, last, base, follow in LENGTHS:
        clipped = tuple((max(lo, first), min(hi, last), x) for lo, hi, x in ranges if lo <= last and hi >= first)
        for lo, hi, child in _node(clipped, base, follow):
            _append(node, lo, hi, child)
    return tuple(node)


@remembered
def tree(ranges: Ranges) -> Node:
    """The tree of a set of characters, given as ranges of code points in any order; the label is None."""
    merged: list[tuple[int, int]] = []
    for lo, hi in sorted(ranges):
        if merged and lo <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(hi, merged[-1][1]))
        else:
            merged.append((lo, hi))
    return labelled(tuple((lo, hi, None) for lo, hi in merged))
