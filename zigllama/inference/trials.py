"""What one tensor's number format does to the logits: a model runs the same text again with that tensor alone replaced.

    with Model("m.gguf", n_ctx=64) as m:
        trials = Trials(m, m.prompt_ids("Some text."))
        trials.divergences("blk.0.ffn_up.weight", "Q4_0", data).mean()

The model stays as it is: a trial has a decoder of its own over the same weights but one, which is packed for it and
given back; the mapped file, all other packed weights and the threads are the model's. Logits are those that a model
file with that tensor in it gives, bit for bit, with the same type of cache.

What it is not: it makes no bytes (layer 2's `quantize_rows` does) and knows no file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from zigllama.errors import ContextOverflow, InvalidArgument, NonFinite, UnsupportedType
from zigllama.foundation.ggml_types import type_by_name
from zigllama.foundation.runtime import F32, Step
from zigllama.foundation.tape import TapeProgram, record
from zigllama.inference.kv_cache import ModelKVCache
from zigllama.inference.model import Model
from zigllama.inference.scoring import F64, divergence
from zigllama.linear_algebra import bf16
from zigllama.linear_algebra.linear import Weight
from zigllama.models.decoder import Decoder
from zigllama.models.gguf import MULTIPLIED
from zigllama.neural_primitives.fusion import FUSIONS

PIECE = 64  # rows of a step: their logits are in memory together
MOST = 1 << 30  # bytes of the base's logits, which are kept

EMBEDDING, OUTPUT = "token_embd.weight", "output.weight"


class Trials:
    """A model and a text: `ids` from position 0. Making it runs the model once and keeps its logits.

    Raises InvalidArgument for no tokens, or for so many that their logits take over a gigabyte; ContextOverflow,
    NonFinite, ClosedError, ForkedContext.
    """

    def __init__(self, model: Model, ids: Sequence[int]) -> None:
        n_vocab = model.spec.n_vocab
        self.model, self.ids = model, model.prompt_ids([int(i) for i in ids])
        if not self.ids:
            raise InvalidArgument("a trial takes at least one token, found none")
        if len(self.ids) > model.n_ctx:
            raise ContextOverflow(len(self.ids), model.n_ctx)
        if (need := 4 * len(self.ids) * n_vocab) > MOST:
            most = MOST // (4 * n_vocab)
            raise InvalidArgument(
                f"{len(self.ids)} tokens make {need} bytes of logits, over the {MOST} that are kept: take {most} tokens"
            )
        self._base = np.empty((len(self.ids), n_vocab), np.float32)

        def keep(at: int, rows: F32) -> None:
            self._base[at : at + len(rows)] = rows

        self._run(model.decoder, keep)

    def refusal(self, name: str, type_name: str) -> str | None:
        """Why `divergences` would not take this tensor in this type; None: it takes it. Raises UnknownName."""
        if not isinstance(self.model.weights.get(name), Weight):
            return "it is no matrix of the model: there is nothing to replace"
        if type_by_name(type_name).name not in MULTIPLIED:
            return "no model is run with a matrix of this type"
        return None

    def divergences(self, name: str, type_name: str, data: npt.NDArray[np.uint8]) -> F64:
        """KL divergence of each token's logits from the model's own, in nats, float64 (T,), with the matrix `name` in
        another type, `data` its bytes. A tied embedding is replaced in both its places.

        Raises InvalidArgument for what is no matrix of the model, UnsupportedType for a type that is not multiplied,
        ShapeError for the wrong number of bytes, OutOfMemory, NonFinite, ClosedError, ForkedContext.
        """
        old = self.model.weights.get(name)
        if not isinstance(old, Weight):
            raise InvalidArgument(f"{name!r} is no matrix of the model: there is nothing to replace")
        kind = type_by_name(type_name)
        if kind.name not in MULTIPLIED:
            raise UnsupportedType(name, kind.name)
        new = Weight(kind, old.rows, old.cols, np.ascontiguousarray(data).reshape(-1), name, stack=old.stack)
        weights = {n: new if w is old else w for n, w in self.model.weights.items()}
        out = np.empty(len(self.ids), np.float64)

        def see(at: int, rows: F32) -> None:
            for i, row in enumerate(rows, at):
                out[i] = divergence(self._base[i], row)

        try:
            self._prepare(new, weights)
            self._run(self.model.build(weights), see)
        finally:
            new.close()
            new.data = np.empty(0, np.uint8)  # a tape's recorder refers to itself: it has the weight until the next gc
        return out

    def _prepare(self, new: Weight, weights: Mapping[str, Any]) -> None:
        """As Model does it by default: BF16 in bf16 where the ISA variant has it, an embedding that is only looked up
        in as its bytes."""
        from zigllama.foundation.native import isa_has_bf16

        context = self.model.engine.context
        if context is None:
            return
        looked_up = weights[EMBEDDING] is new and weights[OUTPUT] is not new
        if not looked_up:
            bf16.choose(None, [new], isa_has_bf16(context.isa), context.isa)
        with self.model.engine.lock:
            self.model.engine.check()
            new.prepare(context, mapped=looked_up)

    def _run(self, decoder: Decoder, see: Callable[[int, F32], None]) -> None:
        """The logits of all positions, a piece at a time."""
        engine = self.model.engine
        with engine.lock:
            engine.check()
            rows = min(PIECE, len(self.ids))
            kind = engine.cache.type_name
            cache = ModelKVCache(decoder.cache_spec(), len(self.ids), type_name=kind, chunk=rows, keep=0)
            sequence, program, at = cache.add(len(self.ids)), None, 0
            if engine.context is not None:
                tape = record(lambda step: decoder.forward(step, cache), FUSIONS)
                program = TapeProgram(tape, engine.context, rows)
            try:
                while at < len(self.ids):
                    step = cache.extend(sequence, self.ids[at : at + rows])
                    step.out_rows = np.arange(step.n_rows, dtype=np.int32)
                    logits = self._logits(decoder, cache, step, program)
                    if not np.isfinite(logits).all():
                        raise NonFinite("logits", None)
                    see(at, logits)
                    at += len(logits)
            finally:
                if program is not None:
                    program.close()

    def _logits(self, decoder: Decoder, cache: ModelKVCache, step: Step, program: TapeProgram | None) -> F32:
        if program is None:
            logits: F32 = decoder.forward(step, cache)
            return logits
        context: Any = self.model.engine.context
        program.run(context.make_step(step))
        return program.result(0, step.n_out)
