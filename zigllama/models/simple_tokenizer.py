"""`SimpleTokenizer`: byte-pair encoding to be read: learn merges from a text, encode with them, decode.

    "the then"   -->  words  t h e | ␣ t h e n          letters are bytes 0 .. 255
    most frequent pair  (h, e)     -->  t he | ␣ t he n       becomes token 256, as frequent as (t, h) and before it
    then                (t, he)    -->  the | ␣ the n         becomes token 257

Encoding repeats what was learned, in that order, in each word. Nothing is unknown, for every byte is a token; decoding
joins the bytes again. `metadata` is the vocabulary as a GGUF file has it: `Tokenizer` gives the same ids for it, by a
heap in C over a file's own bytes (tokenizer_bpe.py), which is what models run.

Source: R. Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units", 2016.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, Self

from zigllama.errors import IndexOutOfRange, InvalidArgument

from .merging import merge
from .pretokenizers import lookup, splitter
from .text_encoder import check_text
from .tokenizer_bpe import LETTERS
from .vocabulary import NORMAL, PREFIX

RULE = "gpt-2"  # which cuts texts into words: no merge crosses from one into the next


class SimpleTokenizer:
    """Byte-pair encoding by a list of merges, best first.

    t = SimpleTokenizer.train("the then there", n_merges=2)
    t.merges                     # [(b"h", b"e"), (b"t", b"he")]
    t.encode("then the")         # [257, 110, 32, 257]
    t.decode([257, 110])         # "then"

    Token i below 256 is byte i, token 256 + k what merge k makes. Raises InvalidArgument for a merge of what is no
    token yet, or that makes a token again.
    """

    def __init__(self, merges: Iterable[tuple[bytes, bytes]]) -> None:
        self.merges = list(merges)
        self.tokens = [bytes((i,)) for i in range(256)]
        known = set(self.tokens)
        for k, (a, b) in enumerate(self.merges):
            if a not in known or b not in known or a + b in known:
                raise InvalidArgument(
                    f"merge {k} joins {a!r} and {b!r}: two tokens before it, and a new one, are expected"
                )
            known.add(a + b)
            self.tokens.append(a + b)
        self._ids = {token: i for i, token in enumerate(self.tokens)}
        self._ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        self._words = splitter(lookup(RULE))

    @classmethod
    def train(cls, text: str, n_merges: int) -> Self:
        """Learn up to `n_merges` merges: again and again the most frequent pair of neighbours, of equally frequent
        ones the first by its bytes. It ends early when no pair occurs twice."""
        check_text(text)
        if n_merges < 0:
            raise InvalidArgument(f"{n_merges} merges: 0 or more are expected")
        counts = Counter(splitter(lookup(RULE))(text))
        words = {word: [bytes((byte,)) for byte in word.encode()] for word in counts}
        merges: list[tuple[bytes, bytes]] = []
        seen = {bytes((i,)) for i in range(256)}
        while len(merges) < n_merges:
            pairs = Counter[tuple[bytes, bytes]]()
            for word, symbols in words.items():
                for pair in pairwise(symbols):
                    pairs[pair] += counts[word]
            usable = [(-n, pair) for pair, n in pairs.items() if n > 1 and pair[0] + pair[1] not in seen]
            if not usable:
                break
            best = min(usable)[1]
            merges.append(best)
            seen.add(best[0] + best[1])
            for word, symbols in words.items():
                words[word] = merge(symbols, lambda a, b, best=best: 0 if (a, b) == best else None)  # type: ignore[misc]
        return cls(merges)

    def encode(self, text: str) -> list[int]:
        """Token ids. Each word begins as its bytes; of all pairs that are merges the best is joined, until there is
        none. Raises `InvalidArgument` for a lone surrogate."""
        check_text(text)
        ids: list[int] = []
        for word in self._words(text):
            symbols = merge([bytes((byte,)) for byte in word.encode()], lambda a, b: self._ranks.get((a, b)))
            ids += [self._ids[symbol] for symbol in symbols]
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; what is not UTF-8, as half a character at the end, becomes U+FFFD. Raises
        `IndexOutOfRange`."""
        parts = []
        for id in ids:
            if not 0 <= id < len(self.tokens):
                raise IndexOutOfRange(f"token id {id} is not in a vocabulary of {len(self.tokens)}")
            parts.append(self.tokens[id])
        return b"".join(parts).decode("utf-8", "replace")

    def metadata(self) -> dict[str, Any]:
        """The vocabulary under the keys of a GGUF file: bytes are spelt in GPT-2's letters there."""

        def spelt(token: bytes) -> str:
            return "".join(LETTERS[byte] for byte in token)

        return {
            PREFIX + "model": "gpt2",
            PREFIX + "pre": RULE,
            PREFIX + "tokens": [spelt(token) for token in self.tokens],
            PREFIX + "token_type": [NORMAL] * len(self.tokens),
            PREFIX + "merges": [f"{spelt(a)} {spelt(b)}" for a, b in self.merges],
        }
