"""Pictures as SVG, written by hand: words, rectangles, lines and circles are all that bars and points need.

What it is not: it knows nothing of what is drawn; and it draws no other kind of file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from html import escape

from zigllama.app.console import printable
from zigllama.errors import InvalidArgument
from zigllama.foundation.byte_source import StrPath
from zigllama.foundation.replacement import replacing


def text(x: float, y: float, words: str, *, anchor: str = "start", size: int = 12, weight: str = "normal") -> str:
    """Words, their baseline beginning (or with `anchor` ending, or having its middle) at (x, y)."""
    style = f'text-anchor="{anchor}" font-size="{size}" font-weight="{weight}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(printable(words))}</text>'


def rectangle(x: float, y: float, width: float, height: float, colour: str) -> str:
    """Filled, (x, y) its upper left corner."""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'


def squares(places: Iterable[tuple[float, float]], side: float, colour: str) -> str:
    """Filled squares of one colour, given by their upper left corners, as one short path; none: nothing."""
    path = "".join(f"M{x:g} {y:g}h{side:g}v{side:g}h-{side:g}z" for x, y in places)
    return f'<path d="{path}" fill="{colour}"/>' if path else ""


def line(points: Iterable[tuple[float, float]], colour: str, *, width: float = 1.0, dashed: bool = False) -> str:
    """From point to point."""
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashes = ' stroke-dasharray="5 4"' if dashed else ""
    return f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="{width:g}"{dashes}/>'


def circle(x: float, y: float, radius: float, colour: str, title: str) -> str:
    """Filled; `title` is what a viewer shows when the pointer rests on it."""
    place = f'cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"'
    return f'<circle {place} fill="{colour}"><title>{escape(printable(title))}</title></circle>'


def document(width: float, height: float, parts: Iterable[str]) -> str:
    """The whole file on white paper, with a margin of 12 at the left."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-12 0 {width:.0f} {height:.0f}" font-family="sans-serif">'
    paper = f'<rect x="-12" width="{width:.0f}" height="{height:.0f}" fill="white"/>'
    return "\n".join([head, paper, *parts, "</svg>", ""])


def check_path(path: StrPath) -> str:
    """The path of a picture as text. Raises InvalidArgument unless it ends in .svg and its folder is there, so that
    nothing else is ever replaced by a picture, and no long work is done for one that cannot be written."""
    place = os.fspath(path)
    if not place.lower().endswith(".svg"):
        raise InvalidArgument(f"{place}: pictures are SVG files, so the name must end in .svg")
    folder = os.path.dirname(place) or "."
    if not os.path.isdir(folder):
        raise InvalidArgument(f"{place}: there is no folder {folder}")
    if os.path.lexists(place) and not os.path.isfile(place):
        raise InvalidArgument(f"{place} is there and no regular file")
    return place


def save(path: StrPath, picture: str) -> None:
    """Write a picture, whole or not at all; one that is there is replaced. Raises as `check_path`, OSError."""
    with replacing(check_path(path), 0o666) as f:
        f.write(picture.encode())
