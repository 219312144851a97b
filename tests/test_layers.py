"""The layers of the package, read from the source with `ast`, imports inside functions included.

import-linter checks the same contracts (pyproject.toml); this test also sees what it cannot: who imports the C
extension, and that the errors import nothing.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import zigllama

ROOT = Path(zigllama.__file__).parent
# Lowest first; a module imports from layers strictly below its own, or from within it.
LAYERS = ["foundation", "linear_algebra", "neural_primitives", "transformers", "models", "inference", "app"]
# These stand outside the layers on purpose: they re-export, or start the command line.
EXEMPT = {"__init__.py", "__main__.py", "kernels.py", "gguf.py"}
EXTENSION = "zigllama._ckernels"


def imported(tree: ast.Module, package: str) -> Iterator[tuple[str, int]]:
    """Every module that a file of `package` imports anywhere, as (dotted name, line).

    `from a import b` yields both a and a.b.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], *([node.module] if node.module else [])])
            yield base, node.lineno
            for alias in node.names:
                yield f"{base}.{alias.name}", node.lineno
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in (
            "import_module",
            "__import__",
        ):
            for argument in node.args:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield argument.value, node.lineno


def violations(relative: str, source: str) -> list[str]:
    """What a file at `relative` (to the package) imports against the rules."""
    package = ".".join(["zigllama", *Path(relative).parts[:-1]])
    names = list(imported(ast.parse(source), package))
    found = []
    if relative != "foundation/native.py":
        found += [
            f"{relative}:{line}: only foundation/native.py imports {EXTENSION}"
            for name, line in names
            if name == EXTENSION
        ]
    if relative == "errors.py":
        found += [
            f"{relative}:{line}: errors.py imports nothing, not {name}"
            for name, line in names
            if name.split(".")[0] != "__future__"
        ]
    top = Path(relative).parts[0]
    if relative in EXEMPT or top == "errors.py":
        return found
    if top not in LAYERS:
        return [*found, f"{relative}: not in a layer"]
    for name, line in names:
        parts = name.split(".")
        if parts[0] != "zigllama":
            continue
        if len(parts) == 1:
            found += (
                []
                if any(other.startswith("zigllama.") and at == line for other, at in names)
                else [f"{relative}:{line}: imports the package itself"]
            )
        elif parts[1] in LAYERS and LAYERS.index(parts[1]) > LAYERS.index(top):
            found.append(f"{relative}:{line}: {top} must not import {name}")
        elif parts[1] not in LAYERS and parts[1] not in ("errors", "_ckernels", "__version__") and top != "app":
            found.append(f"{relative}:{line}: must not import {name}, which re-exports from above")
    return found


def test_every_module_keeps_the_layers() -> None:
    files = sorted(ROOT.rglob("*.py"))
    assert len(files) > len(LAYERS)
    found = [v for path in files for v in violations(path.relative_to(ROOT).as_posix(), path.read_text("utf-8"))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("relative", "source"),
    [
        ("foundation/tensor.py", "from zigllama.linear_algebra import quantization"),
        ("foundation/tensor.py", "def f():\n    import zigllama.models.llama"),
        ("models/llama.py", "from ..inference import kv_cache"),
        ("models/llama.py", "from importlib import import_module\nimport_module('zigllama.inference.model')"),
        ("inference/model.py", "from zigllama.app.pull import pull"),
        ("inference/model.py", "import zigllama"),
        ("transformers/spec.py", "from zigllama import kernels"),
        ("linear_algebra/matrix_ops.py", "from zigllama._ckernels import lib"),
        ("linear_algebra/matrix_ops.py", "from zigllama import _ckernels"),
        ("errors.py", "import numpy"),
        ("extra.py", ""),
    ],
)
def test_a_broken_rule_is_found(relative: str, source: str) -> None:
    assert violations(relative, source)


@pytest.mark.parametrize(
    ("relative", "source"),
    [
        (
            "models/llama.py",
            "from zigllama.transformers.spec import Spec\nfrom zigllama.models.registry import register",
        ),
        ("models/llama.py", "from zigllama import errors"),
        ("foundation/native.py", "from zigllama import _ckernels"),
        ("app/main.py", "from zigllama import __version__, errors"),
    ],
)
def test_what_is_allowed_is_not_reported(relative: str, source: str) -> None:
    assert not violations(relative, source)
