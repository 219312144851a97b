"""`convert`: a Hugging Face folder as a GGUF file, tensor by tensor.

Everything that can be wrong with names and shapes is found before a byte is written: the tensors that the family's
recipes make are checked against the table of the architecture that will run them. A tensor that is taken as it is
passes through in slabs of about a million values; one that a recipe computes is held whole, one at a time. The output
is a temporary file in the target's folder until the last byte is on the disk.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from zigllama.errors import (
    BadTensor,
    InvalidArgument,
    MissingTensor,
    NoSpace,
    ShapeError,
    UnknownName,
)
from zigllama.foundation import gguf_writer
from zigllama.foundation.byte_source import StrPath
from zigllama.foundation.ggml_types import GGMLType, type_by_name
from zigllama.foundation.gguf_metadata import Typed
from zigllama.foundation.gguf_writer import TensorData
from zigllama.foundation.runtime import F32
from zigllama.linear_algebra.number_formats import quantize_rows
from zigllama.models.config import HyperParameters
from zigllama.models.conversion.checkpoint import Checkpoint
from zigllama.models.conversion.pooling import notes_on_texts, pooling_metadata
from zigllama.models.conversion.recipes import FLOAT32, Conversion, Recipe, Shape, conversion_of
from zigllama.models.conversion.vocabulary_files import vocabulary_metadata
from zigllama.models.registry import architecture, names

FILE_TYPES = {"F32": 0, "F16": 1, "Q8_0": 7, "BF16": 32}  # general.file_type
SLAB = 1 << 20  # values that are written at a time
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Tick = Callable[[int, int], None]


@dataclass(frozen=True)
class Converted:
    """What was written: tensor names with shape and type, the metadata, and the path. `notes`: what of the tokenizer,
    and of what is done to texts before it, a GGUF file has no key for."""

    path: str
    arch: str
    tensors: dict[str, tuple[Shape, GGMLType]]
    metadata: dict[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def n_bytes(self) -> int:
        """Bytes of tensor data."""
        return sum(TensorData(n, s, t, b"").n_bytes for n, (s, t) in self.tensors.items())


def convert(
    folder: StrPath,
    path: StrPath,
    type: str = "F16",
    *,
    vocabulary: bool = True,
    pre: str | None = None,
    force: bool = False,
    conversion: Conversion | None = None,
    mmproj: bool = False,
    n_threads: int | None = None,
    progress: Tick | None = None,
) -> Converted:
    """Write the model of `folder` as the GGUF file `path`.

    type         of the matrices: F32, F16, BF16 or Q8_0; norms, biases and a few small tensors stay F32, and a row that
                 quant blocks do not divide becomes F16
    vocabulary   False: the file gets no tokenizer
    pre          name of the pre-tokenizer, where the folder's is not known by its rule
    force        replace an existing file
    conversion   instead of the one that is registered for the folder's class
    mmproj       the projector of a model that sees images, in place of its text model; it has no tokenizer
    progress     called with the bytes written so far, and their number

    Raises BadCheckpoint, UnsupportedArchitecture, UnsupportedQuantization, UnsupportedTokenizer; MissingTensor,
    TensorShapeMismatch, BadTensor (a tensor nothing asks for, a value that is not finite or that F16 cannot hold);
    InvalidArgument (an output that exists or is an input), UnknownName for the type; NoSpace, OSError. The output is
    then what it was before.
    """
    if type not in FILE_TYPES:
        raise UnknownName("type", type, tuple(FILE_TYPES))
    with Checkpoint(folder) as checkpoint:
        place = _target(path, checkpoint, force)
        family = conversion or conversion_of(checkpoint.config, mmproj)
        recipes = family.tensors(family.complete(checkpoint.config))
        work = _Work(checkpoint, family, type, n_threads, progress)
        tensors = work.plan(recipes)
        rows = tensors["token_embd.weight"][0][0] if "token_embd.weight" in tensors else 0
        metadata = _metadata(checkpoint, family, type)
        more, notes = {"tokenizer.ggml.model": "no_vocab"}, list[str]()
        if family.images is not None:
            more, notes = family.images(checkpoint)
        else:
            metadata |= pooling_metadata(checkpoint, family.arch)
            if vocabulary:
                more, notes = vocabulary_metadata(checkpoint, rows, pre)
        metadata |= more
        lowercase = metadata.get("tokenizer.ggml.normalizer.lowercase") is True
        notes += notes_on_texts(checkpoint, metadata.get(f"{family.arch}.context_length", 0), lowercase)
        _check(family, metadata, tensors)
        done = Converted(place, family.arch, tensors, metadata, (*notes, *family.notes))
        data = [TensorData(n, s, t, lambda n=n: work.pieces(n, recipes[n])) for n, (s, t) in tensors.items()]  # type: ignore[misc]
        work.n_bytes = done.n_bytes
        try:
            gguf_writer.write(place, metadata, data)
        except OSError as e:
            if e.errno in NO_ROOM:
                raise NoSpace(place, done.n_bytes, str(e.strerror)) from e
            raise
    return done


def _target(path: StrPath, checkpoint: Checkpoint, force: bool) -> str:
    """The target as text: in a folder that is there, no file of the model's own, nothing that exists."""
    place = os.fspath(path)
    parent = os.path.dirname(place) or "."
    if not os.path.isdir(parent):
        raise InvalidArgument(f"{place}: there is no folder {parent}")
    if os.path.exists(place) and any(os.path.samefile(place, p) for p in checkpoint.folder.iterdir() if p.exists()):
        raise InvalidArgument(f"{place} is part of the input {checkpoint.folder}: it cannot be the output too")
    if os.path.lexists(place) and not force:
        raise InvalidArgument(f"{place} exists; it is replaced only when asked to (force, --force)")
    return place


def _metadata(checkpoint: Checkpoint, family: Conversion, type: str) -> dict[str, Any]:
    """general.*, and the family's keys with the architecture's name in front."""
    name = os.path.basename(os.path.abspath(checkpoint.folder))
    keys: dict[str, Any] = {
        "general.architecture": family.arch,
        "general.type": "model",
        "general.name": name,
        "general.file_type": FILE_TYPES[type],
        "general.quantization_version": 2,
    }
    for key, value in family.metadata(checkpoint.config).items():
        keys[key if key.startswith(("general.", "tokenizer.")) else f"{family.arch}.{key}"] = value
    return keys


def _check(family: Conversion, metadata: dict[str, Any], tensors: dict[str, tuple[Shape, GGMLType]]) -> None:
    """Against the table of the architecture. Raises BadMetadata, MissingTensor, TensorShapeMismatch, BadTensor."""
    plain = {key: value.value if isinstance(value, Typed) else value for key, value in metadata.items()}
    if family.check is not None:
        family.check(plain, {name: shape for name, (shape, _) in tensors.items()})
    if family.arch not in names():
        return
    arch = architecture(family.arch)
    if "token_embd.weight" not in tensors:
        raise MissingTensor("token_embd.weight")
    spec = arch.spec(HyperParameters(plain, tensors), tensors["token_embd.weight"][0][0])
    arch.tensors(spec).check({name: shape for name, (shape, _) in tensors.items()})


class _Work:
    """Finds what the recipes name, and makes the data of each tensor when its turn comes."""

    def __init__(
        self, checkpoint: Checkpoint, family: Conversion, type: str, n_threads: int | None, progress: Tick | None
    ) -> None:
        self.checkpoint, self.family, self.n_threads = checkpoint, family, n_threads
        self.type, self.small = type_by_name(type), re.compile(FLOAT32)
        self.progress = progress or (lambda done, total: None)
        self.done = self.n_bytes = 0
        self.sources: dict[str, list[str]] = {}
        self.types: dict[str, GGMLType] = {}
        self.widths: dict[str, int] = {}

    def plan(self, recipes: dict[str, Recipe]) -> dict[str, tuple[Shape, GGMLType]]:
        """Shape and type of every tensor; of two recipes for one the one that holds stays in `recipes`. Raises
        MissingTensor, and BadTensor for a tensor that no recipe takes."""
        tensors, taken = {}, set()
        for name, recipe in [*recipes.items()]:
            if recipe.otherwise is not None and all(self._find(s) not in self.checkpoint for s in recipe.names):
                recipes[name] = recipe = recipe.otherwise
            found = [self._find(source) for source in recipe.names]
            if recipe.optional and all(f not in self.checkpoint for f in found):
                continue
            taken.update(found)
            try:
                shape = recipe.shape_of(*(self.checkpoint.shape(f) for f in found))
            except (ShapeError, ValueError, IndexError) as e:
                shapes = ", ".join(f"{f} {self.checkpoint.shape(f)}" for f in found)
                raise BadTensor(name, f"cannot be made of {shapes}: {e}") from None
            self.sources[name], self.types[name] = found, self._type(name, shape)
            self.widths[name] = shape[-1] if shape else 1
            tensors[name] = (shape, self.types[name])
        ignored = self.family.ignored
        ignored = ignored if isinstance(ignored, tuple) else ignored(self.checkpoint.config)
        patterns = [re.compile(pattern) for pattern in ignored]
        for left in self.checkpoint.names:
            if left not in taken and not any(p.search(left) for p in patterns):
                raise BadTensor(left, f"nothing in {self.family.arch!r} takes a tensor of this name")
        return tensors

    def _find(self, name: str) -> str:
        """The name as the folder has it: with its prefix, or without, or another one."""
        if name not in self.checkpoint:
            if self.family.other_names.get(name, name) in self.checkpoint:
                return self.family.other_names.get(name, name)
            for prefix in self.family.prefixes:
                if name.startswith(prefix) and name.removeprefix(prefix) in self.checkpoint:
                    return name.removeprefix(prefix)
            for pattern, other in self.family.spellings:
                if re.search(pattern, name) and re.sub(pattern, other, name) in self.checkpoint:
                    return re.sub(pattern, other, name)
        return name

    def _type(self, name: str, shape: Shape) -> GGMLType:
        if len(shape) < 2 or self.small.search(name):
            return type_by_name("F32")
        if self.family.wider and self.type.block_size > 1 and re.search(self.family.wider, name):
            return type_by_name("F16")
        return self.type if shape[-1] % self.type.block_size == 0 else type_by_name("F16")

    def pieces(self, name: str, recipe: Recipe) -> Iterator[Any]:
        """The tensor's bytes in its type, in order."""
        sources, kind = self.sources[name], self.types[name]
        if recipe.make is None:
            parts = self.checkpoint.slabs(sources[0])
        else:
            parts = _cut(np.ascontiguousarray(recipe.make(*map(self.checkpoint.tensor, sources)), np.float32))
        width = self.widths[name]
        row = 0
        for part in parts:
            try:
                piece = quantize_rows(part.reshape(-1, width), kind.name, n_threads=self.n_threads)
            except InvalidArgument as e:  # not finite, or too large for the type
                raise BadTensor(name, f"in the rows from {row}: {e}") from e
            row += len(piece)
            self.done += piece.nbytes
            yield piece
            self.progress(self.done, self.n_bytes)


def _cut(x: F32) -> Iterator[F32]:
    """Whole rows of an array, about SLAB values at a time."""
    flat, width = x.reshape(-1), max(x.shape[-1] if x.ndim else 1, 1)
    step = max(1, SLAB // width) * width
    for first in range(0, flat.size, step):
        yield flat[first : first + step]
