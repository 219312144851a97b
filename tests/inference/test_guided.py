"""Guidance, contrastive search and beam search against plain programs that run one sequence at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_models

import zigllama as zl
from zigllama.errors import ContextOverflow, InvalidArgument
from zigllama.foundation.runtime import F32
from zigllama.inference import guided, lanes
from zigllama.inference.advanced_sampling import AdvancedSampler
from zigllama.inference.sampling import SamplingParams

PROMPT, OTHER = [5, 17, 99, 23, 42], [8, 3, 77]


@pytest.fixture(scope="module", params=["llama-f32", "gemma3-f32"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_models.build(request.param, tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def model(path: Path) -> Iterator[zl.Model]:
    with zl.Model(path, n_ctx=160) as m:
        yield m


def float_log_softmax(x: F32) -> Any:
    d = x.astype(np.float64) - float(x.max())
    return d - math.log(np.exp(d).sum())


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"seed": 3, "top_k": 20}, {"seed": 3, "top_k": 0}])
def test_guidance_is_two_separate_runs_bit_for_bit(model: zl.Model, options: dict[str, Any]) -> None:
    for negative in (OTHER, list(range(40)), None):
        r = model.generate(
            PROMPT, max_tokens=12, guidance_scale=1.7, negative_prompt=negative, ignore_eos=True, **options
        )
        sampler = AdvancedSampler(SamplingParams(**options))
        a, b = list(PROMPT), list(negative or PROMPT[-1:])
        for token in r.token_ids:
            row = guided.combined(model.logits(a)[-1], model.logits(b)[-1], 1.7)
            assert sampler(row, a, len(a)) == token
            a, b = [*a, token], [*b, token]
    alone = model.generate(PROMPT, max_tokens=12, temperature=0.0, ignore_eos=True).token_ids
    assert alone != r.token_ids or options.get("temperature") != 0.0


def plain_contrastive(model: zl.Model, ids: list[int], k: int, alpha: float, n: int) -> list[int]:
    """Su et al. 2022 in float64, every candidate read from the beginning."""
    written: list[int] = []
    for _ in range(n):
        context = model.hidden(ids).astype(np.float64)
        context /= np.linalg.norm(context, axis=1, keepdims=True)
        logp = float_log_softmax(model.logits(ids)[-1])
        scores = []
        likeliest = sorted(range(len(logp)), key=lambda i: (-logp[i], i))[:k]
        for token in likeliest:
            h = model.hidden([*ids, token])[-1].astype(np.float64)
            same = max(float(c @ h / np.linalg.norm(h)) for c in context)
            scores.append((1 - alpha) * math.exp(logp[token]) - alpha * same)
        written.append(likeliest[int(np.argmax(scores))])
        ids = [*ids, written[-1]]
    return written


@pytest.mark.parametrize(("k", "alpha"), [(4, 0.6), (2, 0.1), (9, 0.9)])
def test_contrastive_search_is_the_plain_program(model: zl.Model, k: int, alpha: float) -> None:
    r = model.generate(PROMPT, max_tokens=10, penalty_alpha=alpha, top_k=k, ignore_eos=True)
    assert r.token_ids == plain_contrastive(model, PROMPT, k, alpha, 10)


def plain_beams(model: zl.Model, ids: list[int], n_beams: int, n: int) -> list[int]:
    """The n_beams most probable continuations, step by step; the most probable of the last."""
    beams: list[tuple[float, list[int]]] = [(0.0, [])]
    for _ in range(n):
        found = []
        for score, written in beams:
            logp = float_log_softmax(model.logits([*ids, *written])[-1])
            found += [(score + logp[t], [*written, t]) for t in range(len(logp))]
        beams = sorted(found, key=lambda f: -f[0])[:n_beams]
    return beams[0][1]


@pytest.mark.parametrize("n_beams", [2, 5])
def test_beam_search_is_the_plain_program(model: zl.Model, n_beams: int) -> None:
    r = model.generate(PROMPT, max_tokens=8, num_beams=n_beams, ignore_eos=True)
    assert r.token_ids == plain_beams(model, PROMPT, n_beams, 8) and r.finish_reason == "length"
    assert r.usage["completion_tokens"] == 8


def test_beams_that_end(model: zl.Model) -> None:
    """With end tokens made likely, an answer that has ended can win, by its log-probability per token."""
    end = next(iter(model.tokenizer.end_ids))
    r = model.generate(PROMPT, max_tokens=8, num_beams=3, logit_bias={end: 12.0})
    assert r.finish_reason == "stop" and len(r.token_ids) < 8 and end not in r.token_ids


def test_contrastive_search_ends_with_the_context(model: zl.Model) -> None:
    """Candidates need a place of their own: where there is none, it ends as any answer does that fills the context."""
    for n in (157, 158, 159, 160):
        prompt = (PROMPT * 40)[:n]
        r = model.generate(prompt, penalty_alpha=0.6, top_k=3, ignore_eos=True)
        assert r.finish_reason == "length" and r.token_ids == plain_contrastive(model, prompt, 3, 0.6, 160 - n)
    for way in ({"num_beams": 3}, {"guidance_scale": 1.5}, {"penalty_alpha": 0.5, "top_k": 3}):
        with pytest.raises(ContextOverflow):
            model.generate((PROMPT * 40)[:161], ignore_eos=True, **way)
    assert not model.scheduler.active and len(model.engine.cache._slots) == model.engine.cache.n_seq


@pytest.mark.parametrize("reason", ["cancelled", "deadline"])
def test_beams_that_are_stopped_give_the_best_so_far(model: zl.Model, reason: str) -> None:
    """Stopped while a step is being chosen, it ends after that step. With an end token that is likely the first step
    has an answer that has ended, which is then the best: without the end token, and not as one that ended by itself."""

    def stop(history: Any, row: F32) -> None:
        if len(history) == len(PROMPT) + steps:
            request.cancelled = reason == "cancelled"
            request.deadline = 0.0 if reason == "deadline" else None

    for steps, bias, most in ((4, {}, 40), (0, {next(iter(model.tokenizer.end_ids)): 12.0}, None)):
        options: dict[str, Any] = {"num_beams": 3, "logit_bias": bias, "ignore_eos": not bias, "max_tokens": most}
        request = model.request(PROMPT, logits_processor=stop, **options)
        model.scheduler.submit(request, alone=True)
        model.scheduler.finish(request)
        r = request.result
        assert r is not None and r.finish_reason == reason and r.usage["completion_tokens"] == len(r.token_ids)
        if not bias:
            assert r.token_ids == plain_beams(model, PROMPT, 3, steps + 1)
        else:
            assert r.token_ids == []
    assert not model.scheduler.active and len(model.engine.cache._slots) == model.engine.cache.n_seq


@pytest.mark.parametrize("way", [{"penalty_alpha": 0.6, "top_k": 4}, {"num_beams": 3}])
def test_searches_tell_what_they_chose(model: zl.Model, way: dict[str, Any]) -> None:
    """A log-probability per token, by the model's own distribution; and per step what was compared."""
    plain = model.generate(PROMPT, max_tokens=6, ignore_eos=True, **way)
    assert plain.logprobs is None and plain.explain is None
    r = model.generate(PROMPT, max_tokens=6, ignore_eos=True, top_logprobs=2, explain=True, **way)
    assert r.token_ids == plain.token_ids and r.logprobs is not None and r.explain is not None
    assert [e.token_id for e in r.logprobs] == r.token_ids and len(r.explain) == 6
    for i, (entry, step) in enumerate(zip(r.logprobs, r.explain, strict=True)):
        logp = float_log_softmax(model.logits([*PROMPT, *r.token_ids[:i]])[-1])
        best = sorted(range(len(logp)), key=lambda t: (-logp[t], t))
        assert math.isclose(entry.logprob, logp[r.token_ids[i]], abs_tol=1e-5) and list(entry.top) == best[:2]
        assert step[0].stage == "logits" and step[0].n == model.spec.n_vocab and step[0].ids == best[:10]
        if "num_beams" in way:
            assert [k.stage for k in step] == ["logits", "num_beams"] and r.token_ids[i] in step[1].ids
        else:
            assert [k.stage for k in step] == ["logits", "top_k", "penalty_alpha"] and step[1].ids == best[:4]
            assert step[2].ids[0] == r.token_ids[i] and sorted(step[2].ids) == sorted(step[1].ids)
        for kept in step:
            np.testing.assert_allclose(kept.probabilities, np.exp(logp[kept.ids]), rtol=1e-4)


def test_what_a_search_tells_of_an_end(model: zl.Model) -> None:
    """As of any answer: `explain` has the end token's step, `logprobs` has not."""
    end = next(iter(model.tokenizer.end_ids))
    r = model.generate(PROMPT, max_tokens=8, num_beams=3, logit_bias={end: 12.0}, logprobs=True, explain=True)
    assert r.finish_reason == "stop" and r.logprobs is not None and r.explain is not None
    assert len(r.logprobs) == len(r.token_ids) == len(r.explain) - 1 and end in r.explain[-1][1].ids


WITHOUT_EFFECT: dict[str, Any] = {
    "temperature": 0.3,
    "dynatemp_range": 0.5,
    "dynatemp_exponent": 2.0,
    "top_k": 7,
    "top_p": 0.5,
    "min_p": 0.2,
    "typical_p": 0.5,
    "tfs_z": 0.5,
    "top_n_sigma": 1.0,
    "xtc_probability": 0.5,
}


@pytest.mark.parametrize("name", WITHOUT_EFFECT)
def test_options_without_effect_are_refused_by_name(model: zl.Model, name: str) -> None:
    value = WITHOUT_EFFECT[name]
    ways: list[dict[str, Any]] = [{"num_beams": 3}, {"penalty_alpha": 0.5}, {"mirostat_mode": 1}, {"mirostat_mode": 2}]
    for way in ways:
        if name in {
            "penalty_alpha": ["top_k"],
            "mirostat_mode": ["temperature", "dynatemp_range", "dynatemp_exponent"],
        }.get(next(iter(way)), []):
            assert getattr(SamplingParams(**way, **{name: value}), name) == value
            continue
        said = f"{name} is {value}, but has no effect with {next(iter(way))} {next(iter(way.values()))}"
        with pytest.raises(InvalidArgument, match=said):
            SamplingParams(**way, **{name: value})
        with pytest.raises(InvalidArgument, match=said):
            model.generate(PROMPT, max_tokens=1, **way, **{name: value})


def test_options_beside_a_search_that_are_off(model: zl.Model) -> None:
    """What changes nothing may be said. A temperature of 0 with Mirostat, or a grammar with many answers, may not."""
    off: dict[str, Any] = {"top_p": 1.0, "min_p": 0.0, "temperature": 0.0, "seed": 4}
    ways: list[dict[str, Any]] = [{"num_beams": 2, "top_k": 0}, {"penalty_alpha": 0.5, "top_k": 3}]
    for way in ways:
        options: dict[str, Any] = {"max_tokens": 4, "ignore_eos": True}
        bare: dict[str, Any] = {k: v for k, v in way.items() if v}
        assert (
            model.generate(PROMPT, **options, **way, **off).token_ids
            == model.generate(PROMPT, **options, **bare).token_ids
        )
        for constraint in ({"regex": "a+"}, {"json_schema": {"type": "object"}}):
            with pytest.raises(InvalidArgument, match=f"{next(iter(way))} with a grammar"):
                model.generate(PROMPT, **way, **constraint)
    for mode in (1, 2):
        with pytest.raises(InvalidArgument, match=f"temperature 0 with mirostat_mode {mode}"):
            SamplingParams(mirostat_mode=mode, temperature=0.0)


def test_lanes_in_company_and_in_streams(model: zl.Model) -> None:
    """The same tokens alone, beside others, as a stream and in a session; and every place is given back."""
    ways: list[dict[str, Any]] = [
        {"penalty_alpha": 0.5, "top_k": 3},
        {"num_beams": 3},
        {"guidance_scale": 2.0, "negative_prompt": OTHER, "temperature": 0.0},
        {"temperature": 0.0},
        {"seed": 4, "mirostat_mode": 2},
    ]
    alone = [model.generate(PROMPT, max_tokens=9, ignore_eos=True, **w).token_ids for w in ways]
    handles = [model.submit(PROMPT, max_tokens=9, ignore_eos=True, **w) for w in ways]
    assert [h.result(60).token_ids for h in handles] == alone
    stream = model.generate(PROMPT, max_tokens=9, ignore_eos=True, stream=True, **ways[0])
    assert [e.token_id for e in stream if e.token_id >= 0] == alone[0]
    batch = model.generate_batch([PROMPT, PROMPT], max_tokens=9, ignore_eos=True, **ways[0])
    assert [r.token_ids for r in batch] == [alone[0]] * 2
    assert not model.scheduler.active and len(model.engine.cache._slots) == model.engine.cache.n_seq


@pytest.mark.parametrize("way", [{"penalty_alpha": 0.5, "top_k": 3}, {"num_beams": 3}, {"guidance_scale": 2.0}])
def test_lanes_can_be_cancelled_and_fail(model: zl.Model, way: dict[str, Any]) -> None:
    def broken(history: Any, row: F32) -> None:
        if len(history) > 8:
            raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        model.generate(PROMPT, max_tokens=30, ignore_eos=True, logits_processor=broken, **way)
    stream = model.generate(PROMPT, max_tokens=100, ignore_eos=True, stream=True, **way)
    if "num_beams" not in way:
        next(stream)
    stream.close()
    handle = model.submit(PROMPT, max_tokens=100, ignore_eos=True, deadline=0.0, **way)
    assert handle.result(60).finish_reason == "deadline"
    assert not model.scheduler.active and len(model.engine.cache._slots) == model.engine.cache.n_seq


def test_a_session_goes_on_after_lanes(model: zl.Model) -> None:
    """What a session holds is a conversation's, whichever lane it came from."""
    tokens = model.generate(PROMPT, max_tokens=6, penalty_alpha=0.5, top_k=3, ignore_eos=True).token_ids
    with model.engine.lock:
        sequence = model.engine.cache.add()
    for way in ({"penalty_alpha": 0.5, "top_k": 3}, {"num_beams": 3}):
        with model.engine.lock:
            model.engine.cache.truncate(sequence, 0)
        request = model.request(PROMPT, sequence=sequence, max_tokens=6, ignore_eos=True, **way)
        model.scheduler.submit(request, alone=True)
        model.scheduler.finish(request)
        assert request.result is not None and (
            way != {"penalty_alpha": 0.5, "top_k": 3} or request.result.token_ids == tokens
        )
        held = list(sequence.tokens)
        more = model.request([*held, 9], sequence=sequence, max_tokens=4, temperature=0.0, ignore_eos=True)
        model.scheduler.submit(more, alone=True)
        model.scheduler.finish(more)
        fresh = model.generate([*held, 9], max_tokens=4, temperature=0.0, ignore_eos=True, reuse=False)
        assert more.result is not None and more.result.token_ids == fresh.token_ids
    with model.engine.lock:
        model.engine.cache.remove(sequence)


def test_what_is_refused(model: zl.Model) -> None:
    for options, said in (
        ({"num_beams": 64}, "64 sequences"),
        ({"penalty_alpha": 0.5, "top_k": 1}, "top_k 1"),
        ({"num_beams": 2, "lookup": True}, "lookup"),
    ):
        with pytest.raises(InvalidArgument, match=said):
            model.generate(PROMPT, **options)
    ids = {i: float("-inf") for i in range(3, model.spec.n_vocab)}
    for way in ({"num_beams": 5}, {"penalty_alpha": 0.5, "top_k": 5}):
        with pytest.raises(InvalidArgument, match="only"):
            model.generate(PROMPT, max_tokens=3, logit_bias=ids, ignore_eos=True, **way)


def test_the_reference_backend_does_the_same(path: Path, model: zl.Model) -> None:
    with zl.Model(path, n_ctx=64, backend="reference") as twin:
        for way in ({"penalty_alpha": 0.5, "top_k": 3}, {"num_beams": 2}, {"guidance_scale": 2.0, "temperature": 0.0}):
            options: dict[str, Any] = {"max_tokens": 5, "ignore_eos": True} | way
            assert twin.generate(PROMPT, **options).token_ids == model.generate(PROMPT, **options).token_ids


def test_rearrange_any_way(model: zl.Model) -> None:
    """Each lane has what its source had, whatever the sources are, and the objects stay."""
    from types import SimpleNamespace

    cache = model.engine.cache
    rng = np.random.default_rng(0)
    for _ in range(30):
        with model.engine.lock:
            made = [SimpleNamespace(sequence=cache.add(80), reserve=80) for _ in range(5)]
            for i, lane in enumerate(made):
                cache.extend(lane.sequence, [i] * (i + 60))
            objects = [lane.sequence for lane in made]
            sources = [int(s) for s in rng.integers(0, 5, 5)]
            lanes.rearrange(cache, made, sources)
            assert [lane.sequence for lane in made] == objects
            assert [lane.sequence.tokens for lane in made] == [[s] * (s + 60) for s in sources]
            assert len({lane.sequence.slot for lane in made}) == 5
            for lane in made:
                cache.remove(lane.sequence)
    assert len(cache._slots) == cache.n_seq
