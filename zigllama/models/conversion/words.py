"""`Words`: a vocabulary on its way from a folder to a file: tokens by id, their types and scores, and what is around.

What it is not: it reads no file (vocabulary_files.py, tokenizer_json.py, sentencepiece_file.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from zigllama.errors import BadCheckpoint
from zigllama.foundation.gguf_metadata import Typed, ValueType
from zigllama.models.conversion.safetensors import shown
from zigllama.models.vocabulary import CONTROL, NORMAL, PREFIX, UNUSED, USER_DEFINED

MAX_TOKENS = 1 << 24
PAD_SCORE = -1000.0  # of what the tokenizer never makes itself


class Added(NamedTuple):
    """A token that is cut out of a text before anything else is tokenised."""

    id: int
    text: str
    special: bool


@dataclass
class Words:
    """One vocabulary.

    model   tokenizer.ggml.model;  pre  the pre-tokenizer's name;  notes  what the file cannot say, in words
    keys    further keys, without `tokenizer.ggml.`;  around  ids of what stands before and after a text, if it is known
    """

    path: str
    model: str
    tokens: list[str]
    types: list[int]
    scores: list[float] | None = None
    merges: list[str] | None = None
    pre: str = "default"
    keys: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    around: tuple[int | None, int | None] | None = None

    @classmethod
    def by_id(cls, path: str, model: str, ids: Mapping[str, Any], **more: Any) -> Words:
        """Of a map from text to id; ids without a text become unused tokens. Raises BadCheckpoint."""
        for text, i in ids.items():
            if type(i) is not int or not 0 <= i < MAX_TOKENS:
                raise BadCheckpoint(path, f"token {text!r:.60} has the id {shown(i)}, want 0 to {MAX_TOKENS - 1}")
        n = max(ids.values(), default=-1) + 1
        if len(set(ids.values())) != len(ids) or n == 0:
            raise BadCheckpoint(path, f"{len(ids)} tokens have {len(set(ids.values()))} different ids")
        if n > 2 * len(ids) + 4096:
            raise BadCheckpoint(path, f"{len(ids)} tokens have ids up to {n - 1}")
        words = cls(path, model, [f"[PAD{i}]" for i in range(n)], [UNUSED] * n, **more)
        for text, i in ids.items():
            words.tokens[i], words.types[i] = text, NORMAL
        return words

    def add(self, added: Iterable[Added]) -> None:
        """Put added tokens into their places: special ones and those of the form <|...|> are control tokens, which
        text that a person wrote never becomes; others are user-defined. Raises BadCheckpoint."""
        tokens = sorted(added)
        last = min(MAX_TOKENS - 1, len(self.tokens) + len(tokens) + 4096)  # of all: each may not open a gap of its own
        for token in tokens:
            if not 0 <= token.id <= last:
                text = f"added token {token.text!r:.60} has id {token.id}, after {len(self.tokens)} tokens"
                raise BadCheckpoint(self.path, text)
            self.extend(token.id + 1)
            markup = any(token.text.startswith(a) and token.text.endswith(z) for a, z in (("<|", "|>"), ("<｜", "｜>")))
            self.tokens[token.id] = token.text
            if self.types[token.id] != 2:  # the unknown token stays what it is
                self.types[token.id] = CONTROL if token.special or markup else USER_DEFINED
            if self.scores is not None:
                self.scores[token.id] = PAD_SCORE

    def extend(self, n: int) -> None:
        """Fill up with unused tokens to a number of n."""
        for i in range(len(self.tokens), n):
            self.tokens.append(f"[PAD{i}]")
            self.types.append(UNUSED)
            if self.scores is not None:
                self.scores.append(PAD_SCORE)

    def metadata(self, rows: int) -> dict[str, Any]:
        """The keys of a file whose embedding has that many rows. Raises BadCheckpoint for fewer than tokens."""
        n = len(self.tokens)
        if n > rows:
            surplus = all(kind == UNUSED for kind in self.types[rows:])
            if not surplus:
                raise BadCheckpoint(self.path, f"{n} tokens, but the embedding has {rows} rows")
            del self.tokens[rows:], self.types[rows:]
            if self.scores is not None:
                del self.scores[rows:]
        self.extend(rows)
        keys: dict[str, Any] = {"model": self.model, "pre": self.pre, "tokens": self.tokens}
        keys["token_type"] = np.array(self.types, np.int32)
        if self.scores is not None:
            keys["scores"] = np.array(self.scores, np.float32)
        if self.merges is not None:
            keys["merges"] = Typed(self.merges, ValueType.ARRAY, ValueType.STRING)
        return {PREFIX + key: value for key, value in (keys | self.keys).items()}
