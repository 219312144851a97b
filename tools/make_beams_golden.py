"""Make tests/golden/beams.json: what transformers' beam search writes on the small random llama where beams end early.

    pip install gguf numpy torch==2.13.0 transformers
    python tools/make_beams_golden.py                (from the repository's root; two minutes)

The model is tests/small_models.py's llama-f32, in float64. For each prompt and number of beams the tokens of the answer
without an end token become end tokens, one after the other and several at once, so that beams end at every place, win
and lose. transformers divides the log-probability of an answer by its length to the power of 1 (`length_penalty`) and
stops by its heuristic (`early_stopping=False`): its defaults, spelt out here. The engine takes no part.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers
from oracle import torch_model
from oracle.measures import golden_json

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
import small_models  # noqa: E402

NAME = "llama-f32"
PROMPTS = [[5, 17, 99, 23, 42], [1], list(range(3, 60, 2)), [88, 88, 88, 7]]
BEAMS = [2, 4, 7]
LENGTHS = [6, 16]
ENDS = 8  # end tokens tried one by one


def main() -> None:
    """Build, generate, write."""
    cases: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        path = small_models.build(NAME, Path(folder))
        model = torch_model.TorchModel(path).model

        def write(prompt: list[int], n_beams: int, ends: list[int], n_new: int) -> list[int]:
            """The answer, its end token included."""
            ids = torch.tensor([prompt])
            out = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=n_new,
                do_sample=False,
                num_beams=n_beams,
                length_penalty=1.0,
                early_stopping=False,
                pad_token_id=0,
                eos_token_id=ends or None,
            )
            tokens = [int(t) for t in out[0, len(prompt) :]]
            ended = [i for i, t in enumerate(tokens) if t in ends]
            return tokens[: ended[0] + 1] if ended else tokens

        for prompt in PROMPTS:
            for n_beams in BEAMS:
                base = write(prompt, n_beams, [], max(LENGTHS))
                single = [[t] for t in sorted(set(base[1:]))[:ENDS]]
                for ends in [*single, sorted(set(base[2:8]))]:
                    for n_new in LENGTHS:
                        tokens = write(prompt, n_beams, ends, n_new)
                        case = {"prompt": prompt, "num_beams": n_beams, "ends": ends, "n_new": n_new, "tokens": tokens}
                        cases.append(case)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    content = {
        "about": {"oracle": torch_model.version(), "command": "python tools/make_beams_golden.py"},
        "model": NAME,
        "sha256": digest,
        "cases": {f"{i}": case for i, case in enumerate(cases)},
    }
    (ROOT / "tests" / "golden" / "beams.json").write_text(golden_json(content, 2) + "\n")
    early = sum(c["tokens"][-1] in c["ends"] and len(c["tokens"]) < c["n_new"] for c in cases)
    print(f"{len(cases)} cases, of which {early} end early; transformers {transformers.__version__}")


if __name__ == "__main__":
    main()
