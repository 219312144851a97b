"""What is kept while texts are written: a tokenizer's tokens as a trie, a grammar's machine, the masks of its states.

Nothing here depends on the text that is being written (grammar_constraints.py), so any number of texts share it.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar
from weakref import WeakKeyDictionary

import numpy as np

from zigllama.foundation.native_grammar import NativeMachine, NativeVocabulary
from zigllama.models.tokenizer import Tokenizer

from .mask import U32, mask_of

KEPT_MASKS = 512  # per vocabulary and machine: 16 MB with 262,144 tokens
WHITE = b" \t\n\r"


class TokenTable:
    """A tokenizer's tokens as bytes, and their trie in C: made once per tokenizer (`of`)."""

    _made: ClassVar[WeakKeyDictionary[Tokenizer, TokenTable]] = WeakKeyDictionary()
    _lock = threading.Lock()

    def __init__(self, pieces: Sequence[bytes], ends: frozenset[int]) -> None:
        self.ends = ends
        self.pieces = tuple(pieces)  # a tuple of bytes is nothing that Python's collector walks through
        offsets = np.zeros(len(pieces) + 1, np.int64)
        np.cumsum([len(p) for p in pieces], out=offsets[1:])
        self._data = np.frombuffer(b"".join(pieces) or b"\0", np.uint8)
        self.vocabulary = NativeVocabulary(self._data, offsets, ends)
        self.longest = int(np.diff(offsets).max(initial=0))
        self._longer: dict[bytes, bool] = {}
        self._sorted = tuple(sorted(p for p in set(pieces) if p))

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> TokenTable:
        """The table of this tokenizer."""
        with cls._lock:
            table = cls._made.get(tokenizer)
            if table is None:
                table = cls._made[tokenizer] = cls(tokenizer.text_pieces(), tokenizer.end_ids)
            return table

    @cached_property
    def blank(self) -> U32:
        """A mask of the tokens that are nothing but white space."""
        return mask_of((i for i, p in enumerate(self.pieces) if p and not p.strip(WHITE)), len(self.pieces))

    def begins_longer(self, text: bytes) -> bool:
        """Whether a token begins with this text and goes on."""
        if text not in self._longer:
            at = bisect_right(self._sorted, text)
            self._longer[text] = at < len(self._sorted) and self._sorted[at].startswith(text)
        return self._longer[text]


@dataclass
class Kept:
    """What is known of a machine and a tokenizer, by states: masks, and the tokens of the run of bytes that must follow
    (none: there is a choice, or the text may end)."""

    masks: OrderedDict[int, tuple[U32, int, int]] = field(default_factory=OrderedDict)
    runs: dict[int, tuple[int, ...]] = field(default_factory=dict)


class Live:
    """A machine, and what is kept of its states."""

    def __init__(self, machine: NativeMachine) -> None:
        self.machine, self.n_bytes = machine, machine.limit()[0]
        self._kept: WeakKeyDictionary[TokenTable, Kept] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def kept(self, tokens: TokenTable) -> Kept:
        """What is kept with these tokens."""
        found = self._kept.get(tokens)
        if found is None:
            with self._lock:
                found = self._kept.setdefault(tokens, Kept())
        return found

    def mask(self, tokens: TokenTable, state: int) -> tuple[U32, int, int]:
        """Which tokens may follow in a state; see NativeVocabulary.mask. The last ones asked for are kept."""
        masks = self.kept(tokens).masks
        with self._lock:
            found = masks.get(state)
            if found is None:
                found = masks[state] = tokens.vocabulary.mask(self.machine, state)
                found[0].flags.writeable = False
                if len(masks) > KEPT_MASKS:
                    masks.popitem(last=False)
            else:
                masks.move_to_end(state)
            return found
