"""A conversation on the disk: its messages, and the keys and values of what was read, so that nothing is read again.

    8   magic      "ZLSESSN\\n"
    4   version    u32, 1
    4   length     u32, of the head
        head       JSON: model, fingerprint, cache_type, n_tokens, messages
        tokens     n_tokens * i32: whole pages of 64; what is beyond the last whole page is read again
        pages      per cache class, the pages that the next row may see: of each page its keys, then its values
    32  checksum   sha256 of everything before

All numbers are little-endian. How many pages there are and how large they are follows from n_tokens and from the model,
so a file has one length only. A file is data: it is read by pread, checked whole before anything of it is used, and
what it claims to have read is never shared with other conversations.

What it is not: portable. Keys and values have the bits of one model, one ISA variant and one cache type, and a file of
another is refused.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Self

import numpy as np
import numpy.typing as npt

from zigllama.errors import NotGGUF, SessionFileError, SessionMismatch
from zigllama.foundation.byte_source import FileSource, StrPath
from zigllama.foundation.gguf_format import GGUFReader
from zigllama.foundation.replacement import replacing
from zigllama.inference.kv_cache import CachedSequence, ModelKVCache
from zigllama.transformers.interfaces import PAGE

MAGIC, VERSION = b"ZLSESSN\n", 1
START = struct.Struct("<8sII")
SUM = 32
HEAD_LIMIT = 16 << 20  # bytes of messages; a head is held in memory
PIECE = 1 << 20


@dataclass(frozen=True)
class Head:
    """What a file says of itself."""

    model: str
    fingerprint: str
    cache_type: str
    n_tokens: int
    messages: list[dict[str, Any]]


def model_digest(reader: GGUFReader) -> str:
    """What tells a model from any other: sha256 of metadata, tensor directory and 256 bytes out of every tensor."""
    import hashlib  # brings a cryptographic library of 3 MB: only where it is needed

    digest = hashlib.sha256()
    at = 0
    while at < reader.data_offset:
        piece = reader.read_at(0, at, min(PIECE, reader.data_offset - at))
        digest.update(piece)
        at += max(1, len(piece))
    for name in sorted(reader.tensors):
        t = reader.tensors[name]
        digest.update(f"{name} {t.type.name} {t.shape}".encode())
        digest.update(reader.read_at(t.part, t.offset + t.n_bytes // 2, min(256, t.n_bytes - t.n_bytes // 2)))
    return digest.hexdigest()


def saved_length(cache: ModelKVCache, sequence: CachedSequence) -> int:
    """How many positions of a sequence a file can hold: whole pages, as long as all that the next row sees is there."""
    n = sequence.length // PAGE * PAGE
    whole = all(c.holds(sequence.slot, n) for c in cache.classes) and min(sequence.tokens[:n], default=0) >= 0
    return n if whole else 0


def save(path: StrPath, head: Head, cache: ModelKVCache, sequence: CachedSequence) -> None:
    """Write a file, whole or not at all. The sequence may not change meanwhile. Raises OSError, InvalidArgument."""
    text = json.dumps(head.__dict__, ensure_ascii=False).encode("utf-8", "surrogatepass")
    if len(text) > HEAD_LIMIT:
        raise SessionFileError(os.fspath(path), f"messages of {len(text)} bytes, at most {HEAD_LIMIT} are possible")
    import hashlib  # brings a cryptographic library of 3 MB: only where it is needed

    digest = hashlib.sha256()
    with _replacing(path) as f:

        def put(piece: bytes | memoryview) -> None:
            digest.update(piece)
            f.write(piece)

        put(START.pack(MAGIC, VERSION, len(text)))
        put(text)
        put(np.array(sequence.tokens[: head.n_tokens], "<i4").tobytes())
        for part in _pages(cache, sequence.slot, head.n_tokens):
            put(part.data)
        f.write(digest.digest())


class SavedSession:
    """A file that was written by `save`, open and checked: `head`, `tokens`, and `fill` for the pages.

    Raises SessionFileError for what is no such file, SessionMismatch for one of another model, fingerprint or cache
    type, OSError as `open` does.
    """

    def __init__(self, path: StrPath, cache: ModelKVCache, n_vocab: int, expected: Head) -> None:
        self._path, self._cache = os.fspath(path), cache
        try:
            self._source = FileSource(path)
        except NotGGUF as e:
            raise SessionFileError(self._path, str(e)) from None
        try:
            self.head, self._at = self._read_head(expected)
            self.tokens = self._read_tokens(n_vocab)
        except BaseException:
            self._source.close()
            raise

    def _read_head(self, expected: Head) -> tuple[Head, int]:
        """The head, and where it ends; the whole file is known to be what was written, and to be for this model."""
        start = self._source.read_at(0, START.size)
        if start[:8] != MAGIC:
            raise SessionFileError(self._path, "not a saved session")
        if len(start) < START.size:
            raise SessionFileError(self._path, f"it ends after {len(start)} bytes")
        _, version, length = START.unpack(start)
        if version != VERSION:
            raise SessionFileError(self._path, f"version {version}; this is version {VERSION}")
        end = START.size + length
        if length > HEAD_LIMIT or end + SUM > self._source.size:
            raise SessionFileError(self._path, f"a head of {length} bytes in a file of {self._source.size}")
        self._check_sum()
        head = _parse(self._source.read_at(START.size, length), self._path)
        for name in ("model", "cache_type", "fingerprint"):
            if getattr(head, name) != getattr(expected, name):
                raise SessionMismatch(self._path, name, getattr(expected, name), getattr(head, name))
        n = head.n_tokens
        if n % PAGE or not 0 <= n <= self._cache.n_ctx:
            raise SessionFileError(self._path, f"{n} tokens; the context has {self._cache.n_ctx}, in pages of {PAGE}")
        size = end + 4 * n + SUM
        for c in self._cache.classes:
            size += (n // PAGE - c.first_needed(n)) * c.page_bytes
        if size != self._source.size:
            raise SessionFileError(self._path, f"{self._source.size} bytes; {n} tokens of this model take {size}")
        return head, end

    def _check_sum(self) -> None:
        import hashlib  # brings a cryptographic library of 3 MB: only where it is needed

        digest, at, end = hashlib.sha256(), 0, self._source.size - SUM
        while at < end:
            piece = self._source.read_at(at, min(PIECE, end - at))
            if not piece:
                raise SessionFileError(self._path, f"it ends after {at} bytes, it had {self._source.size}")
            digest.update(piece)
            at += len(piece)
        if self._source.read_at(end, SUM) != digest.digest():
            raise SessionFileError(self._path, "the checksum is wrong: the file is damaged")

    def _read_tokens(self, n_vocab: int) -> list[int]:
        n = self.head.n_tokens
        tokens = np.frombuffer(self._source.read_at(self._at, 4 * n), "<i4")
        if len(tokens) != n or (n and not 0 <= tokens.min() <= tokens.max() < n_vocab):
            raise SessionFileError(self._path, f"tokens outside the vocabulary of {n_vocab}")
        return [int(t) for t in tokens]

    def fill(self, slot: int) -> None:
        """Put the pages into the places of a sequence that has these tokens. Raises SessionFileError when the file was
        changed meanwhile."""
        at = self._at + 4 * self.head.n_tokens
        for part in _pages(self._cache, slot, self.head.n_tokens):
            data = self._source.read_at(at, part.nbytes)
            if len(data) != part.nbytes:
                raise SessionFileError(self._path, f"it ended after {at + len(data)} bytes while it was read")
            part[:] = np.frombuffer(data, np.uint8)
            at += part.nbytes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._source.close()


def _parse(text: bytes, path: str) -> Head:
    """The head of a file, every field checked. A checksum says that it is undamaged, not that it is meant well."""
    try:
        made = json.loads(text.decode("utf-8", "surrogatepass"))
        head = Head(**made)
    except (ValueError, TypeError, RecursionError) as e:
        raise SessionFileError(path, f"its head cannot be read: {str(e)[:100]}") from None
    texts = isinstance(head.messages, list) and all(
        isinstance(m, dict)
        and {"role", "content"} <= set(m) <= {"role", "content", "tool_calls", "tool_call_id", "name"}
        and all(isinstance(v, list if k == "tool_calls" else str) for k, v in m.items())
        for m in head.messages
    )
    names = all(isinstance(v, str) for v in (head.model, head.fingerprint, head.cache_type))
    if not texts or not names or type(head.n_tokens) is not int:
        raise SessionFileError(path, "a field of its head has the wrong type")
    return head


def _pages(cache: ModelKVCache, slot: int, n: int) -> Iterator[npt.NDArray[np.uint8]]:
    """The bytes of every page that a row at position n may see: views, keys and values in turn."""
    for c in cache.classes:
        for page in c.table[slot, c.first_needed(n) : n // PAGE]:
            for array in (c.pages.k, c.pages.v):
                yield array[page].reshape(-1).view(np.uint8)


@contextmanager
def _replacing(path: StrPath) -> Iterator[BinaryIO]:
    """A temporary file beside `path` that takes its place when the block ends, and is gone when it fails."""
    target = os.path.abspath(os.fspath(path))
    if os.path.exists(target) and not os.path.isfile(target):  # renaming would replace /dev/null itself
        raise SessionFileError(target, "not a regular file")
    with replacing(target) as f:
        yield f
