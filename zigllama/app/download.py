"""Fetch one file over HTTP into the cache, whole or not at all: `download(source_of("https://.../m.gguf"))`.

    m.gguf.part    what has arrived                            .m.gguf.part.json   what the server said: ETag and size
    m.gguf         appears at the end, after every check       .m.gguf.json        the same, and the sha256

A transfer that breaks off is taken up where it stopped, at once and also by the next command, with a Range request.
That is done only where it is sure to be the same file: the server has given a strong ETag, is asked for it (If-Range),
and answers with the same ETag, the same size and the very byte that was asked for; or the sum is known and decides at
the end. Anything else begins anew. (RFC 9110, sections 8.8.3, 13.1.5 and 14.)

What is checked before the rename: the length that was announced; the sha256 that was asked for, or that the hub gives;
and of a .gguf that all its tensors lie inside it, which finds a server that announces too little. A server that says
neither how long a file is nor what its sum must be is refused.

What it is not: it knows no catalogue and no names (remote.py).
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from email.message import Message
from pathlib import Path
from typing import IO, Any

from zigllama.app.cache_files import locked, sum_of_file
from zigllama.app.console import Progress, printable, size
from zigllama.app.remote import Source
from zigllama.app.web import Status, Unreachable, natural, open_url, strong_etag
from zigllama.errors import ChecksumMismatch, ModelFileError, PullError
from zigllama.foundation.byte_source import FileSource
from zigllama.foundation.gguf_header import parse_header
from zigllama.foundation.replacement import replacing

PIECE = 1 << 20  # bytes read at a time
TRIES = 4  # in a row that bring nothing that can be kept
BREAKS = 100  # in all
PAUSE_S = 0.5  # before the second try; doubles


@dataclass(frozen=True)
class Record:
    """What the server said: `etag` is strong or None, `size` None where it is not known; `expected` is a sum that the
    hub gave. `sha256` is the sum of the whole file, once it is there."""

    url: str
    etag: str | None = None
    size: int | None = None
    expected: str | None = None
    sha256: str | None = None

    @classmethod
    def read(cls, path: Path) -> Record | None:
        """None where there is none that can be used."""
        try:
            return cls(**json.loads(path.read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, path: Path) -> None:
        with replacing(path, 0o666) as f:
            f.write(json.dumps(asdict(self), indent=1).encode())


class _Broken(Exception):
    """The transfer broke off, or what came cannot be joined to what is there: try again."""


def download(
    source: Source, *, progress: bool, tell: Callable[[str], None], verify: bool = True, refresh: bool = False
) -> Path:
    """The file of `source` in the cache, fetched unless it is there.

    verify    check the sum of a file that is there; one that went bad is fetched anew
    refresh   ask the server whether it has another one by now

    Raises PullError (no network, refused, not found, no room; the message says what to do) and ChecksumMismatch. What
    has arrived of a file stays beside it as .part, for the next time; after a wrong sum nothing stays.
    """
    try:
        source.path.parent.mkdir(parents=True, exist_ok=True)
        lock = source.path.with_name(f".{source.path.name}.lock")
        with locked(lock, f"another process is fetching {source.name}; waiting for it", tell):
            known = _present(source, tell, verify)
            if known is not None and (not refresh or not known.etag or _unchanged(source, known)):
                if refresh and not known.etag:
                    tell(f"{source.name}: the server gave no ETag, so nothing tells whether it has changed")
                return source.path
            return _Fetch(source, progress, tell).run()
    except PullError:
        raise
    except OSError as error:
        raise PullError(
            f"{source.name} cannot be stored: {error}. Set ZIGLLAMA_CACHE to a folder with room that can be written"
        ) from error


def _present(source: Source, tell: Callable[[str], None], verify: bool) -> Record | None:
    """The record of a file that is there and good, else None. One that was copied there by hand has none yet."""
    if not source.path.is_file():
        return None
    record = Record.read(source.record) or Record(source.url)
    n_bytes = source.path.stat().st_size
    want = source.sha256 or record.sha256
    if record.size not in (None, n_bytes):
        tell(f"{source.path} has {n_bytes} bytes, {record.size} were fetched; fetching it anew")
        return None
    if want is None or source.sha256 not in (None, record.sha256) or verify:
        found = sum_of_file(source.path)
        if want is not None and found != want:
            tell(f"{source.path} does not have the sha256 {want}; fetching it anew")
            return None
        if record.sha256 != found:
            record = replace(record, size=n_bytes, sha256=found)
            record.write(source.record)
    return record


def _unchanged(source: Source, known: Record) -> bool:
    """Whether the server still has the file of that ETag."""
    assert known.etag is not None
    try:
        with open_url(source, {"If-None-Match": known.etag}) as answer:
            return strong_etag(answer.headers) == known.etag
    except Status as answer:
        if answer.code == 304:
            return True
        raise answer.as_pull_error(source) from None
    except Unreachable as error:
        raise error.as_pull_error(source) from error


class _Fetch:
    """One file on its way: attempts until it is whole, then the checks."""

    def __init__(self, source: Source, progress: bool, tell: Callable[[str], None]) -> None:
        self.source, self.progress, self.tell = source, progress, tell
        self.answered = False
        self.record = Record.read(source.part_record) or Record(source.url)
        if self.record.url != source.url or not self._may_join():
            self._begin_anew()
        if self.have:
            tell(f"{source.name}: {size(self.have)} are there; going on from there")

    @property
    def have(self) -> int:
        """Bytes that have arrived."""
        try:
            return self.source.part.stat().st_size
        except OSError:
            return 0

    def _may_join(self) -> bool:
        """Whether more can be put to what is there: an ETag or a sum will show whether it belongs to it."""
        return bool(self.record.etag or self.source.sha256 or self.record.expected)

    def _begin_anew(self) -> None:
        self.source.part.unlink(missing_ok=True)
        self.source.part_record.unlink(missing_ok=True)
        self.record = Record(self.source.url)

    def run(self) -> Path:
        """Fetch, check, rename."""
        in_vain = breaks = 0
        while True:
            before = self.have
            try:
                self._attempt()
                break
            except _Broken as error:
                gained = self.have > before and self._may_join()
                in_vain, breaks = (0 if gained else in_vain + 1), breaks + 1
                if in_vain >= TRIES or breaks >= BREAKS:
                    raise self._gave_up(error) from None
                if not self._may_join():
                    self._begin_anew()
                time.sleep(PAUSE_S * 2**in_vain)
        return self._finish()

    def _gave_up(self, error: _Broken) -> PullError:
        whole = "" if self.record.size is None else f" of {self.record.size}"
        kept = self.have and self._may_join()
        rest = "what is there is kept, and the same command goes on from there" if kept else "nothing is kept"
        if not kept:
            self._begin_anew()
        return PullError(f"{self.source.name} broke off after {self.have}{whole} bytes: {error}; {rest}")

    def _attempt(self) -> None:
        """One request, and all that comes. Raises _Broken, PullError."""
        have = self.have
        if have and have == self.record.size:
            return
        headers = {"Range": f"bytes={have}-"} if have else {}
        if have and self.record.etag:
            headers["If-Range"] = self.record.etag
        try:
            answer = open_url(self.source, headers)
        except Status as status:
            if status.code == 416:  # no such range: it is shorter now
                self._begin_anew()
                raise _Broken("the file on the server is shorter than what is here") from None
            if status.code == 429 or status.code >= 500:
                raise _Broken(f"the server answered {status.code} {status.reason}") from None
            raise status.as_pull_error(self.source) from None
        except Unreachable as error:
            if self.answered:  # the network went away in between
                raise _Broken(str(error)) from error
            raise error.as_pull_error(self.source) from error
        self.answered = True
        with answer:
            if answer.status == 206:
                self._check_joint(answer.headers, have)
            else:
                if have:
                    self.tell(
                        f"{self.source.name}: changed on the server, or it sends whole files only: from the start"
                    )
                have = 0
                self._note_new(answer)
            self._receive(answer, have)

    def _check_joint(self, headers: Message, have: int) -> None:
        """What the server sends must go on exactly where we are, of the same file."""
        match = re.fullmatch(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})", headers.get("Content-Range", ""))
        etag = strong_etag(headers)
        same = match is not None and int(match[1]) == have and self.record.size in (None, int(match[3]))
        if etag is None and (self.source.sha256 or self.record.expected):
            etag = self.record.etag  # it may be left out where the sum decides
        if not same or int(match[2]) + 1 != int(match[3]) or etag != self.record.etag:  # type: ignore[index]
            self.tell(f"{self.source.name}: the server's file is another one by now: from the start")
            self._begin_anew()
            raise _Broken(f"asked for byte {have} of {self.record.size}, got {headers.get('Content-Range')!r}, {etag}")
        self.record = replace(self.record, size=int(match[3]))  # type: ignore[index]

    def _note_new(self, answer: Any) -> None:
        """Begin with what the server says of the whole file."""
        self._begin_anew()
        headers = answer.headers
        if headers.get("Content-Encoding", "identity") != "identity":
            raise PullError(f"{self.source.name}: the server sends it as {printable(headers['Content-Encoding'])}")
        linked = answer.linked if self.source.hub else {}
        n_bytes = natural(headers.get("Content-Length", ""))
        said = linked.get("size")
        if said is not None and n_bytes not in (None, said):
            raise PullError(f"{self.source.name}: the hub says {said} bytes, the server that has them {n_bytes}")
        expected = linked.get("sha256")
        n_bytes = said if n_bytes is None else n_bytes
        if n_bytes is None and not (answer.raw.chunked or self.source.sha256 or expected):
            raise PullError(
                f"{self.source.name}: the server does not say how long the file is, so nobody could tell whether it is "
                "whole; give its sha256"
            )
        self.record = Record(self.source.url, strong_etag(headers), n_bytes, expected)
        self.record.write(self.source.part_record)

    def _receive(self, answer: Any, have: int) -> None:
        """All that comes, to the end of the part."""
        total = self.record.size
        free = shutil.disk_usage(self.source.path.parent).free
        if total is not None and total - have > free:
            raise PullError(
                f"{self.source.name} needs {size(total - have)}, {self.source.path.parent} has {size(free)} free; "
                "ZIGLLAMA_CACHE names another cache folder"
            )
        bar = Progress(self.source.path.name, total or 0, shown=self.progress and total is not None, begin=have)
        with bar, open(self.source.part, "r+b" if have else "wb") as out:
            out.seek(have)
            done = _copy(answer, out, bar, have)
            out.flush()
            os.fsync(out.fileno())
            if total is not None and done != total:
                raise _Broken(f"the server announced {total} bytes and closed after {done}")

    def _finish(self) -> Path:
        """The checks, and the name."""
        source, part = self.source, self.source.part
        found = sum_of_file(part)
        for want in (source.sha256, self.record.expected):
            if want is not None and found != want:
                self._begin_anew()
                raise ChecksumMismatch(source.name, want, found)
        if source.path.suffix.lower() == ".gguf":
            try:
                with contextlib.closing(FileSource(part)) as file:
                    parse_header(file)
            except ModelFileError as error:
                n_bytes = self.have
                self._begin_anew()
                raise PullError(f"{source.name}: what came ({n_bytes} bytes) is no whole GGUF file: {error}") from error
        done = replace(self.record, size=self.have, sha256=found)
        os.replace(part, source.path)
        done.write(source.record)
        source.part_record.unlink(missing_ok=True)
        self.tell(f"{source.path}: {size(source.path.stat().st_size)}, sha256 {found}")
        return source.path


def _copy(answer: Any, out: IO[bytes], bar: Progress, done: int) -> int:
    """Bytes in the file afterwards, however the transfer ends; what came stays. Raises _Broken."""
    while True:
        try:
            piece = answer.read1(PIECE)
        except (OSError, http.client.HTTPException) as error:
            raise _Broken(f"{type(error).__name__}: {error}") from error
        if not piece:
            return done
        out.write(piece)
        done += len(piece)
        bar.update(done)
