"""How a sentence-transformers folder makes one vector of a text's rows -> `pooling_type`.

    modules.json   the steps: Transformer, then Pooling (its config in a folder of its own), then perhaps Normalize,
                   which is no part of a file: whoever asks for an embedding says whether it shall have length one

A folder without modules.json has no such step. What its library does to a text before the tokenizer sees it has no key
in a file, llama.cpp's converter leaves it out too, and comes back as notes:

    config_sentence_transformers.json   prompts, and which of them stands before every text
    sentence_bert_config.json           after how many tokens a text is cut off, whether it is made lower case

What it is not: it pools nothing.
"""

from __future__ import annotations

from typing import Any

from zigllama.errors import BadCheckpoint
from zigllama.models.conversion.checkpoint import Checkpoint, Config
from zigllama.models.conversion.safetensors import parse_any_json, parse_json, shown

PROMPTS, LIMITS = "config_sentence_transformers.json", "sentence_bert_config.json"
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


def notes_on_texts(checkpoint: Checkpoint, n_ctx: int, lowercase: bool) -> list[str]:
    """What sentence-transformers does to texts and the file's user must do, or leave. `n_ctx`: positions of the model;
    `lowercase`: whether the file's tokenizer does that. Raises BadCheckpoint for settings of the wrong kind."""
    notes = []
    about = _settings(checkpoint, PROMPTS)
    prompts, default = about.object("prompts"), about.get("default_prompt_name")
    if default is not None:
        text = prompts.text(about.text("default_prompt_name"))
        if text:
            what = f"{text!r:.300} stands before every text (prompt {shown(default)})"
            notes.append(f"{PROMPTS}: {what}, the file has no key for it: write it yourself")
    others = [f"{name[:40]} {shown(prompts.text(name))}" for name in prompts if name != default and prompts[name]]
    if others:
        more = f" and {len(others) - 6} more" if len(others) > 6 else ""
        notes.append(f"{PROMPTS}: the model knows prompts, the file has no key for them: {', '.join(others[:6])}{more}")
    limits = _settings(checkpoint, LIMITS)
    most = limits.int("max_seq_length", default=n_ctx, high=1 << 30)
    if most < n_ctx:
        what = f"texts are cut after {most} tokens there, here after none of up to {n_ctx}"
        notes.append(f"{LIMITS}: {what}: longer ones get other embeddings")
    if limits.bool("do_lower_case", default=False) and not lowercase:
        notes.append(f"{LIMITS}: do_lower_case has no key in the file: write texts in lower case yourself")
    return notes


def _settings(checkpoint: Checkpoint, name: str) -> Config:
    found = Config(checkpoint.json(name) or {})
    found.path = str(checkpoint.folder / name)
    return found
