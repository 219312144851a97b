"""Special tokens inside a text: which parts of it are tokens as they stand, before anything else is tokenised.

    "<b>bold</b>\\n"   ->   <b> | "bold" | </b> | \\n          for user-defined tokens <b>, </b>, \\n

Longest tokens go first, over the whole text, whatever stands further left: the order that llama.cpp and others use.
User-defined tokens are always found. Control tokens (`<|im_start|>`) are found only where the caller says that the
text may contain them: text that a person typed must not be able to end a turn.
"""

from __future__ import annotations

from collections.abc import Sequence

PREFIX_LENGTH = 4


class SpecialTokens:
    """Finds some tokens in texts."""

    def __init__(self, tokens: Sequence[tuple[bytes, int]]) -> None:
        """`tokens`: texts with their ids. One that is empty or not UTF-8 cannot be found in a text."""
        self._ids: dict[str, int] = {}
        for raw, i in tokens:
            try:
                text = raw.decode()
            except UnicodeDecodeError:
                continue
            if text:
                self._ids[text] = i
        # Gemma has thousands of <unusedN>: tokens that begin alike are looked for together first.
        self._groups: dict[str, list[str]] = {}
        for text in self._ids:
            self._groups.setdefault(text[:PREFIX_LENGTH], []).append(text)

    @property
    def texts(self) -> list[str]:
        """What is looked for."""
        return list(self._ids)

    def partition(self, text: str) -> list[str | int]:
        """The text's parts in order: an id for each token found, a string for what lies between."""
        present = [t for prefix, group in self._groups.items() if prefix in text for t in group if t in text]
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
