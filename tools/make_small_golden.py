"""Make tests/golden/small.json and small.npz: what the small random models of tests/small_models.py must say.

    pip install gguf numpy llama-cpp-python torch==2.13.0 transformers
    python tools/make_small_golden.py            (from the repository's root; a minute)

Per model: a digest of its file, the token ids of one text (llama.cpp's), the float64 logits at 16 positions (the tool
stops if transformers disagrees by more than 1e-4), 24 greedy tokens with the distances of the two best logits, and
how far llama.cpp itself is from these logits.  The engine takes no part.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import numpy as np
from oracle import peer, torch_model
from oracle.forward import FloatModel
from oracle.measures import golden_json, kl, max_difference, short

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
import small_models  # noqa: E402

TEXT = (
    "In the beginning God created the heaven and the earth. And the earth was without form, and void; and darkness "
    "was upon the face of the deep.\n\n\u201cLet there be light\u201d: caf\u00e9, \u4e16\u754c, \U0001f642, 3,141 - "
    "and there was light.\n"
)
N_IDS, N_GREEDY = 160, 24
# the ends of Gemma's window (24) and of attention's spans (64) are among the positions kept
ROWS = [0, 1, 2, 7, 23, 24, 25, 40, 63, 64, 65, 100, 127, 128, 129, 159]


def main() -> None:
    """Build, evaluate, compare, write."""
    models: dict[str, Any] = {}
    arrays: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in small_models.MODELS:
            path = small_models.build(name, Path(folder))
            llama = peer.Peer(path, n_ctx=256, f32_cache=name.endswith("-f32"))
            encoded = llama.encode(TEXT)
            ids = (encoded * 8)[:N_IDS]
            model = FloatModel(path)
            logits = model.logits(ids)
            torch_difference = max_difference(logits, torch_model.TorchModel(path).logits(ids))
            if torch_difference > 1e-4:
                raise SystemExit(f"{name}: transformers differs by {torch_difference:.3g}; find out who is right")
            theirs = llama.logits(ids)
            divergence = kl(logits, theirs)
            greedy, gaps = model.greedy(ids[:8], N_GREEDY)
            arrays[name] = logits[ROWS].astype(np.float32)
            models[name] = {
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "encoded": encoded,
                "ids": ids,
                "greedy": greedy,
                "greedy_gaps": [short(g) for g in gaps],
                "transformers_max_difference": short(torch_difference),
                "peer": {
                    "max_difference": short(max_difference(logits, theirs)),
                    "mean_kl": short(divergence.mean()),
                    "mean_kl_rows": short(divergence[ROWS].mean()),
                },
            }
            print(name, models[name]["transformers_max_difference"], models[name]["peer"])
    about = {
        "oracle": "tools/oracle/forward.py in float64, weights dequantised by gguf "
        f"{package_version('gguf')}, numpy {np.__version__}",
        "checked_against": torch_model.version(),
        "peer": peer.version(),
        "command": "python tools/make_small_golden.py",
    }
    golden = ROOT / "tests" / "golden"
    np.savez_compressed(golden / "small.npz", **arrays)
    content = {"about": about, "text": TEXT, "rows": ROWS, "models": models}
    (golden / "small.json").write_text(golden_json(content) + "\n")


if __name__ == "__main__":
    main()
