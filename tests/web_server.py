"""A server on loopback that sends files, and misbehaves where a test wants it to.

`Web.files` says what there is by path. Each request takes the first of `Web.faults` for its path, if there is one, and
is put down in `Web.seen`.
"""

from __future__ import annotations

import re
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class File:
    """What is sent for a path. etag None: none is sent; `resumes` False: whole files only."""

    data: bytes = b""
    etag: str | None = '"one"'
    resumes: bool = True
    moved: str = ""  # redirect there
    headers: dict[str, str] = field(default_factory=dict)
    needs_token: str = ""


@dataclass
class Fault:
    """What goes wrong once.

    cut       close after so many bytes of the body
    length    the Content-Length that is announced; None: none at all, the end is where the connection closes
    status    answer so instead
    change    the file is another one from this request on
    force     answer a range with 206 whatever If-Range says
    shift     answer a range with bytes that begin so much later
    """

    cut: int = -1
    length: int | None = -1
    status: int = 0
    change: File | None = None
    force: bool = False
    shift: int = 0
    chunked: bool = False


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    status: int = 0


class Web:
    """The server: `url("/m.gguf")`, what it has, what it was asked."""

    def __init__(self) -> None:
        self.files: dict[str, File] = {}
        self.faults: dict[str, list[Fault]] = defaultdict(list)
        self.seen: list[Request] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                web.answer(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.server.server_address[1]}{path}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, h: BaseHTTPRequestHandler) -> None:
        h.close_connection = True
        seen = Request(h.path, {k.lower(): v for k, v in h.headers.items()})
        self.seen.append(seen)
        path = h.path.partition("?")[0]
        fault = self.faults[path].pop(0) if self.faults[path] else Fault()
        if fault.change is not None:
            self.files[path] = fault.change
        file = self.files.get(path)
        status, body, extra = self._what(seen, file, fault)
        seen.status = status
        h.send_response(status)
        for key, value in {**(file.headers if file else {}), **extra}.items():
            h.send_header(key, value)
        if file and file.etag:
            h.send_header("ETag", file.etag)
        if fault.chunked:
            h.send_header("Transfer-Encoding", "chunked")
            body = b"%x\r\n%b\r\n" % (len(body), body) + b"0\r\n\r\n"
        elif fault.length is not None:
            h.send_header("Content-Length", str(len(body) if fault.length < 0 else fault.length))
        h.send_header("Connection", "close")
        h.end_headers()
        h.wfile.write(body if fault.cut < 0 else body[: fault.cut])

    def _what(self, seen: Request, file: File | None, fault: Fault) -> tuple[int, bytes, dict[str, str]]:
        """Status, body, further headers."""
        if fault.status:
            return fault.status, b"", {}
        if file is None:
            return 404, b"", {}
        if file.needs_token and seen.headers.get("authorization") != f"Bearer {file.needs_token}":
            return 401, b"", {}
        if file.moved:
            return 302, b"", {"Location": file.moved}
        if file.etag and seen.headers.get("if-none-match") == file.etag:
            return 304, b"", {}
        match = re.fullmatch(r"bytes=(\d+)-", seen.headers.get("range", ""))
        same = fault.force or seen.headers.get("if-range", file.etag) == file.etag
        if match is None or not file.resumes or not same:
            return 200, file.data, {}
        begin, n = int(match[1]) + fault.shift, len(file.data)
        if begin >= n:
            return 416, b"", {"Content-Range": f"bytes */{n}"}
        return 206, file.data[begin:], {"Content-Range": f"bytes {begin}-{n - 1}/{n}"}


@contextmanager
def serving() -> Iterator[Web]:
    web = Web()
    try:
        yield web
    finally:
        web.close()
