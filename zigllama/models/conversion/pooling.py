"""How a sentence-transformers folder makes one vector of a text's rows -> `pooling_type`.

    modules.json   the steps: Transformer, then Pooling (its config in a folder of its own), then perhaps Normalize,
                   which is no part of a file: whoever asks for an embedding says whether it shall have length one

A folder without modules.json has no such step. What it is not: it pools nothing.
"""

from __future__ import annotations

from typing import Any

from zigllama.errors import BadCheckpoint
from zigllama.models.conversion.checkpoint import Checkpoint, Config
from zigllama.models.conversion.safetensors import parse_any_json, parse_json

MODES = {"mean": 1, "cls": 2, "lasttoken": 3}  # GGUF's numbers of pooling_type


def pooling_metadata(checkpoint: Checkpoint, arch: str) -> dict[str, Any]:
    """{arch}.pooling_type, {} where the folder has no modules. Raises BadCheckpoint for steps that cannot be done."""
    raw = checkpoint.read("modules.json")
    if raw is None:
        return {}
    path = str(checkpoint.folder / "modules.json")
    steps = parse_any_json(raw, path, "modules.json")
    if not isinstance(steps, list) or not all(isinstance(s, dict) for s in steps):
        raise BadCheckpoint(path, "a list of modules is expected")
    found: dict[str, Any] = {}
    for step in map(Config, steps):
        kind = step.text("type").rpartition(".")[2]
        if kind == "Pooling":
            found[f"{arch}.pooling_type"] = MODES[_mode(checkpoint, step.text("path"))]
        elif kind not in ("Transformer", "Normalize"):
            raise BadCheckpoint(
                path, f"a module of type {kind} cannot be converted; Transformer, Pooling, Normalize can"
            )
    return found


def _mode(checkpoint: Checkpoint, folder: str) -> str:
    """The one mode that is on, in either spelling: a flag for each, or `pooling_mode`."""
    if not folder.replace("_", "").isalnum():
        raise BadCheckpoint(str(checkpoint.folder / "modules.json"), f"path {folder!r:.80} is no folder beside it")
    path = f"{folder}/config.json"
    raw = checkpoint.read(path)
    if raw is None:
        raise BadCheckpoint(str(checkpoint.folder), f"has no {path}, which modules.json names")
    config = Config(parse_json(raw, str(checkpoint.folder / path), path))
    on = [key.removeprefix("pooling_mode_") for key, value in config.items() if "mode_" in key and value is True]
    names = [name.removesuffix("s").removesuffix("_token") for name in on] or [config.text("pooling_mode", default="")]
    if len(names) != 1 or names[0] not in MODES:
        reason = f"pooling {' and '.join(names)!r} is not one of {', '.join(MODES)}"
        raise BadCheckpoint(str(checkpoint.folder / path), reason)
    return names[0]
