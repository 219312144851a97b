"""Models of a wanted shape and number format with random weights, to measure speed where no trained file is at hand.

    python tools/make_shape.py 1.1b Q4_0 Q4_K_M F16 --folder shapes       writes shapes/1.1b-q4_0.gguf and so on
    python tools/make_shape.py 7b Q4_0 --folder shapes --seed 3
    python tools/make_shape.py families Q4_0 --folder shapes              every kind of architecture, at about 500M

The files are models that every engine loads: norms of 1, biases of 0, matrices of deviation C^-0.5 written as blocks of
their type directly (bench/blocks.py; no F16 stage), the mix of types that llama-quantize makes of a model of that
shape (of Q2_K, Q3_K, the IQ and TQ types: with --pure), and a SentencePiece vocabulary of made-up pieces. Which shapes
there are says bench/shapes.py. One tensor is made and written after the other, so that memory stays at some MB. The
same seed gives the same file. What comes out of such a model is noise.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from bench.blocks import random_blocks
from bench.rows import FAMILIES
from bench.shapes import SHAPES, Shape
from bench.vocabulary import vocabulary

from zigllama import gguf
from zigllama.app import mixes

# All matrices of the one type but the output, so that its own speed is seen; the mixes give some of them more bits.
# Name -> the mix whose type and number they have.
PURE = {"Q2_K": "Q2_K", "Q3_K": "Q3_K_S", "IQ2_S": "IQ2_M", "TQ1_0": "TQ1_0", "TQ2_0": "TQ2_0"}
PURE |= {f"IQ{name}": f"IQ{name}" for name in ("1_S", "1_M", "2_XXS", "2_XS", "3_XXS", "3_S", "4_NL", "4_XS")}
MIXED = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K_M", "Q5_K_M", "Q6_K")


def types(shape: Shape, name: str) -> dict[str, str]:
    """The type of every tensor by name, in the order of the file. Raises InvalidArgument where no type fits a row."""
    mix, keys = mixes.mix_by_name(PURE.get(name, name)), shape.keys
    facts = mixes.Facts(
        architecture=shape.architecture,
        n_layer=keys["block_count"],
        n_attn_v=sum(mixes.role_of(tensor) == "attn_v" for tensor in shape.tensors),
        gqa=keys.get("attention.head_count", 0) // (keys.get("attention.head_count_kv", 0) or 1),
        n_expert=keys.get("expert_count", 0),
        tied=shape.tied,
        has_importance=False,
    )
    chooser, found = mixes.Chooser(mix, facts), {}
    for tensor in sorted(shape.tensors, key=mixes.order_of):
        size = shape.tensors[tensor]
        if not mixes.is_quantizable(tensor, size):
            found[tensor] = "F32"
            continue
        output = mixes.role_of(tensor) == ("embedding" if shape.tied else "output")
        kind = chooser.type_for(tensor, size) if name not in PURE or output else mix.base
        found[tensor] = mixes.fitting(kind, size[-1]).name
    return found


def fixed(name: str, size: tuple[int, ...]) -> npt.NDArray[np.float32] | None:
    """The values of what is not random: norms, biases, and what steers a scan as a model is trained from."""
    part = name.split(".", 2)[-1] if name.startswith("blk.") else name
    if part == "ssm_dt.bias":  # softplus of it: steps from 0.001 to 0.1
        return np.log(np.expm1(np.geomspace(0.001, 0.1, size[0]))).astype(np.float32)
    if part == "ssm_a":  # -1 .. -N for each channel; of Mamba 2, whose heads have one each, -1 .. -16
        row = -np.linspace(1, 16, size[0])[:, None] if size[-1] == 1 else -np.arange(1.0, 1 + size[-1])
        return np.ascontiguousarray(np.broadcast_to(row, size), np.float32)
    if part.endswith("_norm.weight") or part == "ssm_d":
        return np.ones(size, np.float32)
    return np.zeros(size, np.float32) if part.endswith(".bias") else None


def tensors(shape: Shape, mix: str, seed: int) -> Iterator[gguf.TensorData]:
    """Every tensor, its data made when its turn comes."""
    std = shape.n_embd**-0.5
    for name, kind in types(shape, mix).items():
        size = shape.tensors[name]
        if (values := fixed(name, size)) is not None:
            yield gguf.TensorData.from_array(name, values)
            continue
        label = name.removesuffix(".weight")

        def data(label: str = label, n: int = math.prod(size), kind: str = kind) -> Iterator[Any]:
            return random_blocks(kind, n, std, seed=seed, name=label)

        yield gguf.TensorData(name, size, gguf.GGML_TYPES[kind], data)


def metadata(shape: Shape, mix: str, label: str) -> dict[str, Any]:
    """All keys of the file."""
    about = {
        "general.name": f"random {label} {mix}",
        "general.file_type": mixes.mix_by_name(PURE.get(mix, mix)).file_type,
        "general.quantization_version": 2,
    }
    return shape.metadata | about | vocabulary(shape.n_vocab)


def make(path: Path, shape: Shape, mix: str, *, seed: int = 1, label: str = "shape") -> None:
    """Write one model. Raises ValueError or what `gguf.write` raises for a shape that the mix's blocks do not fit."""
    gguf.write(path, metadata(shape, mix, label), tensors(shape, mix, seed))


def main() -> None:
    """Write the models asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=[*SHAPES, "families"])
    known = (*MIXED, *PURE)
    parser.add_argument("mixes", nargs="+", metavar="TYPE", type=str.upper, choices=known, help=", ".join(known))
    parser.add_argument("--folder", type=Path, default=Path("build/shapes"), help="where to (default: build/shapes)")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    for name in FAMILIES if args.shape == "families" else (args.shape,):
        for mix in args.mixes:
            path, start = args.folder / f"{name}-{mix.lower()}.gguf", time.monotonic()
            make(path, SHAPES[name], mix, seed=args.seed, label=name.upper())
            print(f"{path}: {path.stat().st_size / 1e6:.0f} MB in {time.monotonic() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main()
