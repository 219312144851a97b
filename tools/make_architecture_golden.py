"""Make tests/golden/architectures/NAME.json and NAME.npz: what transformers says about a small random model.

    pip install torch transformers safetensors numpy
    python tools/make_architecture_golden.py llama mistral      some of tests/architecture_variants/
    python tools/make_architecture_golden.py                    all that have no golden file yet

A model of the variant's config is made and saved, which gives the names and shapes that folders of its class have; they
are filled from a seed (tests/seeded_weights.py), loaded as anybody would, and run in float32:

    ids       300 token ids
    logits    of some rows of each run (in the .npz, "N" for the run over the first N ids)
    greedy    16 tokens after a prompt, each from a pass over the whole text, and how far the second best logit was
    effects   how far some logit moves when one parameter is made neutral (a norm of ones, else zeros), each in turn

A parameter whose effect is below ten times the tolerance is idle, and the model is refused: a converter that loses it
would not be seen. The engine takes no part.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
import torch
import transformers

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden" / "architectures"
sys.path.insert(0, str(ROOT / "tests"))

import seeded_weights  # noqa: E402
from architecture_variants import Variant, all_variants, rows_of  # noqa: E402

N_IDS, N_GREEDY, N_EFFECT = 300, 16, 64


class Oracle:
    """A variant's model in transformers, with its seeded weights."""

    def __init__(self, name: str, variant: Variant) -> None:
        self.variant = variant
        made = getattr(transformers, variant.hf)
        with tempfile.TemporaryDirectory() as folder:
            config = made.config_class(**variant.config)
            made(config).save_pretrained(folder)
            self.config = json.loads((Path(folder) / "config.json").read_text())
            path = Path(folder) / "model.safetensors"
            with safetensors.safe_open(path, "np") as f:
                self.shapes = {key: tuple(f.get_slice(key).get_shape()) for key in sorted(f.keys())}
            weights = seeded_weights.weights(name, self.shapes, variant)
            safetensors.numpy.save_file(weights, path, metadata={"format": "pt"})
            self.model, info = made.from_pretrained(
                folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
            )
        wrong = {k: v for k, v in info.items() if v}
        if wrong:
            raise SystemExit(f"{name}: the seeded folder is not loaded whole: {wrong}")
        self.model.eval()
        self.n_vocab = int(self.model.get_input_embeddings().weight.shape[0])
        self.ids = seeded_weights.ids(name, N_IDS, self.n_vocab)

    def run(self, ids: list[int]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """(T, V), or (T, C) of an encoder."""
        with torch.no_grad():
            options: dict[str, Any] = {"use_cache": False} if self.variant.output == "logits" else {}
            if self.variant.second:
                options["token_type_ids"] = torch.tensor([self.variant.segments(len(ids))])
            found = self.model(input_ids=torch.tensor([ids]), **options)[self.variant.output]
        return np.asarray(found[0].numpy(), np.float32)

    def greedy(self) -> tuple[list[int], list[float]]:
        """The continuation, and the gaps."""
        text, tokens, gaps = self.ids[: self.variant.prompt], [], []
        for _ in range(N_GREEDY if self.variant.prompt else 0):
            row = self.run(text)[-1]
            second, first = np.partition(row, -2)[-2:]
            tokens.append(int(row.argmax()))
            gaps.append(round(float(first - second), 6))
            text = [*text, tokens[-1]]
        return tokens, gaps

    @contextmanager
    def neutral(self, parameter: torch.nn.Parameter, name: str) -> Iterator[None]:
        """The parameter made neutral, for a while."""
        kept = parameter.detach().clone()
        about_one = parameter.dim() == 1 and not name.endswith("bias") and abs(float(kept.mean())) > 0.5
        with torch.no_grad():
            parameter.fill_(1.0 if about_one else 0.0)
        yield
        with torch.no_grad():
            parameter.copy_(kept)

    def effects(self) -> dict[str, float]:
        """Largest change of a logit, per parameter."""
        ids = self.ids[:N_EFFECT]
        plain, effects = self.run(ids), {}
        for name, parameter in self.model.named_parameters():
            with self.neutral(parameter, name):
                effects[name] = float(f"{np.abs(self.run(ids) - plain).max():.4g}")
        return effects


def make(name: str, variant: Variant) -> None:
    """Write one pair of files. Raises SystemExit for an idle parameter."""
    oracle = Oracle(name, variant)
    effects = oracle.effects()
    for parameter, effect in effects.items():
        if any(re.search(pattern, parameter) for pattern in variant.idle):
            continue
        if not effect >= 10 * variant.atol:
            raise SystemExit(f"{name}: {parameter} is idle: neutral, it moves no logit by more than {effect}")
    runs = {str(n): oracle.run(oracle.ids[:n])[rows_of(n)] for n in variant.lengths}
    tokens, gaps = oracle.greedy()
    about = {
        "oracle": f"transformers {transformers.__version__}, torch {torch.__version__}, numpy {np.__version__}",
        "command": f"python tools/make_architecture_golden.py {name}",
        "class": variant.hf,
        "n_vocab": oracle.n_vocab,
        "config": oracle.config,
        "parameters": {key: list(shape) for key, shape in oracle.shapes.items()},
        "ids": oracle.ids,
        "greedy": tokens,
        "greedy_gaps": gaps,
        "effects": effects,
    }
    keep(GOLDEN / name, about, runs)
    size = max(float(np.abs(run).max()) for run in runs.values())
    least = min(effects, key=lambda key: effects[key])
    print(f"{name}: largest output {size:.2f}, least gap {min(gaps, default=0):.4f}")
    print(f"    least effect {effects[least]} of {least}")


def keep(path: Path, about: dict[str, Any], arrays: dict[str, Any]) -> None:
    """Write what is known of a variant, a line a key, and its arrays."""
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in about.items())
    path.parent.mkdir(exist_ok=True)
    path.with_suffix(".json").write_text(f"{{\n{lines}\n}}\n")
    np.savez_compressed(path.with_suffix(".npz"), **arrays)


def make_asked(doc: str | None, variants: Mapping[str, Any], folder: Path, make: Callable[[str, Any], None]) -> None:
    """Those named on the command line, or all that have no file yet."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    names = parser.parse_args().names
    unknown = sorted(set(names) - set(variants))
    if unknown:
        raise SystemExit(f"no variant is called {', '.join(unknown)}; there are: {', '.join(sorted(variants))}")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for name in names or sorted(n for n in variants if not (folder / f"{n}.json").exists()):
        make(name, variants[name])


if __name__ == "__main__":
    make_asked(__doc__, all_variants(), GOLDEN, make)
