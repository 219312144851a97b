"""Settings of a folder's tokenizer that change ids: the converted file has them, or the conversion says so."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import small_vocabularies
import tokenizer_folders as folders
from conversion_folders import made

from zigllama import errors
from zigllama.foundation.gguf_metadata import Typed
from zigllama.models.conversion.vocabulary_files import vocabulary_metadata
from zigllama.models.tokenizer import Tokenizer

Data = dict[str, Any]
Change = Callable[[Data], Any]
LETTERS = [chr(0x100 + i) for i in range(64)] + ["<s>", "</s>", "<x>"]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "##ing", "\u2028", "sing"]
SETTINGS = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "sep", "pad", "cls", "mask")}
BOS = {"bos_token": "<s>", "eos_token": "</s>"}


def byte_level() -> Data:
    return folders.byte_bpe(LETTERS, [1] * 64 + [3] * 3, [], folders.GPT2)


def word_piece() -> Data:
    return {
        "added_tokens": [{"id": i, "content": t, "special": True} for i, t in enumerate(WORDS[:5])],
        "normalizer": {"type": "BertNormalizer", "lowercase": True, "strip_accents": None},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "vocab": {t: i for i, t in enumerate(WORDS)}},
        "post_processor": template("[CLS] A [SEP]"),
    }


def spaced(**more: Any) -> Data:
    ids = {t: i for i, t in enumerate(["<unk>", "\u2581", "a", "b"])}
    return {"model": {"type": "BPE", "vocab": ids, "merges": [], "byte_fallback": True, "unk_token": "<unk>"}} | more


def template(single: str) -> Data:
    """A post-processor: names of tokens, and A for the text."""
    parts = [{"Sequence": {"id": "A"}} if p == "A" else {"SpecialToken": {"id": p}} for p in single.split()]
    return {"type": "TemplateProcessing", "single": parts}


def refused(place: Path, data: Data, message: str, settings: Data = BOS) -> None:
    files = {"tokenizer.json": data, "tokenizer_config.json": settings}
    with pytest.raises((errors.UnsupportedTokenizer, errors.BadCheckpoint), match=message):
        vocabulary_metadata(made(place, files), 100)


def taken(place: Path, data: Data, settings: Data = BOS) -> tuple[Data, list[str]]:
    files = {"tokenizer.json": data, "tokenizer_config.json": settings}
    keys, notes = vocabulary_metadata(made(place, files), 100)
    return {key.removeprefix("tokenizer.ggml."): value for key, value in keys.items()}, notes


# --- BPE --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["model"].update(end_of_word_suffix="</w>"), "end_of_word_suffix: '</w>'"),
        (lambda d: d["model"].update(continuing_subword_prefix="##"), "continuing_subword_prefix: '##'"),
        (lambda d: d["model"].update(dropout=0.1), "dropout: 0.1"),
        (lambda d: d.update(post_processor=template("<s> <x> A")), "one token before a text"),
        (lambda d: d.update(post_processor=template("A <s> A")), "one token before a text"),
        (lambda d: d.update(post_processor=template("<x> A")), "puts token 66 around a text, bos_token_id is 64"),
        (lambda d: d.update(post_processor=template("A <s>")), "puts token 64 around a text, eos_token_id is 65"),
        (lambda d: d.update(post_processor=template("<none> A")), "'<none>' is no token"),
        (lambda d: d.update(post_processor={"type": "Other"}), "post_processor: 'Other'"),
        (lambda d: d.update(pre_tokenizer={"type": "Sequence", "pretokenizers": 5}), "pretokenizers: 5 is not a list"),
        (lambda d: d.update(pre_tokenizer={"type": "Sequence", "pretokenizers": [5]}), "5 is no step"),
        (lambda d: d["model"]["merges"].append([[[1]]]), r"\[\[\[1\]\]\], not two tokens"),
        (lambda d: d["model"].update(type=["BPE"]), r"tokenizer.json: type"),
    ],
)
def test_byte_level(tmp_path: Path, change: Change, message: str) -> None:
    data = byte_level()
    taken(tmp_path / "as it is", data)
    change(data)
    refused(tmp_path, data, message)


def test_what_is_put_around(tmp_path: Path) -> None:
    """By the template's own ids; a token that no setting names becomes the beginning; RoBERTa's way."""
    data = byte_level() | {"post_processor": template("first A")}
    data["post_processor"]["special_tokens"] = {"first": {"id": "first", "ids": [64], "tokens": ["<s>"]}}
    keys, _ = taken(tmp_path / "a", data, {})
    assert (keys["bos_token_id"], keys["add_bos_token"], keys["add_eos_token"]) == (64, True, False)
    data["post_processor"] = {"type": "RobertaProcessing", "cls": ["<s>", 64], "sep": ["</s>", 65]}
    keys, _ = taken(tmp_path / "b", data)
    assert (keys["add_bos_token"], keys["add_eos_token"]) == (True, True)


def test_added_tokens_that_take_spaces(tmp_path: Path) -> None:
    data = byte_level()
    data["added_tokens"][2] |= {"lstrip": True}
    assert any(note.startswith("lstrip of '<x>'") for note in taken(tmp_path, data)[1])


def test_added_tokens_open_no_gap_each(tmp_path: Path) -> None:
    data = byte_level()
    data["added_tokens"] += [{"id": 4096 * (i + 1), "content": f"x{i}"} for i in range(2000)]
    begin = time.process_time()
    refused(tmp_path, data, "added token 'x1' has id 8192")
    assert time.process_time() - begin < 10


REPLACE = {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}
REFUSED: list[tuple[Data, str]] = [
    ({"type": "Lowercase"}, "normalizer: 'Lowercase'"),
    (REPLACE, "normalizer: {'content': ' '"),
    ({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "StripAccents"}]}, "normalizer: 'StripAccents'"),
    ({"type": "NFD"}, "normalizer: 'NFD'"),
    ({"type": ["NFC"]}, r"normalizer: \['NFC'\]"),
]


def unigram(**more: Any) -> Data:
    return {"model": {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["\u2581", -1.0]]}} | more


@pytest.mark.parametrize(("normalizer", "message"), REFUSED)
def test_normalisers_that_change_most_texts(tmp_path: Path, normalizer: Data, message: str) -> None:
    """A file has no key for them, and its ids would be others than the folder's: refused by name, also within a
    sequence; NFC and NFKC are a note."""
    data = {"normalizer": normalizer}
    for i, whole in enumerate((byte_level() | data, spaced(**data), unigram(**data))):
        refused(tmp_path / str(i), whole, message)
    both = {"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "NFC"}]}
    for i, whole in enumerate((byte_level(), spaced(), unigram())):
        notes = taken(tmp_path / f"noted {i}", whole | {"normalizer": both})[1]
        assert "texts are not normalised (NFC, NFKC): the file has no key for it" in notes
        assert not taken(tmp_path / f"plain {i}", whole)[1]
    runs = REPLACE | {"pattern": {"Regex": " {2,}"}}  # SentencePiece's own remove_extra_whitespaces
    assert not taken(tmp_path / "runs", unigram(normalizer=runs))[1]


# --- what ends a generation -------------------------------------------------------------------------------------------

MARKS = ["<s>", "</s>", "<|im_end|>", "<turn>", "<call>", "<stop>"]  # of byte_level's ids, from 64 on


def ends(place: Path, files: Data, config: Data, settings: Data = BOS) -> tuple[set[int], Data, list[str]]:
    """End ids of the tokenizer that a conversion makes, its keys, and the notes."""
    data = folders.byte_bpe(LETTERS[:64] + MARKS, [1] * 64 + [3] * 6, [], folders.GPT2)
    checkpoint = made(place, {"tokenizer.json": data, "tokenizer_config.json": settings} | files, config)
    keys, notes = vocabulary_metadata(checkpoint, 80)
    plain = {k: v.value if isinstance(v, Typed) else v for k, v in keys.items()}
    found = set(Tokenizer.from_metadata(plain).end_ids)
    return found, {k.removeprefix("tokenizer.ggml."): v for k, v in plain.items() if k.endswith("_token_id")}, notes


@pytest.mark.parametrize(
    ("generation", "config", "want", "keys", "lost"),
    [
        (None, 65, {65, 66}, {}, ""),  # </s> is the tokenizer's, <|im_end|> is known by its text
        (None, [65, 67], {65, 66, 67}, {"eot": 67}, ""),
        ([65, 66, 67], [68], {65, 66, 67}, {"eot": 67}, ""),  # generation_config.json counts
        ([66, 68, 67, 68], None, {65, 66, 67, 68}, {"eot": 68, "eom": 67}, ""),
        (67, [68], {65, 66, 67}, {"eot": 67}, ""),
        ([67, 68, 69], None, {65, 66, 67, 68}, {"eot": 67, "eom": 68}, "1 of 3 tokens.*: 69 '<stop>'"),
        ([65, 1 << 40, -1], None, {65, 66}, {}, "eos_token_id 1099511627776, -1 is no token of 80"),
        ([], None, {65, 66}, {}, ""),
    ],
)
def test_all_ends_of_a_generation(
    tmp_path: Path, generation: Any, config: Any, want: set[int], keys: dict[str, int], lost: str
) -> None:
    """Every id that the folder lists ends a generation of the file, by its text or by one of three keys; what has no
    place is named."""
    files = {} if generation is None else {"generation_config.json": {"eos_token_id": generation}}
    found, made_keys, notes = ends(tmp_path, files, {"eos_token_id": config})
    assert found == want and made_keys["eos_token_id"] == 65
    assert {k: made_keys.get(f"{k}_token_id") for k in ("eot", "eom")} == {"eot": None, "eom": None} | keys
    assert len(notes) == bool(lost) and all(re.search(lost, note) for note in notes)


def test_ends_without_an_end_of_text(tmp_path: Path) -> None:
    files = {"generation_config.json": {"eos_token_id": [69, 67]}}
    found, keys, notes = ends(tmp_path, files, {}, {})
    assert found == {65, 66, 67, 69} and (keys["eos_token_id"], keys["eot_token_id"]) == (69, 67) and not notes


@pytest.mark.parametrize("value", ["67", [1.5], [True], [[67]], list(range(300))])
def test_ends_that_are_none(tmp_path: Path, value: Any) -> None:
    with pytest.raises(errors.BadCheckpoint, match=r"generation_config\.json: eos_token_id: .*at most 256"):
        ends(tmp_path, {"generation_config.json": {"eos_token_id": value}}, {})


# --- SentencePiece ----------------------------------------------------------------------------------------------------


def test_spaced(tmp_path: Path) -> None:
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    split = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
    assert taken(tmp_path / "a", spaced(normalizer=replace, pre_tokenizer=split))[1] == []
    both = {"type": "Sequence", "normalizers": [{"type": "NFKC"}, replace]}
    assert taken(tmp_path / "b", spaced(normalizer=both))[1] == [
        "texts are not normalised (NFKC): the file has no key for it"
    ]
    refused(tmp_path / "c", spaced(pre_tokenizer={"type": "Digits"}), "pre_tokenizer: 'Digits'")
    data = spaced()
    data["model"]["vocab"]["a" * 100_000] = 4
    begin = time.process_time()
    refused(tmp_path / "d", data, "a token of 100000 characters")
    assert time.process_time() - begin < 10


@pytest.mark.parametrize(
    ("field", "message"),
    [(b"\x12\x03\xc0\x01\x01", "treat_whitespace_as_suffix"), (b"\x1a\x02\x28\x00", "escape_whitespaces")],
)
def test_settings_of_sentencepiece(tmp_path: Path, field: bytes, message: str) -> None:
    had: Data = {k.removeprefix("tokenizer.ggml."): v for k, v in small_vocabularies.spm().items()}
    raw = folders.sentencepiece(had["tokens"], had["scores"], had["token_type"], prefix=True)
    with pytest.raises(errors.BadCheckpoint, match=message):
        vocabulary_metadata(made(tmp_path, {"tokenizer.model": raw + field}), len(had["tokens"]))


# --- WordPiece --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("normalizer"), "normalizer: None"),
        (lambda d: d.update(normalizer={"type": "NFC"}), "normalizer: 'NFC'"),
        (lambda d: d["normalizer"].update(handle_chinese_chars=False), "handle_chinese_chars"),
        (lambda d: d["normalizer"].update(clean_text=False), "clean_text"),
        (lambda d: d.update(pre_tokenizer={"type": "Whitespace"}), "pre_tokenizer: 'Whitespace'"),
        (lambda d: d["model"].update(continuing_subword_prefix="@@"), "continuing_subword_prefix"),
        (lambda d: d["model"].update(max_input_chars_per_word=50), "max_input_chars_per_word: 50"),
        (lambda d: d.update(post_processor=template("A [SEP]")), r"without \[CLS\] or \[SEP\]"),
        (lambda d: d.update(post_processor=template("[MASK] A [SEP]")), "puts token 4 around"),
    ],
)
def test_word_piece(tmp_path: Path, change: Change, message: str) -> None:
    data = word_piece()
    keys, notes = taken(tmp_path / "as it is", data, SETTINGS)
    assert not notes and keys["token_type_count"] == 2  # as the class has it where the config is silent
    change(data)
    refused(tmp_path, data, message, SETTINGS)


def test_lines_of_vocab_txt(tmp_path: Path) -> None:
    """Lines end as text files' do; U+2028 is a token. Settings of the slow tokenizer that a file cannot have."""
    for i, end in enumerate(("\n", "\r\n")):
        files: Data = {"vocab.txt": end.join(WORDS) + end, "tokenizer_config.json": SETTINGS}
        keys, _ = vocabulary_metadata(made(tmp_path / str(i), files), len(WORDS))
        assert keys["tokenizer.ggml.tokens"][5:] == ["\u2581the", "ing", "\u2581\u2028", "\u2581sing"]
    files["tokenizer_config.json"] = SETTINGS | {"tokenize_chinese_chars": False}
    with pytest.raises(errors.UnsupportedTokenizer, match="tokenize_chinese_chars"):
        vocabulary_metadata(made(tmp_path, files), len(WORDS))
