"""The vocabulary of a SentencePiece GGUF file in the library `tokenizers`: BPE by scores (LLaMA 2, Gemma), BPE of
characters by merges (Gemma 4), or unigram (T5, XLM-R).

The merges of a file that has scores are made of them, as converters to `tokenizer.json` do: every way to make a token
of two others, by the token's score. User-defined tokens are cut out of a text first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

SPACE = "\u2581"
USER_DEFINED = 4


def _merges(tokens: dict[str, int], scores: list[float]) -> list[tuple[str, str]]:
    found = list[tuple[float, int, int, int, tuple[str, str]]]()
    for token, i in tokens.items():
        for at in range(1, len(token)):
            a, b = token[:at], token[at:]
            if a in tokens and b in tokens:
                found.append((-scores[i], i, tokens[a], tokens[b], (a, b)))
    return [pair for *_, pair in sorted(found)]


def tokenizer(path: str | Path) -> Any:
    """A `tokenizers.Tokenizer` of the file's vocabulary. Raises ValueError for a file of another family."""
    fields = gguf.GGUFReader(path).fields

    def values(name: str) -> list[Any]:
        field = fields.get("tokenizer.ggml." + name)
        return [] if field is None else [field.parts[i] for i in field.data]

    family = bytes(values("model")[0]).decode()
    texts = [bytes(t).decode("utf-8", "replace") for t in values("tokens")]
    tokens = {text: i for i, text in enumerate(texts)}
    scores = [float(s[0]) for s in values("scores")]
    kinds = [int(k[0]) for k in values("token_type")]
    if family == "t5":
        unknown = int(values("unknown_token_id")[0][0])
        pieces = [(t, s if k in (1, USER_DEFINED) else -1e9) for t, s, k in zip(texts, scores, kinds, strict=True)]
        found = Tokenizer(models.Unigram(pieces, unknown, byte_fallback=False))
        charsmap = b"".join(bytes((int(v[0]) & 255,)) for v in values("precompiled_charsmap"))
        steps: list[Any] = [normalizers.Precompiled(charsmap)] if charsmap else []
        found.normalizer = normalizers.Sequence([*steps, normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")])
        found.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, prepend_scheme="always")
        return found
    if family not in ("llama", "gemma4"):
        raise ValueError(f"{path}: a vocabulary of {family}")
    merges = (bytes(m).decode("utf-8", "replace").partition(" ") for m in values("merges"))
    listed = [(a, b) for a, _, b in merges]
    found = Tokenizer(models.BPE(tokens, listed or _merges(tokens, scores), byte_fallback=True, fuse_unk=True))
    prefix = family == "llama" and (not (given := values("add_space_prefix")) or bool(given[0][0]))
    steps = [normalizers.Prepend(SPACE)] if prefix else []
    found.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", SPACE)])
    own = [t for t, k in zip(texts, kinds, strict=True) if k == USER_DEFINED]
    found.add_tokens([AddedToken(t, normalized=False) for t in own])
    return found
