"""What goes wrong with one request, or with all: errors are typed, reach their own request; nobody is left waiting."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from many_requests import PROMPTS, TEXT, alone, options, same, settled

from zigllama import errors
from zigllama.foundation.runtime import F32, Step
from zigllama.inference.model import Model

Small = Callable[[str], Path]


@pytest.fixture
def llama(small_model: Small) -> Path:
    return small_model("llama-mix")


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
        monkeypatch.setattr("zigllama.inference.batching.AHEAD", 1)  # every step goes through it
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
