"""Folders with tokenizer files and no tensors, for tests of the conversion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors_folder import folder

from zigllama.models.conversion.checkpoint import Checkpoint


def made(place: Path, files: dict[str, Any], config: dict[str, Any] | None = None) -> Checkpoint:
    """A folder with these tokenizer files (bytes, text, or JSON) and no tensors."""
    folder(place, config or {}, {})
    for name, value in files.items():
        path = place / name
        path.parent.mkdir(exist_ok=True)
        text = value if isinstance(value, str | bytes) else json.dumps(value)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Checkpoint(place)
