"""`tekken.json`: merges found from ranks give the ids that joining by ranks gives; what does not fit is refused."""

from __future__ import annotations

import base64
import copy
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zigllama.errors import BadCheckpoint, UnsupportedTokenizer
from zigllama.foundation.gguf_metadata import Typed
from zigllama.models.conversion.tekken import FIRST_SPECIAL, PATTERN, convert_tekken
from zigllama.models.pretokenizers import PRE_TOKENIZERS, splitter
from zigllama.models.simple_tokenizer import SimpleTokenizer
from zigllama.models.tokenizer import Tokenizer

GENESIS = (Path(__file__).resolve().parent.parent.parent / "golden" / "texts" / "genesis.txt").read_text("utf-8")
TOKENS = SimpleTokenizer.train(GENESIS, 150).tokens
PRE = "llama-bpe"


def tekken(n_special: int = 30, n: int = 400) -> dict[str, Any]:
    """The file of a small vocabulary, which has more tokens than are used."""
    vocab = [{"rank": i, "token_bytes": base64.b64encode(t).decode(), "token_str": None} for i, t in enumerate(TOKENS)]
    config = {
        "pattern": PATTERN,
        "default_vocab_size": n + n_special,
        "default_num_special_tokens": n_special,
        "version": "v3",
    }
    return {"config": config, "vocab": vocab}


def tokenizer(data: dict[str, Any], pre: str | None = PRE) -> Tokenizer:
    words = convert_tekken(data, "tekken.json", pre)
    keys = words.metadata(len(words.tokens))
    return Tokenizer.from_metadata({k: v.value if isinstance(v, Typed) else v for k, v in keys.items()})


SMALL = tokenizer(tekken())


def by_ranks(text: str) -> list[int]:
    """The rule of such a vocabulary: of all neighbours that make a token, those that make the one of lowest rank."""
    ranks = {t: i for i, t in enumerate(TOKENS[:400])}
    ids = list[int]()
    for word in splitter(PRE_TOKENIZERS[PRE])(text):
        symbols = [bytes((b,)) for b in word.encode()]
        while found := [(ranks[a + b], i) for i, (a, b) in enumerate(pairwise(symbols)) if a + b in ranks]:
            at = min(found)[1]
            symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]
        ids += [30 + ranks[s] for s in symbols]
    return ids


@given(text=st.text(st.one_of(st.sampled_from(" thelrandwsofG.0\n"), st.characters(exclude_categories=["Cs"]))))
def test_ids_are_those_of_ranks(text: str) -> None:
    assert SMALL.encode(text, add_special=False) == by_ranks(text)
    assert SMALL.decode(SMALL.encode(text)) == text


def test_special_tokens() -> None:
    assert SMALL.n_vocab == 430 and (SMALL.bos_id, SMALL.eos_id, SMALL.unknown_id, SMALL.padding_id) == (1, 2, 0, 11)
    assert SMALL.encode("[INST]a", parse_special=True) == [1, 3, 30 + 97] and SMALL.piece(29) == b"<SPECIAL_29>"
    assert len(FIRST_SPECIAL) == 20 and 3 not in SMALL.encode("[INST]a")
    data = tekken()
    data["special_tokens"] = [
        {"rank": 4, "token_str": "<s>", "is_control": True},
        {"rank": 5, "token_str": "<t>", "is_control": False},
    ]
    t = tokenizer(data)
    assert (t.bos_id, t.eos_id) == (4, None) and t.encode("<t>") == [4, 5]


def test_the_rule_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRE_TOKENIZERS, "tekken", PRE_TOKENIZERS[PRE])
    assert tokenizer(tekken(), None).pre == "tekken"
    data = tekken()
    data["config"]["pattern"] += "|x"
    with pytest.raises(UnsupportedTokenizer, match="--pre"):
        convert_tekken(data, "tekken.json", None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["vocab"].pop(0), "entry 0 is no token of rank 0"),
        (lambda d: d["vocab"][7].update(token_bytes="?"), "token 7 are no base64"),
        (lambda d: d["vocab"][300].update(token_bytes=""), "token 300 has 0 bytes"),
        (lambda d: d["vocab"][300].update(token_bytes=d["vocab"][299]["token_bytes"]), "different tokens"),
        (
            lambda d: d["vocab"][256].update(token_bytes=base64.b64encode(b"xyz").decode()),
            "token 256 is made of 3 tokens",
        ),
        (lambda d: d["config"].update(default_vocab_size=2000), "1970 different tokens are expected"),
        (lambda d: d["config"].update(default_vocab_size=1 << 40), "default_vocab_size"),
        (lambda d: d.update(special_tokens=[{"rank": 30, "token_str": "x"}]), "rank below 30"),
        (lambda d: d.update(special_tokens="x"), "rank below 30"),
    ],
)
def test_what_does_not_fit(change: Any, message: str) -> None:
    data = copy.deepcopy(tekken())
    change(data)
    with pytest.raises(BadCheckpoint, match=message):
        convert_tekken(data, "tekken.json", PRE)
