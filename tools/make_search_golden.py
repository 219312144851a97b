"""Make tests/golden/search.json: what transformers' contrastive and beam search write on the small random llama.

    pip install gguf numpy torch==2.13.0 transformers==4.55.4    (the last that carry contrastive search themselves)
    python tools/make_search_golden.py               (from the repository's root; a few seconds)

The model is tests/small_models.py's llama-f32, in float64. The tool stops if the logits are not those of small.npz: an
older transformers reads the rotary base from another place. The engine takes no part.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from oracle import torch_model
from oracle.measures import golden_json, max_difference
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
import small_models  # noqa: E402

NAME = "llama-f32"
PROMPTS = [[5, 17, 99, 23, 42], [1], list(range(3, 60, 2)), [88, 88, 88, 7]]
CONTRASTIVE = [(0.6, 4), (0.1, 2), (0.9, 8)]
BEAMS = [2, 4, 7]
N_NEW = 16


def greedy_options(**options: Any) -> dict[str, Any]:
    """Of `generate`, without anything that is on by default."""
    return {"max_new_tokens": N_NEW, "do_sample": False, "pad_token_id": 0, "use_cache": True, **options}


def main() -> None:
    """Build, check, generate, write."""
    golden = ROOT / "tests" / "golden"
    cases: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        path = small_models.build(NAME, Path(folder))
        oracle = torch_model.TorchModel(path)
        oracle.config.rope_theta = 20000.0  # small_models.LLAMA
        oracle.model.model.rotary_emb = LlamaRotaryEmbedding(oracle.config)
        with np.load(golden / "small.npz") as arrays:
            about = json.loads((golden / "small.json").read_text("utf-8"))
            off = max_difference(oracle.logits(about["models"][NAME]["ids"])[about["rows"]], arrays[NAME])
        if off > 1e-4:
            raise SystemExit(f"the logits differ from those of small.npz by {off:.3g}")
        likely = int(oracle.logits(PROMPTS[0])[-1].argsort()[-3])
        for prompt in PROMPTS:
            ids = torch.tensor([prompt])

            def write(eos: int | None, ids: torch.Tensor = ids, n: int = len(prompt), **options: Any) -> list[int]:
                out = oracle.model.generate(ids, **greedy_options(eos_token_id=eos, **options))
                return [int(t) for t in out[0, n:]]

            for alpha, k in CONTRASTIVE:
                tokens = write(None, penalty_alpha=alpha, top_k=k)
                cases.append({"prompt": prompt, "penalty_alpha": alpha, "top_k": k, "tokens": tokens})
            for n in BEAMS:
                for eos in (None, likely):
                    tokens = write(eos, num_beams=n)
                    cases.append({"prompt": prompt, "num_beams": n, "eos": eos, "tokens": tokens})
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    content = {
        "about": {"oracle": torch_model.version(), "command": "python tools/make_search_golden.py"},
        "model": NAME,
        "sha256": digest,
        "n_new": N_NEW,
        "cases": cases,
    }
    (golden / "search.json").write_text(golden_json(content) + "\n")
    print(f"{len(cases)} cases, {transformers.__version__}, logits within {off:.2g}")


if __name__ == "__main__":
    main()
