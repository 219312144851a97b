"""What a `tokenizer.json` asks for beside its vocabulary, and whether a GGUF file can say so.

Its model, normaliser, pre-tokenizer and post-processor have settings that change ids. Each is one that the converted
file's tokenizer has anyway, or is refused here by name, or comes back as a note. What this file is not: it converts
nothing (tokenizer_json.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zigllama.errors import BadCheckpoint, UnsupportedTokenizer
from zigllama.foundation.native_wordpiece import LONGEST_WORD
from zigllama.models.conversion.checkpoint import Config
from zigllama.models.conversion.safetensors import shown
from zigllama.models.tokenizer_wordpiece import CONTINUES, START

KEYS = ("pretokenizers", "normalizers", "processors", "decoders")


def steps(top: Config, name: str, kind: str = "") -> list[Config]:
    """The steps of a component, a Sequence's one by one; of one type, if it is named."""
    whole = top.object(name)
    found = [whole] if whole else []
    if whole.get("type") == "Sequence":
        key = next((k for k in KEYS if k in whole), KEYS[0])
        found = []
        for value in whole.list(key, default=[]):
            if not isinstance(value, dict):
                raise BadCheckpoint(top.path, f"{name}.{key}: {shown(value)} is no step")
            found.append(Config(value))
            found[-1].path = top.path
    return [s for s in found if not kind or s.get("type") == kind]


def _refuse(what: str, value: Any, path: str, want: str) -> None:
    raise UnsupportedTokenizer(f"{what}: {shown(value)}", f"{path}: no key of a file says so; {want} is supported")


def check_bpe(model: Config, path: str) -> None:
    """Raises UnsupportedTokenizer for marks on pieces, and for merges that are left out at random."""
    for key in ("end_of_word_suffix", "continuing_subword_prefix", "dropout"):
        if model.get(key) not in (None, "", 0):
            _refuse(key, model[key], path, "none")


def check_normalizers(top: Config, known: Sequence[object] = (), kinds: Sequence[str] = ()) -> list[str]:
    """Steps that change a text before it is cut, but for those that are `known` or of `kinds`: of NFC and NFKC, which
    leave most texts as they are, there is a note. Raises UnsupportedTokenizer for others, with which most texts would
    get other ids."""
    found = set()
    for step in steps(top, "normalizer"):
        kind = step.get("type")
        if kind in ("NFC", "NFKC"):
            found.add(kind)
        elif kind not in kinds and dict(step) not in known:
            _refuse("normalizer", dict(step) if kind == "Replace" else kind, top.path, "none of that kind")
    return [f"texts are not normalised ({', '.join(sorted(found))}): the file has no key for it"] if found else []


def check_spaced(top: Config) -> list[str]:
    """A SentencePiece model in another coat: what becomes of spaces is known, of other steps there are notes or
    errors."""
    for step in steps(top, "pre_tokenizer"):
        kind, pattern = step.get("type"), step.get("pattern")
        if kind != "Metaspace" and not (kind == "Split" and pattern == {"String": " "}):  # spaces are gone by then
            _refuse("pre_tokenizer", kind, top.path, "Metaspace")
    known = [{"type": "Replace", "pattern": {"String": " "}, "content": START}, {"type": "Prepend", "prepend": START}]
    return check_normalizers(top, known)


def check_unigram(top: Config) -> list[str]:
    """The map of characters and remove_extra_whitespaces are SentencePiece's own; of other steps there are notes or
    errors."""
    runs = [{"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": c} for c in (" ", START)]
    return check_normalizers(top, runs, ("Precompiled", "Strip"))


def spaces_of_unigram(top: Config) -> tuple[bool, bool, list[str]]:
    """Whether a space goes before a text, and whether several are one; notes on other normalisers. Raises
    UnsupportedTokenizer for cuts of another kind than white space."""
    prefix = merge = False
    for step in steps(top, "pre_tokenizer"):
        kind = step.get("type")
        if kind == "Metaspace":
            always = "always" if step.bool("add_prefix_space", default=True) else "never"
            prefix = step.text("prepend_scheme", default=always) != "never"
        elif kind == "WhitespaceSplit":
            merge = True
        else:
            _refuse("pre_tokenizer", kind, top.path, "Metaspace")
    other = set[str]()
    for step in steps(top, "normalizer"):
        if step.get("type") == "Replace" and step.get("pattern") == {"Regex": " {2,}"}:
            merge = True
        elif step.get("type") not in ("Precompiled", "Strip"):
            other.add(shown(step.get("type")))
    listed = ", ".join(sorted(other))
    return prefix, merge, [f"texts are not normalised ({listed}): the file has no key for it"] if other else []


def check_word_piece(top: Config, model: Config) -> None:
    """What tokenizer_wordpiece.py does, and nothing else. Raises UnsupportedTokenizer."""
    kind = top.object("normalizer").get("type")
    if kind != "BertNormalizer":
        _refuse("normalizer", kind, top.path, "BertNormalizer")
    for key in ("clean_text", "handle_chinese_chars"):
        if not top.object("normalizer").bool(key, default=True):
            _refuse(key, False, top.path, "true")
    before = top.object("pre_tokenizer").get("type", "BertPreTokenizer")
    if before != "BertPreTokenizer":
        _refuse("pre_tokenizer", before, top.path, "BertPreTokenizer")
    for key, want in (("continuing_subword_prefix", CONTINUES), ("max_input_chars_per_word", LONGEST_WORD)):
        if model.get(key, want) != want:
            _refuse(key, model[key], top.path, shown(want))


def notes_on_added(top: Config) -> list[str]:
    """Added tokens that take white space with them, or stand alone as words only."""
    found = []
    for flag in ("lstrip", "rstrip", "single_word"):
        texts = [t.get("content") for t in top.list("added_tokens", default=[]) if t.get(flag) is True]
        if texts:
            more = f" and {len(texts) - 3} more" if len(texts) > 3 else ""
            names = ", ".join(map(shown, texts[:3]))
            found.append(f"{flag} of {names}{more} has no key in the file: white space beside them stays")
    return found


def around(top: Config, tokens: list[str]) -> tuple[int | None, int | None] | None:
    """Ids of what stands before and after a text; None where the file says nothing about it. Raises
    UnsupportedTokenizer for more than one token on a side, BadCheckpoint for one that is not there."""
    for step in steps(top, "post_processor"):
        kind = step.get("type")
        if kind == "TemplateProcessing":
            sides = _template(step, top.path, tokens)
            if sides is not None:
                return sides
        elif kind in ("BertProcessing", "RobertaProcessing"):
            before, after = (_second(step, key) for key in ("cls", "sep"))
            return before, after
        elif kind != "ByteLevel":
            _refuse("post_processor", kind, top.path, "TemplateProcessing")
    return None


def _second(step: Config, key: str) -> int:
    value = step.list(key)
    if len(value) != 2 or type(value[1]) is not int:
        raise BadCheckpoint(step.path, f"{key}: {shown(value)} is no token with its id")
    return value[1]


def _template(step: Config, path: str, tokens: list[str]) -> tuple[int | None, int | None] | None:
    special = step.object("special_tokens")
    sides: list[list[int]] = [[]]
    for item in step.list("single", default=[]):
        if isinstance(item, dict) and "Sequence" in item:
            sides.append([])
        elif isinstance(item, dict) and isinstance(item.get("SpecialToken"), dict):
            name = item["SpecialToken"].get("id")
            entry = special.get(name) if isinstance(name, str) else None
            ids = entry.get("ids") if isinstance(entry, dict) else [tokens.index(name)] if name in tokens else None
            if not isinstance(ids, list) or not all(type(i) is int for i in ids):
                raise BadCheckpoint(path, f"post_processor: {shown(name)} is no token")
            sides[-1] += ids
        else:
            raise BadCheckpoint(path, f"post_processor: {shown(item)} is neither a text nor a token")
    if len(sides) == 1:
        return None
    if len(sides) > 2 or any(len(side) > 1 for side in sides):
        _refuse("post_processor", sides, path, "one token before a text and one after it")
    before, after = sides
    return before[0] if before else None, after[0] if after else None
