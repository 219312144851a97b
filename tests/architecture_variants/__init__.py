"""Every architecture and variant that is held against `transformers`, as data: a small model each, and where it is
special.

A family's file has VARIANTS = {"name": Variant("LlamaForCausalLM", {...config...})}.
tools/make_architecture_golden.py NAME makes the golden files (with torch and transformers, without zigllama),
tests/golden/test_architectures.py runs what lies there. Sizes: width at least 256 so that quant blocks fit, 2 or 3
layers, a vocabulary of about 300, 512 positions; heads and feed-forward as awkward as the architecture permits.
Weights: tests/seeded_weights.py.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ATOL = 1e-3  # of a logit
ROWS = (0, 1, 6, 23, 63, 64, 127, 200, 255, 299)  # of those that a run has, and its last


@dataclass(frozen=True)
class Variant:
    """One small model.

    hf        class of transformers;   config   keywords of its config class
    lengths   runs over the first n of 300 ids. One of 300 holds all shorter ones for a causal model; an encoder, whose
              rows see what follows, has (7, 64, 300)
    output    attribute of what the model returns: "logits", or "last_hidden_state" of an encoder
    prompt    how many ids the greedy continuation of 16 tokens begins with, 0: there is none. More than a window
    n_ctx     positions that the engine is opened with, None: what the model was trained for
    ranges    regular expression -> (mean, spread): parameters of other than the usual ranges; the first that is found
              in the name holds
    gains     regular expression -> factor on a matrix's usual deviation
    idle      regular expression -> why the parameter cannot matter (a key's bias without rotation: softmax takes it
              out)
    atol      how far a logit may be from transformers', `why` says why where it is not ATOL
    second    of an encoder: ids from this one on belong to the second segment; 0: there is one
    peer      "": llama.cpp says the same. Else why it does not, or cannot be asked
    """

    hf: str
    config: Mapping[str, Any]
    lengths: tuple[int, ...] = (300,)
    output: str = "logits"
    prompt: int = 40
    n_ctx: int | None = None
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    gains: Mapping[str, float] = field(default_factory=dict)
    idle: Mapping[str, str] = field(default_factory=dict)
    atol: float = ATOL
    why: str = ""
    peer: str = ""
    second: int = 0

    def __post_init__(self) -> None:
        if (self.atol != ATOL) != bool(self.why):
            raise ValueError("a tolerance other than the usual one needs a reason, and only that")

    def segments(self, n: int) -> list[int] | None:
        """The segment of each of the first n ids, None where there is one."""
        return [int(i >= self.second) for i in range(n)] if self.second else None


def rows_of(length: int) -> list[int]:
    """The rows of a run that golden files hold."""
    return sorted({*(r for r in ROWS if r < length), length - 1})


def all_variants() -> dict[str, Variant]:
    """The variants of all families, by name."""
    found: dict[str, Variant] = {}
    for module in pkgutil.iter_modules(__path__):
        more: dict[str, Variant] = importlib.import_module(f"{__name__}.{module.name}").VARIANTS
        twice = found.keys() & more.keys()
        if twice:
            raise ValueError(f"two families have variants of the names {sorted(twice)}")
        found |= more
    return found
