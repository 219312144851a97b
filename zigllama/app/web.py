"""One GET over HTTP: the answer, or a typed reason why there is none. Redirects are followed with care.

What it is not: it stores nothing and tries nothing twice (download.py).
"""

from __future__ import annotations

import http.client
import re
import urllib.error
import urllib.request
from email.message import Message
from typing import IO, Any
from urllib.parse import urlsplit

from zigllama.app.console import printable
from zigllama.app.remote import Source
from zigllama.errors import PullError

TIMEOUT_S = 30.0  # without a byte


class Status(Exception):
    """An answer that is no file."""

    def __init__(self, code: int, reason: str) -> None:
        self.code, self.reason = code, printable(reason)

    def as_pull_error(self, source: Source) -> PullError:
        """With what the user can do."""
        todo = {
            401: "it needs a login: set HF_TOKEN, or `hf auth login`" if source.hub else "it needs a login",
            403: "it is not given to everyone: accept its licence on the model's page, and set HF_TOKEN"
            if source.hub
            else "it is not given to everyone",
            302: "its redirects lead nowhere",
            404: "there is no such file; is the name spelled right?",
        }
        rest = todo.get(self.code, "try again later, or fetch it by other means")
        return PullError(f"{source.name}: the server answered {self.code} {self.reason} for {source.url}: {rest}")


class Unreachable(Exception):
    """Nobody answers."""

    def as_pull_error(self, source: Source) -> PullError:
        """With what the user can do."""
        return PullError(
            f"{source.name} cannot be fetched: {self}. Without a network here: on a machine that has one fetch "
            f"{source.url}, and copy it to {source.path}"
        )


class Answer:
    """A response, and what the hub said of the file on the way to it."""

    def __init__(self, raw: http.client.HTTPResponse, linked: dict[str, Any]) -> None:
        self.raw, self.linked = raw, linked
        self.status, self.headers, self.read1 = raw.status, raw.headers, raw.read1

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.raw.close()


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to http and https only, never from the second to the first, and takes the token to no other host."""

    max_redirections = 5

    def __init__(self) -> None:
        self.linked: dict[str, Any] = {}

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if new.scheme not in ("http", "https") or (old.scheme, new.scheme) == ("https", "http"):
            raise PullError(f"{req.full_url} redirects to {printable(newurl)}, which is not followed")
        self.linked |= _linked(headers)
        made = super().redirect_request(req, fp, code, msg, headers, newurl)
        if made is not None and (old.scheme, old.netloc) != (new.scheme, new.netloc):
            made.remove_header("Authorization")
        return made


def _linked(headers: Message) -> dict[str, Any]:
    """What the hub's first answer says of a file that another server has: the ETag of a large file is its sha256."""
    found: dict[str, Any] = {}
    etag, length = headers.get("X-Linked-Etag", "").strip('"'), headers.get("X-Linked-Size", "")
    if re.fullmatch(r"[0-9a-f]{64}", etag):
        found["sha256"] = etag
    if (size := natural(length)) is not None:
        found["size"] = size
    return found


def natural(text: str) -> int | None:
    """A number of bytes; None for what is none, or could not be a file's size."""
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def strong_etag(headers: Message) -> str | None:
    """The ETag, where it stands for the very bytes: a weak one does not."""
    etag = headers.get("ETag")
    return etag if etag is not None and etag.startswith('"') else None


def open_url(source: Source, headers: dict[str, str]) -> Answer:
    """Ask. Raises Status for an answer that is no file, Unreachable, and PullError for a redirect that is refused."""
    own = {"Accept-Encoding": "identity", "User-Agent": "zigllama"}
    request = urllib.request.Request(source.url, headers=own | headers)
    if source.token:
        request.add_header("Authorization", f"Bearer {source.token}")
    redirects = Redirects()
    try:
        raw = urllib.request.build_opener(redirects).open(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        with error:
            raise Status(error.code, str(error.reason)) from None
    except PullError:
        raise
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(printable(str(getattr(error, "reason", error)))) from error
    except ValueError as error:  # a place to go to that is no URL
        raise PullError(f"{source.name}: the server's answer cannot be followed: {printable(str(error))}") from error
    if raw.status not in (200, 206):
        with raw:
            raise Status(raw.status, raw.reason)
    return Answer(raw, redirects.linked | _linked(raw.headers))
