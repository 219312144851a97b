"""Is a vocabulary handled as it should be, and a text by it, whatever both are? For the fuzzer and for the replay of
its corpus (tools/fuzz_tokenizers.py).

The bytes are a vocabulary of one of the families with its options (`Source` reads them; at their end all is zero), and
a text. Then: a typed error where the vocabulary is none; else ids that are tokens, the same from every call that makes
them and from the twin; places that ascend; a stream that decodes as the whole does; and the text back, where
decoding is defined.
"""

from __future__ import annotations

import base64
import json
import time
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from small_vocabularies import BYTE, CONTROL, NORMAL, UNKNOWN, USER_DEFINED, byte_alphabet

from zigllama.errors import BadMetadata, InvalidArgument, ZigllamaError
from zigllama.models import merging, unigram
from zigllama.models.conversion import vocabulary_files
from zigllama.models.pretokenizers import PRE_TOKENIZERS
from zigllama.models.tokenizer import StreamDecoder, Tokenizer
from zigllama.models.tokenizer_bpe import BytePairEncoder
from zigllama.models.tokenizer_spm import SentencePieceEncoder
from zigllama.models.tokenizer_unigram import UNKNOWN_PENALTY, USER_DEFINED_SCORE, UnigramEncoder

SECONDS = 10.0  # the bound is 1 s where nothing else runs; a busy machine was seen to take five times the CPU time
LONGEST = 4096  # bytes that are repeated
TWIN_LONGEST, STREAM_LONGEST = 300, 64  # characters, since the textbook takes quadratic time; ids, one call each
P = "tokenizer.ggml."
FAMILIES = ("gpt2", "llama", "t5", "bert")
PRES = sorted({rule: name for name, rule in PRE_TOKENIZERS.items()}.values())  # one name for each rule
LETTERS = byte_alphabet()
SPACE = "\u2581"
KINDS = (*[NORMAL] * 9, UNKNOWN, CONTROL, USER_DEFINED, USER_DEFINED, 5, BYTE, 77)
SCORES = (float("inf"), float("-inf"), float("nan"), -1e30)


class Source:
    """Bytes that are read as numbers and texts."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, n: int) -> bytes:
        """The next `n` bytes, or what there is."""
        self.at += n
        return self.data[self.at - n : self.at]

    def number(self, below: int) -> int:
        """A number below another one, from the next byte."""
        return (self.take(1) or b"\0")[0] % below

    def text(self) -> bytes:
        """A short text, seldom a long one."""
        n = self.number(256)
        return self.take(n % 7 if n < 240 else n - 200)


@cache
def _charsmap() -> bytes:
    """A real map of characters, with eleven keys."""
    path = Path(__file__).parent / "golden" / "tokenizer_unigram.json"
    model = json.loads(path.read_text("utf-8"))["models"]["rules"]["model"]
    words = vocabulary_files._sentencepiece(base64.b64decode(model), "tokenizer.model")
    return bytes(bytearray(words.metadata(len(words.tokens))[P + "precompiled_charsmap"]))


def vocabulary(s: Source) -> dict[str, Any]:
    """Metadata."""
    family, pre, flags = FAMILIES[s.number(4)], PRES[s.number(len(PRES))], s.take(2).ljust(2, b"\0")
    bits = [bool(flags[i // 8] >> i % 8 & 1) for i in range(16)]
    spelt = family == "gpt2" and not PRE_TOKENIZERS[pre].raw
    tokens, kinds, scores = list[bytes](), list[int](), list[float]()

    def add(token: bytes, kind: int = NORMAL, score: float = 0.0) -> None:
        tokens.append(token)
        kinds.append(kind)
        scores.append(score)

    for i in range(4):
        add(b"<%d>" % i, CONTROL if i else UNKNOWN)
    if bits[0]:
        for b in range(256):
            add(LETTERS[b].encode() if spelt else b"<0x%02X>" % b, NORMAL if spelt else BYTE)
    if bits[1]:
        for c in SPACE + "ab\u00e9":
            add(c.encode(), NORMAL, -2.0)
    for _ in range(s.number(40)):
        raw, kind, score = s.text(), KINDS[s.number(len(KINDS))], s.number(256)
        if spelt and kind == NORMAL:
            raw = "".join(LETTERS[b] for b in raw).encode()
        if family == "bert" and score & 1:
            raw = SPACE.encode() + raw
        add(raw, kind, SCORES[score % 4] if score > 252 else -score / 8)
    metadata: dict[str, Any] = {P + "model": family, P + "pre": pre, P + "token_type": kinds}
    if family == "gpt2":
        merges = list[bytes]()
        for _ in range(s.number(48)):
            a, b = s.number(256), s.number(256)
            left, right = tokens[a % len(tokens)], tokens[b % len(tokens)]
            merges.append(left + b" " + right if a != 255 else s.text())
            if b & 1 and len(left + right) < 40:
                add(left + right)
        metadata[P + "merges"] = merges
    else:
        metadata[P + "scores"] = scores
    metadata[P + "tokens"] = tokens
    for i, name in enumerate(("add_space_prefix", "remove_extra_whitespaces", "add_bos_token", "add_eos_token")):
        if bits[2 + i]:
            metadata[P + name] = bits[6 + i]
    if bits[10]:
        charsmap = bytearray(_charsmap())
        for _ in range(s.number(6) if bits[11] else 0):  # some of it broken
            at = s.number(256) << 8 | s.number(256)
            charsmap[at % len(charsmap)] ^= s.number(256)
        metadata[P + "precompiled_charsmap"] = list(charsmap)
    if bits[12]:
        metadata[P + "normalizer.form"] = "NFC"
    if bits[13]:
        metadata[P + "normalizer.lowercase"] = bits[14]
        metadata[P + "normalizer.strip_accents"] = bits[15]
    if bits[15]:
        for name in ("bos", "eos", "unknown", "padding", "cls", "seperator", "eot", "prefix"):
            metadata[f"{P}{name}_token_id"] = s.number(len(tokens) + bits[14])
    elif family in ("t5", "bert"):
        metadata[P + "unknown_token_id"] = 0
    return metadata


def divided(data: bytes) -> tuple[bytes, bytes]:
    """The bytes of a vocabulary, how many being said by the first two, and those of a text."""
    n = 2 + int.from_bytes(data[:2], "little")
    return data[2:n], data[n:]


def joined(words: bytes, text: bytes) -> bytes:
    """The inverse."""
    return len(words).to_bytes(2, "little") + words + text


@lru_cache(64)
def tokenizer(words: bytes) -> tuple[dict[str, Any], Tokenizer | None]:
    """Metadata and the tokenizer of it, if there is one. It is kept: a fuzzer tries many texts on each."""
    metadata = vocabulary(Source(words))
    try:
        made = Tokenizer.from_metadata(metadata)
        made._encoder.encode("x", False)  # its tables are made, whatever is cut out of a text
    except ZigllamaError:
        return metadata, None
    return metadata, made


def expanded(raw: bytes) -> bytes:
    """0xFE, n, k: what stands before, the last k of it n times more. Long texts have short inputs so."""
    head, *rest = raw.split(b"\xfe")
    out = bytearray(head)
    for part in rest:
        if len(part) >= 2 and out:
            out += (out[-1 - part[1] % 32 :] * (part[0] % 128))[: max(0, LONGEST - len(out))]
        out += part[2:]
    return bytes(out)


def warm() -> None:
    """Make the tables that a process makes once: of each rule that cuts texts, of normal forms, of maps of characters.
    They would count as time of the input that asks for them first."""
    for number in range(len(PRES)):
        tokenizer(bytes([0, number]))[1].encode("e\u0301 1")  # type: ignore[union-attr]
    for family in range(len(FAMILIES)):
        for flags in (1 << 12, 1 << 13 | 1 << 14, 1 << 13, 1 << 10):
            words = bytes([family, 0, flags & 255, flags >> 8])
            if (made := tokenizer(words)[1]) is not None:
                made.encode("e\u0301 1")


def judge(data: bytes) -> None:
    """Raises AssertionError, or what the code let through."""
    words, text_bytes = divided(data)
    metadata, t = tokenizer(words)
    if t is None:
        return
    parse = bool(text_bytes[:1] and text_bytes[0] & 1)
    raw = expanded(text_bytes[1:])
    text = raw.decode("utf-8", "surrogateescape" if parse and len(raw) % 8 == 0 else "replace")
    begin = time.thread_time()
    try:
        ids = t.encode(text, parse_special=parse)
    except InvalidArgument:
        assert any("\ud800" <= c <= "\udfff" for c in text)
        return
    except BadMetadata:
        return
    _judge_ids(t, metadata, text, ids, parse)
    if metadata[P + "model"] != "bert" and len(text) <= TWIN_LONGEST:
        _judge_twin(t, metadata, text)
    took = time.thread_time() - begin
    assert took < SECONDS, took


def _judge_ids(t: Tokenizer, metadata: dict[str, Any], text: str, ids: list[int], parse: bool) -> None:
    assert all(0 <= i < t.n_vocab for i in ids), ids
    found, places = t.encode_with_offsets(text, parse_special=parse)
    assert found == ids == t.encode(text, parse_special=parse)
    inside = [p for p in places if p is not None]
    n = len(text.encode())
    assert all(0 <= a <= b <= n for a, b in inside) and all(a[1] <= b[0] for a, b in pairwise(inside)), inside
    some = ids[:STREAM_LONGEST]
    stream = StreamDecoder(t, parse, start=True)
    assert "".join(map(stream.push, some)) + stream.flush() == t.decode(some, parse)
    plain = t.encode(text, add_special=False)
    kinds = {int(t._vocabulary.effective_types[i]) for i in plain}
    tokens, family = set(metadata[P + "tokens"]), metadata[P + "model"]
    if family == "gpt2" and not (PRE_TOKENIZERS[t.pre].raw or t.nfc) and kinds <= {NORMAL}:
        made = (m[: (at := m.index(b" ", 1))] + m[at + 1 :] for m in metadata[P + "merges"])
        if all(c.encode() in tokens for c in LETTERS) and all(
            m in tokens for m in made
        ):  # else bytes may have no token
            assert t.decode_bytes(plain) == text.encode()
            assert b"".join(text.encode()[a:b] for a, b in filter(None, places)) == text.encode()
    elif family == "llama" and kinds <= {NORMAL, BYTE} and SPACE not in text and SPACE.encode() in tokens:
        changed = P + "precompiled_charsmap" in metadata or metadata.get(P + "remove_extra_whitespaces") or t.nfc
        if not changed and metadata.get(P + "unknown_token_id", 0) not in plain:  # any token may be the unknown one
            assert t.decode_bytes(plain) == text.encode()
    t.encode_inside(text)
    t.encode_template("\ue000".join(text), "\ue000")


def _judge_twin(t: Tokenizer, metadata: dict[str, Any], text: str) -> None:
    """Against the textbook, of a text that is one part. Maps of characters have a test of their own."""
    encoder = t._encoder
    if isinstance(encoder, BytePairEncoder):
        assert encoder.encode(text, False) == encoder.encode_by_definition(text)
        return
    merge = bool(metadata.get(P + "remove_extra_whitespaces", False))
    if P + "precompiled_charsmap" in metadata:
        return
    tokens, kinds, scores = metadata[P + "tokens"], metadata[P + "token_type"], metadata[P + "scores"]
    if isinstance(encoder, SentencePieceEncoder):
        places = {token: i for i, token in enumerate(tokens)}
        if any(score != score for score in scores) or any(c not in places for c in (b"<0x00>", b"<0xFF>")):
            return
        raw = unigram.normalize(text.encode(), {}, [], False, merge)
        if any(k == USER_DEFINED and token and token in raw for token, k in zip(tokens, kinds, strict=True)):
            return  # these are cut out first, by their bytes: one that is no character, out of a character

        def rank(a: bytes, b: bytes) -> Any:  # a number, as it must be; of floats
            return None if (i := places.get(a + b)) is None else -float(np.float32(scores[i]))

        want = list[int]()
        for symbol in merging.merge([c.encode() for c in raw.decode("utf-8", "replace")], rank):
            want += [places[symbol]] if symbol in places else [places[b"<0x%02X>" % b] for b in symbol]
        assert encoder.encode(text, False) == want
    elif isinstance(encoder, UnigramEncoder):
        chosen = {
            token.decode(): (i, float(np.float32(USER_DEFINED_SCORE if kind == USER_DEFINED else score)))
            for i, (token, kind, score) in enumerate(zip(tokens, kinds, scores, strict=True))
            if kind in (NORMAL, USER_DEFINED) and token and token.decode("utf-8", "ignore").encode() == token
        }
        normal = [np.float32(s) for s, k in zip(scores, kinds, strict=True) if k == NORMAL]
        unknown = float(np.float32(min(normal, default=np.float32(0)) - UNKNOWN_PENALTY))
        normalized = encoder.normalizer.apply(text.encode(), False)[0].tobytes().decode()
        best = sum(
            unknown if i is None else chosen[piece][1]
            for i, piece in unigram.most_probable(normalized, chosen, unknown)
        )
        ids, ends = encoder._search.encode(normalized.encode(), with_ends=True)
        assert ends is not None and (not normalized or int(ends[-1]) == len(normalized.encode()))
        mine, at = 0.0, 0
        for i, end in zip(ids.tolist(), ends.tolist(), strict=True):
            piece = normalized.encode()[at:end]
            known = chosen.get(piece.decode("utf-8", "replace"))
            if known is not None and known[0] == i:
                mine += known[1]
            elif len(ids) and BYTE in kinds and kinds[i] == BYTE:
                mine += unknown if piece[0] & 0xC0 != 0x80 else 0.0
            else:
                assert i == encoder.unknown
                mine += unknown * len(piece.decode())
            at = end
        assert abs(mine - best) <= 1e-6 * max(1.0, abs(best)), (mine, best)
