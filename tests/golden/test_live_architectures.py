"""The converted files through llama-cpp-python itself, where it is installed: it says what transformers said, but
where the variant says why not (`peer` in tests/architecture_variants/).

GELU is taken from a table in half precision there, in its tanh form also where the model's authors have the exact one:
the table's steps are 2^-11 of its values, and what a feed-forward network makes of them reaches a logit: up to 1e-2,
ten times the tolerance that holds for every other activation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from architecture_models import Subject, with_words
from architecture_models import subject as subject  # the fixture

TABLE = 10  # times the tolerance, with GELU
CANNOT = ("llama.cpp has no ", "llama.cpp wants ")  # how a `peer` begins that says why it does not open such a file


@pytest.fixture(scope="module")
def logits(subject: Subject) -> Iterator[Any]:
    """What llama.cpp says about the golden ids, (300, V), its cache in float32; None of a file that it cannot open,
    which is to be refused, and of an encoder: those are compared by their embeddings, in the tests of their family."""
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    if subject.variant.output != "logits":
        yield None
        return
    n = max(subject.arrays)
    options = {"n_ctx": subject.variant.n_ctx or subject.model.n_ctx, "n_batch": 512, "n_ubatch": 512}
    options |= {"type_k": 0, "type_v": 0, "n_threads": 2, "n_threads_batch": 2, "logits_all": True, "verbose": False}
    path = with_words(subject)
    if subject.variant.peer.startswith(CANNOT):
        with pytest.raises(ValueError, match="Failed to load model"):
            llama_cpp.Llama(path, **options)
        yield None
        return
    peer = llama_cpp.Llama(path, **options)
    try:
        peer.eval(subject.ids[:n])
        yield np.array(peer.scores[:n])
    finally:
        peer.close()


def test_llama_cpp_agrees(subject: Subject, logits: Any) -> None:
    """As near to transformers as the tolerance; a named difference must be one, or its name is out of date."""
    if logits is None:
        return
    n = max(subject.arrays)
    gelu = any("gelu" in str(value) for value in subject.about["config"].values()) or "Bloom" in subject.variant.hf
    atol = subject.variant.atol * (TABLE if gelu else 1)
    off = np.abs(logits[subject.rows(n)] - subject.arrays[n]).max(axis=1)
    print(f"{subject.name}: llama.cpp is off transformers by {off.max():.2g}")
    if not subject.variant.peer:
        assert off.max() <= atol
        return
    assert off.max() > 10 * atol, f"llama.cpp agrees now: {subject.variant.peer}"
    window = subject.about["config"].get("sliding_window")
    if "window" in subject.variant.peer and window:  # before the window is full there is no difference
        assert off[[row < window for row in subject.rows(n)]].max() <= atol
