"""Special tokens inside a text: which parts of it are tokens as they stand, before anything else is tokenised.

    "<b>bold</b>\\n"   ->   <b> | "bold" | </b> | \\n          for user-defined tokens <b>, </b>, \\n

Longest tokens go first, over the whole text, whatever stands further left: the order that llama.cpp and others use.
User-defined tokens are always found. Control tokens (`<|im_start|>`) are found only where the caller says that the
text may contain them: text that a person typed must not be able to end a turn.

Some take the white space beside them with them: Phi 3's after them, RoBERTa's `<mask>` before it (vocabulary.py).
"""

from __future__ import annotations

from collections.abc import Sequence, Set

import numpy as np
import numpy.typing as npt

from zigllama.foundation.gguf_metadata import StringArray
from zigllama.foundation.native_unigram import LONGEST_PIECE, PieceTrie

WHITE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))


class SpecialTokens:
    """Finds some tokens in texts."""

    def __init__(
        self, tokens: Sequence[tuple[bytes, int]], before: Set[int] = frozenset(), after: Set[int] = frozenset()
    ) -> None:
        """`tokens`: texts with their ids. One that is empty or not UTF-8 cannot be found in a text. `before`, `after`:
        those that take the white space there."""
        self._ids: dict[str, int] = {}
        for raw, i in tokens:
            try:
                text = raw.decode()
            except UnicodeDecodeError:
                continue
            if text:
                self._ids[text] = i
        self._texts = {i: text for text, i in self._ids.items()}
        self._before, self._after = before & self._texts.keys(), after & self._texts.keys()
        in_order = sorted(self._ids.items(), key=lambda item: item[1])
        self._numbers = np.array([i for _, i in in_order], np.int32)
        spelt = [text.encode() for text, _ in in_order]
        # A token that is longer than the trie takes is found by definition, as all are then.
        self._trie = None
        if spelt and max(map(len, spelt)) <= LONGEST_PIECE:
            self._trie = PieceTrie(StringArray.from_strings(spelt), np.arange(len(spelt)))

    @property
    def texts(self) -> list[str]:
        """What is looked for."""
        return list(self._ids)

    def partition(self, text: str, skip: str = "") -> list[str | int]:
        """The text's parts in order: an id for each token found, a string for what lies between, without the white
        space, and the characters `skip`, that a token takes."""
        return [part for part, _, _ in self.places(text, skip)]

    def places(self, text: str, skip: str = "") -> list[tuple[str | int, int, int]]:
        """`partition`, and where each part begins and ends in the text, in characters. What a token takes is its."""
        parts = self._parts(text)
        made, at, white = list[tuple[str | int, int, int]](), 0, WHITE + skip
        for i, part in enumerate(parts):
            if isinstance(part, int):
                n = len(self._texts[part])
                made.append((part, made[-1][2] if made else 0, at + n))
                at += n
                continue
            begin, end = 0, len(part)
            if i and parts[i - 1] in self._after:
                begin = end - len(part.lstrip(white))
                made[-1] = (*made[-1][:2], at + begin)
            if i + 1 < len(parts) and parts[i + 1] in self._before:
                end = max(begin, len(part.rstrip(white)))
            if begin < end:
                made.append((part[begin:end], at + begin, at + end))
            at += len(part)
        return made

    @property
    def plain(self) -> bool:
        """Whether `cuts` says all: no token takes white space."""
        return not self._before and not self._after and (self._trie is not None or not self._ids)

    def cuts(self, raw: bytes) -> npt.NDArray[np.int32]:
        """Where tokens stand in a text of UTF-8, whatever white space they take, int32 (n, 3): the first byte, the byte
        after the last, and the id."""
        if self._trie is None:
            return np.empty((0, 3), np.int32)
        found = self._trie.places(raw)
        found[:, 2] = self._numbers[found[:, 2]]
        return found

    def _parts(self, text: str) -> list[str | int]:
        if self._trie is None:
            return self.by_definition(text)
        raw, parts, at = text.encode(), list[str | int](), 0
        for begin, end, i in self.cuts(raw).tolist():
            parts += [raw[at:begin].decode(), i] if at < begin else [i]
            at = end
        return [*parts, raw[at:].decode()] if at < len(raw) else parts

    def by_definition(self, text: str) -> list[str | int]:
        """The parts of a text, token by token: the kernel's twin."""
        present = [t for t in self._ids if t in text]
        if not present:
            return [text] if text else []
        present.sort(key=lambda t: (-len(t.encode()), self._ids[t]))
        parts: list[str | int] = [text]
        for token in present:
            i = self._ids[token]
            cut: list[str | int] = []
            for part in parts:
                if isinstance(part, int) or token not in part:
                    cut.append(part)
                    continue
                first, *rest = part.split(token)
                if first:
                    cut.append(first)
                for piece in rest:
                    cut.append(i)
                    if piece:
                        cut.append(piece)
            parts = cut
        return parts
