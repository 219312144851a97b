"""Sampling: which candidates are kept, how they are drawn, what penalties do."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zigllama.errors import InvalidArgument
from zigllama.foundation.runtime import F32, Step
from zigllama.inference.advanced_sampling import AdvancedSampler as Sampler
from zigllama.inference.advanced_sampling import among_best
from zigllama.inference.candidates import Candidates
from zigllama.inference.generation import Stopper
from zigllama.inference.row_scan import RowScan
from zigllama.inference.sampling import SamplingParams, split_keywords
from zigllama.inference.stages import chain
from zigllama.neural_primitives.softmax import top_k

OFF: dict[str, Any] = {"top_k": 0, "top_p": 1.0, "min_p": 0.0}


def logits_of(probabilities: list[float]) -> F32:
    return np.array(np.log(probabilities), np.float32)


def kept(x: F32, p: SamplingParams) -> npt.NDArray[Any]:
    """Ids that top-k, top-p and min-p leave, by falling logit."""
    c = Candidates.of_row(x, RowScan())
    for stage in chain(p):
        c = stage(c)
    assert c.ids is not None
    return c.ids


def test_kept_sets_by_hand() -> None:
    x = logits_of([0.05, 0.4, 0.3, 0.05, 0.2])
    assert kept(x, SamplingParams(**OFF)).tolist() == [1, 2, 4, 0, 3]
    assert kept(x, SamplingParams(**{**OFF, "top_k": 2})).tolist() == [1, 2]
    assert kept(x, SamplingParams(**{**OFF, "top_k": 4})).tolist() == [1, 2, 4, 0]  # a tie at the edge: the lower id
    assert kept(x, SamplingParams(**{**OFF, "top_p": 0.75})).tolist() == [1, 2, 4]
    assert kept(x, SamplingParams(**{**OFF, "top_p": 1e-6})).tolist() == [1]
    assert kept(x, SamplingParams(**{**OFF, "min_p": 0.6})).tolist() == [1, 2]


@given(
    st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=60),
    st.integers(0, 70),
    st.floats(0.01, 1.0),
    st.floats(0.0, 1.0),
)
def test_kept_sets_by_definition(values: list[float], k: int, p: float, m: float) -> None:
    """Against the definitions written as loops over sorted probabilities in double precision."""
    x = np.array(values, np.float32)
    order = sorted(range(len(x)), key=lambda i: (-float(x[i]), i))
    if k:
        order = order[:k]
    w = [float(np.exp(np.float64(x[i]) - np.float64(x[order[0]]))) for i in order]
    total, n = 0.0, 0
    for n, value in enumerate(w, 1):  # noqa: B007
        total += value
        if total >= p * sum(w) * (1 - 1e-12):
            break
    want = [i for i, value in zip(order[: n if p < 1 else None], w, strict=False) if value >= m]
    got = kept(x, SamplingParams(top_k=k, top_p=p, min_p=m)).tolist()
    assert got == want or abs(len(got) - len(want)) <= 1  # a sum that meets p to the last bit may fall on either side
    assert got[0] == order[0] and got == order[: len(got)]


def test_draws_follow_the_distribution() -> None:
    """Chi-square over 20,000 draws: with 4 degrees of freedom, 23.5 is passed once in 10,000 runs; the seed is
    fixed."""
    p = np.array([0.1, 0.4, 0.25, 0.05, 0.2])
    sampler = Sampler(SamplingParams(**OFF, temperature=1.0, seed=11))
    x = logits_of(p.tolist())
    counts = np.bincount([sampler(x, [], i) for i in range(20000)], minlength=5)
    assert ((counts - 20000 * p) ** 2 / (20000 * p)).sum() < 23.5


def test_temperature_sharpens() -> None:
    x = logits_of([0.5, 0.3, 0.2])
    cold = Sampler(SamplingParams(**OFF, temperature=0.25, seed=1))
    share = np.mean([cold(x, [], i) == 0 for i in range(4000)])
    want = 0.5**4 / (0.5**4 + 0.3**4 + 0.2**4)
    assert abs(share - want) < 4 * np.sqrt(want * (1 - want) / 4000)


def test_greedy_takes_the_lower_of_equal() -> None:
    assert Sampler(SamplingParams(temperature=0.0))(np.array([0, 3, 3, 1], np.float32), [], 0) == 1


def test_penalties() -> None:
    x = np.array([2.0, -2.0, 1.0, 1.5], np.float32)
    history = [0, 0, 1, 2]

    def best(**options: float) -> int:
        return Sampler(SamplingParams(temperature=0.0, **options))(x, history, 4)  # type: ignore[arg-type]

    assert best() == 0
    assert best(repeat_penalty=1.5) == 3
    assert best(repeat_penalty=1.5, repeat_last_n=1) == 0  # only token 2 is recent
    assert best(frequency_penalty=0.3) == 3  # 2 - 2 * 0.3 < 1.5
    assert best(presence_penalty=0.3) == 0 and best(presence_penalty=0.6) == 3
    biased = Sampler(SamplingParams(temperature=0.0, logit_bias={1: 9.0}))
    assert biased(x, history, 4) == 1 and x.tolist() == [2.0, -2.0, 1.0, 1.5]
    with pytest.raises(InvalidArgument, match="99"):
        Sampler(SamplingParams(logit_bias={99: 1.0}))(x, [], 0)
    for bias in (float("nan"), float("inf"), 1e39):
        with pytest.raises(InvalidArgument, match="token 2"):
            SamplingParams(logit_bias={2: bias})
    banned = Sampler(SamplingParams(temperature=0.0, logit_bias={0: float("-inf")}))
    assert banned(x, [], 4) == banned(x, [], 4, (np.sort(x)[::-1], np.argsort(-x).astype(np.int32))) == 3


@given(data=st.data())
def test_the_best_give_the_token_that_all_give(data: st.DataObject) -> None:
    """With the largest logits at hand the whole row is not needed, though penalties and bias move ids in or out."""
    rng = np.random.default_rng(data.draw(st.integers(0, 9999)))
    n = data.draw(st.sampled_from([5, 60, 400]))
    x = rng.normal(size=n).astype(np.float32) * 3
    if data.draw(st.booleans()):
        x = np.round(x)  # ties
    history = [int(i) for i in rng.integers(0, n, data.draw(st.integers(0, 40)))]
    few = data.draw(st.integers(0, 5))
    params = SamplingParams(
        temperature=data.draw(st.sampled_from([0.0, 0.7, 1.5])),
        top_k=data.draw(st.sampled_from([0, 1, 5, 40, 90])),
        top_p=data.draw(st.sampled_from([0.3, 0.95, 1.0])),
        min_p=data.draw(st.sampled_from([0.0, 0.05, 0.5])),
        repeat_penalty=data.draw(st.sampled_from([1.0, 1.3, 0.5])),
        repeat_last_n=data.draw(st.sampled_from([-1, 0, 8, 64])),
        frequency_penalty=data.draw(st.sampled_from([0.0, 0.4, -0.4])),
        presence_penalty=data.draw(st.sampled_from([0.0, 1.0])),
        logit_bias={int(i): float(b) for i, b in zip(rng.integers(0, n, few), rng.normal(size=few) * 9, strict=True)},
        seed=3,
    )
    values, ids = top_k.ref(x[None], Step.of_rows(1), k=min(n, 128))
    sampler = Sampler(params)
    assert sampler(x, history, 7, (values[0], ids[0])) == sampler(x, history, 7)
    found = among_best((values[0], ids[0]), None, n, 40)
    assert found is not None  # the usual case does not fall back on the whole row


def test_unknown_keyword_names_the_nearest() -> None:
    with pytest.raises(TypeError, match="'min_p'"):
        split_keywords({"minp": 0.1})
    assert split_keywords({"top_k": None}).top_k == SamplingParams().top_k


@given(st.text("abc", max_size=40), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3), st.data())
def test_stopper_in_any_pieces(text: str, stop: list[str], data: st.DataObject) -> None:
    """However a text arrives, what passes is everything before the first stop string, or everything."""
    stopper, out, i = Stopper(stop), "", 0
    while i < len(text) and not stopper.found:
        n = data.draw(st.integers(1, 5))
        out += stopper.push(text[i : i + n])
        i += n
    if not stopper.found:
        out += stopper.flush()
    ends = [at for s in stop if (at := text.find(s)) >= 0]
    if not ends:
        assert out == text and not stopper.found
    else:
        assert stopper.found and text.startswith(out) and not any(s in out for s in stop)
