"""Prompts for tests of the scheduler, what each gives alone, and what must hold when all is over."""

from __future__ import annotations

from typing import Any

import numpy as np

from zigllama.inference.generation import Result
from zigllama.inference.model import Model

RNG = np.random.default_rng(11)
TEXT = [int(i) for i in RNG.integers(3, 200, 400)]
# 32 prompts of 1 to 260 tokens: some alike at first, some the same, some inside others
PROMPTS = [
    [*TEXT[: RNG.choice([0, 0, 64, 100, 130])], *(int(i) for i in RNG.integers(3, 200, int(RNG.integers(1, 131))))]
    for _ in range(28)
] + [TEXT[:128], TEXT[:129], TEXT[:128], TEXT[:257]]


def options(i: int, n: int = 12) -> dict[str, Any]:
    """Every third is greedy; lengths differ."""
    return {"max_tokens": n - i % 5, "temperature": 0.0 if i % 3 == 0 else 1.5, "seed": i, "ignore_eos": True}


def alone(m: Model, i: int, **more: Any) -> Result:
    result: Result = m.generate(PROMPTS[i], reuse=False, **options(i) | more)
    return result


def same(a: Result, b: Result) -> bool:
    return (a.token_ids, a.text, a.finish_reason) == (b.token_ids, b.text, b.finish_reason)


def settled(m: Model) -> None:
    """Nobody holds anything."""
    assert not m.scheduler.active and not m.scheduler.waiting
    assert m.engine.cache.used_bytes == 0
    for c in m.engine.cache.classes:
        assert c.promised == 0 and sorted([*c._free, *c._kept]) == list(range(c.pages.n_pages))
