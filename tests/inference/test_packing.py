"""Packing a model's matrices beside the rest of loading: what it raises, and that nothing is closed under it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zigllama import errors
from zigllama.foundation.native_context import NativeContext
from zigllama.inference import packing
from zigllama.inference.model import Model
from zigllama.linear_algebra.linear import Weight, prepare_all

Small = Callable[[str], Path]


def test_what_packing_raises_loading_raises(small_model: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(context: Any, jobs: Any) -> None:
        raise errors.OutOfMemory("memory for a weight", 1 << 40)

    before = threading.active_count()
    monkeypatch.setattr(packing, "prepare_all", fails)
    with pytest.raises(errors.OutOfMemory, match="needs 1099511627776 bytes"):
        Model(small_model("llama-mix"))
    assert threading.active_count() == before


def test_nothing_is_closed_while_packing_goes_on(small_model: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in what is done meanwhile waits for it."""
    seen: list[bool] = []

    def slow(context: Any, jobs: Any) -> None:
        time.sleep(0.2)
        seen.append(context.closed)
        prepare_all(context, jobs)

    monkeypatch.setattr(packing, "prepare_all", slow)
    with pytest.raises(errors.InvalidArgument, match="n_ctx is 0"):
        Model(small_model("llama-mix"), n_ctx=0)
    assert seen == [False]


def test_an_interruption_waits_for_the_batch_that_c_is_at(small_model: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def interrupted(context: Any, jobs: Any) -> None:
        for _ in range(2):  # once more, too
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            time.sleep(0.3)
        prepare_all(context, jobs)
        seen.append(context.closed)

    monkeypatch.setattr(packing, "BATCH", 1)
    monkeypatch.setattr(packing, "prepare_all", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            Model(small_model("llama-mix"))
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [False]


def test_a_thread_that_cannot_be_had_is_told_of(small_model: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    with pytest.raises(errors.NativeError, match="packing needs a thread: can't start new thread"):
        Model(small_model("llama-mix"))


def test_many_weights_are_all_made_or_none() -> None:
    rng = np.random.default_rng(3)
    good = [Weight.from_array(rng.standard_normal((5 + i, 64), np.float32)) for i in range(3)]
    with NativeContext(1) as ctx:
        prepare_all(ctx, [(w, False, False, True) for w in (*good, good[0])])
        natives = [w.prepare(ctx) for w in good]
        prepare_all(ctx, [(w, False, False, True) for w in good])
        assert [w.prepare(ctx) for w in good] == natives  # each once
        bad = Weight.from_array(np.zeros((4, 64), np.float32))
        bad.compute = "bf16"  # of F32, which is not multiplied so
        other = Weight.from_array(np.zeros((4, 64), np.float32))
        with pytest.raises(errors.DTypeError, match="F32 is not multiplied in bf16"):
            prepare_all(ctx, [(other, False, False, True), (bad, False, False, True)])
        bad.compute = "f32"
        assert bad.prepare(ctx).n_bytes == other.prepare(ctx).n_bytes >= 4 * 64 * 4
        for w in (*good, bad, other):
            w.close()
