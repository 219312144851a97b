"""Images in a prompt: which rows stand where among its tokens.

    "What is <image>?"  +  [image]  ->  ids [What, is, -1, -1, ..., -1, ?]  and  [(2, rows (N, C))]

An image is as many rows of the stream as its vision tower makes of it; a row's token is -1, and the row itself goes
into the step (Step.inputs) in an embedding's place. Nothing of another's cache is found for such rows, since -1 does
not tell them apart.

What it is not: it runs no vision tower (vision.py) and renders no chat (models/chat_templates.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from zigllama.errors import InvalidArgument, NonFinite, PlaceholderMismatch, ShapeError, VisionMissing
from zigllama.foundation.runtime import F32
from zigllama.models.image_parts import PLACEHOLDER
from zigllama.models.tokenizer import Tokenizer

if TYPE_CHECKING:  # who sends no images does not wait for it
    from zigllama.inference.vision import ImageRows, Vision
    from zigllama.models.tool_call_parts import ParsedAnswer

Runs = tuple[tuple[int, F32], ...]  # (position of the first row, rows (N, C)), ascending


@dataclass(frozen=True)
class Prompt:
    """Token ids, -1 for every row of an image, and those rows. `read`: how tool calls are read out of what follows."""

    ids: list[int]
    images: Runs = ()
    read: Callable[[Sequence[int]], ParsedAnswer] | None = None


def split_text(text: str, tokenizer: Tokenizer) -> list[int]:
    """Ids of a text with the model's special tokens around it, -1 for each `<image>`: a cut like a special token's."""
    first, *rest = (tokenizer.encode(piece, add_special=False) for piece in text.split(PLACEHOLDER))
    ids = first + [i for piece in rest for i in (-1, *piece)]
    if tokenizer.add_bos and tokenizer.bos_id is not None:
        ids = [tokenizer.bos_id, *ids]
    if tokenizer.add_eos and tokenizer.eos_id is not None:
        ids = [*ids, tokenizer.eos_id]
    return ids


def with_images(ids: Sequence[int], images: Iterable[Any], vision: Vision | None, tokenizer: Tokenizer) -> Prompt:
    """Each -1 of `ids` becomes an image: what `Vision.encode` takes, or rows it has given, or ImageRows.

    Raises InvalidArgument for an image that is no list, PlaceholderMismatch before any is read, VisionMissing for
    images where there is no tower, and what the tower raises.
    """
    if isinstance(images, str | bytes | os.PathLike | np.ndarray) or not isinstance(images, Iterable):
        raise InvalidArgument(f"images is {type(images).__name__}, want a list of images: images=[...]")
    images = list(images)
    if vision is not None:
        if (places := sum(i < 0 for i in ids)) != len(images):
            raise PlaceholderMismatch(places, len(images))
        placed, runs = vision.place(ids, [as_rows(image, vision) for image in images], tokenizer)
        return Prompt(placed, tuple(runs))
    if images:
        raise VisionMissing("images need a vision tower: Model(..., vision='mmproj.gguf'), --mmproj FILE")
    if places := sum(i < 0 for i in ids):
        raise PlaceholderMismatch(places, 0)
    return Prompt(list(ids))


def as_rows(image: Any, vision: Vision) -> ImageRows:
    """An image, rows (N, C) of one tile, or ImageRows, as ImageRows. Raises ShapeError, and what the tower raises."""
    from zigllama.inference.vision import ImageRows

    if isinstance(image, np.ndarray) and image.dtype == np.float32:
        made = ImageRows(image.copy(), 0, 0)  # the caller's may change while it is waiting to be read, or later
    elif isinstance(image, ImageRows):
        made = image
    else:
        return vision.rows(image)
    want = ((made.rows * made.columns + 1) * vision.spec.n_out, vision.n_embd)
    if made.embeddings.shape != want:
        hint = "" if made.rows else " (of several tiles pass what Vision.rows gives)"
        raise ShapeError(f"rows of an image have shape {made.embeddings.shape}, want {want}{hint}")
    return made


def stood_in(ids: Sequence[int], image: Any, image_at: Any, n_embd: int) -> Prompt:
    """Rows (N, C) put before token `image_at`, 0 to len(ids); lists of both for several images, places ascending.

    Raises InvalidArgument for places that are none, ShapeError for rows of another width, NonFinite.
    """
    if image is None and image_at is None:
        return Prompt(list(ids))
    if image is None or image_at is None:
        raise InvalidArgument("image and image_at go together: rows, and before which token they stand")
    one = isinstance(image, np.ndarray)
    if not one and not (isinstance(image, list | tuple) and isinstance(image_at, list | tuple | np.ndarray)):
        found = f"{type(image).__name__} and {type(image_at).__name__}"
        raise InvalidArgument(f"image and image_at are {found}, want rows and a place, or a list of each")
    listed, places = ([image], [image_at]) if one else (list(image), list(image_at))
    if len(listed) != len(places) or not all(isinstance(p, int | np.integer) and 0 <= p <= len(ids) for p in places):
        raise InvalidArgument(f"{len(listed)} images at {places}: want a place from 0 to {len(ids)} for each")
    if places != sorted(places):
        raise InvalidArgument(f"images stand at {places}, want places that ascend")
    out, runs, before = list[int](), list[tuple[int, F32]](), 0
    for rows, place in zip(listed, places, strict=True):
        if not isinstance(rows, np.ndarray) or rows.dtype.kind not in "fiu":
            raise ShapeError(f"the rows of an image are {type(rows).__name__}, want float32 (N, {n_embd})")
        rows = np.ascontiguousarray(rows, np.float32)
        if rows.ndim != 2 or rows.shape[1] != n_embd or not len(rows):
            raise ShapeError(f"the rows of an image have shape {rows.shape}, want (N, {n_embd})")
        if not np.isfinite(rows).all():
            raise NonFinite("an image's rows", None)
        out += ids[before:place]
        runs.append((len(out), rows))
        out += [-1] * len(rows)
        before = place
    return Prompt([*out, *ids[before:]], tuple(runs))


def check_tokens(ids: Sequence[int], runs: Runs) -> None:
    """Every token -1 has a row and every row such a token. Raises InvalidArgument."""
    at = [p for first, rows in runs for p in range(first, first + len(rows))]
    if [i for i, token in enumerate(ids) if token < 0] != at:
        raise InvalidArgument(f"{sum(t < 0 for t in ids)} tokens are -1 for {len(at)} rows of images, or elsewhere")


def rows_between(runs: Runs, start: int, end: int, out: F32) -> None:
    """Put the rows at positions start .. end - 1 where they belong in `out` (end - start, C)."""
    for first, rows in runs:
        a, b = max(first, start), min(first + len(rows), end)
        if a < b:
            out[a - start : b - start] = rows[a - first : b - first]


def same_until(a: Runs, b: Runs) -> int | None:
    """The position up to which two texts of the same ids have the same images; None: all are the same."""
    for (first, mine), (other, theirs) in zip(a, b, strict=False):
        if first != other or mine.shape != theirs.shape or not np.array_equal(mine, theirs):
            return min(first, other)
    return None
