"""What a user calls a model that is somewhere else: a URL, or `hf:owner/repo/file`; and where the cache keeps it.

    https://host/path/m.gguf#sha256=...      models/url/<12 digits of a sha256: of the folder, and of ?...>/m.gguf
    hf:owner/repo/m.gguf                     models/hf/owner/repo/m.gguf
    hf:owner/repo@revision/dir/m.gguf        models/hf/owner/repo@revision/dir/m.gguf

A file keeps its name, and files of one folder stay together: the parts of a split model find each other. What follows a
? is another place: it may well name another file.

The hub's address is `HF_ENDPOINT`, else the public one. Where the package huggingface_hub is installed (the extra
`hub`) it says what the file's URL is, and the token of whoever has logged in; else the URL is put together here, and
the token is `HF_TOKEN`.

What it is not: it fetches nothing (download.py).
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from zigllama.app.catalogue import models_dir
from zigllama.app.console import printable
from zigllama.errors import InvalidArgument

HUB = "https://huggingface.co"
_HUB_NAME = re.compile(r"hf:(?P<owner>[\w.-]+)/(?P<repo>[\w.-]+)(?:@(?P<revision>[\w.-]+))?/(?P<file>.+)", re.ASCII)


@dataclass(frozen=True)
class Source:
    """A file somewhere else.

    name     what the user wrote, without the sum
    url      where it is fetched from
    path     where the cache has it, or will have it
    sha256   what it must be, or None
    token    sent to the URL's own host only, or None
    hub      the server is the hub's: what it says of a file's sha256 and size counts
    """

    name: str
    url: str
    path: Path
    sha256: str | None
    token: str | None = None
    hub: bool = False

    @property
    def part(self) -> Path:
        """What of the file is there while it is not whole."""
        return self.path.with_name(f"{self.path.name}.part")

    @property
    def record(self) -> Path:
        """What the server said of the file: see download.Record."""
        return self.path.with_name(f".{self.path.name}.json")

    @property
    def part_record(self) -> Path:
        """The same of the part."""
        return self.path.with_name(f".{self.path.name}.part.json")


def is_remote(text: str) -> bool:
    """Whether `text` is a URL or a name of the hub's."""
    return text.startswith(("hf:", "http://", "https://"))


def source_of(text: str, sha256: str | None = None) -> Source:
    """What `text` means, with a sum in its fragment or in `sha256`. Raises InvalidArgument for what names no file, for
    something that is no sum, and for two sums."""
    if text.startswith("hf:"):
        name, _, fragment = text.partition("#")
        return _of_hub(name, _sum(fragment, sha256, name))
    try:
        parts = urlsplit(text)
        port, host = parts.port, parts.hostname or ""
    except ValueError as error:
        raise InvalidArgument(f"{printable(text)}: {error}") from None
    name = urlunsplit(parts._replace(fragment=""))
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise InvalidArgument(f"{printable(text)}: expected a URL of http or https, or hf:owner/repo/file")
    if not host.isascii() or "@" in parts.netloc:
        raise InvalidArgument(f"{printable(text)}: a host is expected, in ASCII (xn--...), without a user before it")
    folder, _, last = parts.path.rpartition("/")
    file = _file_name(unquote(last), name)
    place = f"{parts.scheme}://{parts.netloc}{folder}" + (f"?{parts.query}" if parts.query else "")
    path = models_dir() / "url" / hashlib.sha256(place.encode("utf-8", "surrogatepass")).hexdigest()[:12] / file
    sent = parts._replace(path=_ascii(parts.path), query=_ascii(parts.query), fragment="")
    return Source(name, urlunsplit(sent), path, _sum(parts.fragment, sha256, name))


def _ascii(text: str) -> str:
    """Part of a URL with what may not stand in one encoded; what is encoded already stays."""
    return quote(text, safe="!#$%&'()*+,/:;=?@[]~", errors="surrogatepass")


def _of_hub(name: str, sha256: str | None) -> Source:
    match = _HUB_NAME.fullmatch(name)
    if match is None or {match["owner"], match["repo"], match["revision"]} & {".", ".."}:
        raise InvalidArgument(f"{printable(name)}: expected hf:owner/repo/file or hf:owner/repo@revision/file")
    owner, repo, revision, file = match.group("owner", "repo", "revision", "file")
    folders = [_file_name(part, name) for part in file.split("/")]
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or HUB
    library = _library()
    if library is not None:
        url = library.hf_hub_url(f"{owner}/{repo}", file, revision=revision, endpoint=endpoint)
        token = library.get_token()
    else:
        url = f"{endpoint}/{owner}/{repo}/resolve/{quote(revision or 'main', safe='')}/{quote(file)}"
        token = os.environ.get("HF_TOKEN") or None
    kept = repo if revision is None else f"{repo}@{revision}"
    return Source(name, url, models_dir().joinpath("hf", owner, kept, *folders), sha256, token, hub=True)


def _library() -> Any:
    """The module huggingface_hub, or None where it is not installed."""
    if importlib.util.find_spec("huggingface_hub") is None:
        return None
    return importlib.import_module("huggingface_hub")


def _file_name(text: str, name: str) -> str:
    """A part of a path that can be a file's name here: no way out of the cache, nothing that hides, no controls."""
    odd = text.startswith(".") or "/" in text or "\\" in text or not text.isprintable() or len(text) > 200
    if not text or odd or text.endswith(".part"):  # the last is half a file's
        raise InvalidArgument(f"{printable(name)}: {printable(text)!r} cannot be the name of a file in the cache")
    return text


def _sum(fragment: str, given: str | None, name: str) -> str | None:
    """The sum that is asked for, in small letters."""
    if fragment and not fragment.startswith("sha256="):
        raise InvalidArgument(f"{printable(name)}: after # expected sha256=..., found {printable(fragment)!r}")
    sums = {s.lower() for s in (fragment.removeprefix("sha256="), given or "") if s}
    for s in sums:
        if not re.fullmatch(r"[0-9a-f]{64}", s):
            raise InvalidArgument(
                f"{printable(s)!r} is no sha256: expected 64 hexadecimal digits, found {len(s)} letters"
            )
    if len(sums) > 1:
        raise InvalidArgument(f"{printable(name)}: two different sums, {' and '.join(sorted(sums))}")
    return sums.pop() if sums else None
