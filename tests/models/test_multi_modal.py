"""Vision towers and images: both spellings of a file, native against the twins, and what is refused."""

from __future__ import annotations

import io
import os
import re
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vision_files import PIXELS, TEXT, write

from zigllama import errors
from zigllama.inference.vision import ImageRows, Vision
from zigllama.models.image_processing import FORMATS, MAX_PIXELS, decode, longest_edge, whole_tiles

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")


@pytest.mark.parametrize(("kind", "n"), [("mlp", 16), ("idefics3", 28)])
def test_rows(kind: str, n: int, tmp_path: Path) -> None:
    """The spelling changes no bit, threads neither; the twins say the same within float32's rounding."""
    new, old = write(tmp_path / "new.gguf", kind), write(tmp_path / "old.gguf", kind, old=True)
    with Vision(new, n_threads=2) as a, Vision(old, n_threads=1) as b, Vision(new, backend="reference") as c:
        rows = a.encode(PIXELS)
        assert rows.shape == (n, TEXT) and rows.dtype == np.float32 and a.n_embd == TEXT
        np.testing.assert_array_equal(rows, b.encode(PIXELS))
        np.testing.assert_allclose(rows, c.encode(PIXELS), rtol=0, atol=1e-5 * np.abs(rows).max())
        changed = PIXELS.copy()
        changed[20:30, 30:40] ^= 255
        assert np.abs(a.encode(changed) - rows).min(axis=1).max() > 0


def test_every_row_sees_all(tmp_path: Path) -> None:
    """The last patch matters to the first row: attention is not causal."""
    with Vision(write(tmp_path / "m.gguf"), n_threads=2) as v:
        image = np.array(Image.fromarray(PIXELS).resize((32, 32)))
        changed = image.copy()
        changed[-1, -1] ^= 255
        assert (v.encode(image)[0] != v.encode(changed)[0]).any()


def test_padded_is_another_way(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf")
    with Vision(path, n_threads=2) as crop, Vision(path, n_threads=2, fit="pad") as pad:
        assert (crop.encode(PIXELS) != pad.encode(PIXELS)).any()
    with pytest.raises(errors.UnknownName):
        Vision(path, fit="stretch")


class Letters:
    """Any text as the ids of its characters, and marks as one id each, but for those of `lacks`."""

    def __init__(self, lacks: str = "none") -> None:
        self.lacks = lacks

    def encode(self, text: str, **options: Any) -> list[int]:
        found = re.findall(r"<[^<>]+>|.|\n", text)
        return [i for t in found for i in ([1000 + len(t)] if len(t) > 1 and t != self.lacks else map(ord, t))]


def test_place(tmp_path: Path) -> None:
    """Two images among ids: every row its -1, and where its runs begin; as many places as images."""
    letters: Any = Letters()
    with Vision(write(tmp_path / "l.gguf"), n_threads=1) as v:
        a, b = (ImageRows(np.full((16, TEXT), x, np.float32), 0, 0) for x in (1, 2))
        ids, runs = v.place([5, -1, 6, -1], [a, b], letters)
        assert ids == [5, *[-1] * 16, 6, *[-1] * 16] and [at for at, _ in runs] == [1, 18]
        assert [float(x.mean()) for _, x in runs] == [1, 2]
        for given in ([], [a], [a, b, a]):
            with pytest.raises(errors.PlaceholderMismatch, match=f"places for 2 images, {len(given)} are given"):
                v.place([5, -1, 6, -1], given, letters)
    with Vision(write(tmp_path / "i.gguf", "idefics3"), n_threads=1) as v:
        ids, runs = v.place(
            [7, -1, 8], [ImageRows(np.arange(12 * TEXT, dtype=np.float32).reshape(12, TEXT), 2, 1)], letters
        )
        assert ids.count(-1) == 12 and (ids[0], ids[-1]) == (7, 8) and len(runs) == 3
        np.testing.assert_array_equal(np.concatenate([x for _, x in runs]), np.arange(12 * TEXT).reshape(12, TEXT))
        assert all(ids[at : at + 4] == [-1] * 4 for at, _ in runs)


@pytest.mark.parametrize("mark", ["<row_2_col_1>", "<global-img>", "<fake_token_around_image>"])
def test_marks_are_tokens(mark: str, tmp_path: Path) -> None:
    """A text model that lacks a mark would be given its letters."""
    lacking: Any = Letters(mark)
    with Vision(write(tmp_path / "i.gguf", "idefics3"), n_threads=1) as v:
        image = ImageRows(np.zeros((12, TEXT), np.float32), 2, 1)
        with pytest.raises(errors.UnsupportedTokenizer, match=mark):
            v.place([7, -1, 8], [image], lacking)


def test_without_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named."""
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(errors.PillowMissing, match=r"zigllama\[images\]"):
        decode(b"")


def test_layout(tmp_path: Path) -> None:
    """Idefics3's order, as its processor writes it; LLaVA's image is its rows alone."""
    empty = np.zeros((12, TEXT), np.float32)
    with Vision(write(tmp_path / "i.gguf", "idefics3"), n_threads=1) as v:
        mark = "<fake_token_around_image>"
        assert v.layout(ImageRows(empty, 2, 1)) == [
            f"{mark}<row_1_col_1>", 4, f"\n{mark}<row_2_col_1>", 4, f"\n\n{mark}<global-img>", 4, mark,
        ]  # fmt: skip
        assert v.layout(ImageRows(empty, 0, 0)) == [f"{mark}<global-img>", 4, mark]
    with Vision(write(tmp_path / "l.gguf"), n_threads=1) as v:
        assert v.layout(ImageRows(empty, 0, 0)) == [16]
        assert Vision.beside(v, TEXT) is v
        with pytest.raises(errors.BadTensor, match="48 channels, the text model has 64"):
            Vision.beside(v, 64)


def _key(name: str, value: Any) -> Callable[..., None]:
    return lambda metadata, tensors: metadata.__setitem__(name, value)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (_key("general.architecture", "llama"), errors.UnsupportedArchitecture, "llama"),
        (_key("clip.projector_type", "ldp"), errors.UnknownName, "ldp"),
        (_key("clip.has_vision_encoder", False), errors.BadMetadata, "has_vision_encoder"),
        (_key("clip.vision.image_std", [0.0, 1.0, 1.0]), errors.BadMetadata, "image_std"),
        (_key("clip.vision.attention.head_count", 5), errors.BadMetadata, "head_count"),
        (_key("clip.vision.feature_layer", [3]), errors.BadMetadata, "feature_layer"),
        (_key("clip.vision.feature_layer", "one"), errors.BadMetadata, "feature_layer"),
        (_key("clip.vision.feature_layer", ["1"]), errors.BadMetadata, "feature_layer"),
        (_key("clip.vision.feature_layer", float("nan")), errors.BadMetadata, "feature_layer"),
        (_key("clip.vision.feature_layer", [1.5]), errors.BadMetadata, "feature_layer"),
        (_key("clip.projector_type", ["mlp"]), errors.UnknownName, "projector type"),
        (_key("clip.projector_type", [1, 2]), errors.UnknownName, "projector type"),
        (_key("general.architecture", [1, 2]), errors.ZigllamaError, "architecture"),
        (_key("clip.vision.image_mean", "123"), errors.BadMetadata, "image_mean"),
        (_key("clip.vision.image_mean", 0.5), errors.BadMetadata, "image_mean"),
        (_key("clip.vision.patch_size", 16), errors.TensorShapeMismatch, "patch_embd"),
        (_key("clip.vision.feed_forward_length", 64), errors.BadTensor, "n_ff is n_embd"),
        (lambda m, t: t.pop("v.class_embd"), errors.MissingTensor, "v.class_embd"),
        (lambda m, t: t.pop("mm.2.weight"), errors.MissingTensor, "mm.2.weight"),
    ],
)
def test_refused(change: Callable[..., None], error: type[Exception], words: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=words):
        Vision(write(tmp_path / "m.gguf", change=change))


def test_feature_layer(tmp_path: Path) -> None:
    """Rows are taken after the layer that the key names; the blocks after it are not run."""
    path, all_ = write(tmp_path / "1.gguf", change=_key("clip.vision.feature_layer", [1])), write(tmp_path / "2.gguf")
    with Vision(path, n_threads=2) as one, Vision(all_, n_threads=2) as two:
        assert one.spec.n_layer == 1 and (one.encode(PIXELS) != two.encode(PIXELS)).any()


def _saved(format: str, size: tuple[int, int] = (5, 3), **options: Any) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, (9, 8, 7)).save(out, format, **options)
    return out.getvalue()


def test_decode(tmp_path: Path) -> None:
    """Bytes and files; EXIF orientation 6 turns a wide image upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(_saved("PNG")).shape == (3, 5, 3) and decode(_saved("JPEG", exif=exif)).shape == (5, 3, 3)
    (tmp_path / "a.png").write_bytes(_saved("PNG"))
    np.testing.assert_array_equal(decode(tmp_path / "a.png"), decode(_saved("PNG")))
    with pytest.raises(FileNotFoundError):
        decode(tmp_path / "none.png")
    with pytest.raises(errors.BadImage):
        decode(tmp_path)


@pytest.mark.parametrize(
    "raw", [b"", b"no image", _saved("PNG")[:40], _saved("PNG", (64, 64))[:-30], _saved("JPEG")[:200]]
)
def test_broken_images(raw: bytes) -> None:
    with pytest.raises(errors.BadImage):
        decode(raw)


def test_formats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every format that is named is read; one that Pillow would hand to another program is not, and nothing is run."""
    for name in FORMATS:
        assert decode(_saved(name, (32, 16))).shape[2] == 3, name
    ran = tmp_path / "ran"
    (gs := tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {ran}\n")
    gs.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)  # found anew
    with pytest.raises(errors.BadImage, match="cannot be decoded"):
        decode(_saved("EPS"))
    assert not ran.exists()


def test_size_limits(tmp_path: Path) -> None:
    """A bomb is known by its header; a strip that would be blown up by its proportion."""
    raw = bytearray(_saved("PNG"))
    raw[16:24] = (9000).to_bytes(4, "big") * 2
    raw[29:33] = zlib.crc32(raw[12:29]).to_bytes(4, "big")
    with pytest.raises(errors.ImageTooLarge, match=f"9000 x 9000 pixels, at most {MAX_PIXELS}"):
        decode(bytes(raw))
    with Vision(write(tmp_path / "m.gguf"), n_threads=1) as v:
        with pytest.raises(errors.ImageTooLarge):
            v.encode(np.zeros((1, 70000, 3), np.uint8))
        with pytest.raises(errors.ShapeError):
            v.encode(np.zeros((4, 4), np.uint8))
        with pytest.raises(errors.DTypeError):
            v.encode(np.zeros((4, 4, 3), np.float32))


def test_sizes_of_tiles() -> None:
    """As Idefics3's processor has them: the shorter edge even, then whole tiles in proportion."""
    assert longest_edge(77, 50, 90) == (90, 58) and longest_edge(50, 77, 90) == (58, 90)
    assert longest_edge(1, 1000, 90) == (1, 90)
    assert whole_tiles(90, 58, 32) == (96, 64) and whole_tiles(58, 90, 32) == (64, 96)
