"""What the golden tests share: the engine's `Model`, the golden files, and the small models built once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

GOLDEN = Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def model_class() -> Any:
    """`zigllama.Model`."""
    import zigllama

    return zigllama.Model


@pytest.fixture(scope="session")
def load_golden() -> Callable[[str], tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]]:
    """Read a golden file: its JSON and its arrays."""

    def load(name: str) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        about = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
        with np.load(GOLDEN / f"{name}.npz") as arrays:
            return about, dict(arrays)

    return load


@pytest.fixture(scope="module")
def golden_model(request: pytest.FixtureRequest, small_model: Callable[[str], Path], model_class: Any) -> Iterator[Any]:
    """The small model that a file's GOLDEN was written with, to the byte."""
    golden = request.module.GOLDEN
    path = small_model(golden["model"])
    assert hashlib.sha256(path.read_bytes()).hexdigest() == golden["sha256"]
    with model_class(path, n_ctx=128) as m:
        yield m
