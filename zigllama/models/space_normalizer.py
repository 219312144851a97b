"""`SpaceNormalizer`: what SentencePiece does to a text before it looks for pieces, as a GGUF file asks for it.

    "  a  \ufb01ne cat "     --precompiled_charsmap-->  "  a  fine cat "     usually NFKC, with what is no white space
                           removed --remove_extra_whitespaces-->  "a fine cat"
                           --add_space_prefix-->  " a fine cat"
                           --escape-->  "\u2581a\u2581fine\u2581cat"

The twin of the loop is unigram.py's `normalize`. What it is not: Unicode's own normalisation; the map is the file's.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from zigllama.errors import BadMetadata, InvalidArgument
from zigllama.foundation.native_unigram import CharacterMap, PieceTrie, Spaces

from .vocabulary import PREFIX, Vocabulary

KEY = PREFIX + "precompiled_charsmap"
MOST_GROWTH = 64  # bytes of normalised text for one of the text; NFKC's largest is 11


class SpaceNormalizer:
    """The normalisation that a vocabulary asks for. `kept`: pieces that are not looked into."""

    def __init__(self, vocabulary: Vocabulary, kept: PieceTrie | None = None) -> None:
        self.merge_spaces = vocabulary.flag("remove_extra_whitespaces", False)
        units, replacements = vocabulary.charsmap
        self.trivial = units is None and not self.merge_spaces  # spaces are escaped, and that is all

        @cache
        def table(prefix: bool) -> CharacterMap:
            return CharacterMap(Spaces(prefix, self.merge_spaces), units, replacements, kept)

        self._table = table

    def apply(
        self, text: bytes, prefix: bool, with_origin: bool = False
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32] | None]:
        """The normalised text, and where it is wanted the byte of the text that each of its bytes comes from, and one
        more.

        Raises `BadMetadata` for a map that leads outside itself or makes a text many times longer.
        """
        table = self._table(prefix)
        try:
            room = table.room(text)
        except InvalidArgument as e:
            raise BadMetadata(KEY, str(e)) from None
        if room > MOST_GROWTH * (len(text) + 1):
            raise BadMetadata(KEY, f"makes {room} bytes of a text of {len(text)}")
        return table.apply(text, room, with_origin)
