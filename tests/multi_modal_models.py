"""The small models of tests/multi_modal_variants.py, rebuilt without transformers: golden figures, the folder with its
seeded weights and its image processor, and the two files it becomes.

A test module that takes the fixture `looker` is run over every variant; the fixture holds what is made until the
variant is done.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import safetensors_folder
import seeded_weights
from architecture_models import plain_tokenizer
from multi_modal_variants import VARIANTS, ImageVariant, Run, image

from zigllama.inference.model import Model
from zigllama.inference.vision import Vision
from zigllama.models.conversion.convert import convert

GOLDEN = Path(__file__).resolve().parent / "golden" / "multi_modal"
F32 = npt.NDArray[np.float32]
Change = Callable[[dict[str, Any]], None]


def copied(value: Any) -> Any:
    """A JSON value, to be changed."""
    return json.loads(json.dumps(value))


def changed(*path: str, to: Any) -> Change:
    """A change of one key, the last of `path`, in the objects that lead to it."""

    def change(config: dict[str, Any]) -> None:
        for key in path[:-1]:
            config = config[key]
        config[path[-1]] = to

    return change


class Looker:
    """One variant. `about` and `arrays` are the golden files' contents."""

    def __init__(self, name: str, place: Path) -> None:
        self.name, self.place = name, place
        self.variant: ImageVariant = VARIANTS[name]
        self.about: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text("utf-8"))
        self.tiles: tuple[int, ...] = tuple(self.about["tiles"])
        self._model: Model | None = None

    @cached_property
    def arrays(self) -> dict[str, F32]:
        """features, and the rows of each run's logits."""
        with np.load(GOLDEN / f"{self.name}.npz") as arrays:
            return dict(arrays)

    @cached_property
    def weights(self) -> dict[str, F32]:
        """The folder's tensors."""
        shapes = {key: tuple(shape) for key, shape in self.about["parameters"].items()}
        return seeded_weights.weights(self.name, shapes, self.variant)

    def write(
        self,
        place: Path,
        config: dict[str, Any] | None = None,
        processor: dict[str, Any] | None = None,
        weights: dict[str, Any] | None = None,
    ) -> Path:
        """A Hugging Face folder, with other contents where they are given."""
        folder = safetensors_folder.folder(place, config or self.about["config"], weights or self.weights)
        (folder / "preprocessor_config.json").write_text(json.dumps(processor or self.about["processor"]))
        return folder

    @cached_property
    def folder(self) -> Path:
        """The folder."""
        return self.write(self.place / "folder")

    def text(self, kind: str = "F32") -> Path:
        """The text model's file."""
        path = self.place / f"text-{kind}.gguf"
        if not path.exists():
            convert(self.folder, path, kind, vocabulary=False)
        return path

    def mmproj(self, kind: str = "F32") -> Path:
        """The projector's."""
        path = self.place / f"mmproj-{kind}.gguf"
        if not path.exists():
            convert(self.folder, path, kind, mmproj=True)
        return path

    def see(self, i: int, kind: str = "F32", **options: Any) -> list[F32]:
        """The rows of each tile of the i-th image."""
        with Vision(self.mmproj(kind), n_threads=2, fit=self.variant.fit, **options) as vision:
            rows = vision.encode(image(self.name, i))
        return np.split(rows, self.tiles[i])

    @cached_property
    def seen(self) -> list[list[F32]]:
        """`see` of every image, in float32."""
        return [self.see(i) for i in range(len(self.tiles))]

    def open(self, path: Path | None = None, **options: Any) -> Model:
        """The engine on a file of the text model; the caller closes it."""
        tokenizer = plain_tokenizer(self.about["n_vocab"])
        return Model(path or self.text(), n_threads=2, tokenizer=tokenizer, **options)

    @property
    def model(self) -> Model:
        """The engine on the F32 file, loaded once."""
        if self._model is None:
            self._model = self.open()
        return self._model

    def asked(self, run: Run) -> tuple[list[int], list[F32], list[int]]:
        """The run's ids, the tiles' rows, and before which id each tile stands."""
        tiles = run.tiles(self.tiles)
        ids: list[int] = self.about["ids"][: run.n_ids(self.tiles, self.variant.n_out)]
        return ids, [self.seen[i][t] for _, i, t in tiles], [at for at, _, _ in tiles]

    def logits(self, model: Model, run: Run) -> F32:
        """(T + N, V): the run's ids, with the images' tiles where it has them."""
        ids, rows, places = self.asked(run)
        return model.logits(ids, image=rows, image_at=places)

    def close(self) -> None:
        """Close the engine, if it was loaded."""
        if self._model is not None:
            self._model.close()


@pytest.fixture(scope="module", params=sorted(VARIANTS))
def looker(request: pytest.FixtureRequest) -> Iterator[Looker]:
    """Each variant."""
    pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    with tempfile.TemporaryDirectory() as folder:
        it = Looker(request.param, Path(folder))
        yield it
        it.close()
