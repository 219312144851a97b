"""Code Llama's infilling prompts, as its authors' reference code orders them (facebookresearch/codellama,
completion.py)."""

from __future__ import annotations

from typing import Any

import pytest
import small_vocabularies

from zigllama.errors import BadMetadata, UnsupportedTokenizer
from zigllama.models.code_llama import infill
from zigllama.models.tokenizer import Tokenizer

PLAIN: dict[str, Any] = dict(small_vocabularies.spm())
N = len(PLAIN["tokenizer.ggml.tokens"])
MARKS = ["\u2581<PRE>", "\u2581<SUF>", "\u2581<MID>", "\u2581<EOT>"]


def tokenizer(texts: list[str], **keys: int) -> Tokenizer:
    """The small SentencePiece vocabulary with these tokens added."""
    meta = dict(PLAIN)
    meta["tokenizer.ggml.add_space_prefix"] = True
    meta["tokenizer.ggml.tokens"] = [*meta["tokenizer.ggml.tokens"], *texts]
    meta["tokenizer.ggml.scores"] = [*meta["tokenizer.ggml.scores"], *[0.0] * len(texts)]
    meta["tokenizer.ggml.token_type"] = [*meta["tokenizer.ggml.token_type"], *[3] * len(texts)]
    return Tokenizer.from_metadata(meta | {f"tokenizer.ggml.{name}_token_id": i for name, i in keys.items()})


@pytest.mark.parametrize(
    ("texts", "keys"),
    [
        (["a1", "a2", "a3"], {"prefix": N, "suffix": N + 1, "middle": N + 2}),
        (["a1", "a2", "a3"], {"fim_pre": N, "fim_suf": N + 1, "fim_mid": N + 2}),
        (MARKS, {}),
    ],
)
def test_infill(texts: list[str], keys: dict[str, int]) -> None:
    """Old keys, new keys, or the tokens' texts."""
    t = tokenizer(texts, **keys)
    before, after = "def f(x):", "    return y"
    head, tail = t.encode(before, add_special=False), t.encode_inside(after)
    assert infill(t, before, after) == [t.bos_id, N, *head, N + 1, *tail, N + 2]
    assert infill(t, before, after, suffix_first=True) == [t.bos_id, N, N + 1, *tail, N + 2, *head]
    assert infill(t, "", "") == [t.bos_id, N, N + 1, N + 2]


def test_no_space_before_what_follows_the_gap() -> None:
    """`encode` begins a text, with a space before it; `encode_inside` goes on."""
    t = tokenizer(MARKS)
    assert t.decode(t.encode_inside("return")) == "return" and t.encode_inside("return") != t.encode("return", False)
    assert t.encode_inside(" return") == t.encode("return", add_special=False)


def test_texts_stay_texts() -> None:
    t = tokenizer(MARKS)
    ids = infill(t, "\u2581<MID>", "<SUF>")
    assert [ids.count(N + i) for i in range(4)] == [1, 1, 1, 0]


def test_a_model_without() -> None:
    """The 34B model."""
    with pytest.raises(UnsupportedTokenizer, match="prefix, suffix and middle"):
        infill(tokenizer([]), "a", "b")
    with pytest.raises(BadMetadata, match="suffix_token_id"):
        infill(tokenizer(MARKS, suffix=N + 50), "a", "b")
