"""`import zigllama`: it is light because nothing is imported before it is needed, and every public name is really
there.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

import zigllama as zl


def run(script: str) -> str:
    """What a fresh Python prints for `script`. Nothing may appear on stderr."""
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    return done.stdout


def test_importing_prints_nothing_and_imports_nothing_heavy() -> None:
    script = "import sys; before = set(sys.modules); import zigllama; print(sorted(set(sys.modules) - before))"
    loaded = eval(run(script))
    ours = [name for name in loaded if name.startswith("zigllama")]
    assert ours == ["zigllama"]
    heavy = {
        "numpy",
        "jinja2",
        "cffi",
        "_cffi_backend",
        "argparse",
        "asyncio",
        "json",
        "zipfile",
        "subprocess",
        "importlib.metadata",
    }
    assert not heavy & set(loaded)


@pytest.mark.parametrize("name", zl.__all__)
def test_every_public_name_exists(name: str) -> None:
    assert getattr(zl, name) is not None
    assert name in dir(zl)


def test_star_import_gives_the_public_names() -> None:
    assert eval(run("import zigllama; from zigllama import *; print(all(n in globals() for n in zigllama.__all__))"))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'zigllama' has no attribute 'modle'"):
        zl.modle
