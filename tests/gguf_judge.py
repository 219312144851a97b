"""What must hold for any bytes given to the GGUF reader: the judge that the fuzzer and the replay of its corpus share.

A verdict is an `AssertionError` (or whatever else the reader lets out); bytes that pass give back what became of them.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np

from zigllama.errors import BadMetadata, BadTensor, ModelFileError, NotGGUF, Truncated, UnsupportedType
from zigllama.foundation import gguf_cursor
from zigllama.foundation.gguf_header import Header, parse_header
from zigllama.foundation.gguf_metadata import StringArray

ALLOWED = (NotGGUF, Truncated, BadMetadata, BadTensor, UnsupportedType)
SECONDS = 10.0  # the bound is 1 s where nothing else runs; a busy machine was seen to take five times the CPU time
# Peak of the Python heap: a constant (NumPy's temporaries for one window, the read-ahead), and a multiple of the file
# for Python objects, of which the smallest key (14 bytes) makes 250 bytes and the smallest tensor (33) makes 500.
BYTES, BYTES_PER_BYTE = 1 << 20, 20


class StrictSource:
    """Bytes in memory that refuse a read beyond their end, or of more bytes in total than they have."""

    def __init__(self, data: bytes) -> None:
        self.size, self._data, self._read = len(data), data, 0

    def read_at(self, offset: int, n: int) -> bytes:
        assert 0 <= offset <= self.size, (offset, n, self.size)
        assert 0 <= n <= self.size - offset, (offset, n, self.size)
        self._read += n
        assert self._read <= self.size, "bytes are read twice"
        return self._data[offset : offset + n]


def parse(data: bytes) -> Header | ModelFileError:
    """The header, or the error: nothing but the five types of it may come out."""
    try:
        return parse_header(StrictSource(data))
    except ALLOWED as e:
        return e


@contextmanager
def scan(window: int, hops: int) -> Iterator[None]:
    """Strings scanned in windows of so many bytes, after `hops` strings one by one: small ones reach the fast path
    soon.
    """
    saved = gguf_cursor._WINDOW, gguf_cursor._HOPS
    gguf_cursor._WINDOW, gguf_cursor._HOPS = window, hops
    try:
        yield
    finally:
        gguf_cursor._WINDOW, gguf_cursor._HOPS = saved


def judge(data: bytes, memory: bool = True) -> Header | ModelFileError:
    """Parse `data` and look at everything. `memory` measures the heap too, which takes several times as long."""
    if memory:
        tracemalloc.start()
    try:
        start = time.process_time()
        with scan(64 + len(data) % 200, 2):
            result = parse(data)
            if isinstance(result, Header):
                _look_at(result, len(data))
        seconds = time.process_time() - start
        peak = tracemalloc.get_traced_memory()[1] if memory else 0
    finally:
        if memory:
            tracemalloc.stop()
    assert seconds < SECONDS, f"{seconds:.2f} s"
    assert peak < BYTES + BYTES_PER_BYTE * len(data), f"{peak} bytes for a file of {len(data)}"
    return result


def judge_twice(data: bytes, memory: bool = True) -> Header | ModelFileError:
    """`judge`, and that the fast scan over strings ends exactly where walking them one by one does."""
    fast = judge(data, memory)
    with scan(1, 1 << 40):
        slow = parse(data)
    assert type(fast) is type(slow), (fast, slow)
    if isinstance(fast, Header) and isinstance(slow, Header):
        assert fast.tensors == slow.tensors
        assert list(fast.metadata) == list(slow.metadata)
        for key in fast.metadata:
            if isinstance(a := fast.metadata[key], StringArray):
                b = slow.metadata[key]
                assert isinstance(b, StringArray)
                assert np.array_equal(a.offsets, b.offsets), key
    return fast


def _look_at(header: Header, size: int) -> None:
    for key in header.metadata:
        value = header.metadata[key]
        assert header.metadata.offset_of(key) <= size
        if isinstance(value, StringArray):
            raw = value.raw_list()
            assert len(raw) == len(value)
            assert sum(map(len, raw)) + 8 * len(raw) == len(value.data)
            with suppress(BadMetadata):  # a token need not be UTF-8
                assert [s.encode() for s in value] == raw
    assert header.alignment >= 8
    assert header.alignment & (header.alignment - 1) == 0
    end = header.data_offset
    for t in header.tensors.values():
        assert t.offset >= end, f"offset of {t.name}"
        assert t.offset % header.alignment == 0
        assert t.n_bytes * t.type.block_size == int(np.prod(t.shape, dtype=object)) * t.type.block_bytes
        end = t.offset + t.n_bytes
        assert end <= size
