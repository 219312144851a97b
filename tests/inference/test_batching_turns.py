"""Who waits for whom: turns, cancelling, slow readers, deadlines, threads that drive, asyncio."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from many_requests import PROMPTS, TEXT, alone, options, settled

from zigllama import errors
from zigllama.foundation.runtime import F32, Step
from zigllama.inference.engine import Turnstile
from zigllama.inference.model import Model
from zigllama.inference.request import BUFFER

Small = Callable[[str], Path]


@pytest.fixture
def llama(small_model: Small) -> Path:
    return small_model("llama-mix")


class Gate:
    """Lets an engine take one step at a time, and counts them."""

    def __init__(self, m: Model, monkeypatch: pytest.MonkeyPatch) -> None:
        self.run, self.steps = m.engine.run, list[Step]()
        self.open, self.reached = threading.Semaphore(0), threading.Semaphore(0)
        monkeypatch.setattr(m.engine, "run", self)
        monkeypatch.setattr("zigllama.inference.batching.AHEAD", 1)  # every step goes through it

    def __call__(self, step: Step) -> F32:
        self.reached.release()
        assert self.open.acquire(timeout=20)
        self.steps.append(step)
        return self.run(step)

    def advance(self, n: int = 1) -> None:
        for _ in range(n):
            assert self.reached.acquire(timeout=20)
            self.open.release()


def test_cancel_takes_effect_within_a_chunk_of_the_prompt(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Model(llama, n_threads=1, n_ctx=1024) as m:
        monkeypatch.setattr("zigllama.inference.turns.CHUNK", 100)
        gate = Gate(m, monkeypatch)
        handle = m.submit((TEXT * 3)[:1000], max_tokens=5)
        gate.advance(2)
        assert gate.reached.acquire(timeout=20)  # the third chunk is being read
        handle.cancel()
        gate.open.release()
        result = handle.result(timeout=20)
        assert (result.finish_reason, result.token_ids, len(gate.steps)) == ("cancelled", [], 3)
        settled(m)


def test_decoding_goes_on_while_prompts_are_read_in_turns(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Model(llama, n_threads=1, n_ctx=1024) as m:
        gate = Gate(m, monkeypatch)
        writer = m.submit([5], max_tokens=30, temperature=0.0, ignore_eos=True)
        gate.advance()
        assert gate.reached.acquire(timeout=20)  # its second step, alone
        prompts = [(TEXT[i:] + TEXT)[:300] for i in range(3)]
        readers = [m.submit(p, max_tokens=1) for p in prompts]
        gate.open.release()
        gate.advance(12)
        for handle in (writer, *readers):
            handle.cancel()
        for _ in range(3):
            gate.open.release()
        for handle in (writer, *readers):
            handle.result(timeout=20)
    shares = [np.bincount(step.seq, minlength=4).tolist() for step in gate.steps[2:9]]
    assert all(step[0] == 1 for step in shares)  # the writer has its row in every step
    assert all(sum(step) <= 1 + 128 + 3 for step in shares)  # and does not wait for more than a turn of reading
    first_three = np.sum(shares[:3], axis=0)
    assert first_three[1:].tolist() == [128] * 3  # each reader had its turn


def test_a_slow_reader_pauses_alone(llama: Path) -> None:
    with Model(llama, n_threads=1, n_ctx=512) as m:
        slow = iter(m.submit(TEXT[:4], max_tokens=200, temperature=0.0, ignore_eos=True))
        got = [next(slow)]
        others = [m.submit(p, max_tokens=20, temperature=0.0, ignore_eos=True) for p in PROMPTS[:4]]
        for handle in others:
            assert len(handle.result(timeout=30).token_ids) == 20
        [request] = m.scheduler.active
        until = time.monotonic() + 20
        while not request.paused and time.monotonic() < until:
            time.sleep(0.001)
        written = len(request.tokens)
        assert written <= 4 + BUFFER + 2
        time.sleep(0.05)
        assert len(request.tokens) == written  # it sleeps
        got += list(slow)
        want = m.generate(TEXT[:4], max_tokens=200, temperature=0.0, ignore_eos=True)
        assert "".join(e.text for e in got) == want.text
        settled(m)


def test_a_stream_stops_when_its_reader_goes(llama: Path) -> None:
    with Model(llama, n_threads=1, n_ctx=512) as m:
        forever: dict[str, Any] = {"temperature": 0.0, "ignore_eos": True}
        for event in m.submit(TEXT[:4], **forever):
            assert event.token_id >= 0
            break
        stream = m.generate(TEXT[:4], stream=True, **forever)  # with company: in the scheduler's thread
        other = m.submit(TEXT[:9], **forever)
        next(stream)
        stream.close()
        assert stream.result is not None and stream.result.finish_reason == "cancelled"
        other.cancel()
        assert other.result(timeout=20).finish_reason == "cancelled"
        assert list(stream) == []
        settled(m)


def test_deadlines(llama: Path) -> None:
    with Model(llama, n_threads=1, n_ctx=1024, max_batch=1) as m:
        forever: dict[str, Any] = {"temperature": 0.0, "ignore_eos": True}

        def slow(ids: Sequence[int], logits: F32) -> None:  # a quick machine would fill the context in 50 ms
            time.sleep(0.001)

        late = m.generate(TEXT[:4], deadline=0.2, logits_processor=slow, **forever)
        assert late.finish_reason == "deadline" and 0 < len(late.token_ids) < 1020
        paused = iter(m.submit(TEXT[:4], deadline=0.3, **forever))
        next(paused)
        queued = m.submit(TEXT[:4], deadline=0.01, max_tokens=1)
        assert queued.result(timeout=20).finish_reason == "deadline" and not queued.result().token_ids
        after = m.submit(TEXT[:4], max_tokens=2, **forever)  # waits until the paused one is out of time
        assert after.result(timeout=20).finish_reason == "length"
        assert len(list(paused)) >= BUFFER - 1
        with pytest.raises(errors.InvalidArgument, match="deadline"):
            m.submit([5], deadline=-1.0)
        settled(m)


def test_a_result_can_be_waited_for_in_vain(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Model(llama, n_threads=1) as m:
        gate = Gate(m, monkeypatch)
        handle = m.submit([5], max_tokens=1, temperature=0.0, ignore_eos=True)
        with pytest.raises(TimeoutError, match=r"0\.01"):
            handle.result(timeout=0.01)
        gate.advance()
        assert handle.result(timeout=20).finish_reason == "length" and handle.done


def test_alone_the_callers_thread_drives(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Model(llama, n_threads=1) as m:
        ids: list[int] = []
        run = m.engine.run

        def note(step: Step) -> F32:
            ids.append(threading.get_ident())
            return run(step)

        monkeypatch.setattr(m.engine, "run", note)
        monkeypatch.setattr("zigllama.inference.batching.AHEAD", 1)  # every step goes through it
        m.generate(TEXT[:5], max_tokens=3, temperature=0.0)
        assert set(ids) == {threading.get_ident()}
        ids.clear()
        m.generate_batch([TEXT[:5]], max_tokens=3, temperature=0.0)
        assert len(set(ids)) == 1 and threading.get_ident() not in ids


def test_the_engines_lock_serves_in_order_of_arrival() -> None:
    """A thread that takes it again and again, as the scheduler's does, lets a visitor in before its next turn. A lock
    of Python's own makes visitors wait for hundreds of turns here."""
    lock, turns, stop = Turnstile(), 0, False

    def work() -> None:
        nonlocal turns
        while not stop:
            with lock, lock:  # its holder enters again at once
                turns += 1
                until = time.perf_counter() + 0.001
                while time.perf_counter() < until:
                    pass

    thread = threading.Thread(target=work)
    thread.start()
    waited = 0
    for _ in range(40):
        time.sleep(0.0025)
        before = turns
        with lock:
            waited += turns - before
    stop = True
    thread.join()
    assert waited <= 40


@pytest.mark.parametrize("how", ["eager", "reference"])
def test_other_ways_to_run(how: str, llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of which nobody wants a row, batches and drafts, op by op and in NumPy."""
    monkeypatch.setattr("zigllama.inference.turns.CHUNK", 40)
    if how == "eager":
        monkeypatch.setenv("ZIGLLAMA_TAPE", "0")
    with Model(llama, n_threads=1, n_ctx=256, backend="reference" if how == "reference" else None) as m:
        assert m.backend["execution"] == how
        keywords: dict[str, Any] = {"max_tokens": 4, "temperature": 1.0, "seed": 2, "ignore_eos": True}
        want = m.generate(TEXT[:100], **keywords)
        [one, two] = m.generate_batch([TEXT[:100], [5, 6] * 8], lookup=True, **keywords)
        assert len(one.token_ids) == len(two.token_ids) == len(want.token_ids) == 4
        if how == "eager":  # NumPy's own products do not promise the same bits for other shapes
            assert one.token_ids == want.token_ids


def test_async(llama: Path) -> None:
    async def read(m: Model, i: int) -> str:
        return "".join([e.text async for e in m.agenerate(PROMPTS[i], stream=True, **options(i))])

    async def leave(m: Model) -> None:
        async for _ in m.agenerate([5, 6], temperature=0.0, ignore_eos=True):
            break

    async def main(m: Model) -> list[str]:
        texts = await asyncio.gather(*(read(m, i) for i in range(12)))
        await leave(m)
        return texts

    with Model(llama, n_threads=1, n_ctx=512) as m:
        texts = asyncio.run(main(m))
        assert texts == [alone(m, i).text for i in range(12)]
        with pytest.raises(errors.InvalidArgument):
            m.agenerate("a", stream=False)  # type: ignore[arg-type]
        settled(m)
