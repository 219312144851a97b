"""Models split over several GGUF files: how the parts are named, opened together and checked against each other.

    model-00001-of-00003.gguf   split.no = 0   split.count = 3   split.tensors.count = 290   all metadata, some tensors
    model-00002-of-00003.gguf   split.no = 1   split.count = 3   split.tensors.count = 290   more tensors
    model-00003-of-00003.gguf   ...

Names count from 1, `split.no` from 0. Each part is a whole GGUF file with offsets of its own. Source: llama.cpp's
gguf-split.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace

import numpy as np

from zigllama.errors import BadMetadata, BadTensor

from .byte_source import FileSource, StrPath
from .gguf_header import Header, parse_header

KEY_NO = "split.no"
KEY_COUNT = "split.count"
KEY_TENSORS = "split.tensors.count"
MAX_PARTS = 99_999  # five digits in the name

_NAME = re.compile(r"(?P<stem>.*)-(?P<no>\d{5})-of-(?P<count>\d{5})\.gguf\Z", re.DOTALL)


def part_path(stem: str, no: int, count: int) -> str:
    """Name of part `no` (from 0) of `count`: `part_path("m", 0, 3)` is m-00001-of-00003.gguf."""
    return f"{stem}-{no + 1:05d}-of-{count:05d}.gguf"


def open_parts(path: StrPath) -> tuple[list[FileSource], list[Header]]:
    """Open a GGUF file and, if it is the first part of a split model, all other parts from the same folder.

    Returns sources and headers part by part; `TensorInfo.part` is set. On an error nothing stays open. Raises
    `BadMetadata` with the split key that is wrong: a part that is missing, out of place, of another count, or of
    another model; `BadTensor` for a tensor in two parts.
    """
    sources: list[FileSource] = []
    headers: list[Header] = []
    try:
        sources.append(FileSource(path))
        headers.append(parse_header(sources[0]))
        count = _split_int(headers[0], KEY_COUNT, default=1)
        if count != 1 or KEY_NO in headers[0].metadata:
            stem = _check_first(sources[0], headers[0], count)
            for no in range(1, count):
                sources.append(_open_part(part_path(stem, no, count), no, count))
                headers.append(_parse_part(sources[no], headers[0], no, count))
            _check_together(headers)
    except BaseException:
        for source in sources:
            source.close()
        raise
    return sources, headers


def _split_int(header: Header, key: str, default: int | None = None) -> int:
    if key not in header.metadata:
        if default is not None:
            return default
        raise BadMetadata(key, "the key is missing, which every part of a split model has")
    value = header.metadata[key]
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise BadMetadata(key, f"{value!r} is not a count", header.metadata.offset_of(key))
    return value


def _check_first(source: FileSource, header: Header, count: int) -> str:
    """Check that this is part 0 and named as one; returns the stem of the names."""
    where = header.metadata.offset_of
    if not 1 <= count <= MAX_PARTS:
        raise BadMetadata(KEY_COUNT, f"{count} parts; there can be 1 to {MAX_PARTS}", where(KEY_COUNT))
    no = _split_int(header, KEY_NO)
    if no != 0:
        raise BadMetadata(
            KEY_NO, f"this is part {no + 1} of {count}: open a split model through its first part", where(KEY_NO)
        )
    if count == 1:
        return ""
    match = _NAME.match(source.path)
    if match is None or int(match["no"]) != 1 or int(match["count"]) != count:
        raise BadMetadata(
            KEY_COUNT,
            f"the file is part 1 of {count}, so its name should end in {part_path('', 0, count)}; "
            f"it is {os.path.basename(source.path)}",
            where(KEY_COUNT),
        )
    return match["stem"]


def _open_part(path: str, no: int, count: int) -> FileSource:
    try:
        return FileSource(path)
    except FileNotFoundError:
        raise BadMetadata(KEY_COUNT, f"part {no + 1} of {count} is missing: {path}") from None


def _parse_part(source: FileSource, first: Header, no: int, count: int) -> Header:
    header = parse_header(source)
    for key, expected in ((KEY_NO, no), (KEY_COUNT, count), (KEY_TENSORS, _split_int(first, KEY_TENSORS))):
        found = _split_int(header, key)
        if found != expected:
            raise BadMetadata(key, f"{source.path} has {found}, expected {expected}", header.metadata.offset_of(key))
    if header.version != first.version:
        raise BadMetadata(
            KEY_NO, f"{source.path} is GGUF version {header.version}, the first part version {first.version}"
        )
    # Parts need no metadata of their own; where one repeats a key, another value means another model.
    for key in header.metadata:
        if key in first.metadata and not key.startswith("split.") and not _same(header, first, key):
            raise BadMetadata(
                key,
                f"{source.path} and the first part differ: a part of another model?",
                header.metadata.offset_of(key),
            )
    tensors = {name: replace(t, part=no) for name, t in header.tensors.items()}
    return replace(header, tensors=tensors)


def _same(a: Header, b: Header, key: str) -> bool:
    x, y = a.metadata[key], b.metadata[key]
    if isinstance(x, np.ndarray) and isinstance(y, np.ndarray):
        return x.dtype == y.dtype and x.tobytes() == y.tobytes()  # bytes: NaN equals itself
    return type(x) is type(y) and bool(x == y)


def _check_together(headers: list[Header]) -> None:
    seen: dict[str, int] = {}
    for no, header in enumerate(headers):
        for name in header.tensors:
            if name in seen:
                raise BadTensor(name, f"it stands both in part {seen[name] + 1} and in part {no + 1}")
            seen[name] = no
    expected = _split_int(headers[0], KEY_TENSORS, default=len(seen))
    if expected != len(seen):
        raise BadMetadata(
            KEY_TENSORS,
            f"the parts hold {len(seen)} tensors, expected {expected}",
            headers[0].metadata.offset_of(KEY_TENSORS),
        )
