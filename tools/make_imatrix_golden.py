"""Make tests/golden/imatrix-*: importance matrices that llama-imatrix writes for small random models.

    python tools/make_imatrix_golden.py LLAMA_IMATRIX [WORDS]      path of the binary; where its source is from

The models are those of tests/small_models.py with float32 matrices and a float32 cache, so that nothing but the order
of float32 sums is between two engines; the text is tests/golden/texts/psalm.txt. Which runs there are, with which
flags, is in RUNS. zigllama takes no part.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
import small_models  # noqa: E402

GOLDEN = ROOT / "tests" / "golden"
TEXT = "psalm.txt"
FLAGS = ["-f", TEXT, "-c", "32", "-ctk", "f32", "-ctv", "f32", "-fa", "off", "-t", "1"]
RUNS = {  # file -> model, more flags
    "imatrix-llama.gguf": ("llama-f32", ["--process-output"]),
    "imatrix-llama.dat": ("llama-f32", ["--output-format", "dat", "--chunks", "3"]),
    "imatrix-gemma3.gguf": ("gemma3-f32", []),
    "imatrix-mixture.gguf": ("mixture-f32", []),
}


def version(binary: Path) -> str:
    """What the program says of itself."""
    done = subprocess.run([str(binary), "--version"], capture_output=True, text=True, timeout=60)
    match = re.search(r"version: *(\S+)", done.stdout + done.stderr)
    return match[1] if match else "unknown version"


def main() -> None:
    """Run and write."""
    binary = Path(sys.argv[1]).resolve()
    runs = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (model, more) in RUNS.items():
            path = small_models.build(model, Path(folder))
            words = [*FLAGS, *more, "-o", str(GOLDEN / name)]
            done = subprocess.run(
                [str(binary), "-m", str(path), *words],
                cwd=GOLDEN / "texts",
                capture_output=True,
                text=True,
                timeout=120,
            )
            found = re.search(r"PPL = ([\d.]+) \+/- ([\d.]+)", done.stdout + done.stderr)
            if done.returncode or found is None:
                raise SystemExit(f"{name}: {done.returncode}\n{done.stderr[-2000:]}")
            runs[name] = {
                "model": model,
                "model_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "flags": " ".join([*FLAGS, *more]),
                "perplexity": [float(found[1]), float(found[2])],
                "sha256": hashlib.sha256((GOLDEN / name).read_bytes()).hexdigest(),
            }
            print(name, runs[name]["perplexity"], (GOLDEN / name).stat().st_size, flush=True)
    about = {
        "oracle": " ".join(["llama-imatrix of llama.cpp,", version(binary), *sys.argv[2:]]),
        "command": "python tools/make_imatrix_golden.py LLAMA_IMATRIX",
        "models": "tests/small_models.py",
    }
    (GOLDEN / "imatrix.json").write_text(json.dumps({"about": about, "runs": runs}, indent=2) + "\n")


if __name__ == "__main__":
    main()
