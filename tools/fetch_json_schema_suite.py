"""Fetch the official JSON Schema test suite into the cache, as one file.

    python tools/fetch_json_schema_suite.py                        through pip, 0.4 MB
    python tools/fetch_json_schema_suite.py --sdist FILE.tar.gz    from a source distribution that is there already

It travels in a source distribution on PyPI, that of jsonschema (pinned_sdist.py says what is done with it).
tests/golden/json_schema_suite.json pins its sum and that of what is made of it.

    CACHE/json_schema_suite.json    {"tests/draft7/items.json": its text, "remotes/integer.json": its text, ...}

After: `pytest tests/inference/grammar/json_schema/test_suite.py`.
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
from zigllama.errors import ChecksumMismatch

PINS: dict[str, Any] = json.loads(
    (Path(__file__).resolve().parent.parent / "tests" / "golden" / "json_schema_suite.json").read_text("utf-8")
)


def suite() -> Path:
    """Where the suite is, or will be."""
    return cache_dir() / "json_schema_suite.json"


def take_out(archive: Path) -> None:
    """Put the suite's files together, check the whole, write it. Raises ChecksumMismatch."""
    texts = {
        name: read().decode()
        for name, read in pinned_sdist.files_of(archive, PINS["sha256"], PINS["folder"])
        if name.endswith(".json") and name.startswith(("tests/", "remotes/"))
    }
    data = json.dumps(texts, sort_keys=True).encode()
    found = hashlib.sha256(data).hexdigest()
    if found != PINS["suite"]:
        raise ChecksumMismatch("the suite", PINS["suite"], found)
    pinned_sdist.put(suite(), data)


def main() -> int:
    """Fetch it where it is missing."""
    path = suite()
    lock = path.with_name(".json_schema_suite.lock")
    code = pinned_sdist.fetch(
        __doc__ or "", PINS, lock, lambda: not path.is_file() or sum_of_file(path) != PINS["suite"], take_out
    )
    if code == 0:
        print(f"{path}: as pinned")
    return code


if __name__ == "__main__":
    sys.exit(main())
