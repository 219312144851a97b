"""Quantise a model file: `zl.quantize("f16.gguf", "q4.gguf", "Q4_K_M")`.

One tensor after the other is read from the mapped file in slabs of rows, made floats, quantised by all threads and
written, so that memory stays at a few megabytes whatever the model's size. The output is a temporary file in the same
folder until the last byte is on the disk; then it gets its name. What becomes what is decided first, by
quantize_plan.py, so that an error of the command costs no time.

What it is not: it rounds nothing itself. The quantisers are layer 2's `quantize_rows`.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy.typing as npt

from zigllama.app.quantize_plan import Options, Plan, Step, make_plan
from zigllama.app.tensor_slabs import slabs
from zigllama.errors import InvalidArgument, NoSpace
from zigllama.foundation import gguf_writer
from zigllama.foundation.byte_source import StrPath
from zigllama.foundation.gguf_format import GGUFReader
from zigllama.foundation.gguf_metadata import Typed, ValueType
from zigllama.foundation.gguf_writer import TensorData
from zigllama.models.importance import Importance, read_importance

QUANTIZATION_VERSION = 2  # of GGML's blocks: general.quantization_version
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

UNCHECKED = ("F64", "I8", "I16", "I32", "I64")  # copied as they are: no weights

Tick = Callable[[int], None]


def quantize(
    source: StrPath,
    target: StrPath,
    type_name: str,
    *,
    imatrix: StrPath | None = None,
    tensor_types: Mapping[str, str] | None = None,
    output_tensor_type: str | None = None,
    token_embedding_type: str | None = None,
    pure: bool = False,
    leave_output_tensor: bool = False,
    wider: bool = False,
    allow_requantize: bool = False,
    force: bool = False,
    n_threads: int | None = None,
    progress: Tick | None = None,
) -> Plan:
    """Write `source` (a split model through its first part) as `target`, in the mix `type_name`; returns what was done.

    type_name              a mix by llama-quantize's name (Q4_K_M, IQ4_XS, F16, ...), alias or number
    imatrix                a file of importances (see `zigllama.models.importance`)
    tensor_types           regular expression -> type, for tensors in whose name it is found; goes before the mix
    output_tensor_type,    types of output.weight and of the token embedding
    token_embedding_type
    pure                   the mix's base type for every matrix
    leave_output_tensor    output.weight keeps its type
    wider                  of an encoder, attention's values and output become F16, as `convert` leaves them
    allow_requantize       also from types that are quantised
    force                  replace an existing file
    progress               called with the bytes of the source that are done, of `Plan.n_bytes_before`

    Raises InvalidArgument (a target that exists or is the source, a pattern for nothing), its ImportanceNeeded,
    RequantizeRefused and UnknownName; BadImportance; BadTensor for a value that is not finite; NoSpace; what
    `GGUFReader` raises. On an error, and if the process is killed, the target is what it was before.
    """
    options = Options(tensor_types or {}, output_tensor_type, token_embedding_type, pure, leave_output_tensor, wider)
    importance = None if imatrix is None else read_importance(imatrix)
    with GGUFReader(source) as reader:
        inputs = [*reader.paths, *([] if imatrix is None else [imatrix])]
        place = check_target(target, inputs, force)
        plan = make_plan(reader, type_name, options, importance)
        plan.check(importance, allow_requantize)
        _check_room(place, plan)
        metadata = new_metadata(reader, plan, imatrix, importance)
        work = _Work(reader, importance, n_threads, progress or (lambda done: None))
        try:
            gguf_writer.write(place, metadata, work.tensors(plan))
        except OSError as e:
            if e.errno in NO_ROOM:
                raise NoSpace(place, plan.n_bytes, str(e.strerror)) from e
            raise
    return plan


def plan_quantize(
    source: StrPath, type_name: str, options: Options | None = None, imatrix: StrPath | None = None
) -> Plan:
    """What `quantize` would do, without doing it: a dry run. Raises what `make_plan` raises."""
    importance = None if imatrix is None else read_importance(imatrix)
    with GGUFReader(source) as reader:
        return make_plan(reader, type_name, options or Options(), importance)


def check_target(target: StrPath, inputs: list[StrPath], force: bool) -> str:
    """The target as text, checked: no input under any name, nothing that exists (but with `force`), in a folder that is
    there. Raises InvalidArgument.
    """
    place = os.fspath(target)
    folder = os.path.dirname(place) or "."
    if not os.path.isdir(folder):
        raise InvalidArgument(f"{place}: there is no folder {folder}")
    for path in inputs:
        if os.path.exists(place) and os.path.samefile(path, place):
            raise InvalidArgument(f"{place} is the input {os.fspath(path)}: a file cannot be read and replaced at once")
    if os.path.lexists(place) and not force:
        raise InvalidArgument(f"{place} exists; it is replaced only when asked to (force, --force)")
    return place


def _check_room(place: str, plan: Plan) -> None:
    free = shutil.disk_usage(os.path.dirname(place) or ".").free
    if free < plan.n_bytes:
        raise NoSpace(place, plan.n_bytes, f"the folder has {free} bytes free")


def new_metadata(
    reader: GGUFReader, plan: Plan, imatrix: StrPath | None, importance: Importance | None
) -> dict[str, Typed]:
    """The source's metadata with what the quantisation says about itself; keys of splitting are the writer's."""
    entries = reader.metadata.typed()

    def put(key: str, value: int | str, kind: ValueType) -> None:
        entries.pop(key, None)  # to the end, whether it was there or not
        entries[key] = Typed(value, kind)

    put("general.quantization_version", QUANTIZATION_VERSION, ValueType.UINT32)
    put("general.file_type", plan.mix.file_type, ValueType.UINT32)
    if imatrix is not None and importance is not None:
        put("quantize.imatrix.file", os.fspath(imatrix), ValueType.STRING)
        if importance.datasets:
            put("quantize.imatrix.dataset", importance.datasets[0], ValueType.STRING)
        put("quantize.imatrix.entries_count", len(importance.entries), ValueType.UINT32)
        if importance.n_chunks:
            put("quantize.imatrix.chunks_count", importance.n_chunks, ValueType.UINT32)
    return entries


class _Work:
    """Makes the data of each tensor when its turn comes, and tells how far it is."""

    def __init__(self, reader: GGUFReader, importance: Importance | None, n_threads: int | None, tick: Tick) -> None:
        self.reader, self.importance, self.n_threads, self.tick = reader, importance, n_threads, tick
        self.done = 0

    def tensors(self, plan: Plan) -> list[TensorData]:
        """What the writer is to write."""
        return [TensorData(s.name, s.info.shape, s.target, lambda s=s: self._pieces(s)) for s in plan.steps]  # type: ignore[misc]

    def _pieces(self, step: Step) -> Iterator[npt.NDArray[Any]]:
        """The tensor in the target's form, slab after slab."""
        for slab in slabs(self.reader, step.info, self.importance, self.n_threads):
            if step.changes:
                yield slab.quantized(slab.floats(), step.target)
            else:
                if step.info.type.name not in UNCHECKED:
                    slab.floats()  # raises for what is not finite
                yield slab.data
            self.done += slab.data.nbytes
            self.tick(self.done)
