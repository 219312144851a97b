"""Make tests/golden/quantize_iq.json: the errors that ggml's own quantisers make on the rows of the tests.

    python tools/make_iq_golden.py path/to/libggml-base.so "llama.cpp b1234"          a few seconds
    python tools/make_iq_golden.py --rows NAME=model.gguf:tensor ...    the rows of real models, beforehand

For each IQ type and kind of row the relative squared error, plain and weighted by importance, as tests/
quantize_iq_samples.py defines both. The engine takes no part but in reading ggml's blocks, where its bits are ggml's.
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
from quantize_iq_samples import NEED_IMPORTANCE, ROWS, TYPES, all_rows, error, importance_of  # noqa: E402

GOLDEN = ROOT / "tests" / "golden" / "quantize_iq.json"
F32 = npt.NDArray[np.float32]


def oracle(library: str) -> ctypes.CDLL:
    lib = ctypes.CDLL(library)
    lib.ggml_quantize_chunk.restype = ctypes.c_size_t
    p, n = ctypes.c_void_p, ctypes.c_int64
    lib.ggml_quantize_chunk.argtypes = [ctypes.c_int, p, p, n, n, n, p]
    return lib


def quantized(lib: ctypes.CDLL, x: F32, name: str, importance: F32 | None) -> F32:
    """What the rows are worth once the library has quantised them, by PyPI's `gguf`."""
    values, size = GGML_QUANT_SIZES[GGMLQuantizationType(TYPES[name])]
    data = np.zeros((len(x), x.shape[1] // values * size), np.uint8)
    lib.ggml_quantize_init(TYPES[name])
    weights = None if importance is None else importance.ctypes.data
    written = lib.ggml_quantize_chunk(TYPES[name], x.ctypes.data, data.ctypes.data, 0, *x.shape, weights)
    if written != data.nbytes:
        raise SystemExit(f"{name}: {written} bytes, expected {data.nbytes}")
    worth: F32 = decode(data, GGMLQuantizationType(TYPES[name]))
    return worth


def keep_rows(sources: list[str]) -> None:
    """Four rows of each tensor, evenly spaced, as half floats."""
    kept = {}
    for source in sources:
        name, _, place = source.partition("=")
        path, _, tensor = place.rpartition(":")
        found = next(t for t in GGUFReader(path).tensors if t.name == tensor)
        values = decode(found.data, found.tensor_type)
        kept[name] = values[np.linspace(0, len(values) - 1, 4).astype(int)].astype(np.float16)
    np.savez_compressed(ROWS, **kept)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("library", nargs="?", help="ggml's libggml-base.so")
    parser.add_argument("version", nargs="?", help="which llama.cpp that is of")
    parser.add_argument(
        "--rows", nargs="+", metavar="NAME=FILE:TENSOR", help="write the rows of real models, and no more"
    )
    args = parser.parse_args()
    if args.rows:
        keep_rows(args.rows)
        return
    if not args.library or not args.version:
        parser.error("the library and its version are needed")
    lib = oracle(args.library)
    errors: dict[str, dict[str, dict[str, float]]] = {}
    for rows, x in all_rows().items():
        importance = importance_of(x.shape[1])
        for name in TYPES:
            found = {"weighted": error(x, quantized(lib, x, name, importance), importance)}
            if name not in NEED_IMPORTANCE:  # ggml ends the process
                found["plain"] = error(x, quantized(lib, x, name, None), None)
            errors.setdefault(name, {})[rows] = {kind: float(f"{value:.6g}") for kind, value in found.items()}
    about = {
        "oracle": f"ggml_quantize_chunk of {args.version}",
        "command": "python tools/make_iq_golden.py libggml-base.so VERSION",
        "numpy": np.__version__,
        "errors": errors,
    }
    GOLDEN.write_text(json.dumps(about, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
