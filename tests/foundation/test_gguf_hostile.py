"""Files made to break a reader: each ends in its typed error, soon, without memory beyond the file's own size."""

from __future__ import annotations

import os
import time
import tracemalloc
from pathlib import Path

import pytest
from gguf_hostile import ARRAY, STRING, U8, Case, File, hostile_cases, key, scalar, small, tensor, text, u32, u64

from zigllama.errors import BadMetadata, ModelFileError, NotGGUF, Truncated
from zigllama.foundation.byte_source import BytesSource, FileSource
from zigllama.foundation.gguf_cursor import MAX_HEADER_BYTES
from zigllama.foundation.gguf_format import GGUFReader
from zigllama.foundation.gguf_header import MAX_KEYS, MAX_STRINGS, MAX_TENSORS, Header, parse_header

CASES = hostile_cases()
SECONDS = 10.0  # the bound is 1 s where nothing else runs; a busy machine was seen to take five times the CPU time


def parse(data: bytes) -> Header:
    """Parse and look at every value, which is when arrays and strings are made."""
    header = parse_header(BytesSource(data))
    for name in header.metadata:
        _ = header.metadata[name]
    return header


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_each_hostile_file_gives_its_error(case: Case, tmp_path: Path) -> None:
    start = time.process_time()
    with pytest.raises(case.error, match=case.says) as e:
        parse(case.data)
    assert time.process_time() - start < SECONDS
    assert type(e.value) is case.error
    (tmp_path / "m.gguf").write_bytes(case.data)
    with pytest.raises(case.error, match=case.says):
        GGUFReader(tmp_path / "m.gguf")


def test_the_builder_itself_makes_good_files() -> None:
    """So that each hostile case fails for its own mistake and not for another."""
    assert len(parse(small()).tensors) == 2
    assert len(parse(File([key("k", scalar(U8, 1))], [tensor()], bytes(64)).build()).tensors) == 1


def test_truncation_at_every_byte() -> None:
    data = small()
    last = max(t.offset + t.n_bytes for t in parse(data).tensors.values())
    assert last == len(data)
    for n in range(len(data)):
        with pytest.raises(Truncated) as e:
            parse(data[:n])
        assert e.value.need > e.value.have == n
        assert e.value.need <= len(data)


def test_every_single_byte_wrong_is_an_error_or_a_file() -> None:
    """A byte changed anywhere in the head: a typed error or a header that is consistent, nothing else."""
    data = small()
    end = parse(data).data_offset
    for i in range(end):
        for flip in (0x01, 0x80, 0xFF):
            changed = bytearray(data)
            changed[i] ^= flip
            try:
                header = parse(bytes(changed))
            except ModelFileError:
                continue
            for t in header.tensors.values():
                assert header.data_offset <= t.offset <= t.offset + t.n_bytes <= len(data)


class ShrinkingSource:
    """Bytes of which all beyond a limit vanish after so many reads."""

    def __init__(self, data: bytes, limit: int, after: int) -> None:
        self.size, self._data, self._limit, self._after = len(data), data, limit, after

    def read_at(self, offset: int, n: int) -> bytes:
        self._after -= 1
        data = self._data if self._after >= 0 else self._data[: self._limit]
        return data[offset : offset + n]


def test_a_source_that_shrinks_while_it_is_parsed() -> None:
    data = File([key("k", u32(STRING) + text("x" * 300_000)), key("n", scalar(U8, 1))]).build()
    for after in range(3):
        for limit in (0, 10, 70_000, 250_000):
            with pytest.raises(Truncated) as e:
                parse_header(ShrinkingSource(data, limit, after))
            assert e.value.have < len(data)


def test_a_file_that_shrinks_after_it_was_opened(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(small())
    source = FileSource(path)
    os.truncate(path, 1000)
    with source, pytest.raises(Truncated):
        parse_header(source)
    path.write_bytes(small())
    with GGUFReader(path) as r:  # parsed, not mapped yet
        os.truncate(path, 1000)
        with pytest.raises(Truncated, match="shrank"):
            r.tensor_bytes("a.weight")


# --- bounds on time and memory ----------------------------------------------------------------------------------------


def timed_failure(data: bytes, error: type[ModelFileError], says: str) -> None:
    start = time.process_time()
    with pytest.raises(error, match=says):
        parse_header(BytesSource(data))
    assert time.process_time() - start < SECONDS


def test_counts_beyond_the_limits() -> None:
    """Counts that the file is large enough for: here the limits speak."""
    timed_failure(File(n_keys=MAX_KEYS + 1, data=bytes(MAX_KEYS * 14 + 64)).build(), BadMetadata, "65537 keys")
    timed_failure(
        File(n_tensors=MAX_TENSORS + 1, data=bytes(MAX_TENSORS * 33 + 64)).build(), BadMetadata, "65537 tensors"
    )
    n = MAX_STRINGS + 1
    timed_failure(File([key("k", u32(ARRAY) + u32(STRING) + u64(n))], data=bytes(n * 8)).build(), BadMetadata, str(n))
    half = u32(ARRAY) + u32(STRING) + u64(n // 2 + 1) + bytes(8 * (n // 2 + 1))
    timed_failure(File([key("k", half), key("l", half)]).build(), BadMetadata, "'l'")


def test_a_head_larger_than_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """In a sparse file, which has the size and no bytes."""
    path = tmp_path / "m.gguf"
    for value in (text("s", MAX_HEADER_BYTES), u32(U8) + u64(MAX_HEADER_BYTES)):
        kind = STRING if len(value) == 9 else ARRAY
        path.write_bytes(File([key("k", u32(kind) + value)]).build())
        os.truncate(path, 2 * MAX_HEADER_BYTES)
        tracemalloc.start()
        start = time.process_time()
        with pytest.raises(BadMetadata, match=f"'k'.*larger than {MAX_HEADER_BYTES}"):
            GGUFReader(path)
        assert time.process_time() - start < SECONDS
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
        tracemalloc.stop()


def test_the_slowest_legal_heads_stay_below_a_second() -> None:
    """As many keys, tensors, strings as the limits allow, in their slowest form, and an error at the very end."""
    end = key("end", u32(99))
    empty = u32(ARRAY) + u32(STRING) + u64(MAX_STRINGS) + bytes(8 * MAX_STRINGS)
    timed_failure(File([key("k", empty), end]).build(), BadMetadata, "type 99")
    keys = [key(f"{i:x}", scalar(U8, 1)) for i in range(MAX_KEYS - 1)]
    timed_failure(File([*keys, end]).build(), BadMetadata, "type 99")
    tensors = [tensor(f"{i:x}", (1,), 0, 32 * i) for i in range(MAX_TENSORS)]
    timed_failure(File([], tensors).build(), Truncated, "'0'")


def test_memory_stays_within_the_files_own_size() -> None:
    """Peak of the Python heap while parsing and looking at everything: a constant and a small multiple of the file."""
    files = [c.data for c in CASES] + [
        File([key(f"{i:x}", scalar(U8, 1)) for i in range(5000)]).build(),
        File([], [tensor(f"{i:x}", (1,), 0, 32 * i) for i in range(5000)], bytes(160_000)).build(),
        File([key("k", u32(ARRAY) + u32(STRING) + u64(100_000) + bytes(800_000))]).build(),
        File([key("k", u32(STRING) + text("\U0001f600" + "a" * 3_000_000))]).build(),
    ]
    for data in files:
        tracemalloc.start()
        try:
            parse(data)
        except ModelFileError:
            pass
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 3_000_000 + 16 * len(data), (len(data), peak)


# --- what is no regular file ------------------------------------------------------------------------------------------


def test_folder_fifo_device_and_missing_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    start = time.perf_counter()
    with pytest.raises(NotGGUF, match="folder"):
        GGUFReader(tmp_path)
    with pytest.raises(NotGGUF, match="fifo"):
        GGUFReader(tmp_path / "fifo")
    for device in ("/dev/zero", "/dev/null", "/dev/tty"):
        if os.path.exists(device):
            with pytest.raises((NotGGUF, OSError)):
                GGUFReader(device)
    with pytest.raises(NotGGUF, match="character device"):
        GGUFReader("/dev/zero")
    with pytest.raises(FileNotFoundError):
        GGUFReader(tmp_path / "nothing")
    assert time.perf_counter() - start < SECONDS


def test_a_failed_open_leaves_no_descriptor_open(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(small()[:-1])
    before = len(os.listdir("/proc/self/fd"))
    for path in (tmp_path / "m.gguf", tmp_path, "/dev/zero"):
        with pytest.raises(ModelFileError):
            GGUFReader(path)
    assert len(os.listdir("/proc/self/fd")) == before
