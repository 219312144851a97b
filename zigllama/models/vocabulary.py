"""The vocabulary of a GGUF file: tokens, their types, special ids, and which tokens end a generation.

    id    0          1           2            3      4
    text  <|end|>    <|start|>   <tag>        a      \u0120the       bytes, in the file's own spelling
    type  CONTROL    CONTROL     USER_DEFINED NORMAL NORMAL

Everything is checked against the vocabulary's size when the object is made. No Python object is made of each token: a
vocabulary of 262,144 words would take longer to look at than a small model's weights. How a text becomes
tokens is for tokenizer_bpe.py and tokenizer_spm.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from zigllama.errors import BadMetadata
from zigllama.foundation.gguf_metadata import StringArray
from zigllama.foundation.native_strings import StringIndex

PREFIX = "tokenizer.ggml."
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # token types of GGUF

# Which texts end a generation is written nowhere in a file: these are the ones in use, as llama.cpp knows them.
END_TEXTS = (  # noqa: SIM905 - a list of quoted words is harder to read
    "<|eot_id|> <|im_end|> <|end|> <|return|> <|call|> <|flush|> <|calls|> <end_of_turn> <|endoftext|> </s> <|eom_id|> "
    "<EOT> _<EOT> [EOT] [EOS] <|end_of_text|> <end_of_utterance> <eos> <turn|> <|tool_response> "
    "<\uff5cend\u2581of\u2581sentence\uff5c> [e~["
).split()
# Fill-in-the-middle markers: control tokens whatever the file says. The last three kinds also end a generation.
FIM_TEXTS = {
    "fim_pre": "<|fim_prefix|> <fim-prefix> <fim_prefix> <\uff5cfim\u2581begin\uff5c> <PRE> \u2581<PRE> "
    "<|code_prefix|> <|prefix|>",
    "fim_suf": "<|fim_suffix|> <fim-suffix> <fim_suffix> <\uff5cfim\u2581hole\uff5c> <SUF> \u2581<SUF> "
    "<|code_suffix|> <|suffix|>",
    "fim_mid": "<|fim_middle|> <fim-middle> <fim_middle> <\uff5cfim\u2581end\uff5c> <MID> \u2581<MID> "
    "<|code_middle|> <|middle|>",
    "fim_pad": "<|fim_pad|> <fim-pad> <fim_pad> <PAD> [PAD]",
    "fim_rep": "<|fim_repo|> <|repo_name|> <fim-repo> <REPO> <reponame>",
    "fim_sep": "<|file_sep|>",
}
OLD_FIM_KEYS = {"fim_pre": "prefix", "fim_suf": "suffix", "fim_mid": "middle"}
ALWAYS_SHOWN = ("<|channel|>", "<|message|>", "<|start|>", "<|constrain|>")  # Harmony's frame is part of the text


# Tokens that take white space with them, which no file says: all of Phi 3's but these take what follows.
PHI_3 = ("<|user|>", "<|assistant|>", "<|end|>", "<|placeholder1|>")
PHI_3_PLAIN = ("<unk>", "<s>", "<|endoftext|>")


class Vocabulary:
    """Tokens and what the metadata says about them. Raises `BadMetadata` for what does not fit together."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self.metadata = metadata
        tokens = self._array("tokens")
        if tokens is None or len(tokens) == 0:
            raise BadMetadata(PREFIX + "tokens", "missing or empty: the file has no vocabulary")
        self.tokens = tokens if isinstance(tokens, StringArray) else self._strings("tokens", tokens)
        self.n = len(self.tokens)
        self.types = self._numbers("token_type", np.int32, NORMAL)
        for i in np.flatnonzero(self.types == BYTE).tolist():
            self.byte_of(i)  # raises for one that is no byte

    # --- values of the metadata, checked ---------------------------------------------------------------------------

    def _array(self, name: str) -> Any:
        value = self.metadata.get(PREFIX + name)
        if isinstance(value, (str, bytes)) or (value is not None and not isinstance(value, (Sequence, np.ndarray))):
            raise BadMetadata(PREFIX + name, f"an array is expected, found {type(value).__name__}")
        return value

    def _strings(self, name: str, value: Any) -> StringArray:
        if not all(isinstance(v, (str, bytes)) for v in value):
            raise BadMetadata(PREFIX + name, "an array of strings is expected")
        return StringArray.from_strings(value, PREFIX + name)

    def strings(self, name: str) -> StringArray | None:
        """An array of strings, None where the file has none."""
        value = self._array(name)
        return value if value is None or isinstance(value, StringArray) else self._strings(name, value)

    def _numbers(self, name: str, dtype: type[np.generic], default: float) -> npt.NDArray[Any]:
        value = self._array(name)
        if value is None:
            return np.full(self.n, default, dtype)
        try:
            numbers = np.asarray(value, dtype)
        except (ValueError, TypeError, OverflowError) as e:
            raise BadMetadata(PREFIX + name, f"an array of numbers is expected: {e}") from None
        if numbers.shape != (self.n,):
            raise BadMetadata(PREFIX + name, f"{numbers.size} values for {self.n} tokens")
        return numbers

    @cached_property
    def scores(self) -> npt.NDArray[np.float32]:
        """Score of each token, float32 (n,), 0 where the file has none."""
        scores = self._numbers("scores", np.float32, 0.0)
        if np.isnan(scores).any():
            raise BadMetadata(PREFIX + "scores", f"score {int(np.isnan(scores).argmax())} is not a number")
        return scores

    @cached_property
    def charsmap(self) -> tuple[npt.NDArray[np.uint32] | None, bytes]:
        """`precompiled_charsmap`: the units of its double array, uint32 (n,), None where there is none, and its texts.

        The file has them in one array of bytes: the double array's length (4 bytes), the double array, the texts.
        """
        value = self._array("precompiled_charsmap")
        if value is None or len(value) == 0:
            return None, b""
        key = PREFIX + "precompiled_charsmap"
        try:
            raw = np.asarray(value)
            raw = raw.view(np.uint8) if raw.dtype == np.int8 else np.array(bytearray(raw.tolist()), np.uint8)
        except (ValueError, TypeError, OverflowError) as e:
            raise BadMetadata(key, f"an array of bytes is expected: {e}") from None
        n = int.from_bytes(raw[:4].tobytes(), "little")
        if n % 4 or n == 0 or 4 + n >= len(raw):
            raise BadMetadata(key, f"{len(raw)} bytes, its double array has {n}")
        return raw[4 : 4 + n].view("<u4").astype(np.uint32), raw[4 + n :].tobytes()

    def special_id(self, name: str, default: int | None = None) -> int | None:
        """`tokenizer.ggml.NAME_token_id`, checked; `default` where the file has none and the default is a token."""
        key = f"{PREFIX}{name}_token_id"
        value = self.metadata.get(key)
        if value is None:
            return default if default is not None and default < self.n else None
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            raise BadMetadata(key, f"a token id is expected, found {value!r}")
        if not 0 <= int(value) < self.n:
            raise BadMetadata(key, f"token id {value} is not below the vocabulary's size {self.n}")
        return int(value)

    def infill_id(self, kind: str) -> int | None:
        """The token that marks a part of an infilling prompt, `kind` fim_pre, fim_suf or fim_mid: the file's old key
        (prefix, suffix, middle), its new one, or the token known by its text."""
        given = self.special_id(OLD_FIM_KEYS[kind]) if kind in OLD_FIM_KEYS else None
        given = self.special_id(kind) if given is None else given
        return next(iter(self.find(FIM_TEXTS[kind].split())), None) if given is None else given

    def flag(self, name: str, default: bool) -> bool:
        """`tokenizer.ggml.NAME`, true or false."""
        value = self.metadata.get(PREFIX + name, default)
        if not isinstance(value, (bool, np.bool_)):
            raise BadMetadata(PREFIX + name, f"true or false is expected, found {value!r}")
        return bool(value)

    # --- tokens ----------------------------------------------------------------------------------------------------

    @cached_property
    def index(self) -> StringIndex:
        """Text to id; of equal texts the last one."""
        return StringIndex(self.tokens, last=True)

    def byte_of(self, i: int) -> int:
        """The byte a BYTE token `<0xHH>` stands for."""
        text = self.tokens.raw(i)
        digits = text[3:5]
        if len(text) != 6 or not text.startswith(b"<0x") or text[5:] != b">" or not digits.isalnum():
            raise BadMetadata(PREFIX + "tokens", f"token {i} has type BYTE, but is {text!r}, not <0x00> to <0xFF>")
        try:
            return int(digits, 16)
        except ValueError:
            raise BadMetadata(PREFIX + "tokens", f"token {i} has type BYTE, but {digits!r} is no byte") from None

    def find(self, texts: Sequence[str]) -> list[int]:
        """Ids of those texts that are tokens, in the order of `texts`."""
        return [i for t in texts if (i := self.index.find(t.encode())) is not None]

    @cached_property
    def _ends_and_types(self) -> tuple[frozenset[int], npt.NDArray[np.int32]]:
        """Ids that end a generation, and the types corrected by what the texts say."""
        types = np.array(self.types)
        ends: set[int] = set()
        for kind, texts in FIM_TEXTS.items():
            given = self.special_id(OLD_FIM_KEYS[kind]) if kind in OLD_FIM_KEYS else None
            given = self.special_id(kind) if given is None else given
            found = self.find(texts.split())[:1] if given is None else []
            types[found] = CONTROL
            if kind in ("fim_pad", "fim_rep", "fim_sep"):
                ends |= {*found} if given is None else {given}
        by_text = self.find(END_TEXTS)
        types[by_text] = CONTROL
        ends |= {*by_text}
        types[self.find(ALWAYS_SHOWN)] = USER_DEFINED
        ends |= {i for i in (self.eos, self.special_id("eot"), self.special_id("eom")) if i is not None}
        texts_of_ends = {self.tokens.raw(i): i for i in ends}
        present = texts_of_ends.keys()
        # Harmony closes a message with <|end|> and goes on; Gemma 4 has a plain </s>.
        call = present & {b"<|call|>", b"<|calls|>"}
        if b"<|end|>" in present and call and present & {b"<|return|>", b"<|flush|>"}:
            ends.discard(texts_of_ends[b"<|end|>"])
            types[texts_of_ends[b"<|end|>"]] = USER_DEFINED
        if b"</s>" in present and present & {b"<|tool_response>", b"<|plamo:eos|>"}:
            ends.discard(texts_of_ends[b"</s>"])
            types[texts_of_ends[b"</s>"]] = NORMAL
        return frozenset(ends), types

    def takes_space(self, pre: str) -> tuple[frozenset[int], frozenset[int]]:
        """Control tokens that take the white space before them, and those that take what follows, by their texts:
        `<mask>` of RoBERTa and XLM-R, ModernBERT's `[MASK]`; of a vocabulary with Phi 3's turns all but PHI_3_PLAIN."""
        before = self.find(["<mask>", *(["[MASK]"] if pre == "modern-bert" else [])])
        control = np.flatnonzero(np.isin(self.effective_types, (CONTROL, UNKNOWN)))
        is_phi_3 = self.metadata.get(PREFIX + "model") == "llama" and len(self.find(PHI_3)) == len(PHI_3)
        after = set(control.tolist()) - set(self.find(PHI_3_PLAIN)) if is_phi_3 else set[int]()
        return frozenset(before) & frozenset(control.tolist()), frozenset(after)

    eos: int | None = None  # set by the tokenizer, whose family has its own defaults

    @property
    def end_ids(self) -> frozenset[int]:
        """Ids that end a generation."""
        return self._ends_and_types[0]

    @property
    def effective_types(self) -> npt.NDArray[np.int32]:
        """`types`, with CONTROL for end and fill-in-the-middle tokens that a file has as ordinary ones."""
        return self._ends_and_types[1]
