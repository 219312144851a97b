"""The rule about skips, applied to small runs of pytest: unseen skips fail a strict run, permitted ones do not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent

BARE = "def test_skipped():\n    pytest.skip({reason!r})\n"
MARKED = "@pytest.mark.skip(reason={reason!r})\ndef test_skipped():\n    pass\n"
EXPECTED_FAILURE = "@pytest.mark.xfail(reason={reason!r})\ndef test_skipped():\n    assert False\n"
MODULE = "pytest.importorskip('no_such_module_at_all', reason={reason!r})\n"
FORMS = [BARE, MARKED, EXPECTED_FAILURE, MODULE]


def run(folder: Path, test: str, strict: bool) -> subprocess.CompletedProcess[str]:
    for name in ("conftest.py", "permitted_skips.txt"):
        shutil.copy(HERE / name, folder)
    (folder / "test_passes.py").write_text("def test_passes():\n    pass\n")
    (folder / "test_small.py").write_text(f"import pytest\n\n{test}")
    environment = {k: v for k, v in os.environ.items() if k not in ("CI", "ZIGLLAMA_STRICT_SKIPS")}
    environment |= {"ZIGLLAMA_STRICT_SKIPS": "1"} if strict else {}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder)]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("form", FORMS)
def test_a_skip_that_is_not_in_the_list_fails_a_strict_run(tmp_path: Path, form: str) -> None:
    done = run(tmp_path, form.format(reason="did not feel like it"), strict=True)
    assert done.returncode == 1, done.stdout
    assert "does not permit" in done.stdout
    assert "did not feel like it" in done.stdout


def test_it_does_not_fail_another_run(tmp_path: Path) -> None:
    assert run(tmp_path, BARE.format(reason="did not feel like it"), strict=False).returncode == 0


def test_a_permitted_skip_passes_a_strict_run(tmp_path: Path) -> None:
    reason = "model smollm2 is not in the cache; `zigllama pull smollm2` fetches it"
    done = run(tmp_path, BARE.format(reason=reason), strict=True)
    assert done.returncode == 0, done.stdout
    assert "1 skipped" in done.stdout
