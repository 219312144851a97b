"""The unigram model, as T5, XLM-R, ALBERT and other SentencePiece models have it (`tokenizer.ggml.model` = `t5`).

    "a  ﬁne cat"  --normalise-->  \u2581a\u2581fine\u2581cat  --best sum of scores-->  \u2581a \u2581fine \u2581cat

Normalisation comes first: the file's map of characters (`precompiled_charsmap`, usually NFKC), then spaces
(`add_space_prefix`, `remove_extra_whitespaces`). The text's pieces are those whose scores have the highest sum
(unigram.py). A character that is no piece becomes the unknown token, a run of them one, or, where the vocabulary has
them, the tokens of its bytes. User-defined pieces are not normalised, and cost next to nothing, so that they are found
almost always.

Ids are SentencePiece's, whose models these are. llama.cpp gives others where a file has user-defined pieces (it cuts
them out first, and treats what lies between as texts of their own), unused ones (it takes them) or byte tokens (it has
none but the unknown token), or a text ends in a U+2581 of its own (SentencePiece takes it off like a space).
SentencePiece adds scores in float32 from the beginning of a text, so that by its end,
after some thousands of characters, it cannot tell good from bad; here sums are double and begin anew wherever no piece
reaches across.

Source: T. Kudo and J. Richardson, "SentencePiece", 2018.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

from zigllama.errors import BadMetadata
from zigllama.foundation.native_unigram import LONGEST_PIECE, PieceTrie, Unigram

from .space_normalizer import SpaceNormalizer
from .text_encoder import Span, TextEncoder, places
from .vocabulary import BYTE, CONTROL, NORMAL, PREFIX, UNUSED, USER_DEFINED, Vocabulary

RAW_SPACE = "\u2581".encode()
USER_DEFINED_SCORE = -0.1
UNKNOWN_PENALTY = 10.0  # below the lowest score of a piece


class UnigramEncoder(TextEncoder):
    """Text to ids and ids to bytes by scores. Control tokens and the ends of a text are tokenizer.py's matter."""

    cut_out = ()  # user-defined pieces are this encoder's own matter
    restarts = (CONTROL,)

    def __init__(self, vocabulary: Vocabulary, unknown: int | None, add_space_prefix: bool) -> None:
        if unknown is None:
            reason = "missing: what is not in the vocabulary needs a token"
            raise BadMetadata(PREFIX + "unknown_token_id", reason)
        self.vocabulary, self.unknown = vocabulary, unknown
        self.add_space_prefix = add_space_prefix
        self.merge_spaces = vocabulary.flag("remove_extra_whitespaces", False)
        self.strip = add_space_prefix or self.merge_spaces
        vocabulary.charsmap  # noqa: B018 - checked now, used by the first text

    def _trie(self, *kinds: int) -> PieceTrie:
        tokens = self.vocabulary.tokens
        chosen = np.flatnonzero(np.isin(self.vocabulary.types, kinds) & (tokens.lengths > 0))
        long = chosen[tokens.lengths[chosen] > LONGEST_PIECE]
        if len(long):
            n = int(tokens.lengths[long[0]])
            raise BadMetadata(PREFIX + "tokens", f"token {long[0]} has {n} bytes, a piece has at most {LONGEST_PIECE}")
        return PieceTrie(tokens, chosen)

    @cached_property
    def normalizer(self) -> SpaceNormalizer:
        """What is done to a text first."""
        kept = self._trie(USER_DEFINED) if (self.vocabulary.types == USER_DEFINED).any() else None
        return SpaceNormalizer(self.vocabulary, kept)

    @cached_property
    def _search(self) -> Unigram:
        vocabulary = self.vocabulary
        scores = np.array(vocabulary.scores)
        bad = np.flatnonzero(~np.isfinite(scores))
        if len(bad):
            raise BadMetadata(PREFIX + "scores", f"score {bad[0]} is {scores[bad[0]]}, of a piece it must be finite")
        normal = scores[vocabulary.types == NORMAL]
        lowest = float(normal.min()) if len(normal) else 0.0
        scores[vocabulary.types == USER_DEFINED] = USER_DEFINED_SCORE
        trie = self._trie(NORMAL, USER_DEFINED)
        return Unigram(trie, scores, lowest - UNKNOWN_PENALTY, self.unknown, self._byte_ids)

    @cached_property
    def _byte_ids(self) -> npt.NDArray[np.int32] | None:
        """Token of each byte, None where there are none."""
        found = {self.vocabulary.byte_of(i): i for i in np.flatnonzero(self.vocabulary.types == BYTE).tolist()}
        if found and len(found) < 256:
            lacking = next(b for b in range(256) if b not in found)
            raise BadMetadata(PREFIX + "tokens", f"{len(found)} tokens of bytes, none for byte 0x{lacking:02X}")
        return np.array([found[b] for b in range(256)], np.int32) if found else None

    def normalize(self, text: str) -> str:
        """The text that pieces are looked for in."""
        return self.normalizer.apply(text.encode(), self.add_space_prefix)[0].tobytes().decode("utf-8", "replace")

    def encode(self, text: str, after_special: bool) -> list[int]:
        """Ids of a text without control tokens. Raises `BadMetadata` for a map that leads outside itself."""
        normalized, _ = self.normalizer.apply(text.encode(), self.add_space_prefix and after_special)
        return list(self._search.encode(normalized)[0].tolist())

    def encode_with_offsets(self, text: str, after_special: bool) -> tuple[list[int], list[Span]]:
        """`encode`, and the bytes of the text that each piece comes from."""
        normalized, origin = self.normalizer.apply(
            text.encode(), self.add_space_prefix and after_special, with_origin=True
        )
        ids, ends = self._search.encode(normalized, with_ends=True)
        assert origin is not None and ends is not None  # both were asked for
        return ids.tolist(), places(ends, origin)

    def piece(self, i: int, kind: int) -> bytes:
        """The bytes of token `i`, which has type `kind`."""
        if kind == BYTE:
            return bytes((self.vocabulary.byte_of(i),))
        raw = self.vocabulary.tokens.raw(i)
        if kind in (NORMAL, USER_DEFINED):
            return raw.replace(RAW_SPACE, b" ")
        return b"" if kind == UNUSED else raw
