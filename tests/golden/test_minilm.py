"""all-MiniLM-L6-v2, from its folder: the embeddings of 50 texts are sentence-transformers', in F32 and in Q8_0.

tools/make_minilm_golden.py makes the figures.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from zigllama.inference.model import Model
from zigllama.models.conversion.convert import convert

GOLDEN = Path(__file__).resolve().parent
LEAST = {"F32": 0.9999, "Q8_0": 0.999}  # cosine, as the issue asks


@pytest.fixture(scope="module")
def about() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((GOLDEN / "minilm.json").read_text("utf-8"))
    return found


@pytest.fixture(scope="module")
def want() -> npt.NDArray[np.float32]:
    with np.load(GOLDEN / "minilm.npz") as arrays:
        rows: npt.NDArray[np.float32] = arrays["embeddings"]
        return rows


@pytest.fixture(scope="module", params=LEAST)
def converted(
    request: pytest.FixtureRequest, minilm_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Model]]:
    path = tmp_path_factory.mktemp("minilm") / "minilm.gguf"
    convert(minilm_path, path, request.param)
    with Model(path, n_threads=2) as m:
        yield request.param, m


def test_golden_is_from_outside(about: dict[str, Any], want: npt.NDArray[np.float32]) -> None:
    assert about["oracle"].startswith("sentence-transformers ") and about["command"]
    assert len(about["texts"]) == 50 and want.shape == (50, 384)


def test_ids(about: dict[str, Any], converted: tuple[str, Model]) -> None:
    assert [converted[1].tokenizer.encode(text) for text in about["texts"]] == about["ids"]


def test_embeddings(about: dict[str, Any], want: npt.NDArray[np.float32], converted: tuple[str, Model]) -> None:
    """All at once, by the pooling that the folder asks for; and each alone, with the same bits."""
    kind, m = converted
    rows = m.embed(about["texts"])
    cosines = (rows * want).sum(axis=1) / np.linalg.norm(rows, axis=1) / np.linalg.norm(want, axis=1)
    print(f"{kind}: least cosine {cosines.min():.7f}, largest difference {np.abs(rows - want).max():.2g}")
    assert cosines.min() > LEAST[kind]
    for i in (0, 35, 48, 49):
        np.testing.assert_array_equal(m.embed(about["texts"][i])[0], rows[i])


def test_llama_cpp_opens_the_file(about: dict[str, Any], converted: tuple[str, Model]) -> None:
    """The same vectors from the same file, for the texts that it cuts alike: from Korean and Hindi it strips what is no
    accent, where ours keep to the library of the vocabulary (test_ids)."""
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    kind, m = converted
    path = m._loader.reader.paths[0]
    peer = llama_cpp.Llama(str(path), embedding=True, n_ctx=512, n_batch=512, n_ubatch=512, n_threads=2, verbose=False)
    same = [
        text
        for text, ids in zip(about["texts"], about["ids"], strict=True)
        if peer.tokenize(text.encode(), add_bos=True, special=False) == ids
    ]
    assert len(same) >= 48
    for text, row in zip(same, m.embed(same), strict=True):
        other = np.array(peer.embed(text))
        assert row @ other / np.linalg.norm(other) > LEAST[kind], text
