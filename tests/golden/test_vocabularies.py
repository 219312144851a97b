"""All golden sets of llama.cpp's vocabularies: every text's ids, and the text back from them.

The files are fetched by tools/fetch_vocabularies.py. The ids in them are those of the models' own tokenizers, which
llama.cpp's authors wrote down with transformers.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from zigllama.app.catalogue import cache_dir
from zigllama.errors import UnsupportedTokenizer
from zigllama.models.tokenizer import Tokenizer

PINS: dict[str, Any] = json.loads(Path(__file__).with_name("vocabularies.json").read_text("utf-8"))
FILES: dict[str, str] = PINS["files"]
SETS = sorted(name.removeprefix("ggml-vocab-").removesuffix(".gguf.inp") for name in FILES if name.endswith(".inp"))
BETWEEN = "\n__ggml_vocab_test__\n"


def pinned(name: str) -> Path:
    path = cache_dir() / "vocabularies" / name
    if not path.is_file():
        pytest.skip("llama.cpp's vocabularies are not in the cache; tools/fetch_vocabularies.py fetches them")
    return path


@cache
def tokenizer(name: str) -> Tokenizer:
    return Tokenizer(pinned(f"ggml-vocab-{name}.gguf"))


def cases(name: str) -> list[tuple[str, list[int]]]:
    """Texts and ids; the file of texts may end with a separator."""
    texts = pinned(f"ggml-vocab-{name}.gguf.inp").read_bytes().decode().split(BETWEEN)
    ids = [[int(i) for i in line.split()] for line in pinned(f"ggml-vocab-{name}.gguf.out").read_text().splitlines()]
    assert len(texts) - len(ids) in (0, 1)
    return list(zip(texts, ids, strict=False))


def test_there_are_fifteen_sets() -> None:
    assert len(SETS) == 15


@pytest.mark.parametrize("name", sorted(FILES))
def test_file_is_as_pinned(name: str) -> None:
    assert hashlib.sha256(pinned(name).read_bytes()).hexdigest() == FILES[name]


@pytest.mark.parametrize("name", SETS)
def test_ids(name: str) -> None:
    t, wrong = tokenizer(name), []
    for text, ids in cases(name):
        found = t.encode(text, add_special=False)
        if found != ids:
            wrong.append((text, found, ids))
    assert wrong == []


def test_number_of_cases() -> None:
    assert sum(len(cases(name)) for name in SETS) == 694


@pytest.mark.parametrize("name", [n for n in SETS if n != "bert-bge"])
def test_text_back(name: str) -> None:
    """BERT lowers case and drops spaces, so nothing is defined there."""
    t = tokenizer(name)
    for text, ids in cases(name):
        assert t.decode(ids) == text
        assert t.decode_bytes(ids) == text.encode()


def test_a_vocabulary_without_a_set() -> None:
    text = "Hello, world! It's 12345 \u4f60\u597d\n\n  \U0001f642"
    t = tokenizer("baichuan")
    assert t.decode(t.encode(text)) == text


@pytest.mark.parametrize("name", ["aquila", "gpt-neox"])
def test_old_files_do_not_name_their_rule(name: str) -> None:
    """Nothing is guessed for files from before `tokenizer.ggml.pre`; passing a rule is enough."""
    path, text = pinned(f"ggml-vocab-{name}.gguf"), "Hello, world! It's 12345\n"
    with pytest.raises(UnsupportedTokenizer, match="pass the pre-tokenizer as pre="):
        Tokenizer(path)
    t = Tokenizer(path, pre="gpt-2")
    assert t.decode(t.encode(text)) == text
