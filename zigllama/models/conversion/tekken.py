"""`tekken.json`, Mistral's byte-level BPE by ranks -> `Words`.

    config          pattern, default_vocab_size V, default_num_special_tokens S, version
    vocab           rank, token_bytes (base64): of these the first V - S are tokens, with the ids S + rank
    special_tokens  rank (their id), token_str, is_control; where the file has none, those of its first version

There is no list of merges: any two neighbours may be joined that make a token, the lowest rank first. A GGUF file has
merges, so they are found here: the tokens of lower rank that each token is made of by that very rule. Those are two,
and joining the pair is its merge. What it is not: it tokenises nothing.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import numpy as np

from zigllama.errors import BadCheckpoint, UnsupportedTokenizer
from zigllama.foundation.gguf_metadata import StringArray
from zigllama.foundation.native_strings import NO_RANK, StringIndex
from zigllama.models import pretokenizers
from zigllama.models.conversion.checkpoint import Config
from zigllama.models.conversion.safetensors import shown
from zigllama.models.conversion.words import Words
from zigllama.models.tokenizer_bpe import LETTERS
from zigllama.models.vocabulary import CONTROL, NORMAL, UNKNOWN, USER_DEFINED

_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
PATTERN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
FIRST_SPECIAL = (  # noqa: SIM905 - of files without a list; a list of quoted words is harder to read
    "<unk> <s> </s> [INST] [/INST] [AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] [TOOL_RESULTS] [/TOOL_RESULTS] [TOOL_CALLS] "
    "[IMG] <pad> [IMG_BREAK] [IMG_END] [PREFIX] [MIDDLE] [SUFFIX] [SYSTEM_PROMPT] [/SYSTEM_PROMPT] [TOOL_CONTENT]"
).split()
MAX_VOCABULARY = 1 << 21
LONGEST = 1024  # bytes of a token
SPECIAL = {"unknown": "<unk>", "bos": "<s>", "eos": "</s>", "padding": "<pad>"}


def convert_tekken(data: dict[str, Any], path: str, pre: str | None) -> Words:
    """The vocabulary. Raises BadCheckpoint, UnsupportedTokenizer."""
    top = Config(data)
    top.path = path
    config = top.object("config")
    n = config.int("default_vocab_size", high=MAX_VOCABULARY)
    n_special = config.int("default_num_special_tokens", high=n)
    pattern = config.text("pattern")
    if pre is None and pattern != PATTERN:
        raise UnsupportedTokenizer(
            pattern, f"{path}: the words are not tekken's; pass what they are like as pre= (--pre)"
        )
    pretokenizers.lookup(pre or "tekken")
    raw = _tokens(top.list("vocab"), n - n_special, path)
    words = Words(path, "gpt2", [""] * n_special, [CONTROL] * n_special, pre=pre or "tekken")
    _special(words, top.get("special_tokens"), n_special)
    spelt = ["".join(LETTERS[byte] for byte in token) for token in raw]
    words.merges = merges_of_ranks(spelt, path)
    words.tokens += spelt
    words.types += [NORMAL] * len(raw)
    ids = {text: i for i, text in enumerate(words.tokens[:n_special])}
    words.keys |= {f"{name}_token_id": ids[text] for name, text in SPECIAL.items() if text in ids}
    words.keys |= {"add_bos_token": "<s>" in ids, "add_eos_token": False}
    return words


def _tokens(entries: list[Any], n: int, path: str) -> list[bytes]:
    """The bytes of the first n tokens, by rank."""
    found = list[bytes]()
    for rank, entry in enumerate(entries[:n]):
        text = entry.get("token_bytes") if isinstance(entry, dict) else None
        if not isinstance(text, str) or entry.get("rank") != rank:
            raise BadCheckpoint(path, f"vocab: entry {rank} is no token of rank {rank} with its token_bytes")
        try:
            found.append(base64.b64decode(text, validate=True))
        except (binascii.Error, ValueError) as e:
            raise BadCheckpoint(path, f"vocab: the bytes of token {rank} are no base64: {e}") from None
        if not 1 <= len(found[-1]) <= LONGEST:
            raise BadCheckpoint(path, f"vocab: token {rank} has {len(found[-1])} bytes, 1 to {LONGEST} are expected")
    if len(found) < n or len(set(found)) < n or len({t for t in found[:256] if len(t) == 1}) < 256:
        raise BadCheckpoint(path, f"vocab: {n} different tokens are expected, the first 256 of them the bytes")
    return found


def _special(words: Words, entries: Any, n: int) -> None:
    if entries is None:
        entries = [{"rank": i, "token_str": text, "is_control": True} for i, text in enumerate(FIRST_SPECIAL[:n])]
    for i in range(n):
        words.tokens[i] = f"<SPECIAL_{i}>"
    for listed in entries if isinstance(entries, list) else [None]:
        entry = listed if isinstance(listed, dict) else {}
        rank, text = entry.get("rank"), entry.get("token_str")
        if type(rank) is not int or not 0 <= rank < n or not isinstance(text, str) or not text:
            raise BadCheckpoint(words.path, f"special_tokens: {shown(listed)} is no token with a rank below {n}")
        words.tokens[rank] = text
        words.types[rank] = CONTROL if entry.get("is_control", True) else USER_DEFINED
        if text == SPECIAL["unknown"]:
            words.types[rank] = UNKNOWN


def merges_of_ranks(tokens: list[str], path: str) -> list[str]:
    """Merges for tokens in the letters of bytes, in the order of their ranks. Raises BadCheckpoint for a token that
    tokens of lower ranks do not make of two."""
    index = StringIndex(StringArray.from_strings(tokens))
    ranks = np.full(len(tokens), NO_RANK, np.uint32)
    merges = list[str]()
    for rank, token in enumerate(tokens):
        if len(token) > 1:
            raw = token.encode()
            ends = index.merge(raw, ranks=ranks).tolist()
            if len(ends) != 2:
                raise BadCheckpoint(
                    path, f"vocab: token {rank} is made of {len(ends)} tokens of lower rank, not of two"
                )
            merges.append(f"{raw[: ends[0]].decode()} {raw[ends[0] :].decode()}")
        ranks[rank] = rank
    return merges
