"""Many requests on one engine: the same bits as alone, whoever else is there and whatever was cached or guessed."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from many_requests import PROMPTS, TEXT, alone, options, same, settled

from zigllama import errors
from zigllama.foundation.runtime import F32, Step
from zigllama.inference import batching
from zigllama.inference.generation import Event, Result, TextGenerator
from zigllama.inference.model import Model
from zigllama.inference.sampling import Best

Small = Callable[[str], Path]


@pytest.fixture(params=["llama-mix", "gemma3-mix"])
def path(request: pytest.FixtureRequest, small_model: Small) -> Path:
    """One model that sees everything, one with windows of 24."""
    return small_model(request.param)


@pytest.fixture
def llama(small_model: Small) -> Path:
    return small_model("llama-mix")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[tuple[int, ...], set[str]]]:
    """Everything that any answer was read from: a text -> the digests of its logits. One means the same bits."""
    seen: dict[tuple[int, ...], set[str]] = {}
    take = TextGenerator.take

    def spy(self: TextGenerator, logits: F32, history: Sequence[int], best: Best) -> list[Event]:
        seen.setdefault(tuple(history), set()).add(hashlib.sha256(logits.tobytes()).hexdigest())
        assert (
            best is not None
            and np.array_equal(np.sort(logits)[::-1][:128], best[0])
            and (logits[best[1]] == best[0]).all()
        )
        return take(self, logits, history, best)

    monkeypatch.setattr(TextGenerator, "take", spy)
    monkeypatch.setattr(batching, "AHEAD", 1)  # steps that C runs in a row hand over tokens (test_steps_in_a_row.py)
    return seen  # type: ignore[return-value]


def test_any_company_in_any_order_gives_the_same_bits(path: Path, read: dict[tuple[int, ...], set[str]]) -> None:
    with Model(path, n_threads=2, n_ctx=320) as m:
        want = [alone(m, i) for i in range(len(PROMPTS))]
        settled(m)
    rows = sum(len(digests) for digests in read.values())
    for size in (1, 2, 3, 7, 32):
        rng = random.Random(size)
        order = list(range(len(PROMPTS)))
        rng.shuffle(order)
        with Model(path, n_threads=2, n_ctx=320, max_batch=size) as m:
            handles = {}
            for i in order[: 12 if size < 7 else 32]:
                handles[i] = m.submit(PROMPTS[i], reuse=i % 4 > 0, lookup=i % 2 == 0, **options(i))
                time.sleep(rng.choice([0, 0, 0.001]))
            for i, handle in handles.items():
                assert same(handle.result(timeout=60), want[i]), f"prompt {i} in a batch of {size}"
            settled(m)
    assert rows == sum(len(digests) for digests in read.values())  # no text was read from logits of other bits


def test_a_prefix_from_the_cache_gives_the_same_bits(path: Path, read: dict[tuple[int, ...], set[str]]) -> None:
    prompt = TEXT[:200]
    keywords: dict[str, Any] = {"max_tokens": 20, "temperature": 1.2, "seed": 5, "ignore_eos": True}
    with Model(path, n_threads=2, n_ctx=512) as m:
        first = m.generate(prompt, **keywords)
        again = m.generate(prompt, **keywords)
        longer = m.generate([*prompt, *first.token_ids, 17], **keywords)
        branch = m.generate([*prompt[:150], *prompt[:50]], **keywords)
        fresh = m.generate([*prompt, *first.token_ids, 17], reuse=False, **keywords)
        parted = m.generate([*prompt[:150], *prompt[:50]], reuse=False, **keywords)
        settled(m)
    cached = [r.usage["cached_tokens"] for r in (first, again, longer, branch, fresh)]
    assert cached == [0, 192, 192, 150, 0]
    assert same(first, again) and same(longer, fresh) and same(branch, parted)
    assert all(len(digests) == 1 for digests in read.values())


def test_requests_that_begin_alike_read_it_once(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    with Model(llama, n_threads=2, n_ctx=512) as m:
        run = m.engine.run

        def count(step: Step) -> F32:
            rows.append(step.n_rows)
            return run(step)

        monkeypatch.setattr(m.engine, "run", count)
        prompts = [[*TEXT[:256], i] for i in range(5, 13)]
        results = m.generate_batch(prompts, max_tokens=1, temperature=0.0)
    assert sum(rows) <= 256 + 8 + 128  # at most a turn before the first page was there
    assert [r.usage["prompt_tokens"] for r in results] == [257] * 8


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_lookup_gives_the_same_tokens_in_fewer_steps(path: Path, temperature: float) -> None:
    """A bias towards few tokens makes a text that repeats itself, greedy or not."""
    bias = dict.fromkeys(TEXT[:6], 9.0)
    keywords: dict[str, Any] = {"max_tokens": 120, "temperature": temperature, "seed": 1, "logit_bias": bias}
    keywords["ignore_eos"] = True
    with Model(path, n_threads=2, n_ctx=512) as m:
        context = m.engine.context
        assert context is not None

        def steps(**more: Any) -> tuple[Result, int]:
            before = context.counters()["program_runs"]
            result: Result = m.generate(TEXT[:40] * 2, reuse=False, **keywords, **more)
            return result, context.counters()["program_runs"] - before

        plain, n_plain = steps()
        for lookup in (True, 1, 3, 31):
            guessed, n_guessed = steps(lookup=lookup)
            assert same(plain, guessed)
            assert n_guessed < n_plain == 120
        full = m.generate(TEXT[:40] * 2, **keywords | {"max_tokens": None})
        assert same(full, m.generate(TEXT[:40] * 2, lookup=True, **keywords | {"max_tokens": None}))
        stop = plain.text[len(plain.text) // 2 :][:4]
        stopped = [m.generate(TEXT[:40] * 2, stop=stop, lookup=k, **keywords) for k in (False, True)]
        assert same(*stopped) and stopped[0].finish_reason == "stop"
        with pytest.raises(errors.InvalidArgument, match="1 to 31"):
            m.generate(TEXT[:5], lookup=32)
        settled(m)


def test_real_text_in_a_batch_and_by_lookup(smollm2_path: Path) -> None:
    prompts = [
        "The capital of France is",
        "The capital of France is Paris. The capital of Spain is",
        "def add(a, b):\n    return a + b\n\ndef sub(a, b):\n",
        "Once upon a time",
    ]
    keywords: dict[str, Any] = {"max_tokens": 24, "temperature": 0.7, "seed": 3}
    with Model(smollm2_path, n_threads=2, n_ctx=512) as m:
        want = [m.generate(p, reuse=False, **keywords) for p in prompts]
        for lookup in (False, True):
            assert all(map(same, m.generate_batch(prompts, lookup=lookup, **keywords), want))
        assert "Paris" in m.generate(prompts[0], max_tokens=3, temperature=0.0).text
        settled(m)


def _resident() -> int:
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_hundred_at_once(llama: Path) -> None:
    """30 are cancelled at some point, 10 are read slowly, from 100 threads: none is stuck, none is different."""
    with Model(llama, n_threads=2, n_ctx=320, max_batch=24) as m:
        want = [alone(m, i) for i in range(len(PROMPTS))]

        def one(i: int, results: list[Result | str | None]) -> None:
            n, rng = i % len(PROMPTS), random.Random(i)
            if i % 10 == 0:
                handle = m.submit(PROMPTS[n], **options(n))
                text = ""
                for event in handle:
                    text += event.text
                    time.sleep(0.005)
                results[i] = text
            elif i % 10 < 4:
                handle = m.submit(PROMPTS[n], **options(n) | {"max_tokens": None})
                time.sleep(rng.random() * 0.2)
                handle.cancel()
                results[i] = handle.result(timeout=60)
            elif i % 10 < 7:
                results[i] = m.generate(PROMPTS[n], **options(n))
            else:
                results[i] = m.submit(PROMPTS[n], lookup=True, **options(n)).result(timeout=60)

        sizes = []
        for _ in range(3):
            results: list[Result | str | None] = [None] * 100
            threads = [threading.Thread(target=one, args=(i, results)) for i in range(100)]
            for t in threads:
                t.start()
            for t in threads:
                t.join(timeout=60)
                assert not t.is_alive()
            for i, result in enumerate(results):
                full = want[i % len(PROMPTS)]
                if isinstance(result, str):
                    assert result == full.text
                elif i % 10 < 4:
                    assert isinstance(result, Result) and result.finish_reason in ("cancelled", "length")
                    n = min(len(result.token_ids), len(full.token_ids))
                    assert result.token_ids[:n] == full.token_ids[:n]
                else:
                    assert isinstance(result, Result) and same(result, full)
            settled(m)
            sizes.append(_resident())
        assert sizes[2] - sizes[1] < 8e6
    assert not [t for t in threading.enumerate() if t.name == "zigllama-engine"]
