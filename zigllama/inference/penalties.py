"""Stages that change the logits of single tokens: bias, the penalties on what was written before, DRY.

They touch a few tokens of a vocabulary of many thousands, so what they give is a list of changes and no new row: the
largest logits, which C has found meanwhile, stay of use (see advanced_sampling.py).

    bias                    x + b                              llama.cpp puts it first, so do we
    repeat penalty          x / r where x > 0, else x * r      Keskar et al. 2019 (1909.05858)
    frequency, presence     x - n * f - p                      n: how often the token is among the recent ones
    DRY ("don't repeat      x - m * b^(n - allowed)            n: how many tokens before this one would be repeated by
    yourself")                                                 it. By p-e-w, 2024; there is no paper
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from zigllama.errors import InvalidArgument
from zigllama.foundation.runtime import F32
from zigllama.inference.sampling import SamplingParams

if TYPE_CHECKING:
    from zigllama.models.tokenizer import Tokenizer

Changes = tuple[npt.NDArray[np.int64], F32] | None  # ids, and what their logits become
Breakers = Mapping[int, Sequence[tuple[int, ...]]]  # first token -> the tokens after it that complete a breaker

MAX_EXPONENT = 88.7228391  # ln of the largest float32: b^n is held below it
LONGEST_BREAKER = 20  # tokens


def changed(logits: F32, history: Sequence[int], p: SamplingParams, breakers: Breakers | None = None) -> Changes:
    """Ids whose logits bias, penalties or DRY change, and what they become, float32; None for none.

    history   the tokens so far, prompt included; -1 is a row of an image, which nothing is taken off for

    Raises InvalidArgument for a bias on a token that is none.
    """
    counts: Counter[int] = Counter()
    if penalises(p):
        counts = Counter(t for t in recent(history, p.repeat_last_n) if t >= 0)
    taken = dry(history, p, breakers or {}) if p.dry_multiplier else {}
    if not counts and not taken and not p.logit_bias:
        return None
    n_vocab = len(logits)
    for token in p.logit_bias:
        if not 0 <= token < n_vocab:
            raise InvalidArgument(f"logit_bias names token {token}, the vocabulary has {n_vocab}")
    ids = np.array(list(dict.fromkeys([*counts, *taken, *p.logit_bias])), np.int64)
    values = logits[ids]
    if p.logit_bias:
        values += np.array([p.logit_bias.get(i, 0.0) for i in ids.tolist()], np.float32)
    x, n = values[: len(counts)], np.fromiter(counts.values(), np.float32, len(counts))
    x = np.where(x > 0, x / np.float32(p.repeat_penalty), x * np.float32(p.repeat_penalty))
    values[: len(counts)] = x - n * np.float32(p.frequency_penalty) - np.float32(p.presence_penalty) * (n > 0)
    if taken:
        values -= np.array([taken.get(i, 0.0) for i in ids.tolist()], np.float32)
    return ids, values


def penalises(p: SamplingParams) -> bool:
    """Whether one of the three penalties is on."""
    return bool(p.repeat_penalty != 1 or p.frequency_penalty or p.presence_penalty)


def recent(history: Sequence[int], n: int) -> Sequence[int]:
    """The last n tokens; all for -1."""
    return history if n < 0 else history[-n:] if n else ()


def dry(history: Sequence[int], p: SamplingParams, breakers: Breakers) -> dict[int, float]:
    """What DRY takes off, by token.

    If the last n tokens have been there before, the token that followed them then would continue the repetition. The
    longest such n counts for each token; up to dry_allowed_length - 1 it is free. A breaker ends the search backwards,
    and a token that is one by itself is never penalised (as llama.cpp has it).
    """
    text = list(recent(history, p.dry_last_n))
    limit = _since_breaker(text, breakers)
    longest: dict[int, int] = {}
    if len(text) <= p.dry_allowed_length or limit < p.dry_allowed_length:
        return {}
    for at, n in enumerate(_suffix_lengths(text)):  # n tokens that end at `at` are those that end the text
        n = min(n, limit)
        if n >= p.dry_allowed_length and text[at + 1] >= 0:
            longest[text[at + 1]] = max(n, longest.get(text[at + 1], 0))
    most = int(MAX_EXPONENT / np.log(p.dry_base)) if p.dry_base > 1.000001 else 0
    taken: dict[int, float] = {}
    for token, n in longest.items():
        if () in breakers.get(token, ()):
            continue
        exponent = n - p.dry_allowed_length
        taken[token] = p.dry_multiplier * p.dry_base ** (min(exponent, most) if most else exponent)
    return taken


def _since_breaker(text: Sequence[int], breakers: Breakers) -> int:
    """How many tokens at the end come after the last breaker."""
    n = len(text)
    for back in range(n):
        at = n - 1 - back
        tails = [len(t) for t in breakers.get(text[at], ()) if tuple(text[at + 1 : at + 1 + len(t)]) == t]
        if tails:
            return back - max(tails)
    return n


def _suffix_lengths(text: Sequence[int]) -> list[int]:
    """For each place but the last: how many tokens that end there are also the last of the text. Linear: the Z function
    (Gusfield, 1997) of the text read backwards."""
    back = list(reversed(text))
    n, z, left, right = len(back), [0] * len(back), 0, 0
    for i in range(1, n):
        k = min(right - i, z[i - left]) if i < right else 0
        while i + k < n and back[k] == back[i + k] and back[k] >= 0:
            k += 1
        z[i] = k
        if i + k > right:
            left, right = i, i + k
    return z[:0:-1]


_breakers: WeakKeyDictionary[Tokenizer, dict[tuple[str, ...], Breakers]] = WeakKeyDictionary()
REMEMBERED = 8  # sets of breakers per tokenizer


def breaker_tokens(tokenizer: Tokenizer, texts: Sequence[str]) -> Breakers:
    """Where a breaker's text can begin in a token, and which tokens then complete it: () for those that hold all of
    it. It takes a look at the whole vocabulary, and is remembered for the sets of texts that were asked for last.
    Raises InvalidArgument for an empty text."""
    known = _breakers.setdefault(tokenizer, {})
    key = tuple(texts)
    made = known.pop(key, None)
    if made is None:
        made = _breaker_tokens(tokenizer, key)
    known[key] = made  # the last one asked for is the last one forgotten
    for oldest in list(known)[:-REMEMBERED]:
        known.pop(oldest, None)
    return made


def _breaker_tokens(tokenizer: Tokenizer, texts: Sequence[str]) -> Breakers:
    out: dict[int, list[tuple[int, ...]]] = {}
    if not all(texts):
        raise InvalidArgument("dry_sequence_breakers holds an empty text")
    for token in range(tokenizer.n_vocab):
        word = tokenizer.piece(token)
        for text in texts:
            whole = text.encode()
            if whole in word:
                tails: list[tuple[int, ...]] = [()]
            else:
                ends = (n for n in range(1, len(whole)) if word.endswith(whole[:n]))
                rests = [whole[n:].decode("utf-8", "ignore") for n in ends]
                tails = [tuple(tokenizer.encode(r, add_special=False)[:LONGEST_BREAKER]) for r in rests if r]
            for tail in tails:
                if tail not in out.setdefault(token, []):
                    out[token].append(tail)
    return out
