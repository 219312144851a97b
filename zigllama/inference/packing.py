"""What happens to a model's matrices when it is loaded: how they are computed is chosen, and they are packed.

Packing keeps the threads of the C library busy and leaves Python free, and loading has a good deal of Python to run
that needs no packed weight (modules to import, the tape to record). So it has a thread of its own: of a small
model's time to the first token it is a good part, most of which is hidden so.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from zigllama.errors import NativeError
from zigllama.foundation.gguf_format import GGUFReader
from zigllama.linear_algebra import bf16
from zigllama.linear_algebra.linear import Weight, prepare_all

BATCH = 64 << 20  # bytes that one call of C packs: an interruption waits for no more


class Packing:
    """Every matrix in its native form, made in a thread from `start` on; `finish` waits for it.

    An embedding that is only looked up in, row by row, stays in the mapped file; one that is the output too is
    repacked: a row looked up in a mapping brings 64 KB of it into memory. Until `stop` or `finish` has returned nobody
    else may use the context or close the file.

    mapped     all stay in the file
    release    let go of the file's pages as they are packed: not for weights that are copies
    """

    def __init__(
        self, context: Any, weights: Mapping[str, Any], reader: GGUFReader, *, mapped: bool, release: bool
    ) -> None:
        embedding, output = weights.get("token_embd.weight"), weights.get("output.weight")
        listed = {id(w): w for w in weights.values() if isinstance(w, Weight)}  # a tied output is there twice
        self._jobs = []
        for weight in listed.values():
            looked_up = weight is embedding and weight is not output
            keep = mapped or looked_up
            self._jobs.append((weight, keep, release and (looked_up or not keep), not keep))
        self._context, self._reader, self._mapped = context, reader, mapped
        self._error: BaseException | None = None
        self._stopped, self._done = False, threading.Event()
        self._thread = threading.Thread(target=self._run, name="zigllama-packing")

    def start(self) -> None:
        """Begin. Raises NativeError where a thread cannot be had."""
        try:
            self._thread.start()
        except RuntimeError as error:
            raise NativeError(f"packing needs a thread: {error}") from None

    def _run(self) -> None:
        try:
            self._pack()
        except BaseException as error:
            self._error = error
        finally:
            self._done.set()

    def _pack(self) -> None:
        batch, size = [], 0
        for job in self._jobs:
            batch.append(job)
            size += job[0].data.nbytes
            if size >= BATCH or job is self._jobs[-1]:
                if self._stopped:
                    return
                prepare_all(self._context, batch)
                batch, size = [], 0
        self._context.spare_memory()
        # what was at the borders of pages, and vectors that were copied
        for part in range(0 if self._mapped else len(self._reader.paths)):
            self._reader.mapping(part).release()

    def stop(self) -> None:
        """End it, and wait until it has ended, whatever came of it; interrupted once more, too."""
        self._stopped = True
        while self._thread.is_alive() and not self._done.is_set():
            with suppress(KeyboardInterrupt):
                self._done.wait(0.1)

    def finish(self) -> None:
        """Wait, and raise what packing raised: OutOfMemory, MappingFault, and the errors of `Weight.prepare`."""
        self._done.wait()
        error, self._error = self._error, None
        if error is not None:
            raise error


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
    from zigllama.foundation.native_context import guard_add

    for part in range(len(reader.paths)):
        view = reader.mapping(part).view
        guard_add(view)
        views.append(view)


def unguard(views: list[Any]) -> None:
    """Forget them; the list is empty then."""
    from zigllama.foundation.native_context import guard_remove

    while views:
        guard_remove(views.pop())
