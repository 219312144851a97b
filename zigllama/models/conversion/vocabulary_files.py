"""The tokenizer of a folder -> the keys `tokenizer.*` of the file.

    tokenizer.model          SentencePiece (sentencepiece_file.py)
    tokenizer.json           BPE, WordPiece, Unigram (tokenizer_json.py)
    tekken.json              Mistral's BPE by ranks (tekken.py)
    vocab.txt                WordPiece
    tokenizer_config.json,   special tokens, what is put around a text, the chat template
    special_tokens_map.json, added_tokens.json, config.json, chat_template.jinja
    generation_config.json   what else ends a generation (end_tokens.py)

The first of the first four that is there holds; the others complete it. What cannot be said in a GGUF file comes back
as notes. What it is not: it tokenises nothing, and guesses no rule.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from zigllama.errors import BadCheckpoint, UnsupportedTokenizer
from zigllama.models.conversion import sentencepiece_file
from zigllama.models.conversion.checkpoint import Checkpoint, Config
from zigllama.models.conversion.end_tokens import end_tokens
from zigllama.models.conversion.safetensors import shown
from zigllama.models.conversion.tekken import convert_tekken
from zigllama.models.conversion.tokenizer_json import SPACE, convert_json, word_piece
from zigllama.models.conversion.words import Added, Words
from zigllama.models.vocabulary import USER_DEFINED

# GGUF's name of a special token -> the names that folders have for it (the third is spelt so in the format)
SPECIAL = {
    "bos": ("bos",), "eos": ("eos",), "seperator": ("sep",), "unknown": ("unk",), "padding": ("pad",),
    "cls": ("cls",), "mask": ("mask",),
}  # fmt: skip


def vocabulary_metadata(checkpoint: Checkpoint, rows: int, pre: str | None = None) -> tuple[dict[str, Any], list[str]]:
    """Keys and notes, for an embedding of `rows` rows. Raises BadCheckpoint, UnsupportedTokenizer."""
    settings = _settings(checkpoint)
    words = _words(checkpoint, settings, pre)
    _special_ids(words, checkpoint, settings)
    if words.model == "bert":  # [CLS] and [SEP] stand around every text: they are its beginning and its end
        keys = words.keys
        for own, general in (("cls_token_id", "bos_token_id"), ("seperator_token_id", "eos_token_id")):
            if own in keys:
                keys[general] = keys[own]
        keys |= {"add_bos_token": True, "add_eos_token": True}
        keys["token_type_count"] = checkpoint.config.int("type_vocab_size", default=2)
    _check_around(words)
    for key in ("add_bos_token", "add_eos_token"):
        if words.model != "bert" and isinstance(settings.get(key), bool):
            words.keys.setdefault(key, settings[key])
    metadata = words.metadata(rows)
    for key in [k for k in metadata if k.endswith("_token_id")]:
        if not 0 <= metadata[key] < rows:
            raise BadCheckpoint(words.path, f"{key} is {metadata[key]}, the embedding has {rows} rows")
    if words.model != "bert":  # which generates nothing
        ends, notes = end_tokens(checkpoint, metadata)
        metadata |= ends
        words.notes += notes
    return metadata | _templates(checkpoint, settings), words.notes


def _check_around(words: Words) -> None:
    """What the post-processor puts around a text must be the file's beginning and end. Raises UnsupportedTokenizer."""
    if words.around is None:
        return
    for name, i in zip(("bos", "eos"), words.around, strict=True):
        if i is None and words.model == "bert":
            raise UnsupportedTokenizer("post_processor", f"{words.path}: without [CLS] or [SEP]")
        if i is not None and words.keys.setdefault(f"{name}_token_id", i) != i:
            reason = f"it puts token {i} around a text, {name}_token_id is {words.keys[f'{name}_token_id']}"
            raise UnsupportedTokenizer("post_processor", f"{words.path}: {reason}")


def _settings(checkpoint: Checkpoint) -> Config:
    """tokenizer_config.json over special_tokens_map.json."""
    found: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        found |= checkpoint.json(name) or {}
    settings = Config(found)
    settings.path = str(checkpoint.folder / "tokenizer_config.json")
    return settings


def _words(checkpoint: Checkpoint, settings: Config, pre: str | None) -> Words:
    data = checkpoint.json("tokenizer.json")
    raw = checkpoint.read("tokenizer.model")
    if raw is not None:
        words = _sentencepiece(raw, str(checkpoint.folder / "tokenizer.model"))
        words.add(_added(checkpoint, settings))
        if isinstance(settings.get("add_prefix_space"), bool):
            words.keys["add_space_prefix"] = settings["add_prefix_space"]
        return words
    if data is not None:
        return convert_json(data, str(checkpoint.folder / "tokenizer.json"), pre)
    data = checkpoint.json("tekken.json")
    if data is not None:
        return convert_tekken(data, str(checkpoint.folder / "tekken.json"), pre)
    raw = checkpoint.read("vocab.txt")
    if raw is None:
        files = "tokenizer.model, tokenizer.json, tekken.json or vocab.txt"
        hint = f"{files} is read; without a tokenizer: vocabulary=False (--no-vocab)"
        raise UnsupportedTokenizer(str(checkpoint.folder), hint)
    path = str(checkpoint.folder / "vocab.txt")
    try:
        lines: list[str] = re.split("\r\n|\r|\n", raw.decode())  # not at U+2028 and its like, which are tokens
    except UnicodeDecodeError as e:
        raise BadCheckpoint(path, f"is no UTF-8: {e.reason} at byte {e.start}") from None
    if not lines[-1]:
        lines.pop()
    for key, want in (("tokenize_chinese_chars", True), ("do_basic_tokenize", True)):
        if settings.bool(key, default=want) is not want:
            raise UnsupportedTokenizer(f"{key}: false", f"{settings.path}: no key of a file says so")
    words = word_piece({text: i for i, text in enumerate(lines)}, path, _text(settings, "unk_token") or "[UNK]")
    special = [_text(settings, f"{name}_token") for name in ("unk", "sep", "pad", "cls", "mask")]
    words.add(Added(lines.index(text), text, True) for text in special if text in lines)
    lower = settings.bool("do_lower_case", default=True)
    accents = settings.bool("strip_accents", default=lower)
    words.keys |= {"normalizer.lowercase": lower, "normalizer.strip_accents": accents}
    return words


def _sentencepiece(raw: bytes, path: str) -> Words:
    model = sentencepiece_file.parse(raw, path)
    if model.model_type not in (sentencepiece_file.BPE, sentencepiece_file.UNIGRAM):
        raise UnsupportedTokenizer(f"model_type {model.model_type}", f"{path} is neither BPE (2) nor unigram (1)")
    bpe = model.model_type == sentencepiece_file.BPE
    words = Words(path, "llama" if bpe else "t5", model.tokens, model.types, model.scores)
    for i, kind in enumerate(words.types):
        if kind == USER_DEFINED and bpe:  # cut out of the text as it was written, before spaces become U+2581
            words.tokens[i] = words.tokens[i].replace(SPACE, " ")
    words.keys["add_space_prefix"] = model.add_dummy_prefix
    names = {"unk": "unknown", "bos": "bos", "eos": "eos", "pad": "padding"}
    words.keys |= {f"{names[k]}_token_id": i for k, i in model.ids.items() if 0 <= i < len(model.tokens)}
    if not bpe or model.remove_extra_whitespaces:
        words.keys["remove_extra_whitespaces"] = model.remove_extra_whitespaces
    if model.charsmap:
        words.keys["precompiled_charsmap"] = np.frombuffer(model.charsmap, np.uint8)
    if bpe and (model.charsmap or model.remove_extra_whitespaces):
        words.notes.append(
            f"texts are normalised ({model.normalizer or 'no name'}, remove_extra_whitespaces "
            f"{model.remove_extra_whitespaces}) here, and not by programs that read these keys for unigram models only"
        )
    return words


def _text(settings: Config, key: str) -> str | None:
    """A special token's text, given as it is or as an object with more about it."""
    value = settings.get(key)
    value = value.get("content") if isinstance(value, dict) else value
    return value if isinstance(value, str) else None


def _added(checkpoint: Checkpoint, settings: Config) -> list[Added]:
    """added_tokens.json and added_tokens_decoder, for a tokenizer.model, which does not know of them."""
    found: dict[int, Added] = {}
    for text, i in (checkpoint.json("added_tokens.json") or {}).items():
        if type(i) is not int:
            path = str(checkpoint.folder / "added_tokens.json")
            raise BadCheckpoint(path, f"token {text!r:.60} has the id {shown(i)}")
        found[i] = Added(i, text, False)
    for key, value in settings.object("added_tokens_decoder").items():
        if not key.isdecimal() or not isinstance(value, dict) or not isinstance(value.get("content"), str):
            raise BadCheckpoint(settings.path, f"added_tokens_decoder: {key!r:.40} is no id with a content")
        if len(key) < 10:
            found[int(key)] = Added(int(key), value["content"], value.get("special") is True)
    return list(found.values())


def _special_ids(words: Words, checkpoint: Checkpoint, settings: Config) -> None:
    """NAME_token_id: of the text that the tokenizer's settings have, else the number that config.json has."""
    ids = {text: i for i, text in enumerate(words.tokens)}
    for name, (key,) in SPECIAL.items():
        text = _text(settings, f"{key}_token")
        number = checkpoint.config.get(f"{key}_token_id")
        if isinstance(number, list) and number:
            number = number[0]
        if text is not None and text in ids:
            words.keys[f"{name}_token_id"] = ids[text]
        elif type(number) is int and 0 <= number < len(words.tokens):
            words.keys.setdefault(f"{name}_token_id", number)


def _templates(checkpoint: Checkpoint, settings: Config) -> dict[str, Any]:
    """The chat template and, where there are several, the others by their names."""
    raw = checkpoint.read("chat_template.jinja", 1 << 20)
    value: Any = settings.get("chat_template")
    if value is None:
        value = (checkpoint.json("chat_template.json") or {}).get("chat_template")
    if raw is not None:
        try:
            value = raw.decode()
        except UnicodeDecodeError as e:
            raise BadCheckpoint(str(checkpoint.folder / "chat_template.jinja"), f"is no UTF-8: {e.reason}") from None
    if value is None:
        return {}
    if isinstance(value, str):
        return {"tokenizer.chat_template": value}
    entries = value if isinstance(value, list) else [None]
    found: dict[str, Any] = {}
    for entry in entries:
        name, text = (entry.get("name"), entry.get("template")) if isinstance(entry, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(text, str):
            raise BadCheckpoint(settings.path, "chat_template: a text, or a list of names with templates, is expected")
        found["tokenizer.chat_template" + ("" if name == "default" else f".{name}")] = text
    others = sorted(key.removeprefix("tokenizer.chat_template.") for key in found if key != "tokenizer.chat_template")
    return found | ({"tokenizer.chat_templates": others} if others else {})
