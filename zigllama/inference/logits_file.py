"""Log probabilities of a reference model over a text, in llama-perplexity's form: `--kl-divergence-base`.

    "_logits_"   u32 n_ctx   i32 n_vocab   i32 n_chunk   i32 tokens[n_chunk][n_ctx]
    then of every window the rows of its scored half, n_ctx - 1 - n_ctx / 2 of them:
    f32 scale   f32 lowest   u16 code[n_vocab]   (u16 0 where n_vocab is odd)          log p = scale * code + lowest

All little-endian. A row covers 16 nats below its maximum; what is less likely has code 0. 16 bits over 16 nats are
steps of 0.00024.

What it is not: text, a name of the model, or a checksum: the file has none. Only sizes and values can be checked.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from zigllama.errors import InvalidArgument, LogitsFileError, Truncated
from zigllama.foundation.byte_source import StrPath
from zigllama.foundation.replacement import replacing
from zigllama.foundation.runtime import F32, I32
from zigllama.inference.scoring import log_sum_exp

MAGIC = b"_logits_"
HEAD = struct.Struct("<8sIii")
SPAN = np.float32(16.0)  # nats below the maximum that codes reach
LEVELS = np.float32(65535.0)


class Row(NamedTuple):
    """log p = scale * code + lowest, codes uint16 (V,)."""

    scale: np.float32
    lowest: np.float32
    code: npt.NDArray[np.uint16]

    def log_probs(self) -> F32:
        """float32 (V,)"""
        out: F32 = self.scale * self.code.astype(np.float32) + self.lowest
        return out


def pack(row: F32) -> Row:
    """Logits (V,) as codes: scale = (max - min) / 65535 with min at least max - 16, half to even."""
    top = row.max()
    bottom = max(row.min(), top - SPAN)
    lowest = np.float32(bottom - top - np.float32(log_sum_exp(row) - float(top)))
    scale = np.float32((top - bottom) / LEVELS)
    if not scale:
        return Row(scale, lowest, np.zeros(len(row), np.uint16))
    codes = np.rint((np.maximum(row, bottom) - bottom) * (np.float32(1.0) / scale))
    return Row(scale, lowest, codes.astype(np.uint16))


def row_type(n_vocab: int) -> np.dtype[np.void]:
    """A row as it lies in the file."""
    pad = [("pad", "<u2")] if n_vocab % 2 else []
    return np.dtype([("scale", "<f4"), ("lowest", "<f4"), ("code", "<u2", (n_vocab,)), *pad])


def n_scored(n_ctx: int) -> int:
    """Tokens of a window of n_ctx that are scored: those after its middle one."""
    return n_ctx - 1 - n_ctx // 2


class LogitsWriter:
    """Writes the rows of `windows` (n_chunk, n_ctx) one by one: `add(row of logits)`. The file takes its place when the
    `with` block ends, whole. Raises LogitsFileError for a path that is no regular file, InvalidArgument where rows are
    missing or are too many, OSError."""

    def __init__(self, path: StrPath, windows: I32, n_vocab: int) -> None:
        self.path, self.n_vocab = os.fspath(path), n_vocab
        self.n_chunk, self.n_ctx = windows.shape
        self.n_rows, self._due = 0, self.n_chunk * n_scored(self.n_ctx)
        if os.path.exists(path) and not os.path.isfile(path):
            raise LogitsFileError(str(self.path), "not a regular file")
        self._record = np.zeros((), row_type(n_vocab))
        self._windows = windows
        self._block: AbstractContextManager[BinaryIO] = replacing(path, 0o666)

    def add(self, row: F32) -> None:
        """The next row."""
        if self.n_rows == self._due:
            raise InvalidArgument(f"a row more than the {self._due} of {self.n_chunk} windows of {self.n_ctx}")
        packed = pack(row)
        self._record["scale"], self._record["lowest"], self._record["code"] = packed
        self._file.write(self._record.tobytes())
        self.n_rows += 1

    def __enter__(self) -> Self:
        self._file = self._block.__enter__()
        try:
            self._file.write(HEAD.pack(MAGIC, self.n_ctx, self.n_vocab, self.n_chunk))
            self._file.write(self._windows.astype("<i4").tobytes())
        except BaseException as error:
            self._block.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and self.n_rows != self._due:
            error = InvalidArgument(f"{self.n_rows} rows of {self._due} were written")
            self._block.__exit__(type(error), error, None)
            raise error
        self._block.__exit__(kind, error, trace)


class LogitsReader:
    """A file of saved logits: n_ctx, n_vocab, n_chunk, `windows` (n_chunk, n_ctx), and `rows(i)` of a window.

    Raises LogitsFileError for what is no such file or has impossible numbers, Truncated, OSError.
    """

    def __init__(self, path: StrPath) -> None:
        self.path = str(os.fspath(path))
        self._file = open(path, "rb", 0)  # noqa: SIM115  closed by close()
        try:
            self._read_head()
        except BaseException:
            self.close()
            raise

    def _read_head(self) -> None:
        head, size = self._file.read(HEAD.size), os.fstat(self._file.fileno()).st_size
        if head[: len(MAGIC)] != MAGIC:
            raise LogitsFileError(self.path, f"it begins with {head[:8]!r}, not {MAGIC!r}")
        if len(head) < HEAD.size:
            raise Truncated(f"the head of {self.path}", HEAD.size, len(head))
        _, self.n_ctx, self.n_vocab, self.n_chunk = HEAD.unpack(head)
        if self.n_ctx < 3 or self.n_vocab < 1 or self.n_chunk < 1:
            shape = f"{self.n_chunk} windows of {self.n_ctx} tokens over a vocabulary of {self.n_vocab}"
            raise LogitsFileError(self.path, f"{shape}: want at least 1 of 3 over 1")
        n_tokens = self.n_chunk * self.n_ctx
        self._rows_at = HEAD.size + 4 * n_tokens
        n_rows = self.n_chunk * n_scored(self.n_ctx)
        row_bytes = 8 + 2 * (self.n_vocab + self.n_vocab % 2)
        if (need := self._rows_at + n_rows * row_bytes) > size:  # before anything of that size is asked for
            raise Truncated(f"{self.path} with {n_rows} rows of {self.n_vocab} codes", need, size)
        self._type = row_type(self.n_vocab)
        tokens = np.fromfile(self._file, "<i4", n_tokens).astype(np.int32)
        if (bad := np.flatnonzero((tokens < 0) | (tokens >= self.n_vocab))).size:
            raise LogitsFileError(
                self.path, f"token {bad[0]} is {tokens[bad[0]]}, outside the vocabulary of {self.n_vocab}"
            )
        self.windows: I32 = tokens.reshape(self.n_chunk, self.n_ctx)

    def rows(self, window: int) -> Iterator[Row]:
        """The rows of a window's scored tokens. Raises Truncated, LogitsFileError for a row that is not of numbers."""
        n = n_scored(self.n_ctx)
        for i in range(window * n, (window + 1) * n):
            at = self._rows_at + i * self._type.itemsize
            self._file.seek(at)
            raw = self._file.read(self._type.itemsize)
            if len(raw) < self._type.itemsize:
                raise Truncated(f"row {i} of {self.path}", at + self._type.itemsize, at + len(raw))
            record = np.frombuffer(raw, self._type)[0]
            row = Row(record["scale"], record["lowest"], record["code"])
            if not (np.isfinite(row.scale) and np.isfinite(row.lowest) and row.scale >= 0):
                raise LogitsFileError(self.path, f"row {i} has scale {row.scale} and lowest {row.lowest}")
            yield row

    def close(self) -> None:
        """Closing twice is allowed."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
