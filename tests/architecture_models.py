"""The small models of tests/architecture_variants/, rebuilt without transformers: golden figures, the folder with its
seeded weights, the converted file, and the engine on it.

A test module that takes the fixture `subject` is run over every variant that has golden files; the fixture holds what
is made until the variant is done, so that checks share one model.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import safetensors_folder
import seeded_weights
from architecture_variants import Variant, all_variants, rows_of
from small_vocabularies import NORMAL, byte_alphabet

from zigllama.foundation.gguf_format import GGUFReader
from zigllama.foundation.gguf_writer import TensorData, write
from zigllama.inference.model import Model
from zigllama.models.conversion.convert import convert
from zigllama.models.tokenizer import Tokenizer
from zigllama.models.vocabulary import PREFIX

GOLDEN = Path(__file__).resolve().parent / "golden" / "architectures"
NAMES = sorted(path.stem for path in GOLDEN.glob("*.json"))


def plain_tokenizer(n: int) -> Tokenizer:
    """Any text for any id: generation wants to write what the files, which have no vocabulary, do not need."""
    letters = byte_alphabet()[:n]
    tokens = [*letters, *(f"<{i}>" for i in range(n - len(letters)))]
    keys = {"model": "gpt2", "pre": "gpt-2", "tokens": tokens, "token_type": [NORMAL] * n, "merges": []}
    return Tokenizer.from_metadata({f"tokenizer.ggml.{key}": value for key, value in keys.items()})


class Subject:
    """One variant. `about` and `arrays` are the golden files' contents."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.place = name, folder
        self.variant: Variant = all_variants()[name]
        self.about: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text("utf-8"))
        self.ids: list[int] = self.about["ids"]
        self._model: Model | None = None

    @cached_property
    def arrays(self) -> dict[int, npt.NDArray[np.float32]]:
        """Length of a run -> the rows of its output that are kept, see `rows_of`."""
        with np.load(GOLDEN / f"{self.name}.npz") as arrays:
            return {int(key): arrays[key] for key in arrays.files}

    @cached_property
    def folder(self) -> Path:
        """The Hugging Face folder."""
        shapes = {key: tuple(shape) for key, shape in self.about["parameters"].items()}
        weights = seeded_weights.weights(self.name, shapes, self.variant)
        return safetensors_folder.folder(self.place / "folder", self.about["config"], weights)

    @cached_property
    def path(self) -> Path:
        """The file, in F32."""
        path = self.place / "f32.gguf"
        convert(self.folder, path, "F32", vocabulary=False)
        return path

    def open(self, path: Path | None = None, **options: Any) -> Model:
        """The engine on a file of this model; the caller closes it."""
        options = {"n_ctx": self.variant.n_ctx} | options
        return Model(path or self.path, n_threads=2, tokenizer=plain_tokenizer(self.about["n_vocab"]), **options)

    @property
    def model(self) -> Model:
        """The engine on the F32 file, loaded once."""
        if self._model is None:
            self._model = self.open()
        return self._model

    def run(self, model: Model, ids: list[int]) -> npt.NDArray[np.float32]:
        """What the golden files have of a run: logits (T, V), or the rows (T, C) of an encoder."""
        if self.variant.output == "logits":
            return model.logits(ids)
        return model.hidden(ids, self.variant.segments(len(ids)))

    def rows(self, length: int) -> list[int]:
        """The rows that `arrays[length]` holds."""
        return rows_of(length)

    def close(self) -> None:
        """Close the engine, if it was loaded."""
        if self._model is not None:
            self._model.close()


@pytest.fixture(scope="module", params=NAMES)
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    """Each variant that has golden files."""
    with tempfile.TemporaryDirectory() as folder:
        it = Subject(request.param, Path(folder))
        yield it
        it.close()


def with_words(subject: Subject) -> str:
    """The file with a vocabulary of any texts, which the peer wants for its number of tokens."""
    path = str(subject.place / "peer.gguf")
    n = subject.about["n_vocab"]
    with GGUFReader(subject.path) as reader:
        words: dict[str, Any] = {
            "model": "gpt2",
            "pre": "gpt-2",
            "tokens": [f"w{i}" for i in range(n)],
            "merges": ["w 0"],
        }
        words |= {"token_type": [NORMAL] * n, "bos_token_id": 0, "eos_token_id": 1}
        keys = dict(reader.metadata) | {PREFIX + key: value for key, value in words.items()}
        tensors = [
            TensorData(t.name, tuple(t.shape), t.type, reader.tensor_bytes(t.name)) for t in reader.tensors.values()
        ]
        write(path, keys, tensors)
    return path
