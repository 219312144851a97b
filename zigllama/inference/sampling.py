"""How tokens are chosen: the keywords, their one table of defaults, and their ranges.

    logits -> processor -> bias -> penalties -> DRY -> [ truncating stages -> temperature ] -> draw

What comes before the bracket changes logits of single tokens (penalties.py); what is in it narrows or reshapes the
distribution (stages.py); the chain itself is advanced_sampling.py. The order is llama.cpp's. Temperature comes last, so
that it changes how the kept candidates are weighed and not which ones are kept.

What this file is not: it looks at no logits.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from zigllama.errors import InvalidArgument
from zigllama.foundation.runtime import F32
from zigllama.inference.keyword_types import as_bias, as_bool, as_float, as_ids, as_int, as_texts, refuse

Best = tuple[F32, npt.NDArray[np.int32]] | None  # values and ids of a row's largest logits, best first
Processor = Callable[[Sequence[int], F32], F32 | None]
BREAKERS = ("\n", ":", '"', "*")  # where DRY begins anew


@dataclass(frozen=True)
class SamplingParams:
    """How tokens are chosen, and the one table of defaults. Raises InvalidArgument for a value out of range or of
    another type.

    temperature         0 is greedy: the largest logit. Stages that always keep it have nothing to say then; those that
                        may take it away, typical_p and xtc_probability, are refused beside it
    dynatemp_range      temperature within +-range by the entropy of the candidates; 0 = off
    dynatemp_exponent   how steeply it follows the entropy
    top_k               keep the k largest logits; 0 = all
    top_p               keep the fewest candidates whose probabilities sum to at least p; 1 = all
    min_p               keep candidates at least min_p times as probable as the best; 0 = all
    typical_p           keep those whose surprise is nearest to the entropy, of at least this mass; 1 = all. "Typical"
                        and "locally typical" sampling are two names of this one method
    tfs_z               cut the tail where the curve of sorted probabilities has flattened; 1 = all
    top_n_sigma         keep logits within n standard deviations of the largest; 0 = all
    xtc_probability     how often the likeliest candidates are taken away, all but the last above xtc_threshold; 0 = off
    xtc_threshold       above 0.5 nothing is taken away
    mirostat_mode       0, 1 or 2: hold the surprise near a target, instead of the truncating stages
    mirostat_tau        the target, bits per token
    mirostat_eta        how fast it is steered to
    repeat_penalty      divide positive logits of recent tokens by it, multiply negative ones; 1 = off
    repeat_last_n       how many recent tokens the penalties look at; -1 = all
    frequency_penalty   taken off a recent token's logit per occurrence; 0 = off
    presence_penalty    taken off once; 0 = off
    dry_multiplier      how much is taken off a token that would continue a repetition; 0 = off
    dry_base            grows by this factor per token of the repetition
    dry_allowed_length  repetitions up to this length cost nothing
    dry_last_n          how many tokens are searched for repetitions; -1 = all
    dry_sequence_breakers  texts that no repetition goes across
    logit_bias          token id -> what is added to its logit
    seed                None: chosen at random, and reported in the result
    logits_processor    called as f(token_ids, logits) before everything else; changes the float32 row in place, which
                        is the engine's own memory, or returns another of that shape
    logprobs            whether the result tells the log-probability of each token, by the model's own distribution
    top_logprobs        and those of so many likeliest tokens beside it
    penalty_alpha       contrastive search: how much sameness with the context counts against probability; 0 = off
    guidance_scale      classifier-free guidance: 1 = off
    negative_prompt     what to be guided away from: text or token ids; None: the prompt's last token alone
    num_beams           beam search with so many beams: 1 = off
    explain             whether the result tells, per step, what each stage kept

    What a way to choose has no use for is refused beside it: contrastive search and beam search draw nothing, so that
    neither temperature nor a truncating stage may be set (but for contrastive search's top_k), and Mirostat stands in
    place of the truncating stages. Penalties, bias and a processor act before each of them.
    """

    temperature: float = 0.8
    dynatemp_range: float = 0.0
    dynatemp_exponent: float = 1.0
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    typical_p: float = 1.0
    tfs_z: float = 1.0
    top_n_sigma: float = 0.0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    mirostat_mode: int = 0
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_last_n: int = -1
    dry_sequence_breakers: Sequence[str] = BREAKERS
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    logits_processor: Processor | None = None
    logprobs: bool = False
    top_logprobs: int = 0
    penalty_alpha: float = 0.0
    guidance_scale: float = 1.0
    negative_prompt: str | Sequence[int] | None = None
    num_beams: int = 1
    explain: bool = False

    def __post_init__(self) -> None:
        def want(ok: bool, name: str, what: str) -> None:
            if not ok:
                refuse(name, getattr(self, name), what)

        for f in fields(self):
            value = getattr(self, f.name)
            if f.type in _KINDS:
                object.__setattr__(self, f.name, _KINDS[f.type](f.name, value))
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            want(math.isfinite(value) and low <= value <= high, name, _says(low, high))
        for name in ("top_p", "typical_p", "tfs_z", "repeat_penalty", "mirostat_eta"):
            want(getattr(self, name) > 0, name, "above 0")
        want(self.mirostat_mode in (0, 1, 2), "mirostat_mode", "0, 1 or 2")
        object.__setattr__(self, "logit_bias", as_bias("logit_bias", self.logit_bias))
        for token, bias in self.logit_bias.items():  # -inf forbids a token; +inf would leave no probabilities
            if not bias < float(np.finfo(np.float32).max):
                raise InvalidArgument(f"logit_bias of token {token} is {bias}, want a finite number or -inf")
        if self.seed is not None:
            object.__setattr__(self, "seed", as_int("seed", self.seed, "0 to 2^64 - 1, or None"))
            want(0 <= self.seed < 1 << 64, "seed", "0 to 2^64 - 1, or None")
        want(self.logits_processor is None or callable(self.logits_processor), "logits_processor", "a function")
        breakers = as_texts("dry_sequence_breakers", self.dry_sequence_breakers)
        object.__setattr__(self, "dry_sequence_breakers", tuple(breakers))
        if self.negative_prompt is not None and not isinstance(self.negative_prompt, str):
            object.__setattr__(self, "negative_prompt", as_ids("negative_prompt", self.negative_prompt))
        ways = {"penalty_alpha": self.penalty_alpha > 0, "guidance_scale": self.guidance_scale != 1}
        ways |= {"num_beams": self.num_beams > 1, "mirostat_mode": self.mirostat_mode > 0}
        chosen = [name for name, on in ways.items() if on]
        if len(chosen) > 1 and chosen != ["guidance_scale", "mirostat_mode"]:
            raise InvalidArgument(f"{chosen[0]} and {chosen[1]} are two ways to choose a token: only one is possible")
        if self.negative_prompt is not None and self.guidance_scale == 1:
            raise InvalidArgument("negative_prompt without guidance_scale: at a scale of 1 it would change nothing")
        for way in chosen:
            self._refuse_without_effect(way)
        if self.temperature == 0 and not self.dynatemp_range:
            for name in ("typical_p", "xtc_probability"):
                if getattr(self, name) != getattr(type(self), name):
                    said = f"{name} is {getattr(self, name)!r}, but has no effect with temperature 0, which is greedy"
                    raise InvalidArgument(f"{said}: the largest logit is taken, and {name} may take it away")

    def _refuse_without_effect(self, way: str) -> None:
        """Nothing is ignored: what `way` has no use for is at its default, or off. Raises InvalidArgument."""
        off = {name: values for name, values in _NO_EFFECT.items() if way != "guidance_scale"}
        if way == "penalty_alpha":
            del off["top_k"]  # how many candidates are compared
        if way == "mirostat_mode":
            for name in ("temperature", "dynatemp_range", "dynatemp_exponent"):
                del off[name]
            if self.temperature == 0 and not self.dynatemp_range:
                raise InvalidArgument(f"temperature 0 with mirostat_mode {self.mirostat_mode}: it would never draw")
        for name, values in off.items():
            value = getattr(self, name)
            if value not in (getattr(type(self), name), *values):
                raise InvalidArgument(f"{name} is {value!r}, but has no effect with {way} {getattr(self, way)!r}")

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The keywords, in order."""
        return tuple(f.name for f in fields(cls))


_KINDS: dict[Any, Callable[[str, Any], Any]] = {"int": as_int, "float": as_float, "bool": as_bool}
# What narrows or reshapes a distribution that is drawn from, with the values that are as good as its absence.
_NO_EFFECT: dict[str, tuple[float, ...]] = {
    "temperature": (0, 1),
    "dynatemp_range": (),
    "dynatemp_exponent": (),
    "top_k": (0,),
    "top_p": (1,),
    "min_p": (0,),
    "typical_p": (),
    "tfs_z": (),
    "top_n_sigma": (),
    "xtc_probability": (),
}
_MANY = 1 << 31
_RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0, math.inf),
    "dynatemp_range": (0, math.inf),
    "dynatemp_exponent": (0, math.inf),
    "top_k": (0, _MANY),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "typical_p": (0, 1),
    "tfs_z": (0, 1),
    "top_n_sigma": (0, math.inf),
    "xtc_probability": (0, 1),
    "xtc_threshold": (0, 1),
    "mirostat_tau": (0, math.inf),
    "mirostat_eta": (0, math.inf),
    "repeat_penalty": (0, math.inf),
    "repeat_last_n": (-1, _MANY),
    "frequency_penalty": (-math.inf, math.inf),
    "presence_penalty": (-math.inf, math.inf),
    "dry_multiplier": (0, math.inf),
    "dry_base": (1, math.inf),
    "dry_allowed_length": (0, _MANY),
    "dry_last_n": (-1, _MANY),
    "top_logprobs": (0, 128),
    "penalty_alpha": (0, 1),
    "guidance_scale": (-math.inf, math.inf),
    "num_beams": (1, 1024),
}


def _says(low: float, high: float) -> str:
    if math.isinf(low):
        return "a finite number"
    return f"a finite number >= {low:g}" if high >= _MANY else f"{low:g} to {high:g}"


def nearest_keyword(name: str, known: Sequence[str]) -> TypeError:
    """The TypeError for an unknown keyword, with the nearest known one in its message."""
    near = difflib.get_close_matches(name, known, 1)
    return TypeError(f"unknown keyword {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))


CONSTRAINTS = ("grammar", "json_schema", "regex", "ebnf", "gbnf", "cfg", "xsd")  # what an answer must look like
OTHERS = ("max_tokens", "stop", "ignore_eos", "stream", "lookup", "deadline", "reuse", "forced", *CONSTRAINTS)


def split_keywords(keywords: Mapping[str, Any]) -> SamplingParams:
    """SamplingParams of keywords; None means the default. Raises TypeError for an unknown one."""
    known = SamplingParams.names()
    for name in keywords:
        if name not in known:
            raise nearest_keyword(name, (*known, *OTHERS))
    return SamplingParams(**{k: v for k, v in keywords.items() if v is not None})
