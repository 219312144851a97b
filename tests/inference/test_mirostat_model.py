"""Mirostat on SmolLM2: what it observes is what it was asked for, and every step keeps what its paper says.

The surprises are computed here, from the logits of the finished texts read in one piece; the sampler is not asked.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import sampling_reference as reference

import zigllama as zl

TAU, ETA, N, SEEDS = 3.0, 0.4, 96, range(5)
FITTED = 24  # the estimate of version 1 is repeated at each so many steps: it sorts a whole vocabulary in Python
Text = tuple[list[int], npt.NDArray[np.float64]]  # tokens (N,), and before each of them the row of logits (N, V)


@pytest.fixture(scope="module")
def texts(smollm2_path: Path) -> dict[int, list[Text]]:
    """By version, a text per seed; by 0, texts without Mirostat. All are written side by side."""
    off: dict[str, Any] = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "temperature": 1.0, "ignore_eos": True}
    steered = {"mirostat_tau": TAU, "mirostat_eta": ETA}
    found: dict[int, list[Text]] = {0: [], 1: [], 2: []}
    with zl.Model(smollm2_path, n_ctx=256) as m:
        prompt = m.tokenizer.encode("Once upon a time")
        handles = [
            (version, m.submit(prompt, max_tokens=N, mirostat_mode=version, seed=seed, **off | steered))
            for version in found
            for seed in SEEDS
        ]
        for version, handle in handles:
            ids = handle.result().token_ids
            assert len(ids) == N
            found[version].append((ids, m.logits([*prompt, *ids])[len(prompt) - 1 : -1].astype(np.float64)))
    return found


def surprises(text: Text) -> npt.NDArray[np.float64]:
    """-log2 p of each token, by the whole distribution."""
    ids, x = text
    return (log_sums(x) - x[np.arange(N), ids]) / math.log(2)


def log_sums(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    best = x.max(1)
    found: npt.NDArray[np.float64] = best + np.log(np.exp(x - best[:, None]).sum(1))
    return found


@pytest.mark.parametrize("version", [1, 2])
def test_observed_surprise_is_near_its_target(version: int, texts: dict[int, list[Text]]) -> None:
    """mu loses eta (s - tau) at each step, from 2 tau, so over n steps

        mean s - tau = (2 tau - mu_n) / (n eta)

    exactly. While it is steered mu stays between 0 (only the likeliest is allowed) and log2 V (a token as rare as one
    of V equal ones is allowed), and the mean that near. A text whose last tokens left no choice, as a list that repeats
    itself, has a mu beyond: so it is the median of the texts that must be near. What was written without is not.
    """
    near = max(2 * TAU, math.log2(texts[0][0][1].shape[1]) - 2 * TAU) / (N * ETA)
    assert near < 0.26
    means = {v: float(np.median([surprises(text).mean() for text in texts[v]])) for v in (0, version)}
    assert abs(means[version] - TAU) <= near < abs(means[0] - TAU)


@pytest.mark.parametrize("seed", SEEDS)
def test_each_step_of_version_2_keeps_what_is_no_rarer_than_mu(seed: int, texts: dict[int, list[Text]]) -> None:
    ids, x = text = texts[2][seed]
    log_sum, surprise = log_sums(x), surprises(text)
    mu, narrowed = 2 * TAU, 0
    for i, token in enumerate(ids):
        assert surprise[i] <= mu + 1e-4 or x[i, token] == x[i].max(), i  # 1e-4: logits are float32, of some 20
        narrowed += bool((x[i] < log_sum[i] - mu * math.log(2)).any())
        mu -= ETA * (surprise[i] - TAU)
    assert narrowed > N / 2


@pytest.mark.parametrize("seed", SEEDS)
def test_each_step_of_version_1_is_among_the_k_of_its_paper(seed: int, texts: dict[int, list[Text]]) -> None:
    ids, x = text = texts[1][seed]
    mu, n_vocab = 2 * TAU, x.shape[1]
    for i, s in enumerate(surprises(text)):
        if i % FITTED == 0:
            k = reference.mirostat_k(x[i].tolist(), mu)
            assert (x[i] > x[i, ids[i]]).sum() < k, (i, k)
            assert k < n_vocab
        mu -= ETA * (float(s) - TAU)
