"""The ids at which a folder's model ends a generation -> `tokenizer.ggml.eot_token_id` and `.eom_token_id`.

A folder lists as many as it likes (generation_config.json, else config.json: eos_token_id). A file has three keys for
them, end of text, of turn and of message, and whoever reads it takes tokens of certain texts for ends too. So the keys
are for those ids that no text tells; what they cannot hold comes back as a note. What this file is not: it chooses no
end of text, which is the tokenizer's (vocabulary_files.py).
"""

from __future__ import annotations

from typing import Any

from zigllama.errors import BadCheckpoint
from zigllama.models.conversion.checkpoint import Checkpoint, Config
from zigllama.models.conversion.safetensors import shown
from zigllama.models.vocabulary import PREFIX, Vocabulary

FILE = "generation_config.json"
MOST = 256  # ends that a folder may list; the longest lists in use have a handful


def end_tokens(checkpoint: Checkpoint, metadata: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Keys and notes, for a file with these keys of a vocabulary. Raises BadCheckpoint for what is no list of ids."""
    wanted, path = _wanted(checkpoint)
    tokens = metadata[f"{PREFIX}tokens"]
    here = [i for i in wanted if 0 <= i < len(tokens)]
    keys: dict[str, Any] = {}
    for name in ("eos", "eot", "eom"):
        key = f"{PREFIX}{name}_token_id"
        if key not in metadata and (missing := _missing(here, metadata | keys)):
            keys[key] = missing[0]
    lost = _missing(here, metadata | keys)
    notes = []
    if lost:
        names = ", ".join(f"{i} {shown(tokens[i])}" for i in lost[:8])
        what = f"{len(lost)} of {len(wanted)} tokens that end a generation have no key in the file"
        notes.append(f"{path}: {what}: {names}")
    if len(here) < len(wanted):
        names = ", ".join(shown(i) for i in [i for i in wanted if i not in here][:8])
        notes.append(f"{path}: eos_token_id {names} is no token of {len(tokens)}: it ends nothing")
    return keys, notes


def _wanted(checkpoint: Checkpoint) -> tuple[list[int], str]:
    """The ids in their order, and the file that has them. A single number of config.json, which its class writes where
    nobody chose one, does not count beside the tokenizer's own end."""
    found = Config(checkpoint.json(FILE) or {})
    value = found.get("eos_token_id")
    found.path = str(checkpoint.folder / FILE)
    if value is None:
        found, value = checkpoint.config, checkpoint.config.get("eos_token_id")
        value = value if isinstance(value, list) else None
    ids = value if isinstance(value, list) else [] if value is None else [value]
    if len(ids) > MOST or not all(type(i) is int for i in ids):
        reason = f"eos_token_id: {shown(value)} is neither a token's id nor a list of at most {MOST}"
        raise BadCheckpoint(found.path, reason)
    return list(dict.fromkeys(ids)), found.path


def _missing(wanted: list[int], metadata: dict[str, Any]) -> list[int]:
    """Those that do not end a generation by the file's keys and texts."""
    if not wanted:
        return []
    vocabulary = Vocabulary(metadata)
    vocabulary.eos = vocabulary.special_id("eos")
    return [i for i in wanted if i not in vocabulary.end_ids]
