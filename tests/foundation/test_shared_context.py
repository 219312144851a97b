"""Contexts kept for functions called on their own: one per choice, per thread, per process."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest

from zigllama.errors import UnknownName
from zigllama.foundation.native_context import NativeContext, matmul
from zigllama.foundation.shared_context import shared_context


def test_the_same_choice_is_the_same_context(monkeypatch: pytest.MonkeyPatch) -> None:
    one = shared_context(isa="generic", n_threads=1)
    assert shared_context(isa="generic", n_threads=1) is one
    assert shared_context(isa="generic", n_threads=2) is not one
    assert (one.isa, one.n_threads) == ("generic", 1)
    monkeypatch.setenv("ZIGLLAMA_ISA", "generic")
    assert shared_context(n_threads=1) is one
    assert shared_context(isa="auto", n_threads=1) is one
    one.close()
    assert not shared_context(isa="generic", n_threads=1).closed
    with pytest.raises(UnknownName):
        shared_context(isa="generik")


def test_another_thread_has_its_own() -> None:
    found: list[NativeContext] = []
    thread = threading.Thread(target=lambda: found.append(shared_context(n_threads=1)))
    thread.start()
    thread.join()
    assert found[0] is not shared_context(n_threads=1)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_makes_its_own() -> None:
    shared_context(n_threads=2)
    pid = os.fork()
    if pid == 0:
        eye = np.eye(3, dtype=np.float32)
        os._exit(0 if (matmul(shared_context(n_threads=2), eye, eye) == eye).all() else 1)
    assert os.waitpid(pid, 0)[1] == 0
