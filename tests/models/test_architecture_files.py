"""Files of every dense architecture that are not as they should be: a typed error names the tensor, what was expected
and what was found. And files that call themselves by another name: the same bits.

The files are those of tests/golden/test_architectures.py, one of each architecture.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf_bytes
import numpy as np
import pytest
from architecture_models import Subject

from zigllama import errors
from zigllama.foundation.gguf_format import GGUFReader
from zigllama.models import registry
from zigllama.models.gguf import GGUFLoader

# architecture -> the variant that has the most of what it can have
VARIANTS = {
    "bloom": "bloom",
    "falcon": "falcon-40b",
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3": "gemma3",
    "gpt2": "gpt2",
    "gptj": "gptj",
    "gptneox": "gptneox",
    "llama": "llama3",
    "phi2": "phi2",
    "phi3": "phi3-longrope-long",
    "qwen2": "qwen2-window",
    "qwen3": "qwen3",
    "starcoder": "starcoder",
    "starcoder2": "starcoder2-window",
}
# what nothing else in the file tells: an output that is the embedding, rates that are not scaled
UNNOTICED = ("output.weight", "rope_freqs.weight")


class File:
    """A file's metadata and tensors, to be changed and written again."""

    def __init__(self, name: str, folder: Path) -> None:
        self.subject, self.folder = Subject(VARIANTS[name], folder), folder
        with GGUFReader(self.subject.path) as reader:
            self.metadata: dict[str, Any] = {
                k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in reader.metadata.items()
            }
            self.tensors = {
                n: (t.type.name, tuple(t.shape), np.array(reader.tensor_bytes(n))) for n, t in reader.tensors.items()
            }

    def write(self, metadata: dict[str, Any] | None = None, tensors: dict[str, Any] | None = None) -> Path:
        """The file with these metadata or tensors in place of its own."""
        path = self.folder / "changed.gguf"
        gguf_bytes.write(path, self.metadata if metadata is None else metadata, tensors or self.tensors)
        return path

    def with_key(self, key: str, value: Any) -> Path:
        """The file with another value of one of the architecture's keys."""
        return self.write(self.metadata | {f"{self.metadata['general.architecture']}.{key}": value})


@pytest.fixture(scope="module", params=sorted(VARIANTS))
def file(request: pytest.FixtureRequest) -> Iterator[File]:
    """A file of each architecture."""
    with tempfile.TemporaryDirectory() as folder:
        it = File(request.param, Path(folder))
        assert it.metadata["general.architecture"] == request.param
        yield it
        it.subject.close()


def test_every_tensor_is_needed_and_has_its_shape(file: File) -> None:
    with GGUFLoader(file.subject.path) as loader:
        table = loader.table
    shapes = {name: shape for name, (_, shape, _) in file.tensors.items()}
    for name, shape in shapes.items():
        rest = {n: s for n, s in shapes.items() if n != name}
        if name not in UNNOTICED:
            with pytest.raises(errors.MissingTensor) as missing:
                table.check(rest)
            assert missing.value.tensor == name and missing.value.shape == shape
        for wrong in ((*shape[:-1], shape[-1] + 32), (*shape, 1), (1, *shape)):
            with pytest.raises(errors.TensorShapeMismatch) as differs:
                table.check(rest | {name: wrong})
            assert (differs.value.tensor, differs.value.expected, differs.value.found) == (name, shape, wrong)


def test_a_file_with_a_tensor_less_more_or_cut(file: File) -> None:
    """The same through the loader: what tells one variant from another is among the tensors too."""
    last = next(name for name in reversed(file.tensors) if name.startswith("blk.1."))
    for name in (last, next(n for n in file.tensors if "norm" in n and n.startswith("blk.0."))):
        kind, shape, data = file.tensors[name]
        with pytest.raises(errors.MissingTensor, match=name) as missing:
            GGUFLoader(file.write(tensors={n: t for n, t in file.tensors.items() if n != name}))
        assert missing.value.shape == shape
        half = (shape[0] // 2, *shape[1:])
        with pytest.raises(errors.TensorShapeMismatch) as cut:
            GGUFLoader(file.write(tensors=file.tensors | {name: (kind, half, data[: data.size // 2])}))
        assert (cut.value.tensor, cut.value.expected, cut.value.found) == (name, shape, half)
    extra = "blk.0.attn_sinks.weight"
    with pytest.raises(errors.BadTensor, match=extra):
        GGUFLoader(file.write(tensors=file.tensors | {extra: file.tensors["output_norm.weight"]}))


@pytest.mark.parametrize("heads", [0, 3, 7, 1 << 20])
def test_head_counts_that_do_not_fit(file: File, heads: int) -> None:
    with pytest.raises((errors.BadMetadata, errors.TensorShapeMismatch)) as e:
        GGUFLoader(file.with_key("attention.head_count", heads))
    assert "head_count" in str(e.value) or isinstance(e.value, errors.TensorShapeMismatch)


def test_a_rotation_nobody_knows(file: File) -> None:
    if not any(".rope." in key for key in file.metadata):
        assert file.subject.about["class"] in ("GPT2LMHeadModel", "GPTBigCodeForCausalLM", "BloomForCausalLM")
        return
    with pytest.raises(errors.BadMetadata, match=r"'bent' is not supported; none, linear, yarn, longrope"):
        GGUFLoader(file.with_key("rope.scaling.type", "bent"))
    for channels in (3, 1 << 12):
        with pytest.raises(errors.BadMetadata, match="dimension_count"):
            GGUFLoader(file.with_key("rope.dimension_count", channels))


def test_an_alias_changes_no_bit(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that computes looks at the architecture's name."""
    name = file.metadata["general.architecture"]
    monkeypatch.setitem(registry._REGISTERED, "renamed", registry.architecture(name))
    own = f"{name}."
    keys = {k.replace(own, "renamed.", 1) if k.startswith(own) else k: v for k, v in file.metadata.items()}
    ids = file.subject.ids[:40]
    with file.subject.open(file.write(keys | {"general.architecture": "renamed"})) as renamed:
        np.testing.assert_array_equal(renamed.logits(ids), file.subject.model.logits(ids))


def test_a_decoder_that_became_an_encoder_is_refused(file: File) -> None:
    """Its rows were trained on to see the whole text: what the decoder makes of them would mean nothing."""
    for value in (False, 0):
        with pytest.raises(errors.BadMetadata, match=r"attention\.causal") as refused:
            GGUFLoader(file.with_key("attention.causal", value))
        assert refused.value.key == f"{file.metadata['general.architecture']}.attention.causal"
    GGUFLoader(file.with_key("attention.causal", True)).close()
