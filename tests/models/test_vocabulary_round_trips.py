"""Every byte-level and byte-fallback vocabulary of the cache: a text comes back, and its tokens' places are it."""

from __future__ import annotations

import unicodedata
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zigllama.app.catalogue import cache_dir
from zigllama.models.tokenizer import Tokenizer
from zigllama.models.tokenizer_bpe import LETTERS

VOCABULARIES = (
    *("aquila", "baichuan", "command-r", "deepseek-coder", "deepseek-llm", "falcon", "gemma-4", "gpt-2", "gpt-neox"),
    *("llama-bpe", "llama-spm", "mpt", "phi-3", "qwen2", "qwen35", "refact", "starcoder"),
)
MODELS = ("SmolLM2-135M-Instruct.Q4_1.gguf", "gemma-3-270m-q4_k_m.gguf")
PATHS = {name: Path("vocabularies") / f"ggml-vocab-{name}.gguf" for name in VOCABULARIES}
PATHS |= {name.partition("-")[0]: Path("models") / name for name in MODELS}
OTHERS = {"bert-bge", "nomic-bert-moe"}  # words, and a unigram model: neither gives back every text
PRE = {"aquila": "gpt-2", "gpt-neox": "gpt-2"}  # whose files name no rule

PIECES = st.sampled_from(
    [
        *("the", " of", "  ", "\n", "\r\n", "\t", "'s", "1234567", "\u00e9", "e\u0301", "\u4f60\u597d"),
        *("\u0939\u093f\u0928\u094d", "\U0001f642\u200d\u2764\ufe0f", "<|im_start|>", "<s>", "</s>", "[INST]"),
        *("\x00", "\x1c", "\u00a0", "\u3000", "!?", "."),
    ]
)
TEXTS = st.lists(st.one_of(PIECES, st.characters(exclude_categories=["Cs"]), st.text(max_size=4)), max_size=12).map(
    "".join
)


def test_the_cache_has_no_other() -> None:
    folder = cache_dir() / "vocabularies"
    if not folder.is_dir():
        pytest.skip("llama.cpp's vocabularies are not in the cache; tools/fetch_vocabularies.py fetches them")
    found = {p.stem.removeprefix("ggml-vocab-") for p in folder.glob("ggml-vocab-*.gguf")}
    assert found == {*VOCABULARIES, *OTHERS}


@pytest.mark.parametrize("name", PATHS)
def test_a_text_comes_back(name: str) -> None:
    path = cache_dir() / PATHS[name]
    if not path.is_file():
        if name in VOCABULARIES:
            pytest.skip("llama.cpp's vocabularies are not in the cache; tools/fetch_vocabularies.py fetches them")
        pytest.skip(f"model {name} is not in the cache; `zigllama pull {name.lower()}` fetches it")
    t = Tokenizer(path, PRE.get(name))
    spells_spaces = t.model in ("llama", "gemma4")  # as U+2581: one of the text's own comes back as a space
    lacks = b""
    if t.model == "gpt2":
        lacks = bytes(b for b, letter in enumerate(LETTERS) if letter.encode() not in t._vocabulary.index)

    @given(TEXTS)
    @example("  two  spaces  ")
    @example(" ")
    @example("")
    def check(text: str) -> None:
        if spells_spaces:
            text = text.replace("\u2581", "_")
        text = "".join(c for c in text if not set(c.encode()) & set(lacks))
        ids, places = t.encode_with_offsets(text)
        assert ids == t.encode(text)
        want = unicodedata.normalize("NFC", text) if t.nfc else text
        assert t.decode(ids) == want
        assert t.decode_bytes(t.encode(text, add_special=False)) == want.encode()
        raw, inside = text.encode(), [p for p in places if p is not None]
        assert all(0 <= a <= b <= len(raw) for a, b in inside) and all(x[1] <= y[0] for x, y in pairwise(inside))
        assert b"".join(raw[a:b] for a, b in inside) == raw
        if not t.nfc:  # each token is what stands at its place, but for a space before the text
            for i, place in zip(ids, places, strict=True):
                if place is not None:
                    assert t.piece(i).endswith(raw[slice(*place)])
                    assert t.piece(i).removesuffix(raw[slice(*place)]) in (b"", b" ")

    check()
