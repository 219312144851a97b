"""Make tests/golden/quantize_legacy.json: what ggml's own quantisers do where they are neither K- nor IQ-quants.

    python tools/make_legacy_golden.py path/to/libggml-base.so "llama.cpp b1234"          a second

Of the formats with one rule (tests/quantize_low_samples.py) digests of the bytes; of Q4_0 to Q5_1 with importance the
relative squared errors, weighted by it, on rows with long tails and of a real model. The engine takes no part: ggml's
blocks are read by PyPI's `gguf`. And of the formats that gguf does not read, digests of what ggml makes of blocks
(tests/format_samples.py).
"""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf import dequantize as decode

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from format_samples import UNREAD, unread_blocks, values_digest  # noqa: E402
from oracle import ggml  # noqa: E402
from quantize_low_samples import TYPES, digest, error, importance_of, low_rows, searched_rows  # noqa: E402

GOLDEN = ROOT / "tests" / "golden" / "quantize_legacy.json"
WEIGHED = ("Q4_0", "Q4_1", "Q5_0", "Q5_1")
Q2_0 = (64, 18)  # values and bytes of a block, which gguf does not list
F32 = npt.NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("library", help="ggml's libggml-base.so")
    parser.add_argument("version", help="which llama.cpp that is of")
    args = parser.parse_args()
    lib = ggml.library(args.library)
    digests: dict[str, dict[str, str]] = {}
    for rows, x in low_rows().items():
        for name, number in TYPES.items():
            sizes = Q2_0 if name == "Q2_0" else GGML_QUANT_SIZES[GGMLQuantizationType[name]]
            digests.setdefault(name, {})[rows] = digest(ggml.quantized(lib, x, number, sizes, None))
    errors: dict[str, dict[str, float]] = {}
    for rows, x in searched_rows().items():
        importance = importance_of(x.shape[1])
        for name in WEIGHED:
            kind = GGMLQuantizationType[name]
            worth = decode(ggml.quantized(lib, x, kind.value, GGML_QUANT_SIZES[kind], importance), kind)
            errors.setdefault(name, {})[rows] = float(f"{error(x, worth, importance):.6g}")
    values: dict[str, str] = {}
    for name, (cols, reader) in UNREAD.items():
        raw = unread_blocks(name)
        y = np.zeros((len(raw), cols), np.float32)
        read = getattr(lib, reader)
        read.restype, read.argtypes = None, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
        read(raw.ctypes.data, y.ctypes.data, y.size)
        values[name] = values_digest(y)
    about = {
        "oracle": f"ggml_quantize_chunk of {args.version}",
        "command": "python tools/make_legacy_golden.py libggml-base.so VERSION",
        "numpy": np.__version__,
        "digests": digests,
        "weighted errors": errors,
        "values": values,
    }
    GOLDEN.write_text(json.dumps(about, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
