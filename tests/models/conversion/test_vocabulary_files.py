"""The tokenizer in a conversion: a folder's own tokenizer and the converted file's give the same ids."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_vocabularies
import tokenizer_folders as folders
from conversion_folders import made
from dense_vocabulary import TEXT_WITH_ALL, dense

from zigllama import errors
from zigllama.foundation.gguf_format import GGUFReader
from zigllama.foundation.gguf_metadata import Typed
from zigllama.models.conversion import sentencepiece_file
from zigllama.models.conversion.checkpoint import Checkpoint
from zigllama.models.conversion.vocabulary_files import vocabulary_metadata
from zigllama.models.tokenizer import Tokenizer

TEXTS = [
    "In the beginning God created the heaven and the earth.",
    "  two spaces,\ttab\n\n  lines \r\n and 1234567 digits 3.14; it's WE'RE don't",
    "caf\u00e9 e\u0301 \u4e16\u754c \U0001f642 na\u00efve \u00a0nbsp \u0661\u0662 \u2028 end",
    "<|im_start|>user\nhello<|im_end|>",
    "a" * 50 + " " * 20 + "!?!?...",
    "",
]
RULES: dict[str, tuple[dict[str, Any], str, bool]] = {
    "gpt-2": (folders.GPT2, "gpt-2", False),
    "smollm": (folders.SMOLLM, "smollm", False),
    "falcon": (folders.FALCON, "falcon", False),
    "llama3": (folders.split_on(folders.LLAMA3_REGEX), "llama-bpe", True),
    "dbrx": (folders.split_on(folders.LLAMA3_REGEX), "dbrx", False),
    "qwen2": (folders.split_on(folders.QWEN2_REGEX), "qwen2", False),
}


def converted(checkpoint: Checkpoint, rows: int, pre: str | None = None) -> dict[str, Any]:
    """The metadata, with plain values."""
    keys, _ = vocabulary_metadata(checkpoint, rows, pre)
    return {k: v.value if isinstance(v, Typed) else v for k, v in keys.items()}


# --- BPE over bytes ---------------------------------------------------------------------------------------------------


def dense_json(rule: str) -> dict[str, Any]:
    """A vocabulary in which every cut of a pre-tokenizer shows, under one of RULES."""
    shape, name, whole = RULES[rule]
    keys: dict[str, Any] = dense(name)
    tokens, types, merges = (keys[f"tokenizer.ggml.{k}"] for k in ("tokens", "token_type", "merges"))
    data = folders.byte_bpe(tokens, types, merges, shape)
    data["model"]["ignore_merges"] = whole
    return data


@pytest.mark.parametrize("rule", RULES)
def test_rules_are_recognised(tmp_path: Path, rule: str) -> None:
    """The name, and the ids of `tokenizers` on texts made of everything that rules tell apart."""
    tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed")
    data = dense_json(rule)
    keys = converted(made(tmp_path, {"tokenizer.json": data}), len(data["model"]["vocab"]))
    assert keys["tokenizer.ggml.pre"] == RULES[rule][1]
    ours, theirs = Tokenizer.from_metadata(keys), tokenizers.Tokenizer.from_str(json.dumps(data))
    rng = np.random.default_rng(5)
    for text in [*TEXTS, *("".join(rng.choice(list(TEXT_WITH_ALL), 40)) for _ in range(60))]:
        if rule == "falcon" and not text.isascii():
            continue  # Falcon's own rule cuts digits out of what the byte alphabet made of a text; files cut the text
        assert ours.encode(text, parse_special=True) == theirs.encode(text).ids, text


def test_smollm2_comes_back(tmp_path: Path, smollm2_path: Path) -> None:
    """The vocabulary of a real model, as a tokenizer.json: tokens, types and merges are what they were, ids are those
    of `tokenizers`."""
    tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed")
    with GGUFReader(smollm2_path) as reader:
        found: dict[str, Any] = dict(reader.metadata)
        had = {k: list(found["tokenizer.ggml." + k]) for k in ("tokens", "token_type", "merges")}
        template = reader.metadata["tokenizer.chat_template"]
    data = folders.byte_bpe(had["tokens"], had["token_type"], had["merges"], folders.SMOLLM)
    settings = {"bos_token": "<|im_start|>", "eos_token": {"content": "<|im_end|>"}, "chat_template": template}
    keys = converted(made(tmp_path, {"tokenizer.json": data, "tokenizer_config.json": settings}), len(had["tokens"]))
    for name, value in had.items():
        assert list(keys["tokenizer.ggml." + name]) == value
    assert (keys["tokenizer.ggml.bos_token_id"], keys["tokenizer.ggml.eos_token_id"]) == (1, 2)
    assert keys["tokenizer.ggml.pre"] == "smollm" and keys["tokenizer.chat_template"] == template
    ours, theirs = Tokenizer.from_metadata(keys), tokenizers.Tokenizer.from_str(json.dumps(data))
    for text in TEXTS:
        assert ours.encode(text, parse_special=True) == theirs.encode(text).ids
        assert ours.decode(ours.encode(text)) == text


def test_pairs_added_tokens_and_padding(tmp_path: Path) -> None:
    """Merges as pairs; an added token past the vocabulary; rows of the embedding that have no token."""
    data = dense_json("gpt-2")
    n = len(data["model"]["vocab"])
    data["model"]["merges"] = [m.split(" ") for m in data["model"]["merges"]]
    data["added_tokens"] += [
        {"id": n, "content": "<tool>", "special": False},
        {"id": n + 1, "content": "<|x|>", "special": False},
    ]
    keys = converted(made(tmp_path, {"tokenizer.json": data}), n + 5)
    types = keys["tokenizer.ggml.token_type"]
    assert keys["tokenizer.ggml.tokens"][n:] == ["<tool>", "<|x|>", f"[PAD{n + 2}]", f"[PAD{n + 3}]", f"[PAD{n + 4}]"]
    assert list(types[n:]) == [4, 3, 5, 5, 5]  # what has the look of markup is control: no text becomes it
    assert Tokenizer.from_metadata(keys).encode("a<tool>")[-1] == n


@pytest.mark.parametrize(("single", "want"), [("bA", (True, False)), ("Ae", (False, True)), ("bAe", (True, True))])
def test_what_is_put_around(tmp_path: Path, single: str, want: tuple[bool, bool]) -> None:
    data = dense_json("gpt-2")
    steps = [{"Sequence": {"id": "A"}} if c == "A" else {"SpecialToken": {"id": "<|endoftext|>"}} for c in single]
    processor = {"type": "TemplateProcessing", "single": steps}
    data["post_processor"] = {"type": "Sequence", "processors": [{"type": "ByteLevel"}, processor]}
    settings = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "add_bos_token": not want[0]}
    keys = converted(made(tmp_path, {"tokenizer.json": data, "tokenizer_config.json": settings}), 2000)
    assert (keys["tokenizer.ggml.add_bos_token"], keys["tokenizer.ggml.add_eos_token"]) == want


def test_a_rule_that_is_not_known_is_refused_and_can_be_passed(tmp_path: Path) -> None:
    data = dense_json("gpt-2")
    data["pre_tokenizer"] = folders.split_on(r"\d+|\D+")
    checkpoint = made(tmp_path, {"tokenizer.json": data})
    with pytest.raises(errors.UnsupportedTokenizer, match=r"Split .*pass the one it behaves like as pre= \(--pre\)"):
        vocabulary_metadata(checkpoint, 2000)
    assert converted(checkpoint, 2000, "qwen2")["tokenizer.ggml.pre"] == "qwen2"
    with pytest.raises(errors.UnsupportedTokenizer, match="nonsense"):
        vocabulary_metadata(checkpoint, 2000, "nonsense")
    data["pre_tokenizer"] = folders.GPT2 | {"add_prefix_space": True}
    with pytest.raises(errors.UnsupportedTokenizer, match="add_prefix_space"):
        vocabulary_metadata(made(tmp_path, {"tokenizer.json": data}), 2000)


def test_a_normal_form_is_kept(tmp_path: Path) -> None:
    """Qwen's and GPT-NeoX's NFC is a key of the file; another normaliser has none."""
    data = dense_json("gpt-2")
    data["normalizer"] = {"type": "NFC"}
    keys = converted(made(tmp_path, {"tokenizer.json": data}), 2000)
    t = Tokenizer.from_metadata(keys)
    assert keys["tokenizer.ggml.normalizer.form"] == "NFC" and t.encode("e\u0301") == t.encode("\u00e9")
    data["normalizer"] = {"type": "NFKC"}
    keys, notes = vocabulary_metadata(made(tmp_path / "other", {"tokenizer.json": data}), 2000)
    assert "tokenizer.ggml.normalizer.form" not in keys and "not normalised (NFKC)" in notes[0]


# --- SentencePiece ----------------------------------------------------------------------------------------------------


def spm() -> dict[str, Any]:
    """A small SentencePiece vocabulary."""
    return {k.removeprefix("tokenizer.ggml."): v for k, v in small_vocabularies.spm().items()}


@pytest.mark.parametrize("prefix", [False, True])
def test_tokenizer_model(tmp_path: Path, prefix: bool) -> None:
    """The file's own bytes, read by `sentencepiece` and by the conversion: the same ids."""
    sentencepiece = pytest.importorskip("sentencepiece", reason="sentencepiece is not installed")
    had = spm()
    raw = folders.sentencepiece(had["tokens"], had["scores"], had["token_type"], prefix=prefix)
    settings = {"add_bos_token": False}
    keys = converted(made(tmp_path, {"tokenizer.model": raw, "tokenizer_config.json": settings}), len(had["tokens"]))
    assert keys["tokenizer.ggml.model"] == "llama" and keys["tokenizer.ggml.tokens"] == had["tokens"]
    np.testing.assert_array_equal(keys["tokenizer.ggml.scores"], np.float32(had["scores"]))
    np.testing.assert_array_equal(keys["tokenizer.ggml.token_type"], had["token_type"])
    ours, theirs = Tokenizer.from_metadata(keys), sentencepiece.SentencePieceProcessor(model_proto=raw)
    for text in TEXTS:
        if not (prefix and "\n" in text):  # after a user-defined token, files have another space and this package none
            assert ours.encode(text) == theirs.encode(text), text


def test_gemmas_vocabulary_as_tokenizer_model(tmp_path: Path, gemma3_path: Path) -> None:
    """262,144 real pieces."""
    sentencepiece = pytest.importorskip("sentencepiece", reason="sentencepiece is not installed")
    with GGUFReader(gemma3_path) as reader:
        found: dict[str, Any] = dict(reader.metadata)
        had = {k: list(found["tokenizer.ggml." + k]) for k in ("tokens", "scores", "token_type")}
    raw = folders.sentencepiece(had["tokens"], had["scores"], had["token_type"], prefix=False)
    settings = {"add_bos_token": False}
    keys = converted(made(tmp_path, {"tokenizer.model": raw, "tokenizer_config.json": settings}), len(had["tokens"]))
    ours, theirs = Tokenizer.from_metadata(keys), sentencepiece.SentencePieceProcessor(model_proto=raw)
    for text in TEXTS:
        assert ours.encode(text) == theirs.encode(text), text


def test_the_same_pieces_as_a_tokenizer_json(tmp_path: Path) -> None:
    """A SentencePiece vocabulary with merges in place of scores: `tokenizers` merges as scores would."""
    tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed")
    had = spm()
    tokens, ids = had["tokens"], {t: i for i, t in enumerate(had["tokens"])}
    merges = []
    for i in np.argsort(-np.float32(had["scores"]), kind="stable"):
        if had["token_type"][i] == 1:
            pairs = [[tokens[i][:k], tokens[i][k:]] for k in range(1, len(tokens[i]))]
            merges += [pair for pair in pairs if pair[0] in ids and pair[1] in ids]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    data = {
        "version": "1.0",
        "added_tokens": [{"id": i, "content": t, "special": i < 6} | flags for i, t in enumerate(tokens[:9])],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "\u2581"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
            ],
        },
        "model": {
            "type": "BPE", "vocab": ids, "merges": merges, "byte_fallback": True, "fuse_unk": True, "unk_token": "<unk>"
        },
    }  # fmt: skip
    checkpoint = made(tmp_path, {"tokenizer.json": data})
    keys, notes = vocabulary_metadata(checkpoint, len(tokens))
    assert not notes and keys["tokenizer.ggml.model"] == "llama" and keys["tokenizer.ggml.add_space_prefix"] is True
    np.testing.assert_array_equal(keys["tokenizer.ggml.token_type"], had["token_type"])
    ours, theirs = Tokenizer.from_metadata(keys), tokenizers.Tokenizer.from_str(json.dumps(data))
    for text in [text for text in TEXTS if text and "\n" not in text]:  # of "\n" see above
        assert ours.encode(text, add_special=False) == theirs.encode(text).ids, text


def test_added_tokens_of_a_tokenizer_model(tmp_path: Path) -> None:
    had = spm()
    n = len(had["tokens"])
    raw = folders.sentencepiece(had["tokens"], had["scores"], had["token_type"], prefix=True)
    decoder = {"3": {"content": "<unk>", "special": True}, str(n): {"content": "<end_of_turn>", "special": True}}
    files = {
        "tokenizer.model": raw,
        "added_tokens.json": {"[tool]": n + 1},
        "tokenizer_config.json": {"added_tokens_decoder": decoder, "eos_token": "<end_of_turn>", "pad_token": None},
    }
    keys = converted(made(tmp_path, files, {"pad_token_id": 0}), n + 2)
    assert keys["tokenizer.ggml.tokens"][n:] == ["<end_of_turn>", "[tool]"]
    assert [int(keys["tokenizer.ggml.token_type"][i]) for i in (3, n, n + 1)] == [2, 3, 4]
    assert keys["tokenizer.ggml.eos_token_id"] == n and keys["tokenizer.ggml.padding_token_id"] == 0


def test_unigram_keeps_its_scores(tmp_path: Path) -> None:
    had = spm()
    raw = folders.sentencepiece(had["tokens"], had["scores"], had["token_type"], prefix=True, model_type=1)
    keys = converted(made(tmp_path, {"tokenizer.model": raw}), len(had["tokens"]))
    assert keys["tokenizer.ggml.model"] == "t5" and keys["tokenizer.ggml.remove_extra_whitespaces"] is False
    vocab = [[t, float(s)] for t, s in zip(had["tokens"], had["scores"], strict=True)]
    data: dict[str, Any] = {
        "normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAEC"},
        "model": {"type": "Unigram", "unk_id": 0, "vocab": vocab},
    }
    other = converted(made(tmp_path / "json", {"tokenizer.json": data}), len(vocab))
    assert other["tokenizer.ggml.model"] == "t5" and bytes(other["tokenizer.ggml.precompiled_charsmap"]) == b"\0\1\2"
    np.testing.assert_array_equal(other["tokenizer.ggml.scores"], keys["tokenizer.ggml.scores"])
    flags = ("tokenizer.ggml.add_space_prefix", "tokenizer.ggml.remove_extra_whitespaces")
    assert [other[f] for f in flags] == [False, False]
    metaspace = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always"}
    data["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace]}
    data["normalizer"] = {"type": "NFKC"}
    other, notes = vocabulary_metadata(made(tmp_path / "xlmr", {"tokenizer.json": data}), len(vocab))
    assert [other[f] for f in flags] == [True, True] and "not normalised (NFKC)" in notes[0]
    data["pre_tokenizer"] = {"type": "Digits"}
    with pytest.raises(errors.UnsupportedTokenizer, match="Digits"):
        vocabulary_metadata(made(tmp_path / "digits", {"tokenizer.json": data}), len(vocab))
    raw = folders.sentencepiece(had["tokens"], had["scores"], had["token_type"], prefix=True, model_type=3)
    with pytest.raises(errors.UnsupportedTokenizer, match="model_type 3"):
        vocabulary_metadata(made(tmp_path / "word", {"tokenizer.model": raw}), len(vocab))


# --- WordPiece --------------------------------------------------------------------------------------------------------

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "##ing", "sing", "#", "##", "[x"]


@pytest.mark.parametrize("file", ["vocab.txt", "tokenizer.json"])
def test_word_piece(tmp_path: Path, file: str) -> None:
    """Pieces inside a word lose their marks, others get one; [CLS] and [SEP] are what stands around a text."""
    settings: dict[str, Any] = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "sep", "pad", "cls", "mask")}
    settings["do_lower_case"] = True
    data = {
        "added_tokens": [{"id": i, "content": t, "special": True} for i, t in enumerate(WORDS[:5])],
        "normalizer": {"type": "BertNormalizer", "lowercase": True, "strip_accents": None},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "vocab": {t: i for i, t in enumerate(WORDS)}},
    }
    files = {"vocab.txt": "\n".join(WORDS) + "\n"} if file == "vocab.txt" else {file: data}
    keys = converted(made(tmp_path, files | {"tokenizer_config.json": settings}, {"type_vocab_size": 2}), len(WORDS))
    assert keys["tokenizer.ggml.model"] == "bert"
    assert keys["tokenizer.ggml.tokens"][5:] == ["\u2581the", "ing", "\u2581sing", "\u2581#", "\u2581##", "\u2581[x"]
    assert list(keys["tokenizer.ggml.token_type"][:6]) == [3, 2, 3, 3, 3, 1]
    names = ("bos", "eos", "cls", "seperator", "unknown", "padding", "mask")
    assert [keys[f"tokenizer.ggml.{n}_token_id"] for n in names] == [2, 3, 2, 3, 1, 0, 4]
    assert keys["tokenizer.ggml.normalizer.lowercase"] is True and keys["tokenizer.ggml.token_type_count"] == 2


# --- around it --------------------------------------------------------------------------------------------------------


def test_chat_templates(tmp_path: Path) -> None:
    """A text, a list with names, or a file that goes before both."""
    base: dict[str, Any] = {"tokenizer.json": dense_json("gpt-2")}
    several = [{"name": "default", "template": "A"}, {"name": "tool_use", "template": "B"}]
    keys = converted(made(tmp_path, base | {"tokenizer_config.json": {"chat_template": several}}), 2000)
    assert keys["tokenizer.chat_template"] == "A" and keys["tokenizer.chat_template.tool_use"] == "B"
    assert keys["tokenizer.chat_templates"] == ["tool_use"]
    keys = converted(made(tmp_path, base | {"chat_template.jinja": "C"}), 2000)
    assert keys["tokenizer.chat_template"] == "C"
    with pytest.raises(errors.BadCheckpoint, match="chat_template: a text, or a list"):
        converted(made(tmp_path / "x", base | {"tokenizer_config.json": {"chat_template": [1]}}), 2000)


Change = Callable[[dict[str, Any]], Any]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["model"]["vocab"].update(zz=0), "different ids"),
        (lambda d: d["model"]["vocab"].update(zz=-1), "has the id -1"),
        (lambda d: d["model"]["vocab"].update(zz=1.5), "has the id 1.5"),
        (lambda d: d["model"]["vocab"].update(zz=10**6), "ids up to 1000000"),
        (lambda d: d["model"].update(vocab=[]), "an object of tokens and ids"),
        (lambda d: d["model"]["merges"].append("a b c"), "not two tokens"),
        (lambda d: d["model"]["merges"].append(["a", 1]), "not two tokens"),
        (lambda d: d["model"]["merges"].append("zz zz"), "which is no token"),
        (lambda d: d["added_tokens"].append({"id": 10**7, "content": "x"}), "added token 'x' has id 10000000"),
        (lambda d: d["added_tokens"].append({"id": "1", "content": "x"}), "id: '1' is not an integer"),
        (lambda d: d["added_tokens"].append({"id": 1999, "content": "x"}), "2000 tokens, but the embedding has 1500"),
    ],
)
def test_hostile_json(tmp_path: Path, change: Change, message: str) -> None:
    data = dense_json("gpt-2")
    change(data)
    with pytest.raises(errors.BadCheckpoint, match=message):
        vocabulary_metadata(made(tmp_path, {"tokenizer.json": data}), 1500)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "holds no pieces"),
        (b"\x0a\xff\xff\xff\xff\x0f", "field 1 has 4294967295 bytes, 0 are left"),
        (b"\x0a\x80", "a number does not end"),
        (b"\xff" * 12, "a number does not end"),
        (b"\x0b\x00", "wire type 3 is not in use"),
        (b"\x0a\x03\x0a\x01\xff", "text is not UTF-8"),
        (b"\x0a\x02\x18\x09", "type 9"),
        (b"\x0a\x05\x15\x00\x00\xc0\x7f", "score nan"),
    ],
)
def test_hostile_protocol_buffers(tmp_path: Path, raw: bytes, message: str) -> None:
    with pytest.raises(errors.BadCheckpoint, match=message):
        vocabulary_metadata(made(tmp_path, {"tokenizer.model": raw}), 10)


def test_no_prefix_of_a_protocol_buffer_is_more_than_an_error(tmp_path: Path) -> None:
    """Cut anywhere, it is refused, or it is a vocabulary of fewer pieces."""
    raw = folders.sentencepiece(["<unk>", "a", "b"], [0, -1, -2], [2, 1, 1], prefix=True)
    for n in range(len(raw)):
        checkpoint = made(tmp_path, {"tokenizer.model": raw[:n]})
        try:
            keys = converted(checkpoint, 3)
        except errors.BadCheckpoint:
            continue
        assert len(keys["tokenizer.ggml.tokens"]) == 3


def test_pieces_of_every_layout() -> None:
    """What is read as arrays and what is read field by field stand mixed, and come out in their order."""
    score = b"\x15" + struct.pack("<f", -2.5)
    layouts: list[tuple[bytes, str, float, int]] = [
        (b"\x0a\x01a" + score, "a", -2.5, 1),
        (b"\x0a\x02\xc3\xa9" + score + b"\x18\x04", "\xe9", -2.5, 4),
        (b"\x18\x06\x0a\x01b" + score, "b", -2.5, 6),  # another order
        (b"\x0a\x01c", "c", 0.0, 1),
        (b"\x0a\x01d\x18\x03", "d", 0.0, 3),
        (b"\x0a\x01e" + score + b"\x20\x07", "e", -2.5, 1),  # as long as one with a type, and another field
        (b"\x0a\x01x\x0a\x01f" + score, "f", -2.5, 1),  # the last of two texts holds
        (b"\x0a\x03\x15\x15\x15" + score, "\x15\x15\x15", -2.5, 1),
        (b"\x0a\xac\x02" + b"g" * 300 + score, "g" * 300, -2.5, 1),
        (b"\x0a\x00" + score, "", -2.5, 1),
        (b"\x0a\x01h" + score + b"\x18\x86\x00", "h", -2.5, 6),  # a number longer than it need be
        (b"", "", 0.0, 1),
    ]
    rng = np.random.default_rng(3)
    order = [layouts[i] for i in rng.integers(len(layouts), size=400)]
    raw = b"".join(b"\x0a" + _length(piece) + piece + b"\x28\x01" * (len(piece) % 2) for piece, *_ in order)
    model = sentencepiece_file.parse(raw, "p")
    assert [*zip(model.tokens, model.scores, model.types, strict=True)] == [tuple(rest) for _, *rest in order]


def _length(raw: bytes) -> bytes:
    return bytes([len(raw)]) if len(raw) < 128 else bytes([len(raw) & 127 | 128, len(raw) >> 7])


@pytest.mark.parametrize(
    ("piece", "message"),
    [
        (b"\x0a\x01\xff\x15\0\0\0\0", "byte 4: text is not UTF-8"),
        (b"\x0a\x01a\x15\0\0\xc0\x7f", "type 1 and score nan"),
        (b"\x0a\x01a\x15\0\0\0\0\x18\x07", "type 7"),
        (b"\x0a\x01a\x15\0\0\0\0\x18\x00", "type 0"),
        (b"\x0a\x09a\x15\0\0\0\0", "field 1 has 9 bytes, 6 are left"),
    ],
)
def test_usual_pieces_that_are_wrong(piece: bytes, message: str) -> None:
    with pytest.raises(errors.BadCheckpoint, match=message):
        sentencepiece_file.parse(b"\x0a" + bytes([len(piece)]) + piece, "p")


HUGE = 10 << 20


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"\x28\x01", "more than 524288 fields beside usual pieces"),
        (b"\x2a\x00", "more than 524288 fields beside usual pieces"),
        (b"\x12\x02\x18\x02", "more than 524288 fields beside usual pieces"),
        (b"\x0a\x00", "more than 524288 pieces"),
        (b"\x0a\x03\x0a\x01a", "more than 524288 pieces"),
        (b"\x0a\x07\x0a\x00\x15\0\0\0\0", "more than 524288 pieces"),
    ],
)
@pytest.mark.parametrize("inside", [False, True])
def test_ten_megabytes_of_fields(raw: bytes, message: str, inside: bool) -> None:
    """A protocol buffer of nothing but small fields, at the top or within one piece: refused before most are read."""
    data = raw * (HUGE // len(raw))
    if inside:
        n = len(data)
        data = b"\x0a" + bytes([n & 127 | 128, n >> 7 & 127 | 128, n >> 14 & 127 | 128, n >> 21]) + data
        message = "more than 524288 fields|type 1"
    begin = time.process_time()  # of this process alone: the bound is for a machine that has time for it
    with pytest.raises(errors.BadCheckpoint, match=message):
        sentencepiece_file.parse(data, "p")
    assert time.process_time() - begin < 20


def test_no_tokenizer_at_all(tmp_path: Path) -> None:
    with pytest.raises(errors.UnsupportedTokenizer, match="vocabulary=False"):
        vocabulary_metadata(made(tmp_path, {}), 10)
    with pytest.raises(errors.UnsupportedTokenizer, match="'Strange'"):
        vocabulary_metadata(made(tmp_path, {"tokenizer.json": {"model": {"type": "Strange"}}}), 10)
