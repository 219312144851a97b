"""llama-cpp-python asked the same questions: token ids, logits and greedy continuations of one GGUF file.

A prompt goes in as one micro-batch, which is how the peer is normally used and where its kernels for many columns
run; a continuation goes one token at a time.  Its cache is f16 by default, its activations int8: both are part of
what it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt


def version() -> str:
    """The package's version and the system-info line of the library inside."""
    info = llama_cpp.llama_print_system_info().decode().strip()
    return f"llama-cpp-python {llama_cpp.__version__} ({info})"


class Peer:
    """One file loaded by llama.cpp."""

    def __init__(self, path: str | Path, n_ctx: int = 1024, n_threads: int = 2, f32_cache: bool = False) -> None:
        kv: Any = {"type_k": 0, "type_v": 0} if f32_cache else {}  # 0 is GGML_TYPE_F32
        self.model: Any = llama_cpp.Llama(
            str(path),
            n_ctx=n_ctx,
            n_batch=n_ctx,
            n_ubatch=n_ctx,
            n_threads=n_threads,
            n_threads_batch=n_threads,
            logits_all=True,
            verbose=False,
            **kv,
        )

    def encode(self, text: str) -> list[int]:
        """Token ids with the specials that the file asks for in front; text never turns into special tokens."""
        return list(self.model.tokenize(text.encode(), add_bos=True, special=False))

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids."""
        return str(self.model.detokenize(list(ids)).decode(errors="replace"))

    def logits(self, ids: Sequence[int], rows: Sequence[int] | None = None) -> npt.NDArray[np.float32]:
        """Logits at every position, or at the given ones.   -> (rows, V)"""
        self.model.reset()
        self.model.eval(list(ids))
        scores = np.asarray(self.model.scores[: len(ids)])
        return np.array(scores if rows is None else scores[list(rows)], np.float32)

    def greedy(self, ids: Sequence[int], n: int) -> tuple[list[int], list[float]]:
        """The n most likely next tokens in turn (ties to the lower id), and how far the second logit was below each."""
        self.model.reset()
        chunk, tokens, gaps = list(ids), [], []
        for _ in range(n):
            self.model.eval(chunk)
            row = np.asarray(self.model.scores[self.model.n_tokens - 1])
            second, first = np.partition(row, -2)[-2:]
            token = int(np.argmax(row))
            tokens.append(token)
            gaps.append(float(first - second))
            chunk = [token]
        return tokens, gaps
