"""Importance matrices as files ("imatrix"): how large the inputs of each matrix were on some text, channel by channel.

A quantiser that knows them spends its precision where the inputs are large: it minimises the weighted error
sum_j w_j (x_j - y_j)^2 with w_j the mean of the squared inputs of channel j. Two forms are read and written:

    GGUF    general.type = "imatrix"; imatrix.datasets, imatrix.chunk_count, imatrix.chunk_size; per matrix NAME
                NAME.in_sum2    F32 (experts, C)    sums of squares
                NAME.counts     F32 (experts, 1)    how many inputs were summed
    legacy  i32 n | n x ( i32 length | name | i32 calls | i32 values | f32 x values ) | i32 chunks |
            i32 length | dataset
                values are means times `calls`; what stands behind the entries may be missing

Source: the files that llama.cpp's llama-imatrix writes. What this file is not: it runs no model (the sums come from
layer 6) and quantises nothing. A file is data from strangers: every length is compared with what is left of it.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zigllama.errors import BadImportance, InvalidArgument
from zigllama.foundation.byte_source import FileSource, StrPath
from zigllama.foundation.gguf_format import GGUFReader
from zigllama.foundation.gguf_header import MAGIC, MAX_NAME_BYTES, MAX_TENSORS
from zigllama.foundation.gguf_metadata import StringArray, Typed, ValueType
from zigllama.foundation.gguf_writer import write as write_gguf
from zigllama.foundation.replacement import Replacement

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

SUMS, COUNTS = ".in_sum2", ".counts"
DATASETS, CHUNK_COUNT, CHUNK_SIZE = "imatrix.datasets", "imatrix.chunk_count", "imatrix.chunk_size"


@dataclass(frozen=True, eq=False)
class Entry:
    """What is known of one matrix, or of a stack of `E` (one per expert).

    sums     float32 (E, C): sums of the squared inputs
    counts   float32 (E,): how many inputs each sum has
    """

    sums: F32
    counts: F32

    def mean(self) -> F32:
        """Mean squared inputs, float32 (E, C): sums / counts, 1 for an expert that no input met."""
        met = self.counts > 0
        counts = np.where(met, self.counts, np.float32(1))[:, None]
        return np.where(met[:, None], self.sums / counts, np.float32(1)).astype(np.float32)


@dataclass(frozen=True)
class Importance:
    """An importance matrix: an `Entry` per tensor name, and where it comes from.

    datasets     what was read
    n_chunks     how many windows of it, each of `chunk_size` tokens (0: not known)
    per_call     counts are windows and sums are per input of a window: what the legacy form has; elsewhere counts are
                 inputs
    path         the file it was read from
    """

    entries: Mapping[str, Entry]
    datasets: tuple[str, ...] = ()
    n_chunks: int = 0
    chunk_size: int = 0
    per_call: bool = False
    path: str = "(not a file)"


# --- reading ----------------------------------------------------------------------------------------------------------


def read_importance(path: StrPath) -> Importance:
    """Read an importance matrix in either form.

    Raises BadImportance for what is none, for sums without counts, for values that are negative or not finite; for the
    GGUF form whatever GGUFReader raises; OSError as `open` does.
    """
    with FileSource(path) as source:
        if source.read_at(0, 4) != MAGIC:
            return _read_legacy(source)
    return _read_gguf(path)


def _read_gguf(path: StrPath) -> Importance:
    name = os.fspath(path)
    with GGUFReader(path) as reader:
        kind = reader.metadata.get("general.type")
        if kind != "imatrix" and CHUNK_COUNT not in reader.metadata:
            raise BadImportance(name, f"a GGUF file of general.type {kind!r:.40}, not 'imatrix'")
        entries = {}
        for tensor in reader.tensors:
            base = tensor.removesuffix(SUMS)
            if base == tensor:
                if tensor.endswith(COUNTS) and tensor.removesuffix(COUNTS) + SUMS not in reader.tensors:
                    raise BadImportance(name, f"tensor {tensor!r} counts sums that are not there")
                continue
            if base + COUNTS not in reader.tensors:
                raise BadImportance(name, f"tensor {tensor!r} has no counts beside it")
            sums, counts = (_floats(reader, part, name) for part in (tensor, base + COUNTS))
            if sums.size % counts.size:
                raise BadImportance(name, f"tensor {tensor!r} has {sums.size} sums, {counts.size} counts")
            entries[base] = _checked(name, base, sums.reshape(counts.size, -1), np.rint(counts))
        if not entries:
            raise BadImportance(name, "it has no entries")
        datasets = reader.metadata.get(DATASETS, ())
        if not isinstance(datasets, StringArray | tuple):
            raise BadImportance(name, f"{DATASETS} is no array of strings")
        numbers = [reader.metadata.get(key, 0) for key in (CHUNK_COUNT, CHUNK_SIZE)]
        if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in numbers):
            raise BadImportance(name, f"{CHUNK_COUNT} and {CHUNK_SIZE} are {numbers}, not counts")
        n_chunks, chunk_size = (int(n) for n in numbers)  # type: ignore[arg-type]  # checked the line before
        return Importance(entries, tuple(datasets), n_chunks, chunk_size, path=name)


def _floats(reader: GGUFReader, tensor: str, path: str) -> F32:
    info = reader.tensor(tensor)
    if info.type.name != "F32":
        raise BadImportance(path, f"tensor {tensor!r} is {info.type}, expected F32")
    return reader.tensor_bytes(tensor).view("<f4").reshape(-1).copy()


def _checked(path: str, name: str, sums: F32, counts: F32) -> Entry:
    for what, values in (("sums", sums), ("counts", counts)):
        bad = ~(np.isfinite(values) & (values >= 0))
        if bad.any():
            raise BadImportance(
                path, f"{what} of {name!r} hold {values[bad][0]:g}; all must be finite and not negative"
            )
    return Entry(sums.astype(np.float32, copy=False), counts.astype(np.float32, copy=False))


class _Legacy:
    """The bytes of a legacy file, taken from the front; every piece is checked against what is left."""

    def __init__(self, source: FileSource) -> None:
        self.source, self.at = source, 0

    def bytes(self, n: int, what: str) -> bytes:
        left = self.source.size - self.at
        data = self.source.read_at(self.at, n) if 0 <= n <= left else b""
        if len(data) != n:
            raise BadImportance(self.source.path, f"at byte {self.at}: {what} of {n} bytes, {left} are left")
        self.at += n
        return data

    def int(self, what: str, low: int, high: int) -> int:
        value = int(struct.unpack("<i", self.bytes(4, what))[0])
        if not low <= value <= high:
            raise BadImportance(self.source.path, f"at byte {self.at - 4}: {what} is {value}, not {low} to {high}")
        return value


def _read_legacy(source: FileSource) -> Importance:
    top = (1 << 31) - 1
    f = _Legacy(source)
    entries: dict[str, Entry] = {}
    for _ in range(f.int("the number of entries", 1, MAX_TENSORS)):
        raw = f.bytes(f.int("the length of a name", 1, MAX_NAME_BYTES), "a name")
        try:
            name = raw.decode()
        except UnicodeDecodeError:
            raise BadImportance(source.path, f"at byte {f.at - len(raw)}: a name that is not UTF-8") from None
        if name in entries:
            raise BadImportance(source.path, f"{name!r} appears twice")
        calls = f.int(f"the calls of {name!r}", -1 - top, top)
        n = f.int(f"the number of values of {name!r}", 1, top)
        values = np.frombuffer(f.bytes(4 * n, f"values of {name!r}"), "<f4")
        entries[name] = _checked(source.path, name, values.reshape(1, n), np.array([max(calls, 1)], np.float32))
    n_chunks, datasets = 0, []
    if f.at < source.size:
        n_chunks = f.int("the number of chunks", 0, top)
    if f.at < source.size and (length := f.int("the length of the dataset's name", 0, top)):
        datasets.append(f.bytes(length, "the dataset's name").decode("utf-8", "replace"))
    return Importance(entries, tuple(datasets), n_chunks, per_call=True, path=source.path)


# --- together ---------------------------------------------------------------------------------------------------------


def combined(parts: Sequence[Importance], chunk_size: int) -> Importance:
    """Several importance matrices as one, as if a single run had read all the texts: sums and counts are added.

    chunk_size   tokens of a window: what a call of a part in the legacy form is taken for, and what the result's number
                 of windows, floor(largest count / chunk_size), counts

    A stack of matrices with one count for all (the legacy form again) takes on the others' shape, that count for each.
    Raises InvalidArgument for a chunk size below 1; BadImportance, with the part's path, where the same name has other
    numbers of values, and where a sum is beyond float32.
    """
    if chunk_size < 1:
        raise InvalidArgument(f"windows of {chunk_size} tokens, want at least 1")
    whole: dict[str, tuple[F64, F64]] = {}
    for part in parts:
        for name, entry in part.entries.items():
            added = _added(part, name, entry, chunk_size if part.per_call else 1, whole.get(name))
            if added[0].max() > np.finfo(np.float32).max:
                raise BadImportance(part.path, f"a sum of {name!r} becomes {added[0].max():g}, beyond float32")
            whole[name] = added
    entries = {name: Entry(s.astype(np.float32), n.astype(np.float32)) for name, (s, n) in whole.items()}
    largest = max((float(e.counts.max()) for e in entries.values()), default=0)
    datasets = tuple(name for part in parts for name in part.datasets)
    return Importance(entries, datasets, int(largest) // chunk_size, chunk_size)


def _added(part: Importance, name: str, entry: Entry, times: int, before: tuple[F64, F64] | None) -> tuple[F64, F64]:
    """Sums (E, C) and counts (E,) of a matrix with those of one more part."""
    sums, counts = entry.sums.astype(np.float64) * times, entry.counts.astype(np.float64) * times
    if before is None:
        return sums, counts
    n = max(len(counts), len(before[1]))
    if sums.size != before[0].size or {len(counts), len(before[1])} - {1, n}:
        found, first = (f"{len(c)} x {s.size // len(c)}" for s, c in ((sums, counts), before))
        raise BadImportance(part.path, f"{name!r} has {found} sums, the parts before it {first}")
    return before[0].reshape(n, -1) + sums.reshape(n, -1), np.broadcast_to(before[1], n) + np.broadcast_to(counts, n)


# --- writing ----------------------------------------------------------------------------------------------------------


def write_importance(path: StrPath, importance: Importance) -> None:
    """Write the GGUF form; entries sorted by name. An existing file is replaced, whole or not at all."""
    tensors: dict[str, F32] = {}
    for name, entry in sorted(importance.entries.items()):
        tensors[name + SUMS] = np.ascontiguousarray(entry.sums, np.float32)
        tensors[name + COUNTS] = entry.counts.astype(np.float32).reshape(-1, 1)
    metadata = {
        "general.type": "imatrix",
        DATASETS: Typed(list(importance.datasets), ValueType.ARRAY, ValueType.STRING),
        CHUNK_COUNT: Typed(importance.n_chunks, ValueType.UINT32),
        CHUNK_SIZE: Typed(importance.chunk_size, ValueType.UINT32),
    }
    write_gguf(path, metadata, tensors)


def write_legacy_importance(path: StrPath, importance: Importance) -> None:
    """Write the legacy form: one dataset, and means times calls instead of sums. Entries that no input met are
    left out.

    A call is `chunk_size` inputs, so calls = ceil(largest count / chunk_size). Raises BadImportance for a chunk size
    of 0, where that is not known.
    """
    target = os.fspath(path)
    if importance.chunk_size < 1:
        raise BadImportance(target, f"the legacy form needs a chunk size, this is {importance.chunk_size}")
    met = {name: e for name, e in sorted(importance.entries.items()) if e.counts.max() > 0}
    with Replacement([target]) as files:
        with files.open(0) as f:
            f.write(struct.pack("<i", len(met)))
            for name, entry in met.items():
                calls = math.ceil(float(entry.counts.max()) / importance.chunk_size)
                values = (entry.mean() * np.float32(calls)).astype("<f4")
                raw = name.encode()
                f.write(struct.pack("<i", len(raw)) + raw + struct.pack("<ii", calls, values.size) + values.tobytes())
            dataset = importance.datasets[-1].encode() if importance.datasets else b""
            f.write(struct.pack("<ii", importance.n_chunks, len(dataset)) + dataset)
        files.commit()
