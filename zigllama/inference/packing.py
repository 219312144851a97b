"""What happens to a model's matrices when it is loaded: how they are computed is chosen, and they are packed.

Packing keeps the threads of the C library busy and leaves Python free, and loading has a good deal of Python to run
that needs no packed weight (modules to import, the tape to record). So it has a thread of its own: of a small
model's time to the first token it is a good part, most of which is hidden so.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from zigllama.foundation.gguf_format import GGUFReader
from zigllama.linear_algebra import bf16
from zigllama.linear_algebra.linear import Weight, prepare_all


class Packing:
    """Every matrix in its native form, made in a thread; `finish` waits for it.

    An embedding that is only looked up in, row by row, stays in the mapped file; one that is the output too is
    repacked: a row looked up in a mapping brings 64 KB of it into memory. Until `wait` or `finish` has returned nobody
    else may use the context or close the file.

    mapped     all stay in the file
    release    let go of the file's pages as they are packed: not for weights that are copies
    """

    def __init__(
        self, context: Any, weights: Mapping[str, Any], reader: GGUFReader, *, mapped: bool, release: bool
    ) -> None:
        embedding, output = weights.get("token_embd.weight"), weights.get("output.weight")
        listed = {id(w): w for w in weights.values() if isinstance(w, Weight)}  # a tied output is there twice
        jobs = []
        for weight in listed.values():
            looked_up = weight is embedding and weight is not output
            keep = mapped or looked_up
            jobs.append((weight, keep, release and (looked_up or not keep), not keep))
        self._error: BaseException | None = None

        def pack() -> None:
            try:
                prepare_all(context, jobs)
                # what was at the borders of pages, and vectors that were copied
                for part in range(0 if mapped else len(reader.paths)):
                    reader.mapping(part).release()
            except BaseException as error:
                self._error = error

        self._thread = threading.Thread(target=pack, name="zigllama-packing")
        self._thread.start()

    def wait(self) -> None:
        """Until the thread has ended, whatever came of it."""
        self._thread.join()

    def finish(self) -> None:
        """Wait, and raise what packing raised: OutOfMemory, MappingFault, and the errors of `Weight.prepare`."""
        self.wait()
        if self._error is not None:
            raise self._error


def choose_compute(context: Any, weights: Mapping[str, Any], asked: str | None) -> str:
    """How float matrices are computed, set on each that is multiplied; see bf16.choose. The twins do both, float32 by
    default."""
    embedding, output = weights.get("token_embd.weight"), weights.get("output.weight")
    matrices = [w for w in weights.values() if isinstance(w, Weight) and (w is not embedding or w is output)]
    if context is None:
        return bf16.choose(asked or "f32", matrices, True, "numpy")
    from zigllama.foundation.native import isa_has_bf16

    return bf16.choose(asked, matrices, isa_has_bf16(context.isa), context.isa)


def guard(views: list[Any], reader: GGUFReader) -> None:
    """Have faults in a file's mappings, added to `views`, end in MappingFault and not in a crash: until `unguard`."""
    from zigllama.foundation.native import guard_add

    for part in range(len(reader.paths)):
        view = reader.mapping(part).view
        guard_add(view)
        views.append(view)


def unguard(views: list[Any]) -> None:
    """Forget them; the list is empty then."""
    from zigllama.foundation.native import guard_remove

    while views:
        guard_remove(views.pop())
