"""How a folder's images are made ready -> the keys of a projector's file: preprocessor_config.json, or the object
`image_processor` of processor_config.json. What such a file has no key for must be as the engine does it
(models/image_processing.py), or the folder is refused by the setting's name.
"""

from __future__ import annotations

from typing import Any

from zigllama.errors import BadCheckpoint
from zigllama.models.conversion.checkpoint import Checkpoint, Config
from zigllama.models.conversion.safetensors import shown
from zigllama.models.conversion.tables import expect

NAME, WHOLE = "preprocessor_config.json", "processor_config.json"
CLIP = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])  # what CLIP's processor subtracts
HALF = ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5])  # Idefics3's
BICUBIC, LANCZOS = 3, 1  # Pillow's numbers


def image_processor(checkpoint: Checkpoint) -> Config:
    """The settings. Raises BadCheckpoint where the folder has none."""
    whole = Config(checkpoint.json(WHOLE) or {})
    whole.path = str(checkpoint.folder / WHOLE)
    settings, name = whole.object("image_processor"), WHOLE
    if not settings:
        found = checkpoint.json(NAME)
        if found is None:
            raise BadCheckpoint(str(checkpoint.folder), f"has no {NAME}: how its images are made ready is not known")
        settings, name = Config(found), NAME
    settings.path = str(checkpoint.folder / name)
    return settings


def fitted(settings: Config, size: int) -> list[str]:
    """CLIP's way: the shorter edge becomes `size`, the middle is cut out. Notes; raises BadCheckpoint."""
    _always(settings, BICUBIC, "do_center_crop")
    for key, names in (("size", ("shortest_edge",)), ("crop_size", ("height", "width"))):
        value = settings.get(key, dict.fromkeys(names, 224))
        wanted = dict.fromkeys(names, size)
        if value not in (size, wanted) or isinstance(value, bool):
            raise BadCheckpoint(settings.path, f"{key}: {shown(value)}, the vision tower takes {wanted}")
    if settings.bool("do_pad", default=False):
        return ["images are padded to a square, which the file has no key for: open it with fit='pad'"]
    return []


def cut(settings: Config, size: int) -> dict[str, Any]:
    """Idefics3's way: the longest edge becomes `preproc_image_size`, then tiles of `size`. Raises BadCheckpoint."""
    _always(settings, LANCZOS, "do_image_splitting")
    tile = _longest(settings, "max_image_size", 364)
    if tile != size:
        raise BadCheckpoint(settings.path, f"max_image_size: tiles of {tile} pixels, the vision tower takes {size}")
    return {"clip.vision.preproc_image_size": _longest(settings, "size", 4 * 364)}


def _longest(settings: Config, key: str, default: int) -> int:
    """The one number of {"longest_edge": number}."""
    if settings.get(key) is None:
        return default
    found = settings.object(key)
    if set(found) != {"longest_edge"}:
        raise BadCheckpoint(settings.path, f"{key}: {shown(dict(found))} is not supported, longest_edge alone is")
    return found.int("longest_edge", low=1, high=1 << 12)


def _always(settings: Config, resample: int, *steps: str) -> None:
    """What the engine does with every image."""
    for key in ("do_resize", "do_rescale", "do_normalize", *steps):
        expect(settings, key, True)
    expect(settings, "resample", resample)
    factor = settings.float("rescale_factor", default=1 / 255)
    if abs(factor * 255 - 1) > 1e-6:
        raise BadCheckpoint(settings.path, f"rescale_factor: {factor} is not supported, 1/255 is")


def normalisation(settings: Config, usual: tuple[list[float], list[float]]) -> dict[str, Any]:
    """image_mean and image_std; `usual`: the class's. Raises BadCheckpoint."""
    keys: dict[str, Any] = {}
    for name, default in zip(("image_mean", "image_std"), usual, strict=True):
        values = settings.list(name, default=default)
        reason = f"{name}: {shown(values)} are no three numbers for red, green and blue"
        if len(values) != 3:
            raise BadCheckpoint(settings.path, reason)
        colours = Config(zip("rgb", values, strict=True))
        colours.path = f"{settings.path}, {name}"
        numbers = [colours.float(colour) for colour in "rgb"]
        if name == "image_std" and min(numbers) <= 0:
            raise BadCheckpoint(settings.path, reason)
        keys[f"clip.vision.{name}"] = numbers
    return keys
