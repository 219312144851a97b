"""Make tests/golden/quantize_mixes.json and quantize_files.json: which type llama-quantize gives each tensor, in every
mix; and digests of whole files that it writes.

    python tools/make_mixes_golden.py LLAMA_QUANTIZE [WORDS]      path of the binary; where its source is from

The models are heads without data (tests/hollow_models.py); llama-quantize is asked for a dry run of each mix, without
and with an importance matrix, and of some flags. Per model and run the commonest type and the tensors of others are
kept (`hollow_models.compact`); a run with importance that is like the one without is left out. The files are those of
tests/quantize_files.py. zigllama takes no part.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
import hollow_models  # noqa: E402
import quantize_files  # noqa: E402
import small_models  # noqa: E402

MIXES = [
    "F32", "F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "Q6_K", "Q5_K", "Q5_K_M", "Q5_K_S", "Q4_K",
    "Q4_K_M", "Q4_K_S", "Q3_K", "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K", "Q2_K_S", "IQ4_NL", "IQ4_XS", "IQ3_M",
    "IQ3_S", "IQ3_XS", "IQ3_XXS", "IQ2_M", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_M", "IQ1_S", "TQ2_0", "TQ1_0",
    "MXFP4_MOE",
]  # fmt: skip
FLAGS = (
    "--pure",
    "--leave-output-tensor",
    "--output-tensor-type Q5_0",
    "--token-embedding-type Q4_1",
    "--output-tensor-type Q5_0 --token-embedding-type Q4_1",
    "--tensor-type attn_v=q8_0 --tensor-type blk\\.[0-3]\\.ffn=q3_k --tensor-type .*=iq4_xs",
)
FLAGGED = ("grouped", "dense")
LINE = re.compile(r"\[ *\d+/ *\d+\] (\S+) +- \[.*?\], type = +(\w+), size = .*?(?:\((\w+)\))?$")


def ask(binary: Path, model: Path, mix: str, flags: list[str]) -> dict[str, str]:
    """Type of every tensor that llama-quantize would write."""
    words = [str(binary), *flags, "--dry-run", str(model), mix]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    lines = [m for line in (done.stdout + done.stderr).splitlines() if (m := LINE.search(line))]
    if done.returncode or not lines:
        raise SystemExit(f"{' '.join(words)}: {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return {m[1]: (m[3] or m[2]).upper() for m in lines}


def version(binary: Path) -> str:
    """What the program says of itself."""
    done = subprocess.run([str(binary), "--dry-run", "nothing", "Q8_0"], capture_output=True, text=True, timeout=60)
    text = done.stdout + done.stderr
    match = re.search(r"version[:=]? *(.+?)(?: \(build 0, commit unknown\))?$", text, re.MULTILINE)
    return match[1].strip() if match else "unknown version"


def write_files(binary: Path) -> dict[str, str]:
    """SHA-256 of the file of each case."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        quantize_files.write_importance(Path(folder) / quantize_files.IMPORTANCE)
        for case, (model, mix, flags) in quantize_files.cases().items():
            path, out = small_models.build(model, Path(folder)), Path(folder) / "out.gguf"
            words = [str(binary), *flags, str(path), str(out), mix]
            subprocess.run(words, cwd=folder, check=True, capture_output=True, timeout=120)
            found[case] = hashlib.sha256(out.read_bytes()).hexdigest()
            out.unlink()
    return found


def main() -> None:
    """Ask and write."""
    binary = Path(sys.argv[1]).resolve()
    models: dict[str, dict[str, dict[str, str]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        imatrix = Path(folder) / "one.dat"  # one entry, one call, one value: enough to count as an importance matrix
        imatrix.write_bytes(struct.pack("<ii1siif", 1, 1, b"x", 1, 1, 1.0))
        for name in hollow_models.MODELS:
            path = hollow_models.build(name, Path(folder))
            runs: dict[str, dict[str, str]] = {}
            for mix in MIXES:
                runs[mix] = hollow_models.compact(ask(binary, path, mix, []))
                weighed = hollow_models.compact(ask(binary, path, mix, ["--imatrix", str(imatrix)]))
                if weighed != runs[mix]:
                    runs[f"{mix} imatrix"] = weighed
            for flags in FLAGS if name in FLAGGED else ():
                runs[f"Q4_K_M {flags}"] = hollow_models.compact(ask(binary, path, "Q4_K_M", flags.split()))
            models[name] = runs
            print(name, len(runs), flush=True)
    about = {
        "oracle": " ".join(["llama-quantize of llama.cpp,", version(binary), *sys.argv[2:]]),
        "command": "python tools/make_mixes_golden.py LLAMA_QUANTIZE",
        "models": "tests/hollow_models.py",
    }
    golden = ROOT / "tests" / "golden"
    files = {"about": about | {"models": "tests/quantize_files.py"}, "sha256": write_files(binary)}
    (golden / "quantize_files.json").write_text(json.dumps(files, indent=2) + "\n")
    lines = []
    for name, runs in models.items():
        own = ",\n".join(f"      {json.dumps(key)}: {json.dumps(types)}" for key, types in runs.items())
        lines.append(f"    {json.dumps(name)}: {{\n{own}\n    }}")
    text = f'{{\n  "about": {json.dumps(about)},\n  "models": {{\n' + ",\n".join(lines) + "\n  }\n}\n"
    (golden / "quantize_mixes.json").write_text(text)


if __name__ == "__main__":
    main()
