"""Greedy steps that C runs in a row: the same answers as one by one, whatever ends them, alone or in company."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zigllama import errors
from zigllama.foundation.runtime import I32, Step
from zigllama.inference import batching
from zigllama.inference.engine import Engine
from zigllama.inference.model import Model

Small = Callable[[str], Path]
PROMPTS = [[int(i) for i in np.random.default_rng(seed).integers(3, 200, 5 + 17 * seed)] for seed in range(4)]
RUNS: list[tuple[int, int]] = []  # of each call of run_ahead: how many steps were asked for, and how many went well


@pytest.fixture(autouse=True)
def _watched(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Engine.run_ahead
    RUNS.clear()

    def run_ahead(self: Engine, step: Step, n: int, ends: I32) -> I32:
        found = real(self, step, n, ends)
        RUNS.append((n, len(found)))
        return found

    monkeypatch.setattr(Engine, "run_ahead", run_ahead)


def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "AHEAD", 1)


def answers(m: Model, prompts: list[list[int]], **options: Any) -> list[tuple[Any, ...]]:
    """What each prompt is continued with, all at once."""
    settings = {"temperature": 0.0, "max_tokens": 100, **options}
    handles = [m.submit(prompt, **settings) for prompt in prompts]
    results = [handle.result(60) for handle in handles]
    return [(r.token_ids, r.text, r.finish_reason, r.usage["completion_tokens"]) for r in results]


@pytest.mark.parametrize("name", ["llama-mix", "gemma3-mix"])
@pytest.mark.parametrize("n", [1, 4])
def test_the_answers_are_those_of_single_steps(
    small_model: Small, monkeypatch: pytest.MonkeyPatch, name: str, n: int
) -> None:
    with Model(small_model(name), n_ctx=256, n_threads=2) as m:
        plain = answers(m, PROMPTS[:n], ignore_eos=True)
        cases: list[dict[str, Any]] = [
            {"ignore_eos": True},
            {"ignore_eos": False},
            {"ignore_eos": True, "max_tokens": 3},
            {"ignore_eos": True, "max_tokens": None},  # to the end of the context
            {"ignore_eos": True, "stop": [plain[0][1][20:23]]},
        ]
        fast = [answers(m, PROMPTS[:n], **case) for case in cases]
        assert max(good for _, good in RUNS) == batching.AHEAD > 1
        one_by_one(monkeypatch)
        RUNS.clear()
        assert [answers(m, PROMPTS[:n], **case) for case in cases] == fast
        assert not RUNS
    assert fast[0] == plain and fast[4][0][2] == "stop"


def test_an_end_token_ends_the_run(small_model: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """No step is run after it: the token that ends is the last of its run."""
    with Model(small_model("llama-mix"), n_ctx=256, n_threads=1) as m:
        [(free, *_)] = answers(m, PROMPTS[:1], ignore_eos=True)
        end = next(t for i, t in enumerate(free) if i > 5 and t not in free[:i])
        monkeypatch.setattr(type(m.tokenizer), "end_ids", frozenset([end]))
        RUNS.clear()
        [(found, _, reason, _)] = answers(m, PROMPTS[:1])
        assert m.engine.context is not None
        assert (found, reason) == (free[: free.index(end)], "stop")
        assert sum(good for _, good in RUNS) <= len(found) + 1


def test_what_is_not_greedy_takes_single_steps(small_model: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    cases: list[dict[str, Any]] = [
        {"temperature": 0.7, "seed": 1},
        {"repeat_penalty": 1.1},
        {"presence_penalty": 0.1},
        {"frequency_penalty": 0.1},
        {"logit_bias": {5: 1.0}},
        {"lookup": True},
    ]
    with Model(small_model("llama-mix"), n_ctx=256, n_threads=1) as m:
        for case in cases:
            answers(m, PROMPTS[:1], ignore_eos=True, **case)
        assert not RUNS
        monkeypatch.setenv("ZIGLLAMA_TAPE", "0")
    with Model(small_model("llama-mix"), n_ctx=256, n_threads=1) as m:
        answers(m, PROMPTS[:1], ignore_eos=True)
    assert not RUNS


def test_the_next_request_finds_the_prefix_that_was_right(small_model: Small) -> None:
    """A stop string ends an answer in the middle of a run; what was run beyond it is nobody's prefix."""
    with Model(small_model("llama-mix"), n_ctx=256, n_threads=1) as m:
        [(free, text, *_)] = answers(m, PROMPTS[2:3], ignore_eos=True)
        [(found, *_)] = answers(m, PROMPTS[2:3], ignore_eos=True, stop=[text[60:63]])
        again = PROMPTS[2] + found[:-1]
        [(rest, *_)] = answers(m, [again], ignore_eos=True, max_tokens=20)
        assert rest == free[len(found) - 1 :][:20]
        assert len(m.engine.cache._slots) == m.engine.cache.n_seq


def test_a_reader_that_is_slow_holds_it_back(small_model: Small) -> None:
    with Model(small_model("llama-mix"), n_ctx=256, n_threads=1) as m:
        stream = m.generate(PROMPTS[0], stream=True, temperature=0.0, ignore_eos=True, max_tokens=200)
        first = next(stream)
        assert first.token_id >= 0
        assert len(stream._request.events) <= batching.AHEAD


def test_logits_that_are_not_finite_end_with_their_error(small_model: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those before count: C hands back the steps that went well, and the next one names the op."""
    real = Engine.run_ahead
    with Model(small_model("llama-mix"), n_ctx=256, n_threads=1) as m:
        [(free, *_)] = answers(m, PROMPTS[:1], ignore_eos=True, max_tokens=20)
        poisoned: list[int] = []

        def run_ahead(self: Engine, step: Step, n: int, ends: I32) -> I32:
            found = real(self, step, n, ends)[:2]  # as if the third had gone wrong
            poisoned.append(len(found))
            return found[: 0 if len(poisoned) > 1 else 2]

        monkeypatch.setattr(Engine, "run_ahead", run_ahead)
        [(found, *_)] = answers(m, PROMPTS[:1], ignore_eos=True, max_tokens=20)
        assert found == free and len(poisoned) > 2
        step = m.engine.cache.extend(m.engine.cache.add(8), [3])
        with m.engine.lock:
            step.masks = [None]
            with pytest.raises(errors.InvalidArgument, match="masks"):
                real(m.engine, step, 2, np.zeros(0, np.int32))
