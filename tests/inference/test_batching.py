"""Many requests on one engine: the same bits as alone, whoever else is there; nobody is left waiting; nothing leaks."""

from __future__ import annotations

import asyncio
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

from zigllama import errors
from zigllama.foundation.runtime import F32, Step
from zigllama.inference.engine import Turnstile
from zigllama.inference.generation import Event, Result, TextGenerator
from zigllama.inference.model import Model
from zigllama.inference.request import BUFFER

Small = Callable[[str], Path]
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

    def spy(self: TextGenerator, logits: F32, history: Sequence[int]) -> list[Event]:
        seen.setdefault(tuple(history), set()).add(hashlib.sha256(logits.tobytes()).hexdigest())
        return take(self, logits, history)

    monkeypatch.setattr(TextGenerator, "take", spy)
    return seen  # type: ignore[return-value]


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


# --- bits -------------------------------------------------------------------------------------------------------------


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


# --- who waits for whom -----------------------------------------------------------------------------------------------


class Gate:
    """Lets an engine take one step at a time, and counts them."""

    def __init__(self, m: Model, monkeypatch: pytest.MonkeyPatch) -> None:
        self.run, self.steps = m.engine.run, list[Step]()
        self.open, self.reached = threading.Semaphore(0), threading.Semaphore(0)
        monkeypatch.setattr(m.engine, "run", self)

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
        late = m.generate(TEXT[:4], deadline=0.05, **forever)
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


# --- a hundred at once ------------------------------------------------------------------------------------------------


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


# --- errors -----------------------------------------------------------------------------------------------------------


def test_an_error_is_its_own_requests(small_model: Small, tmp_path: Path) -> None:
    """A model whose embedding of one token is not a number: who uses it gets the error, beside others who do not."""
    from zigllama.foundation.gguf_format import GGUFReader

    source = small_model("llama-f32")
    with GGUFReader(source) as r:
        offset = r.tensors["token_embd.weight"].offset
        width = 96 * 4
    raw = bytearray(source.read_bytes())
    raw[offset + 7 * width : offset + 7 * width + 4] = np.float32(np.nan).tobytes()
    broken = tmp_path / "nan.gguf"
    broken.write_bytes(raw)
    with Model(broken, n_threads=1, n_ctx=512) as m:
        good: dict[str, Any] = {"max_tokens": 8, "temperature": 0.0, "ignore_eos": True, "logit_bias": {7: -1e9}}
        prompts = [[i for i in p if i != 7] or [5] for p in PROMPTS[:6]]
        want = [m.generate(p, **good) for p in prompts]
        handles = [m.submit(p, **good) for p in prompts]
        bad = [m.submit([5, 6, 7], max_tokens=4), m.submit([9] * 70 + [7], max_tokens=4)]
        worse = m.submit([5], max_tokens=4, logit_bias={10**6: 1.0})  # found when it is sampled
        for handle in bad:
            with pytest.raises(errors.NonFinite) as e:
                handle.result(timeout=20)
            assert e.value.op != "logits"
            with pytest.raises(errors.NonFinite):
                list(handle)
        with pytest.raises(errors.InvalidArgument, match="1000000"):
            worse.result(timeout=20)
        assert all(same(h.result(timeout=20), w) for h, w in zip(handles, want, strict=True))
        settled(m)


def test_a_step_that_fails_is_taken_apart(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Model(llama, n_threads=1, n_ctx=512) as m:
        want = [alone(m, i) for i in range(6)]
        run = m.engine.run

        def fail(step: Step) -> F32:
            if step.n_rows > 40 and 199 in step.tokens:
                raise errors.MappingFault("a page is gone")
            return run(step)

        monkeypatch.setattr(m.engine, "run", fail)
        handles = [m.submit(PROMPTS[i], **options(i)) for i in range(6)]
        bad = m.submit([199] * 50, max_tokens=1)
        with pytest.raises(errors.MappingFault):
            bad.result(timeout=20)
        expected = [199 in PROMPTS[i] for i in range(6)]
        for i, handle in enumerate(handles):
            if expected[i]:
                continue
            assert same(handle.result(timeout=20), want[i])
        assert not all(expected)


def test_what_cannot_be_let_in_waits_or_is_an_error(llama: Path) -> None:
    with Model(llama, n_threads=1, n_ctx=256, n_seq=2) as m:
        with m.session(), m.session():
            with pytest.raises(errors.OutOfMemory, match="slot"):
                m.generate(TEXT[:5], max_tokens=1)
            with pytest.raises(errors.OutOfMemory, match="slot"):
                m.session()
        results = m.generate_batch([p[:100] for p in PROMPTS], max_tokens=3)
        assert len(results) == len(PROMPTS)
        with pytest.raises(errors.ContextOverflow):
            m.submit(TEXT[:257])
        with pytest.raises(errors.ContextOverflow):
            m.generate_batch([TEXT[:4], TEXT[:257]])
        settled(m)


def test_closing_ends_everybody(llama: Path) -> None:
    m = Model(llama, n_threads=1, n_ctx=1024)
    handles = [m.submit(p, temperature=0.0, ignore_eos=True) for p in PROMPTS[:4]]
    stream = m.generate(TEXT[:4], stream=True, temperature=0.0, ignore_eos=True)
    next(stream)
    m.close()
    m.close()
    for handle in handles:
        with pytest.raises(errors.ClosedError):
            handle.result(timeout=20)
    with pytest.raises(errors.ClosedError):
        for _ in stream:
            pass
    for use in (lambda: m.submit([5]), lambda: m.generate([5]), m.session, lambda: m.logits([5])):
        with pytest.raises(errors.ClosedError):
            use()


def test_after_a_fork_the_model_refuses(llama: Path) -> None:
    m = Model(llama, n_threads=2, n_ctx=512)
    busy = m.submit(
        TEXT[:100], temperature=0.0, ignore_eos=True
    )  # its thread and perhaps its locks are not in the child
    session = m.session()
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            uses: list[Callable[[], Any]] = [
                lambda: m.generate([5], max_tokens=1),
                lambda: m.submit([5]),
                lambda: m.generate_batch([[5]]),
                lambda: m.logits([5]),
                lambda: busy.result(),
                lambda: next(iter(busy)),
                lambda: m.session(),
                lambda: session.chat("hi"),
            ]
            for use in uses:
                try:
                    use()
                    os.write(tell, b"no error;")
                except errors.ForkedContext as e:
                    os.write(tell, b"." if str(os.getppid()) in str(e) else b"bad text;")
            busy.cancel()
            session.close()
            m.close()
            code = 0
        finally:
            os._exit(code)
    os.close(tell)
    with os.fdopen(told, "rb") as f:
        said = f.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 and said == b"." * 8
    busy.cancel()
    assert busy.result(timeout=20).finish_reason in ("cancelled", "length")
    m.close()
