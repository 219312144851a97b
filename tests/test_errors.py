"""Nothing that can go wrong is without a test: every exception of errors.py, and every status of the C library.

Read from the sources with `ast`, so a new exception or status fails here until a test meets it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import zigllama
from zigllama import errors
from zigllama.foundation import native

PACKAGE = Path(zigllama.__file__).parent
TESTS = Path(__file__).parent
CKERNELS = TESTS.parent / "ckernels"


def classes(source: str) -> dict[str, list[str]]:
    """Classes of a module -> the names of their bases."""
    found = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    return {node.name: [base.id for base in node.bases if isinstance(base, ast.Name)] for node in found}


def names(node: ast.AST) -> Iterator[str]:
    """The names, and last parts of dotted names, within a node."""
    for n in ast.walk(node):
        if isinstance(n, ast.Name):
            yield n.id
        elif isinstance(n, ast.Attribute):
            yield n.attr


def raised(source: str) -> set[str]:
    """Names that a file makes an exception of: called, or raised as they are."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            found.update(names(node.func))
        elif isinstance(node, ast.Raise) and node.exc is not None:
            found.update(names(node.exc))
    return found


def expected(source: str) -> set[str]:
    """Names that a test file waits for: in `raises(...)`, in `except`, or given to a table of cases or a decorator."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            found.update(*(names(argument) for argument in node.args))
        elif isinstance(node, ast.ExceptHandler) and node.type is not None:
            found.update(names(node.type))
    return found


def never_met(source: str, tests: set[str]) -> set[str]:
    """The exceptions of `source` that no test waits for."""
    return set(classes(source)) - tests


ERRORS = (PACKAGE / "errors.py").read_text("utf-8")
OTHERS = [path for path in TESTS.rglob("*.py") if path != Path(__file__)]


def test_every_exception_is_met_by_a_test() -> None:
    met = {name for path in OTHERS for name in expected(path.read_text("utf-8"))}
    assert not never_met(ERRORS, met)
    planted = ERRORS + "\n\nclass Frobnication(ZigllamaError):\n    pass\n"
    assert never_met(planted, met) == {"Frobnication"}


def test_a_mention_is_no_test() -> None:
    source = "from errors import A, B, C, D\nx: A = 1\ndef f() -> B: ...\n"
    assert not expected(source) & {"A", "B", "C", "D"}
    source += "with pytest.raises(errors.A): ...\ntry: ...\nexcept (B, C): ...\ntable(Case('x', D))\n"
    assert {"A", "B", "C", "D"} <= expected(source)


def test_every_exception_is_raised_somewhere_or_is_the_base_of_one() -> None:
    others = [path.read_text("utf-8") for path in PACKAGE.rglob("*.py") if path.name != "errors.py"]
    made = {name for text in others for name in raised(text)}
    made |= {cls.__name__ for cls in native._EXCEPTIONS.values()}
    tree = classes(ERRORS)
    bases = {base for parents in tree.values() for base in parents}
    assert set(tree) - made - bases == set()
    assert all(issubclass(getattr(errors, name), errors.ZigllamaError) for name in tree)


# --- the C library's statuses -----------------------------------------------------------------------------------------


def statuses() -> dict[str, int]:
    body = re.search(r"enum zl_status \{(.*?)\};", (CKERNELS / "include" / "zl_api.h").read_text("utf-8"), re.DOTALL)
    assert body is not None
    found = {name: int(n) for name, n in re.findall(r"(ZL_\w+) = (\d+)", re.sub(r"/\*.*?\*/", "", body[1]))}
    assert found.pop("ZL_OK") == 0
    assert len(found) >= 11
    return found


def test_every_status_is_met_by_the_selftest() -> None:
    text = "".join(path.read_text("utf-8") for path in (CKERNELS / "tests").glob("selftest*.c"))
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    assert {name for name in statuses() if not re.search(rf"\b{name}\b", text)} == set()


def test_every_status_is_given_by_the_library() -> None:
    text = "".join(path.read_text("utf-8") for path in (CKERNELS / "core").glob("*.c"))
    assert {name for name in statuses() if not re.search(rf"\b{name}\b", text)} == set()


BECOMES = {
    "ZL_E_ARG": errors.InvalidArgument,
    "ZL_E_SHAPE": errors.ShapeError,
    "ZL_E_TYPE": errors.DTypeError,
    "ZL_E_MEMORY": errors.OutOfMemory,
    "ZL_E_ISA": errors.UnknownName,
    "ZL_E_ISA_CPU": errors.ISAUnavailable,
    "ZL_E_THREAD": errors.NativeError,
    "ZL_E_FORK": errors.ForkedContext,
    "ZL_E_FAULT": errors.MappingFault,
    "ZL_E_BUSY": errors.ContextBusy,
    "ZL_E_BOUNDS": errors.InvalidArgument,
    "ZL_E_BLAS": errors.NativeError,
    "ZL_E_BUDGET": errors.GrammarBudget,
}


def test_every_status_becomes_its_exception() -> None:
    found = statuses()
    assert set(found) == set(BECOMES)
    for name, number in found.items():
        with pytest.raises(errors.ZigllamaError) as caught:
            native.check(number)
        assert type(caught.value) is BECOMES[name], name
    native.check(0)
    with pytest.raises(errors.NativeError) as unknown:
        native.check(max(found.values()) + 1)
    assert type(unknown.value) is errors.NativeError
