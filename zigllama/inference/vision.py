"""`Vision`: a projector's file, ready to turn images into rows for a language model.

    with zl.Vision("mmproj.gguf") as v:
        rows = v.encode(pixels)                    # uint8 (H, W, 3) -> float32 (N, C)
        m.logits(ids, image=rows, image_at=5)

What stands around the rows is `layout`: nothing for LLaVA, whose image is N rows; for Idefics3 and SmolVLM the marks of
the tiles' rows and columns, which are tokens of the text model.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Self

import numpy as np

from zigllama.errors import BadTensor, ClosedError, PlaceholderMismatch, UnknownName, UnsupportedTokenizer
from zigllama.foundation.byte_source import StrPath
from zigllama.foundation.runtime import F32, EagerRuntime, Step
from zigllama.inference.kv_cache import ModelKVCache
from zigllama.models.image_processing import Tiles, checked, decode, process
from zigllama.models.multi_modal import VisionLoader
from zigllama.models.tokenizer import Tokenizer

FAKE, GLOBAL = "<fake_token_around_image>", "<global-img>"


@dataclass(frozen=True)
class ImageRows:
    """An image as rows (N, C), of tiles in `rows` x `columns` and then the whole; see `Tiles`."""

    embeddings: F32
    rows: int
    columns: int


class Vision:
    """A vision tower, loaded. fit: "crop" or "pad", how LLaVA's images become squares. Other options as `Model`'s.

    Raises the ModelFileErrors, UnknownName, OutOfMemory. Safe for several threads, which take turns.
    """

    def __init__(
        self,
        path: StrPath,
        n_threads: int | None = None,
        backend: str | None = None,
        isa: str | None = "auto",
        *,
        fit: str = "crop",
    ) -> None:
        backend = backend or os.environ.get("ZIGLLAMA_BACKEND") or "native"
        if backend not in ("native", "reference"):
            raise UnknownName("backend", backend, ("native", "reference"))
        if fit not in ("crop", "pad"):
            raise UnknownName("fit", fit, ("crop", "pad"))
        self.fit, self.closed, self._lock = fit, False, Lock()
        self._loader = VisionLoader(path)
        self._context: Any = None
        try:
            self.spec = self._loader.spec
            self.tower = self._loader.tower()
            if backend == "native":
                from zigllama.foundation.threading import placed_context

                self._context = placed_context(n_threads, isa)
        except BaseException:
            self._loader.close()
            raise

    @property
    def n_embd(self) -> int:
        """Channels of a row: the text model's."""
        return self._loader.n_out

    @classmethod
    def beside(cls, vision: Vision | StrPath, n_embd: int, *options: Any) -> Vision:
        """The tower that a model of that width is given: itself, or opened with `options`. Raises BadTensor where it
        has another width; closes nothing that it has not opened."""
        made = vision if isinstance(vision, Vision) else cls(vision, *options)
        if n_embd != made.n_embd:
            if made is not vision:
                made.close()
            name = f"{made.spec.projector.products[-1]}.weight"
            raise BadTensor(name, f"gives rows of {made.n_embd} channels, the text model has {n_embd}")
        return made

    # --- images ---

    def encode(self, image: Any) -> F32:
        """An image, uint8 (H, W, 3), a file's path or its bytes, as rows (N, C)."""
        return self.rows(image).embeddings

    def rows(self, image: Any) -> ImageRows:
        """`encode`, and how the tiles lie. Raises BadImage, ImageTooLarge, PillowMissing, ShapeError, DTypeError."""
        pixels = decode(image) if isinstance(image, str | bytes | os.PathLike) else checked(image)
        tiles = process(pixels, self.spec, self.fit == "pad")
        return ImageRows(self.encode_tiles(tiles), tiles.rows, tiles.columns)

    def encode_tiles(self, tiles: Tiles) -> F32:
        """Tiles that are processed already -> the rows of each, one after another."""
        with self._lock:
            if self.closed:
                raise ClosedError("the vision tower is closed")
            return np.concatenate([self._tile(pixels) for pixels in tiles.pixels])

    def _tile(self, pixels: F32) -> F32:
        """One tile: every row is stored before any row looks, so all are in one step; their keys last as long."""
        n = self.spec.n_rows
        cache = ModelKVCache(self.spec.cache_spec(), n, type_name="F32", chunk=n, keep=0)
        step = cache.extend(cache.add(n), [-1] * n)
        step.see_to = np.full(n, n - 1, np.int32)
        patches, table = self.tower.patches(pixels), self.tower.table
        if self._context is None:
            return np.asarray(self.tower.project(self.tower.merged(self.tower.features(patches, table, step, cache))))
        runtime = EagerRuntime(self._context, step)
        x = self.tower.features(runtime.rows(patches), runtime.rows(table), runtime.bind(), cache).array
        merged = self.tower.merged(x)
        rows: F32 = self.tower.project(EagerRuntime(self._context, Step.of_rows(len(merged))).rows(merged)).array
        return rows

    # --- among tokens ---

    def layout(self, image: ImageRows) -> list[str | int]:
        """What takes an image's place: texts of special tokens, and numbers of rows.

        Idefics3's order (its processor): the tiles row by row, each after its mark, a line break after each row, and
        the whole image between its own; a text is as long as can be, since its line breaks may be one token.
        """
        n = self.spec.n_out
        if not self.spec.longest:
            return [n]
        out: list[str | int] = []
        break_ = ""
        for r in range(image.rows):
            for c in range(image.columns):
                out += [f"{break_}{FAKE}<row_{r + 1}_col_{c + 1}>", n]
                break_ = ""
            break_ = "\n"
        return [*out, f"{break_}{break_}{FAKE}{GLOBAL}", n, FAKE]

    def place(
        self, ids: Sequence[int], images: Sequence[ImageRows], tokenizer: Tokenizer
    ) -> tuple[list[int], list[tuple[int, F32]]]:
        """Each -1 of `ids` becomes an image: the ids with a -1 for every row, and (first position, rows) of each run.

        Raises PlaceholderMismatch where there are not as many images as places, UnsupportedTokenizer where a mark
        of the layout is no token of the text model's.
        """
        found = sum(i < 0 for i in ids)
        if found != len(images):
            raise PlaceholderMismatch(found, len(images))
        out: list[int] = []
        runs: list[tuple[int, F32]] = []
        waiting = iter(images)
        for i in ids:
            if i >= 0:
                out.append(i)
                continue
            image, first = next(waiting), 0
            for part in self.layout(image):
                if isinstance(part, str):
                    out += _marks(part, tokenizer)
                    continue
                runs.append((len(out), image.embeddings[first : first + part]))
                out += [-1] * part
                first += part
        return out, runs

    def close(self) -> None:
        """Give threads, memory and the file back. Closing twice is allowed."""
        with self._lock:
            if self.closed:
                return
            self.closed = True
            for weight in self.tower.weights.values():
                if hasattr(weight, "close"):
                    weight.close()
            if self._context is not None:
                self._context.close()
            self._loader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _marks(text: str, tokenizer: Tokenizer) -> list[int]:
    """The ids of marks, each of which is one token; as letters a model would read them as it never has."""
    for mark in re.findall(r"<[^<>]+>", text):
        if len(tokenizer.encode(mark, add_special=False, parse_special=True)) != 1:
            raise UnsupportedTokenizer(mark, "the vision tower puts this mark around an image; it is no token here")
    return tokenizer.encode(text, add_special=False, parse_special=True)
