"""The image processor of a folder -> the keys of a projector's file: what is honoured, what is taken for granted, and
what is refused by name because the engine does it in one way alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from multi_modal_models import Change, Looker, changed, copied

from zigllama import errors
from zigllama.foundation.gguf_format import GGUFReader
from zigllama.models.conversion.convert import convert

PROCESSORS: list[tuple[str, Change, str]] = [
    ("llava", changed("do_resize", to=False), "do_resize"),
    ("llava", changed("do_center_crop", to=False), "do_center_crop"),
    ("llava", changed("do_rescale", to=False), "do_rescale"),
    ("llava", changed("do_normalize", to=False), "do_normalize"),
    ("llava", changed("resample", to=2), "resample: 2"),
    ("llava", changed("rescale_factor", to=1.0), "rescale_factor: 1.0"),
    ("llava", changed("size", to={"height": 56, "width": 56}), "size"),
    ("llava", changed("size", to={"shortest_edge": 64}), "size"),
    ("llava", changed("crop_size", to=64), "crop_size: 64"),
    ("llava", changed("do_pad", to="yes"), "do_pad"),
    ("llava", changed("image_mean", to=[0.5, 0.5]), "image_mean"),
    ("llava", changed("image_mean", to=[0.5, 0.5, "x"]), "image_mean"),
    ("llava", changed("image_std", to=[0.5, 0.5, 0.0]), "image_std"),
    ("llava", changed("image_std", to=0.5), "image_std"),
    ("idefics3", changed("do_image_splitting", to=False), "do_image_splitting"),
    ("idefics3", changed("resample", to=3), "resample: 3"),
    ("idefics3", changed("max_image_size", to={"longest_edge": 364}), "tiles of 364 pixels"),
    ("idefics3", changed("max_image_size", to=None), "tiles of 364 pixels"),
    ("idefics3", changed("size", to={"height": 90, "width": 90}), "size"),
    ("idefics3", changed("size", to={"longest_edge": 1 << 20}), "longest_edge"),
    ("idefics3", changed("size", to=90), "size"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "words"), PROCESSORS)
def test_processors_that_are_refused(name: str, change: Change, words: str, tmp_path: Path) -> None:
    it = Looker(name, tmp_path)
    processor = copied(it.about["processor"])
    change(processor)
    folder = it.write(tmp_path / "folder", processor=processor)
    with pytest.raises(errors.BadCheckpoint, match=words) as caught:
        convert(folder, tmp_path / "out.gguf", mmproj=True)
    assert "preprocessor_config.json" in str(caught.value) and not (tmp_path / "out.gguf").exists()


@pytest.mark.parametrize("name", ["llava", "idefics3"])
def test_where_the_processor_is(name: str, tmp_path: Path) -> None:
    """In a file of its own, or in processor_config.json, which then holds; a folder with neither is refused."""
    it = Looker(name, tmp_path)
    place = it.write(tmp_path / "other" / "folder", processor={"do_resize": False})
    (place / "processor_config.json").write_text(json.dumps({"image_processor": it.about["processor"]}))
    convert(place, tmp_path / "m.gguf", "F32", mmproj=True)
    assert (tmp_path / "m.gguf").read_bytes() == it.mmproj().read_bytes()
    for path in place.glob("*processor_config.json"):
        path.unlink()
    with pytest.raises(errors.BadCheckpoint, match=r"has no preprocessor_config\.json"):
        convert(place, tmp_path / "n.gguf", mmproj=True)
    convert(place, tmp_path / "t.gguf", vocabulary=False)  # the text model has nothing to do with it


def test_what_a_processor_leaves_unsaid(tmp_path: Path) -> None:
    """CLIP's class has means and deviations of its own, and sizes as bare numbers mean the same; Idefics3's has 0.5."""
    it = Looker("llava", tmp_path)
    made = it.write(tmp_path / "a", processor={"size": 56, "crop_size": 56})
    convert(made, tmp_path / "a.gguf", "F32", mmproj=True)
    with GGUFReader(tmp_path / "a.gguf") as reader, GGUFReader(it.mmproj()) as usual:
        found, want = (dict[str, Any](r.metadata) for r in (reader, usual))
    for key in ("clip.vision.image_mean", "clip.vision.image_std"):
        assert list(found[key]) == list(want[key])
    it = Looker("idefics3", tmp_path)
    made = it.write(tmp_path / "b", processor={"max_image_size": {"longest_edge": 48}})
    convert(made, tmp_path / "b.gguf", "F32", mmproj=True)
    with GGUFReader(tmp_path / "b.gguf") as reader:
        found = dict[str, Any](reader.metadata)
    assert found["clip.vision.preproc_image_size"] == 1456
    assert list(found["clip.vision.image_mean"]) == [0.5, 0.5, 0.5]
