"""Guidance against two separate runs, combined here in float64: nothing of zigllama's own arithmetic but the logits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import zigllama as zl

PROMPT = [5, 17, 99, 23, 42]


def log_p(row: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    x = row.astype(np.float64) - float(row.max())
    found: npt.NDArray[np.float64] = x - np.log(np.exp(x).sum())
    return found


@pytest.mark.parametrize("scale", [0.5, 1.5, 4.0, -1.0])
@pytest.mark.parametrize("negative", [[8, 3, 77], [42], list(range(30))], ids=len)
def test_guidance_is_two_separate_runs(scale: float, negative: list[int], small_model: Callable[[str], Path]) -> None:
    """Sanchez et al. 2023: u + scale (c - u); greedy, so the largest, with its probability by the combined row."""
    with zl.Model(small_model("llama-f32"), n_ctx=64) as m:
        options: dict[str, Any] = {"max_tokens": 10, "ignore_eos": True, "temperature": 0.0, "explain": True}
        r = m.generate(PROMPT, guidance_scale=scale, negative_prompt=negative, **options)
        c_ids, u_ids = list(PROMPT), list(negative)
        assert r.explain is not None
        for token, step in zip(r.token_ids, r.explain, strict=True):
            c, u = log_p(m.logits(c_ids)[-1]), log_p(m.logits(u_ids)[-1])
            row = u + scale * (c - u)
            p = np.exp(log_p(row.astype(np.float32)))
            assert token == int(np.argmax(row))
            np.testing.assert_allclose(step[0].probabilities, p[step[0].ids], rtol=1e-4)
            c_ids.append(token)
            u_ids.append(token)
