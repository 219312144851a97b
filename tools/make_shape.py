"""Models of a wanted shape and number format with random weights, to measure speed where no trained file is at hand.

    python tools/make_shape.py 1.1b Q4_0 Q4_K_M F16 --folder shapes       writes shapes/1.1b-q4_0.gguf and so on
    python tools/make_shape.py 7b Q4_0 --folder shapes --seed 3

The files are llama models that every engine loads: RMS norms of 1, matrices of deviation C^-0.5 written as blocks of
their type directly (bench/blocks.py; no F16 stage), the mix of types that llama-quantize makes of a model of that
shape (of Q2_K, Q3_K and the IQ types: with --pure), and a SentencePiece vocabulary of 32,000 made-up pieces. One tensor
is made and written after the other, so that memory stays at some MB. The same seed gives the same file. What comes out
of such a model is noise.
"""

from __future__ import annotations

import argparse
import itertools
import string
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bench.blocks import random_blocks

from zigllama import gguf


@dataclass(frozen=True)
class Shape:
    """The sizes of a llama model, by GGUF's names."""

    n_embd: int
    n_layer: int
    n_head: int
    n_head_kv: int
    n_ff: int
    n_vocab: int = 32_000
    n_ctx: int = 4096

    @property
    def n_params(self) -> int:
        """How many weights there are, norms included."""
        kv = self.n_embd // self.n_head * self.n_head_kv
        layer = 2 * self.n_embd * (self.n_embd + kv) + 3 * self.n_embd * self.n_ff + 2 * self.n_embd
        return self.n_layer * layer + 2 * self.n_vocab * self.n_embd + self.n_embd


SHAPES = {
    "1.1b": Shape(2048, 22, 32, 4, 5632),  # TinyLlama's
    "7b": Shape(4096, 32, 32, 32, 11008),  # LLaMA's
}

# mix -> (general.file_type, type of most matrices, of output, of attn_v and ffn_down in layers that get more bits)
MIXES = {
    "F32": (0, "F32", "F32", "F32"),
    "F16": (1, "F16", "F16", "F16"),
    "BF16": (32, "BF16", "BF16", "BF16"),
    "Q4_0": (2, "Q4_0", "Q6_K", "Q4_0"),
    "Q4_1": (3, "Q4_1", "Q6_K", "Q4_1"),
    "Q5_0": (8, "Q5_0", "Q6_K", "Q5_0"),
    "Q5_1": (9, "Q5_1", "Q6_K", "Q5_1"),
    "Q8_0": (7, "Q8_0", "Q8_0", "Q8_0"),
    "Q4_K_M": (15, "Q4_K", "Q6_K", "Q6_K"),
    "Q5_K_M": (17, "Q5_K", "Q6_K", "Q6_K"),
    "Q6_K": (18, "Q6_K", "Q6_K", "Q6_K"),
    # All matrices of the one type, so that its own speed is seen; llama-quantize's mixes give some of them more bits.
    "Q2_K": (10, "Q2_K", "Q6_K", "Q2_K"),
    "Q3_K": (11, "Q3_K", "Q6_K", "Q3_K"),
    "IQ2_XS": (20, "IQ2_XS", "Q6_K", "IQ2_XS"),
    "IQ3_S": (26, "IQ3_S", "Q6_K", "IQ3_S"),
    "IQ4_NL": (25, "IQ4_NL", "Q6_K", "IQ4_NL"),
    "IQ4_XS": (30, "IQ4_XS", "Q6_K", "IQ4_XS"),
}


def more_bits(layer: int, n_layer: int) -> bool:
    """If _K_M mixes have attn_v and ffn_down of this layer in Q6_K: the first and last eighth, then each third."""
    return layer < n_layer // 8 or layer >= 7 * n_layer // 8 or (layer - n_layer // 8) % 3 == 2


def matrices(shape: Shape, mix: str) -> Iterator[tuple[str, tuple[int, int], str]]:
    """Name, (rows, cols) and type of every matrix, in the order of the file."""
    c, f, kv = shape.n_embd, shape.n_ff, shape.n_embd // shape.n_head * shape.n_head_kv
    _, most, output, some = MIXES[mix]
    yield "token_embd", (shape.n_vocab, c), most
    yield "output", (shape.n_vocab, c), output
    for i in range(shape.n_layer):
        better = some if more_bits(i, shape.n_layer) else most
        yield f"blk.{i}.attn_q", (c, c), most
        yield f"blk.{i}.attn_k", (kv, c), most
        yield f"blk.{i}.attn_v", (kv, c), better
        yield f"blk.{i}.attn_output", (c, c), most
        yield f"blk.{i}.ffn_gate", (f, c), most
        yield f"blk.{i}.ffn_up", (f, c), most
        yield f"blk.{i}.ffn_down", (c, f), better


def tensors(shape: Shape, mix: str, seed: int) -> Iterator[gguf.TensorData]:
    """Every tensor, its data made when its turn comes."""
    ones = np.ones(shape.n_embd, np.float32)
    norms = [f"blk.{i}.{part}_norm" for i in range(shape.n_layer) for part in ("attn", "ffn")]
    for name in ["output_norm", *norms]:
        yield gguf.TensorData.from_array(f"{name}.weight", ones)
    std = shape.n_embd**-0.5
    for name, (rows, cols), kind in matrices(shape, mix):

        def data(name: str = name, n: int = rows * cols, kind: str = kind) -> Iterator[Any]:
            return random_blocks(kind, n, std, seed=seed, name=name)

        yield gguf.TensorData(f"{name}.weight", (rows, cols), gguf.GGML_TYPES[kind], data)


def vocabulary(n: int) -> dict[str, Any]:
    """Metadata of a SentencePiece vocabulary of `n` tokens: 3 special ones, 256 bytes, then pieces of 1 to 3 letters.

    Every piece begins with a shorter one that is a token too and has a higher score, so each can be reached by merges.
    Raises ValueError where `n` is below 320 (single letters would be missing) or above what three letters give.
    """
    letters = "\u2581" + string.ascii_lowercase + ".,"
    pieces = ["".join(p) for length in (1, 2, 3, 4) for p in itertools.product(letters, repeat=min(length, 3))]
    pieces = list(dict.fromkeys(pieces + ["\u2581" + p for p in pieces]))  # those of three letters behind a space too
    if not 320 <= n <= 259 + len(pieces):
        raise ValueError(f"a vocabulary of {n} tokens; 320 to {259 + len(pieces)} can be made")
    pieces = pieces[: n - 259]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), *pieces],
        "tokenizer.ggml.scores": np.concatenate([np.zeros(259), -np.arange(len(pieces))]).astype(np.float32),
        "tokenizer.ggml.token_type": [2, 3, 3] + [6] * 256 + [1] * len(pieces),  # unknown, control, byte, normal
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": False,
    }


def metadata(shape: Shape, mix: str, label: str) -> dict[str, Any]:
    """All keys of the file."""
    return {
        "general.architecture": "llama",
        "general.name": f"random {label} {mix}",
        "general.file_type": MIXES[mix][0],
        "general.quantization_version": 2,
        "llama.vocab_size": shape.n_vocab,
        "llama.context_length": shape.n_ctx,
        "llama.embedding_length": shape.n_embd,
        "llama.block_count": shape.n_layer,
        "llama.feed_forward_length": shape.n_ff,
        "llama.rope.dimension_count": shape.n_embd // shape.n_head,
        "llama.attention.head_count": shape.n_head,
        "llama.attention.head_count_kv": shape.n_head_kv,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.freq_base": 10000.0,
    } | vocabulary(shape.n_vocab)


def make(path: Path, shape: Shape, mix: str, *, seed: int = 1, label: str = "shape") -> None:
    """Write one model. Raises ValueError or what `gguf.write` raises for a shape that the mix's blocks do not fit."""
    gguf.write(path, metadata(shape, mix, label), tensors(shape, mix, seed))


def main() -> None:
    """Write the models asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("mixes", nargs="+", metavar="TYPE", type=str.upper, choices=MIXES, help=", ".join(MIXES))
    parser.add_argument("--folder", type=Path, default=Path("build/shapes"), help="where to (default: build/shapes)")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    for mix in args.mixes:
        path, start = args.folder / f"{args.shape}-{mix.lower()}.gguf", time.monotonic()
        make(path, SHAPES[args.shape], mix, seed=args.seed, label=args.shape.upper())
        print(f"{path}: {path.stat().st_size / 1e6:.0f} MB in {time.monotonic() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main()
