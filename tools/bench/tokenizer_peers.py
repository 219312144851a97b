"""Other tokenizers with the vocabulary of the same GGUF file, each as a function of one text: `tokenizers`,
`sentencepiece` and llama.cpp.

A peer's `run` is what is timed, on one thread: of llama.cpp the call of C alone, whose ids go into a buffer that is
there already; of the others what a caller in Python has to do for a list of ids, as ours does. `ids` gives them for
comparison. What this is not: a judge of differences (compare_tokenizers.py).
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from zigllama.models.tokenizer import Tokenizer


class Peer(NamedTuple):
    """Another tokenizer."""

    name: str
    version: str
    run: Callable[[str], Any]
    ids: Callable[[str], list[int]]


def _tokenizers(path: str, ours: Tokenizer) -> Peer:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    if ours.model == "bert":
        from oracle import hf_wordpiece

        assert ours.unknown_id is not None
        theirs = hf_wordpiece.tokenizer(path, ours.unknown_id)
    elif ours.model == "gpt2":
        from oracle import hf_bpe

        from zigllama.models.pretokenizers import lookup

        theirs = hf_bpe.tokenizer(path, ours.pre, lookup(ours.pre).ignore_merges)
    else:
        from oracle import hf_pieces

        theirs = hf_pieces.tokenizer(path)

    def run(text: str) -> list[int]:
        found: list[int] = theirs.encode_batch_fast([text], add_special_tokens=False)[0].ids
        return found

    return Peer("tokenizers", importlib.metadata.version("tokenizers"), run, run)


def _sentencepiece(path: str, ours: Tokenizer) -> Peer:
    from oracle import sentencepiece_model

    processor = sentencepiece_model.processor(sentencepiece_model.model(path))
    return Peer("sentencepiece", importlib.metadata.version("sentencepiece"), processor.encode, processor.encode)


def _llama(path: str, ours: Tokenizer) -> Peer:
    from oracle import llama_vocabulary

    vocabulary = llama_vocabulary.LlamaVocabulary(path)
    rooms: dict[int, Any] = {}

    def run(text: str) -> int:
        raw = text.encode()
        room = rooms.setdefault(len(raw) + 8, (ctypes.c_int32 * (len(raw) + 8))())
        return vocabulary.into(raw, room)

    return Peer("llama.cpp", llama_vocabulary.VERSION, run, lambda text: vocabulary.encode(text.encode()))


MAKERS: dict[str, Callable[[str, Tokenizer], Peer]] = {
    "tokenizers": _tokenizers,
    "sentencepiece": _sentencepiece,
    "llama.cpp": _llama,
}


def peer(name: str, path: Path, ours: Tokenizer) -> Peer:
    """That peer with the vocabulary of a file. Raises ImportError or OSError where it is not there, KeyError or
    ValueError for a vocabulary that it cannot have."""
    return MAKERS[name](str(path), ours)
