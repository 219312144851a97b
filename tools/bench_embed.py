"""Texts per second of embeddings, beside torch and onnxruntime: the same texts in batches, in turn, medians.

    python tools/bench_embed.py FOLDER MODEL.gguf [MODEL.gguf ...] --python PYTHON [-t 2] [--rounds 5]

FOLDER is a sentence-transformers folder, the files are made of it by `zigllama convert`; PYTHON has torch, transformers
and onnxruntime (it may be this one). The peers run in a process of their own and get texts sorted by length in batches
of 32, padded to the longest of a batch, as sentence-transformers does it; the time is that of tokens to vectors,
without the tokenizer, on all sides.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

TEXTS = Path(__file__).resolve().parent.parent / "tests" / "golden" / "minilm.json"
BATCH = 32

PEER = r"""
import io, json, sys, time
import numpy as np, torch, transformers
folder, threads = sys.argv[1], int(sys.argv[2])
batches = json.loads(sys.stdin.readline())
torch.set_num_threads(threads)
model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa").eval()
padded = []
for batch in batches:
    n = max(map(len, batch))
    mask = np.array([[1] * len(b) + [0] * (n - len(b)) for b in batch])
    padded.append((np.array([b + [0] * (n - len(b)) for b in batch]), mask))
def pooled(rows, mask):
    y = (rows * mask[..., None]).sum(1) / mask.sum(1)[:, None]
    return y / np.linalg.norm(y, axis=1, keepdims=True)
def of_torch():
    with torch.inference_mode():
        on = torch.from_numpy
        return [pooled(model(on(i), attention_mask=on(m)).last_hidden_state.numpy(), m) for i, m in padded]
runs = {"torch " + torch.__version__: of_torch}
try:
    import onnxruntime as ort
    class Rows(torch.nn.Module):
        def __init__(self):
            super().__init__()
            kind = {"dtype": torch.float32, "attn_implementation": "eager"}
            self.m = transformers.AutoModel.from_pretrained(folder, **kind).eval()
        def forward(self, input_ids, attention_mask):
            return self.m(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
    buffer = io.BytesIO()
    i, m = (torch.from_numpy(x) for x in padded[0])
    axes = {"input_ids": {0: "n", 1: "t"}, "attention_mask": {0: "n", 1: "t"}}
    names = {"input_names": list(axes), "output_names": ["rows"]}
    torch.onnx.export(Rows(), (i, m), buffer, dynamic_axes=axes, dynamo=False, **names)
    options = ort.SessionOptions(); options.intra_op_num_threads = threads
    session = ort.InferenceSession(buffer.getvalue(), options, providers=["CPUExecutionProvider"])
    def of_ort():
        return [pooled(session.run(None, {"input_ids": i, "attention_mask": m})[0], m) for i, m in padded]
    of_ort()
    runs["onnxruntime " + ort.__version__] = of_ort
except Exception as e:
    print("onnxruntime:", repr(e)[:300], file=sys.stderr)
print(json.dumps(list(runs)), flush=True)
for line in sys.stdin:
    start = time.perf_counter(); rows = runs[json.loads(line)](); took = time.perf_counter() - start
    print(json.dumps([took, np.concatenate(rows)[:4, :4].tolist()]), flush=True)
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    from zigllama import Model

    ids: list[list[int]] = sorted(json.loads(TEXTS.read_text("utf-8"))["ids"] * 4, key=len)
    batches = [ids[i : i + BATCH] for i in range(0, len(ids), BATCH)]
    command = [args.python, "-c", PEER, args.folder, str(args.threads)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as peer:
        assert peer.stdin is not None and peer.stdout is not None

        def ask(what: Any) -> Any:
            assert peer.stdin is not None and peer.stdout is not None
            print(json.dumps(what), file=peer.stdin, flush=True)
            return json.loads(peer.stdout.readline())

        names: list[str] = ask(batches)
        models = {f"zigllama {Path(path).name}": Model(path, n_threads=args.threads) for path in args.models}
        times: dict[str, list[float]] = {name: [] for name in [*names, *models]}
        for turn in range(args.rounds + 1):  # the first is to warm up
            for name in times:
                if name in models:
                    start = time.perf_counter()
                    models[name].embed(ids)
                    took = time.perf_counter() - start
                else:
                    took = ask(name)[0]
                if turn:
                    times[name].append(took)
        peer.stdin.close()
        for model in models.values():
            model.close()
    best = min(statistics.median(times[name]) for name in names)
    tokens = sum(map(len, ids))
    print(f"{len(ids)} texts, {tokens} tokens, {args.threads} threads, medians of {args.rounds}")
    for name, found in times.items():
        middle = statistics.median(found)
        print(f"{name:40} {len(ids) / middle:8.1f} texts/s {tokens / middle:9.0f} tokens/s   {best / middle:.2f} x")


if __name__ == "__main__":
    main()
