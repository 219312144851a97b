"""`Tokenizer`: text to token ids and back, by the vocabulary of a GGUF file; `StreamDecoder`: ids to text as they come.

    text --special tokens cut out--> parts --the family's encoder--> ids, with BOS and EOS around them

Which family and which rules apply stands in the file's metadata and is never guessed: a name that is not known raises
`UnsupportedTokenizer`. Ids are those llama.cpp gives for the same file. Chat templates are not made here.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import groupby
from typing import Any, Self

import numpy as np

from zigllama.errors import IndexOutOfRange, InvalidArgument, UnsupportedTokenizer
from zigllama.foundation.byte_source import StrPath
from zigllama.foundation.gguf_format import GGUFReader

from . import pretokenizers
from .special_tokens import SpecialTokens
from .text_encoder import Span, TextEncoder, check_text
from .tokenizer_bpe import BytePairEncoder
from .tokenizer_spm import SentencePieceEncoder
from .tokenizer_unigram import UnigramEncoder
from .tokenizer_wordpiece import WordPieceEncoder
from .unicode_forms import normalized, with_origin
from .vocabulary import BYTE, CONTROL, PREFIX, UNKNOWN, USER_DEFINED, Vocabulary

TWO_SEPARATORS = ("roberta-bpe", "jina-v1-en", "jina-v2-code")  # pairs as RoBERTa has them, if a file does not say
NOT_READ = {  # models of tokenizers that files of other architectures name
    "hybriddna": "byte-level BPE beside words of DNA of one length, for models of genomes",
    "whitespace": "whole words between spaces, without merges",
    "rwkv": "a greedy search in RWKV's own list of words",
    "plamo2": "a search from the text's end by a table of suffixes, PLaMo 2's",
    "none": "the file says that it has no tokenizer: use token ids",
    "no_vocab": "the file says that it has no tokenizer: use token ids",
}


class Tokenizer:
    """The tokenizer of a GGUF file; one with a vocabulary and no weights is enough.

        t = Tokenizer("model.gguf")
        t.encode("Once upon a time")       # [6403, 1980, 253, 655]
        t.decode(t.encode("Once"))         # "Once"
        t.n_vocab, t.bos_id, t.eos_id, t.end_ids

    `pre` names a pre-tokenizer (see pretokenizers.py) to use instead of the file's; vocabularies of merges alone have
    one. A `Model` takes the tokenizer that was made so as `tokenizer=`. `add_bos` and `add_eos` tell what
    `encode` puts around a text; `bos_id` and `eos_id` are None for a vocabulary without them.

    Raises what `GGUFReader` raises; `BadMetadata` for a vocabulary that does not fit together; `UnsupportedTokenizer`;
    `InvalidArgument` for a `pre` that means nothing to the file.
    """

    def __init__(self, path: StrPath, pre: str | None = None) -> None:
        with GGUFReader(path) as reader:
            self._load(reader.metadata, pre)

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any], pre: str | None = None) -> Self:
        """The same from metadata in memory; arrays may be lists."""
        tokenizer = cls.__new__(cls)
        tokenizer._load(metadata, pre)
        return tokenizer

    def _load(self, metadata: Mapping[str, Any], pre: str | None) -> None:
        if not isinstance(pre, str | None):
            raise InvalidArgument(f"a pre-tokenizer is given by its name, not {type(pre).__name__}")
        self.model = str(metadata.get(PREFIX + "model", ""))
        if self.model not in ("gpt2", "gemma4", "llama", "bert", "t5"):
            known = "gpt2 or gemma4 (BPE), llama (SentencePiece BPE), t5 (unigram) or bert (WordPiece)"
            why = f"{NOT_READ[self.model]}; " if self.model in NOT_READ else ""
            hint = f"{why}`tokenizer.ggml.model` must be {known}"
            raise UnsupportedTokenizer(self.model or "(none)", hint)
        if pre is not None and self.model not in ("gpt2", "gemma4"):
            reason = "only vocabularies of merges (gpt2, gemma4) cut a text into words by a rule"
            raise InvalidArgument(f"pre={pre!r} means nothing to a tokenizer of the model {self.model!r}: {reason}")
        vocabulary = self._vocabulary = Vocabulary(metadata)
        self.pre = str(metadata.get(PREFIX + "pre", "")) if pre is None else pre
        self._encoder: TextEncoder
        add_eos = False
        if self.model == "gemma4" and pre is None:  # the model's name is the rule's
            self.pre = self.model
        if self.model in ("gpt2", "gemma4"):
            if not self.pre:
                hint = "the file has no `tokenizer.ggml.pre`; pass the pre-tokenizer as pre=, for instance pre='gpt-2'"
                raise UnsupportedTokenizer("(none)", hint)
            rule = pretokenizers.lookup(self.pre)
            self._encoder = BytePairEncoder(vocabulary, rule)
            add_bos, bos, eos, unknown = rule.add_bos, None, None, None
        elif self.model == "bert":  # [CLS] before a text and [SEP] after it; BERT's own, where the file does not say
            bos, eos = vocabulary.special_id("cls", 101), vocabulary.special_id("seperator", 102)
            unknown, add_bos, add_eos = vocabulary.special_id("unknown", 100), True, True
            lower = vocabulary.flag("normalizer.lowercase", True)
            strip = vocabulary.flag("normalizer.strip_accents", lower)
            self._encoder = WordPieceEncoder(vocabulary, unknown, lower, strip)
        elif self.model == "t5":
            bos, eos, add_bos, add_eos = None, 1, False, True  # T5's, where the file does not say
            unknown = vocabulary.special_id("unknown", 2)
            self._encoder = UnigramEncoder(vocabulary, unknown, vocabulary.flag("add_space_prefix", False))
        else:
            given = vocabulary.special_id("unknown")  # what is in no vocabulary is an error where none is named
            self._encoder = SentencePieceEncoder(vocabulary, vocabulary.flag("add_space_prefix", True), given)
            add_bos, bos, eos, unknown = True, 1, 2, 0  # LLaMA's, where the file does not say
        form = str(vocabulary.metadata.get(PREFIX + "normalizer.form", ""))
        if form not in ("", "NFC"):
            raise UnsupportedTokenizer(form, "`tokenizer.ggml.normalizer.form` must be NFC, or not be there")
        self.nfc = form == "NFC"
        self.n_vocab = vocabulary.n
        self.bos_id = vocabulary.special_id("bos", bos)
        self.eos_id = vocabulary.special_id("eos", eos)
        self.unknown_id = vocabulary.special_id("unknown", unknown)
        self.padding_id = vocabulary.special_id("padding")
        vocabulary.eos = self.eos_id
        for name in ("eot", "eom", "fim_pad", "fim_rep", "fim_sep"):
            vocabulary.special_id(name)  # checked now, used when the ends are asked for
        self.add_bos = vocabulary.flag("add_bos_token", add_bos) and self.bos_id is not None
        self.add_eos = vocabulary.flag("add_eos_token", add_eos) and self.eos_id is not None
        self.separator_id = vocabulary.special_id("seperator")  # so the key is spelt
        self.add_separator = vocabulary.flag("add_sep_token", self.pre in TWO_SEPARATORS)

    @property
    def end_ids(self) -> frozenset[int]:
        """Ids that end a generation: EOS, end of turn, and whatever else of the kind the vocabulary has."""
        return self._vocabulary.end_ids

    @cached_property
    def _user_defined(self) -> SpecialTokens:
        return self._special(*self._encoder.cut_out)

    @cached_property
    def _all_special(self) -> SpecialTokens:
        return self._special(*self._encoder.cut_out, CONTROL, UNKNOWN)

    @cached_property
    def _control(self) -> SpecialTokens:
        return self._special(CONTROL, UNKNOWN)

    def _special(self, *kinds: int) -> SpecialTokens:
        raw = self._vocabulary.tokens.raw
        found = np.flatnonzero(np.isin(self._vocabulary.effective_types, kinds))
        return SpecialTokens([(raw(i), i) for i in found.tolist()], *self._vocabulary.takes_space(self.pre))

    def encode(self, text: str, add_special: bool = True, parse_special: bool = False) -> list[int]:
        """Token ids of a text.

        `add_special`: BOS before it and EOS after it, as far as the file asks for them. `parse_special`: control tokens
        written in the text (`<|im_end|>`) become those tokens; without it they are text like any other.
        Raises `InvalidArgument` for what is no text, and for a lone surrogate, which no UTF-8 has.
        """
        check_text(text)
        ids: list[int] = []
        if add_special and self.add_bos and self.bos_id is not None:
            ids.append(self.bos_id)
        ids += self._encode_parts(text, self._all_special if parse_special else self._user_defined)
        if add_special and self.add_eos and self.eos_id is not None:
            ids.append(self.eos_id)
        return ids

    def _encode_parts(self, text: str, special: SpecialTokens) -> list[int]:
        """Ids of a text in which special tokens stand."""
        if special.plain and not self.nfc:
            raw = text.encode()
            whole = self._encoder.encode_cut(raw, special.cuts(raw))
            if whole is not None:
                return whole
        ids, after_special = list[int](), True
        for part in special.partition(text):
            ids += [part] if isinstance(part, int) else self._encode_part(part, after_special)
            after_special = isinstance(part, int)
        return ids

    def encode_with_offsets(
        self, text: str, add_special: bool = True, parse_special: bool = False
    ) -> tuple[list[int], list[Span | None]]:
        """`encode`, and the place of each token in the text: its first byte in UTF-8 and the byte after its last.

        Bytes, not characters, for a token may be part of one. Places ascend; None is that of what was put around the
        text. A space that was put before the text is in a token's bytes and not in its place; a character that
        normalisation makes several tokens of is the place of the last of them, the others' are empty; what it removes
        belongs to the token before, and white space that a special token takes is its. So the places of a byte-level
        vocabulary's tokens, one after the other, are the text.
        """
        check_text(text)
        ids, places = list[int](), list[Span | None]()
        if add_special and self.add_bos and self.bos_id is not None:
            ids, places = [self.bos_id], [None]
        special = self._all_special if parse_special else self._user_defined
        after_special, at = True, 0
        for part, begin, end in special.places(text):
            n = len(text[begin:end].encode())
            if isinstance(part, int):
                found, spans = [part], [(0, n)]
            else:
                found, spans = self._part_with_offsets(part, after_special)
            ids += found
            places += [(at + a, at + b) for a, b in spans]
            after_special = isinstance(part, int)
            at += n
        if add_special and self.add_eos and self.eos_id is not None:
            ids.append(self.eos_id)
            places.append(None)
        return ids, places

    def _encode_part(self, text: str, after_special: bool) -> list[int]:
        return self._encoder.encode(normalized(text, "NFC") if self.nfc else text, after_special)

    def _part_with_offsets(self, text: str, after_special: bool) -> tuple[list[int], list[Span]]:
        if not self.nfc or text.isascii():
            return self._encoder.encode_with_offsets(text, after_special)
        text, origin = with_origin(text, "NFC")
        ids, spans = self._encoder.encode_with_offsets(text, after_special)
        return ids, [(int(origin[a]), int(origin[b])) for a, b in spans]

    def encode_pair(self, first: str, second: str, parse_special: bool = False) -> tuple[list[int], list[int]]:
        """Two texts as one, for models that judge pairs: a question and a passage. Ids, and the segment of each.

            BERT      [CLS] first [SEP] second [SEP]              segments 0 up to the first [SEP], 1 behind it
            RoBERTa   <s> first </s></s> second </s>              segments all 0: it has one

        Between them stands EOS, where the file ends texts with it, and the separator, where `add_sep_token` says so.
        Raises UnsupportedTokenizer where neither does; InvalidArgument as `encode`.
        """
        eos = [self.eos_id] if self.add_eos else []
        separator = [self.eos_id if self.separator_id is None else self.separator_id] if self.add_separator else []
        between = [i for i in (*eos, *separator) if i is not None]
        if not between:
            raise UnsupportedTokenizer("pair", "the file puts nothing between two texts (add_eos_token, add_sep_token)")
        begin = [self.bos_id] if self.add_bos and self.bos_id is not None else []
        head = begin + self.encode(first, False, parse_special) + between
        tail = self.encode(second, False, parse_special) + (between[:1] if self.add_eos else [])
        return head + tail, [0] * len(head) + [int(self.model == "bert")] * len(tail)

    def infill_ids(self) -> tuple[int, int, int]:
        """The tokens before a prefix, a suffix and the middle in an infilling prompt. Raises UnsupportedTokenizer."""
        found = [self._vocabulary.infill_id(kind) for kind in ("fim_pre", "fim_suf", "fim_mid")]
        if None in found:
            raise UnsupportedTokenizer("infill", "the vocabulary has no tokens for prefix, suffix and middle")
        prefix, suffix, middle = (i for i in found if i is not None)
        return prefix, suffix, middle

    def encode_inside(self, text: str) -> list[int]:
        """Token ids of a text that goes on within another one: nothing is put around it, no space before it.

        Raises `InvalidArgument` for a lone surrogate.
        """
        check_text(text)
        parts = self._user_defined.partition(text)
        return [i for p in parts for i in ([p] if isinstance(p, int) else self._encode_part(p, False))]

    def encode_template(self, text: str, marker: str) -> list[int]:
        """Token ids of a rendered chat template, whose own text may hold control tokens; nothing is put around it.

        `marker` is a character that the renderer put into what users wrote, so that no control token's text is found
        there. It is taken out once the control tokens are cut out. See chat_templates.py. Raises as `encode`.
        """
        check_text(text.replace(marker, "") if marker else text)
        ids: list[int] = []
        after_special = True
        for part in self._control.partition(text, marker):
            for piece in [part] if isinstance(part, int) else self._user_defined.partition(part.replace(marker, "")):
                ids += [piece] if isinstance(piece, int) else self._encode_part(piece, after_special)
                after_special = isinstance(piece, int)
        return ids

    @property
    def control_texts(self) -> list[str]:
        """The texts of the control tokens."""
        return self._control.texts

    def piece(self, id: int) -> bytes:
        """The bytes a token stands for; of a control token its name."""
        return self._encoder.piece(id, self._kind(id))

    def text_pieces(self) -> list[bytes]:
        """The bytes that each token adds to a text that is being written, b"" for those that add none: control tokens,
        unknown and unused ones, and user-defined ones after which a space of the next token would not be its own."""
        encoder = self._encoder
        silent = {CONTROL, UNKNOWN}
        if encoder.strip:
            silent |= {kind for kind in encoder.restarts if kind == USER_DEFINED}
        kinds = self._vocabulary.effective_types.tolist()
        return [b"" if kind in silent else encoder.piece(i, kind) for i, kind in enumerate(kinds)]

    def _kind(self, id: int) -> int:
        try:
            if 0 <= id < self.n_vocab:
                return int(self._vocabulary.effective_types[id])
        except (TypeError, IndexError):  # what NumPy takes for no index, or no single one
            raise InvalidArgument(f"a token id is a whole number, not {type(id).__name__}") from None
        raise IndexOutOfRange(f"token id {id} is not in a vocabulary of {self.n_vocab}")

    def decode_bytes(self, ids: Iterable[int], special: bool = False) -> bytes:
        """The bytes of a sequence, without control tokens unless `special`.

        Raises `IndexOutOfRange` for an id that is in no vocabulary of this size, InvalidArgument for what is no id.
        """
        if isinstance(ids, str | bytes) or not isinstance(ids, Iterable):
            raise InvalidArgument(f"token ids are a sequence of whole numbers, not {type(ids).__name__}")
        read = _Reader(self, special, start=True)
        return b"".join(map(read.push, ids))

    def decode(self, ids: Iterable[int], special: bool = False) -> str:
        """`decode_bytes` as text. What is not UTF-8, as half a character at the end, becomes U+FFFD."""
        return self.decode_bytes(ids, special).decode("utf-8", "replace")

    def decode_with_controls(self, ids: Sequence[int]) -> tuple[str, list[tuple[int, int]]]:
        """`decode` with `special`, and which characters of it are names of control tokens: (begin, end), ascending.

        The same name in ordinary tokens, which a model may write as text, is not among them. Raises `IndexOutOfRange`.
        """
        read, made, places, n = _Reader(self, True, start=True), list[str](), list[tuple[int, int]](), 0
        for control, run in groupby(ids, lambda i: self._kind(i) in (CONTROL, UNKNOWN)):
            made.append(b"".join(map(read.push, run)).decode("utf-8", "replace"))
            places += [(n, n + len(made[-1]))] if control else []
            n += len(made[-1])
        return "".join(made), places

    def __repr__(self) -> str:
        return f"<Tokenizer {self.model} {self.pre or '-'}, {self.n_vocab} tokens>"


class _Reader:
    """Bytes of ids, one by one.

    Some encoders put a space before a text, and one after each token that is cut out of it. These spaces are not the
    text's: they are taken off again, at the start where `start` says that the ids are a text's first ones.
    """

    def __init__(self, tokenizer: Tokenizer, special: bool, start: bool) -> None:
        self._tokenizer, self._special = tokenizer, special
        self._encoder = tokenizer._encoder
        self._strip = start and self._encoder.strip

    def push(self, id: int) -> bytes:
        """The bytes of the next token. Raises `IndexOutOfRange`."""
        kind, encoder = self._tokenizer._kind(id), self._encoder
        shown = self._special or kind not in (CONTROL, UNKNOWN)
        piece = encoder.piece(id, kind) if shown else b""
        if kind in encoder.restarts:
            self._strip = encoder.strip
        elif self._strip:
            piece = piece if kind == BYTE else piece.removeprefix(b" ")
            self._strip = encoder.merge_spaces and not piece and kind != UNKNOWN
        return piece


class StreamDecoder:
    """Text of a growing sequence of ids, never half a character.

        d = StreamDecoder(tokenizer)
        "".join(d.push(i) for i in ids) + d.flush()

    Control tokens give no text unless `special`. The ids are taken to follow others, so that a space at their start is
    kept; with `start` they are a text's first ones, and what comes is what `Tokenizer.decode` gives for them.
    """

    def __init__(self, tokenizer: Tokenizer, special: bool = False, start: bool = False) -> None:
        self._begin = tokenizer, special, start
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._reader = _Reader(*self._begin)

    def push_bytes(self, id: int) -> bytes:
        """The bytes of the next token, which may end within a character. Raises `IndexOutOfRange`."""
        return self._reader.push(id)

    def push(self, id: int) -> str:
        """The characters that are complete with this token, often "". Raises `IndexOutOfRange`."""
        return self._utf8.decode(self._reader.push(id))

    def flush(self) -> str:
        """What is left at the end: "" or U+FFFD for a character that never was completed. Then all starts afresh."""
        rest = self._utf8.decode(b"", final=True)
        self._utf8.reset()
        self._reader = _Reader(*self._begin)
        return rest
