"""`Checkpoint`: a Hugging Face folder, opened and checked: `config.json`, and the tensors of one safetensors file or of
the shards that an index lists.

    with Checkpoint("folder") as c:
        c.config.int("hidden_size"), c.names, c.shape("lm_head.weight"), c.tensor("lm_head.weight")   # float32

What it is not: it knows no architecture. `Config` is the dict of config.json with accessors that check what they give.
"""

from __future__ import annotations

import builtins
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np

from zigllama.errors import BadCheckpoint, MissingTensor, UnsupportedQuantization
from zigllama.foundation.byte_source import StrPath
from zigllama.foundation.runtime import F32
from zigllama.models.config import MAX_LAYERS, MAX_SIZE
from zigllama.models.conversion.safetensors import Entry, SafetensorsFile, parse_json, shown

MAX_JSON = 64 << 20  # bytes of a JSON file of the folder; the largest tokenizer.json in use has 33 MB
PACKED = ("quantization_config", "compression_config")  # the second as compressed-tensors wrote it once
INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"


class Config(dict[str, Any]):
    """config.json, or an object within it. Accessors take the first of `keys` that is there and not null; without a
    default one must be. They raise BadCheckpoint for a wrong type or a value out of range."""

    path = "config.json"

    def _get(self, keys: tuple[str, ...], default: Any, kind: str) -> Any:
        for key in keys:
            if self.get(key) is not None:
                return self[key]
        if default is None:
            raise BadCheckpoint(self.path, f"{' or '.join(keys)}: missing, {kind} is needed")
        return default

    def _wrong(self, keys: tuple[str, ...], value: Any, kind: str) -> BadCheckpoint:
        return BadCheckpoint(self.path, f"{' or '.join(keys)}: {shown(value)} is not {kind}")

    def int(
        self, *keys: str, default: builtins.int | None = None, low: builtins.int = 0, high: builtins.int = MAX_SIZE
    ) -> builtins.int:
        """An integer from `low` to `high`."""
        kind = f"an integer from {low} to {high}"
        value = self._get(keys, default, kind)
        if isinstance(value, bool) or not isinstance(value, builtins.int) or not low <= value <= high:
            raise self._wrong(keys, value, kind)
        return value

    def layers(self, *keys: str) -> builtins.int:
        """How many layers: an integer that a loop may run to."""
        return self.int(*keys, low=1, high=MAX_LAYERS)

    def float(self, *keys: str, default: builtins.float | None = None) -> builtins.float:
        """A finite number."""
        value = self._get(keys, default, "a number")
        if isinstance(value, bool) or not isinstance(value, builtins.int | builtins.float):
            raise self._wrong(keys, value, "a number")
        if abs(value) > 1e30 or not math.isfinite(value):
            raise self._wrong(keys, value, "a finite number")
        return builtins.float(value)

    def bool(self, *keys: str, default: builtins.bool | None = None) -> builtins.bool:
        """True or false."""
        value = self._get(keys, default, "true or false")
        if not isinstance(value, builtins.bool):
            raise self._wrong(keys, value, "true or false")
        return value

    def text(self, *keys: str, default: str | None = None) -> str:
        """A string."""
        value = self._get(keys, default, "a string")
        if not isinstance(value, str):
            raise self._wrong(keys, value, "a string")
        return value

    def list(self, *keys: str, default: builtins.list[Any] | None = None) -> builtins.list[Any]:
        """A list, of at most MAX_SIZE items of any kind."""
        value = self._get(keys, default, "a list")
        if not isinstance(value, builtins.list) or len(value) > MAX_SIZE:
            raise self._wrong(keys, value, "a list")
        return value

    def object(self, key: str) -> Config:
        """An object within this one, {} where there is none."""
        value = self.get(key)
        if value is not None and not isinstance(value, dict):
            raise self._wrong((key,), value, "an object")
        found = Config(value or {})
        found.path = self.path
        return found


class Checkpoint:
    """A folder's config and tensors.

    folder   its path;  config  config.json;  paths  the safetensors files;  names  all tensors, sorted

    Raises BadCheckpoint for a folder that is not as it should be, UnsupportedQuantization for weights that are packed,
    OSError as reading does.
    """

    def __init__(self, folder: StrPath) -> None:
        self.folder = Path(folder)
        self._files: dict[str, SafetensorsFile] = {}
        if not self.folder.is_dir():
            raise BadCheckpoint(str(folder), "is no folder; one with config.json and safetensors files is expected")
        config = self.json("config.json")
        if config is None:
            raise BadCheckpoint(str(folder), "has no config.json")
        self.config = Config(config)
        for part in (self.config, self.config.object("text_config")):
            _refuse_packed(part, str(self.folder / "config.json"))
        try:
            self._entries = self._open()
        except BaseException:
            self.close()
            raise

    # --- files -------------------------------------------------------------------------------------------------------

    def json(self, name: str) -> dict[str, Any] | None:
        """A JSON file of the folder, None where it is not there."""
        raw = self.read(name, MAX_JSON)
        return None if raw is None else parse_json(raw, str(self.folder / name), name)

    def read(self, name: str, limit: int = MAX_JSON) -> bytes | None:
        """The bytes of a file of the folder, None where it is not there. Raises BadCheckpoint for more than `limit`."""
        path = self.folder / name
        if not os.path.lexists(path):
            return None
        if not path.is_file():
            raise BadCheckpoint(str(path), "is no regular file")
        if path.stat().st_size > limit:
            raise BadCheckpoint(str(path), f"has {path.stat().st_size} bytes, at most {limit} are read")
        return path.read_bytes()

    def _open(self) -> dict[str, SafetensorsFile]:
        """Tensor name -> the file that has it."""
        index = self.json(INDEX)
        if index is None:
            if not (self.folder / SINGLE).exists():
                other = sorted(p.name for p in self.folder.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".ckpt"))
                hint = f"; {other[0]} is a pickle, which can run code and is not read" if other else ""
                raise BadCheckpoint(str(self.folder), f"has neither {SINGLE} nor {INDEX}{hint}")
            return dict.fromkeys(self._file(SINGLE).entries, self._file(SINGLE))
        places = index.get("weight_map")
        if not isinstance(places, dict) or not all(isinstance(v, str) for v in places.values()):
            raise BadCheckpoint(str(self.folder / INDEX), "weight_map is no object of file names")
        found = {}
        for name, shard in places.items():
            file = self._file(shard)
            if name not in file.entries:
                raise BadCheckpoint(str(self.folder / INDEX), f"tensor {name!r} is not in {shard}, as it says")
            found[name] = file
        return found

    def _file(self, name: str) -> SafetensorsFile:
        """A file of the folder, opened once. A name may not lead out of the folder."""
        if name not in self._files:
            if (
                name in (".", "..")
                or os.path.basename(name) != name
                or "\0" in name
                or len(name.encode("utf-8", "surrogatepass")) > 255
            ):
                raise BadCheckpoint(str(self.folder / INDEX), f"{shown(name)} is no name of a file in the folder")
            if not (self.folder / name).exists():
                raise BadCheckpoint(str(self.folder), f"has no file {name}, which the index lists")
            self._files[name] = SafetensorsFile(self.folder / name)
        return self._files[name]

    @property
    def paths(self) -> list[str]:
        """The safetensors files."""
        return [file.path for file in self._files.values()]

    # --- tensors -----------------------------------------------------------------------------------------------------

    @property
    def names(self) -> list[str]:
        """All tensors, sorted."""
        return sorted(self._entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def entry(self, name: str) -> Entry:
        """Shape, dtype and place. Raises MissingTensor."""
        if name not in self._entries:
            raise MissingTensor(name)
        return self._entries[name].entry(name)

    def shape(self, name: str) -> tuple[int, ...]:
        """The tensor's shape. Raises MissingTensor."""
        return self.entry(name).shape

    def slabs(self, name: str) -> Iterator[F32]:
        """The values in order, about a million at a time; see SafetensorsFile.slabs."""
        self.entry(name)
        return self._entries[name].slabs(name)

    def tensor(self, name: str) -> F32:
        """The whole tensor as float32, of its own shape. Raises MissingTensor."""
        out = np.empty(self.shape(name), np.float32)
        flat, at = out.reshape(-1), 0
        for part in self.slabs(name):
            flat[at : at + part.size] = part
            at += part.size
        return out

    def close(self) -> None:
        """Close all files."""
        for file in self._files.values():
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _refuse_packed(config: Config, path: str) -> None:
    """Raises UnsupportedQuantization where the config says that the weights are packed: by GPTQ, AWQ, bitsandbytes, as
    FP8, .... Such tensors hold codes, some of them under the names and in the shapes of the weights themselves. What
    names a dtype alone says no more than the tensors do."""
    for key in PACKED:
        found = config.object(key)
        rest = {k: v for k, v in found.items() if k not in ("dtype", "torch_dtype") and v is not None}
        if rest:
            on = next((k for k in ("load_in_4bit", "load_in_8bit") if rest.get(k) is True), None)
            method = rest.get("quant_method", "bitsandbytes" if on else "an unnamed method")
            bits = next((f"{k} {shown(rest[k])}" for k in ("bits", "w_bit", "format", "fmt") if k in rest), on)
            raise UnsupportedQuantization(path, shown(method).strip("'"), f"{key}: {bits or ', '.join(rest)}"[:200])
