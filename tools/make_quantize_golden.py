"""Make tests/golden/quantize_iq.json or quantize_k.json: the errors of ggml's own quantisers on the rows of the tests.

    python tools/make_quantize_golden.py k path/to/libggml-base.so "llama.cpp b1234"          a few seconds
    python tools/make_quantize_golden.py k --rows NAME=model.gguf:tensor ...    the rows of real models, beforehand

For each type of the family and kind of row the relative squared error, plain and weighted by importance, as tests/
quantize_samples.py defines both. Rows come from GGUF or safetensors files. The engine takes no part in this: ggml's
blocks are read by PyPI's `gguf`.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFReader
from gguf import dequantize as decode

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from oracle import ggml  # noqa: E402
from quantize_samples import GOLDEN, NEED_IMPORTANCE, TYPES, all_rows, error, importance_of, rows_file  # noqa: E402

F32 = npt.NDArray[np.float32]


def quantized(lib: ctypes.CDLL, x: F32, number: int, importance: F32 | None) -> F32:
    """What the rows are worth once the library has quantised them, by PyPI's `gguf`."""
    kind = GGMLQuantizationType(number)
    worth: F32 = decode(ggml.quantized(lib, x, number, GGML_QUANT_SIZES[kind], importance), kind)
    return worth


def tensor_of(path: str, name: str) -> F32:
    """A matrix of a GGUF file, or one of float32 of a safetensors file."""
    if not path.endswith(".safetensors"):
        found = next(t for t in GGUFReader(path).tensors if t.name == name)
        values: F32 = decode(found.data, found.tensor_type)
        return values
    raw = Path(path).read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    entry = json.loads(raw[8:start])[name]
    if entry["dtype"] != "F32":
        raise SystemExit(f"{name} is {entry['dtype']}, want F32")
    first, end = (start + offset for offset in entry["data_offsets"])
    return np.frombuffer(raw[first:end], "<f4").reshape(entry["shape"])


def keep_rows(family: str, sources: list[str]) -> None:
    """Four rows of each tensor, evenly spaced, as half floats."""
    kept = {}
    for source in sources:
        name, _, place = source.partition("=")
        path, _, tensor = place.rpartition(":")
        values = tensor_of(path, tensor)
        kept[name] = values[np.linspace(0, len(values) - 1, 4).astype(int)].astype(np.float16)
    np.savez_compressed(rows_file(family), **kept)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("family", choices=TYPES)
    parser.add_argument("library", nargs="?", help="ggml's libggml-base.so")
    parser.add_argument("version", nargs="?", help="which llama.cpp that is of")
    parser.add_argument(
        "--rows", nargs="+", metavar="NAME=FILE:TENSOR", help="write the rows of real models, and no more"
    )
    args = parser.parse_args()
    if args.rows:
        keep_rows(args.family, args.rows)
        return
    if not args.library or not args.version:
        parser.error("the library and its version are needed")
    lib = ggml.library(args.library)
    errors: dict[str, dict[str, dict[str, float]]] = {}
    for rows, x in all_rows(args.family).items():
        importance = importance_of(x.shape[1])
        for name, number in TYPES[args.family].items():
            found = {"weighted": error(x, quantized(lib, x, number, importance), importance)}
            if name not in NEED_IMPORTANCE:  # ggml ends the process
                found["plain"] = error(x, quantized(lib, x, number, None), None)
            errors.setdefault(name, {})[rows] = {kind: float(f"{value:.6g}") for kind, value in found.items()}
    about = {
        "oracle": f"ggml_quantize_chunk of {args.version}",
        "command": f"python tools/make_quantize_golden.py {args.family} libggml-base.so VERSION",
        "numpy": np.__version__,
        "errors": errors,
    }
    (GOLDEN / f"quantize_{args.family}.json").write_text(json.dumps(about, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
