"""The converted files of the golden variants through llama.cpp itself, where it is installed: the same logits, except
where a variant's `peer` names what llama.cpp does otherwise.
"""

from __future__ import annotations

import numpy as np
import pytest
from architecture_models import Subject, with_words
from architecture_models import subject as subject  # the fixture

# llama.cpp sums in float32 as transformers does, in another order, but reads its GELU, where a model has one, from a
# table of half precision: 2^-11 of a value of size one, in each of up to 3 layers, on logits of size 10.
ATOL = 1e-2
ROWS = 64
CANNOT = ("llama.cpp has no ", "llama.cpp wants ")  # it does not open such a file


def test_the_peer_says_the_same(subject: Subject) -> None:
    """Logits at every position of a text; a named difference must be one, or its name is out of date."""
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    if subject.variant.output != "logits":
        return  # encoders are compared by their embeddings, in the tests of their own family
    n = subject.variant.n_ctx or 512
    options = {"n_ctx": n, "n_batch": n, "n_ubatch": n, "logits_all": True, "verbose": False, "type_k": 0, "type_v": 0}
    options |= {"n_threads": 2, "n_threads_batch": 2}
    if subject.variant.peer.startswith(CANNOT):
        with pytest.raises(ValueError, match="Failed to load model"):
            llama_cpp.Llama(with_words(subject), **options)
        return
    peer = llama_cpp.Llama(with_words(subject), **options)
    try:
        peer.eval(subject.ids[:ROWS])
        theirs = np.array(peer.scores[:ROWS])
    finally:
        peer.close()
    off = float(np.abs(theirs - subject.model.logits(subject.ids[:ROWS])).max())
    print(f"{subject.name}: {off:.2g} from llama.cpp {subject.variant.peer}")
    assert off > 10 * ATOL if subject.variant.peer else off <= ATOL
