"""Samplers once more, from their papers: loops over float64 probabilities, nothing shared with zigllama.

Each takes logits (any order) and gives the set of ids that are kept. Ties go to the lower id, as the library has it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]


def softmax(x: npt.ArrayLike) -> F64:
    e = np.exp(np.asarray(x, np.float64) - np.max(x))
    p: F64 = e / e.sum()
    return p


def falling(x: Sequence[float]) -> list[int]:
    return sorted(range(len(x)), key=lambda i: (-x[i], i))


def top_k(x: Sequence[float], k: int) -> set[int]:
    """Fan, Lewis & Dauphin 2018."""
    return set(falling(x)[:k])


def top_p(x: Sequence[float], p: float) -> set[int]:
    """Holtzman et al. 2019: the smallest set whose mass is at least p."""
    return _until(falling(x), softmax(x), p)


def _until(order: list[int], prob: F64, p: float) -> set[int]:
    kept: set[int] = set()
    mass = 0.0
    for i in order:
        kept.add(i)
        mass += prob[i]
        if mass >= p:
            break
    return kept


def min_p(x: Sequence[float], p: float) -> set[int]:
    """Nguyen et al. 2024: probability at least p times the largest."""
    prob = softmax(x)
    return {i for i in range(len(x)) if prob[i] >= p * prob.max()}


def typical(x: Sequence[float], p: float) -> set[int]:
    """Meister et al. 2022: smallest set nearest to the conditional entropy."""
    prob = softmax(x)
    entropy = -sum(q * math.log(q) for q in prob if q > 0)
    far = [abs(-math.log(q) - entropy) if q > 0 else math.inf for q in prob]
    return _until(sorted(range(len(x)), key=lambda i: (far[i], -x[i], i)), prob, p)


def tail_free(x: Sequence[float], z: float) -> set[int]:
    """Phenix & Egan 2019: second differences of the sorted probabilities, centred."""
    order, prob = falling(x), softmax(x)
    p = [prob[i] for i in order]
    first = [p[i + 1] - p[i] for i in range(len(p) - 1)]
    second = [abs(first[i + 1] - first[i]) for i in range(len(first) - 1)]
    total = sum(second)
    if total == 0:
        return set(order)
    so_far = 0.0
    for i, c in enumerate(second):
        so_far += c / total
        if so_far > z:
            return set(order[: i + 2])
    return set(order)


def top_n_sigma(x: Sequence[float], n: float) -> set[int]:
    """Tang et al. 2024: logits above max - n sigma."""
    there = [v for v in x if v > -math.inf]
    mean = sum(there) / len(there)
    sigma = math.sqrt(sum((v - mean) ** 2 for v in there) / len(there))
    return {i for i in range(len(x)) if x[i] >= max(x) - n * sigma}


def xtc(x: Sequence[float], threshold: float) -> set[int]:
    """Without all that reach the threshold but the least likely of them."""
    prob = softmax(x)
    above = [i for i in falling(x) if prob[i] >= threshold]
    return set(range(len(x))) - set(above[:-1])


def dynamic_temperature(x: Sequence[float], t: float, spread: float, exponent: float) -> float:
    """Entropy divided by that of as many equal candidates, to a power, between t - spread and t + spread."""
    prob = softmax(x)
    entropy = -sum(q * math.log(q) for q in prob if q > 0)
    low = max(0.0, t - spread)
    return float(low + (t + spread - low) * (entropy / math.log(len(x))) ** exponent)


def mirostat_k(x: Sequence[float], mu: float, m: int = 100) -> int:
    """Basu et al. 2020, algorithm 1."""
    prob = sorted(softmax(x), reverse=True)[:m]
    t = [math.log((i + 2) / (i + 1)) for i in range(len(prob) - 1)]
    b = [math.log(prob[i] / prob[i + 1]) for i in range(len(prob) - 1)]
    s = sum(u * v for u, v in zip(t, b, strict=True)) / sum(u * u for u in t)
    e = s - 1
    return max(1, int(((e * 2**mu) / (1 - len(x) ** (-e))) ** (1 / s)))


def dry(history: Sequence[int], multiplier: float, base: float, allowed: int, breakers: set[int]) -> dict[int, float]:
    """For every token: the longest suffix of the history that stood before that token earlier; slow and plain. Breakers
    are single tokens here."""
    tail = 0
    while tail < len(history) and history[len(history) - 1 - tail] not in breakers:
        tail += 1
    longest: dict[int, int] = {}
    for at in range(len(history) - 1):
        n = 0
        while n < tail and n <= at and history[at - n] == history[len(history) - 1 - n]:
            n += 1
        if n >= allowed:
            longest[history[at + 1]] = max(longest.get(history[at + 1], 0), n)
    return {t: multiplier * base ** (n - allowed) for t, n in longest.items() if t not in breakers}
