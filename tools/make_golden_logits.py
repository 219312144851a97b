"""Make tests/golden/NAME.json and NAME.npz: what a real model must say about the texts in tests/golden/texts/.

    pip install gguf numpy llama-cpp-python
    python tools/make_golden_logits.py smollm2 path/to/smollm2.gguf           (two minutes, 4 GB of memory)
    python tools/make_golden_logits.py gemma3-270m path/to/gemma3-270m.gguf   (five minutes, 6 GB)

The truth is tools/oracle/forward.py (float64, dequantised weights); the peer is llama.cpp on the same file. A table
of all logits would be a gigabyte, so the files hold, per text:

    top_ids, top_logits  (T, 128)  the largest logits of every position, largest first
    rest                 (T,)      log of the sum of exp over all other logits
    rows                 (R,)      some positions, for which also:
    columns              (R, 256)  logits of fixed, scattered vocabulary entries (first and last included)
    projections          (R, 16)   the whole row times random signs, over sqrt(V): no entry is left unwatched

and, as figures: token ids, greedy continuations of both with the distances of their two best logits, and how far the
peer is from the truth. "Divergence" there is KL(truth || other) over 129 outcomes, the truth's 128 likeliest tokens
and all the rest together: it can be computed from these files, for the peer and for the engine alike, and is never
above the KL of the whole row (`mean_kl_full`, for the record). The engine takes no part.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import numpy as np
from oracle import peer
from oracle.forward import Cache, FloatModel
from oracle.measures import Array, coarse_kl, golden_json, kl, log_sum_exp, short, signs

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"
N_MAX, N_TOP, N_COLUMNS, N_SIGNS = 600, 128, 256, 16
N_PROMPT, N_GREEDY = 540, 64  # past Gemma's window of 512
CHUNK = 64
STORED = {"top_ids": "<u4", "top_logits": "<f4", "rest": "<f8", "columns": "<f4", "projections": "<f8"}


def columns_of(n_vocab: int) -> list[int]:
    """Vocabulary entries of which every kept row has its logit: evenly spread, both ends included."""
    return [int(c) for c in np.linspace(0, n_vocab - 1, N_COLUMNS).round()]


def rows_of(n_tokens: int) -> list[int]:
    """Positions kept in detail: 16 spread evenly, and both sides of 512."""
    spread = np.linspace(0, n_tokens - 1, min(16, n_tokens)).round()
    return sorted({int(r) for r in spread} | {r for r in (511, 512, 513) if r < n_tokens})


class Text:
    """What is collected about one text, chunk by chunk of positions."""

    def __init__(self, n_vocab: int, n_tokens: int) -> None:
        self.columns, self.rows = columns_of(n_vocab), rows_of(n_tokens)
        self.signs = signs(N_SIGNS, n_vocab)
        self.parts: dict[str, list[Array]] = {}

    def add(self, start: int, truth: Array, theirs: Array) -> None:
        """Positions start..: logits of the truth and of the peer, (T, V) each."""
        order = np.argsort(-truth, axis=-1, kind="stable")[:, :N_TOP]
        top = np.take_along_axis(truth, order, -1)
        without = truth.copy()
        np.put_along_axis(without, order, -np.inf, -1)
        kept = [r - start for r in self.rows if start <= r < start + len(truth)]
        # how much nearer or farther the peer has the truth's two best tokens: what may turn a greedy choice
        pair = np.take_along_axis(theirs, order[:, :2], -1)
        found = {
            "top_ids": order,
            "top_logits": top,
            "rest": log_sum_exp(without),
            "columns": truth[kept][:, self.columns],
            "projections": truth[kept] @ self.signs.T / np.sqrt(truth.shape[-1]),
            "kl": coarse_kl(top, order, log_sum_exp(without), theirs),
            "kl_full": kl(truth, theirs),
            "difference": np.abs(truth - theirs).max(axis=-1),
            "gap_change": np.abs((top[:, 0] - top[:, 1]) - (pair[:, 0] - pair[:, 1])),
        }
        for name, value in found.items():
            self.parts.setdefault(name, []).append(value)

    def __getitem__(self, name: str) -> Array:
        return np.concatenate(self.parts[name])


def chunks(n: int) -> Iterator[slice]:
    """Positions 0..n in slices of at most CHUNK."""
    return (slice(i, min(i + CHUNK, n)) for i in range(0, n, CHUNK))


def main() -> None:
    """Evaluate every text with both, write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="name of the golden files")
    parser.add_argument("model", type=Path)
    args = parser.parse_args()
    model, llama = FloatModel(args.model), peer.Peer(args.model, n_ctx=640)
    arrays: dict[str, Any] = {}
    texts: dict[str, Any] = {}
    all_kl, all_full, all_gaps, largest = [], [], [], 0.0
    for path in sorted((GOLDEN / "texts").glob("*.txt")):
        encoded = llama.encode(path.read_text(encoding="utf-8"))
        ids = encoded[:N_MAX]
        hidden, theirs = model.hidden(ids, Cache(model.n_layer)), llama.logits(ids)
        text = Text(model.n_vocab, len(ids))
        for part in chunks(len(ids)):
            text.add(part.start, model.head(hidden[part]), theirs[part].astype(np.float64))
        prompt = ids[:N_PROMPT]
        greedy, gaps = model.greedy(prompt, N_GREEDY)
        peer_greedy, peer_gaps = llama.greedy(prompt, N_GREEDY)
        for name, kind in STORED.items():
            arrays[f"{path.stem}.{name}"] = text[name].astype(kind)
        arrays[f"{path.stem}.rows"] = np.asarray(text.rows, "<u4")
        texts[path.stem] = {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "ids": ids,
            "encoded_length": len(encoded),
            "prompt_length": len(prompt),
            "greedy": greedy,
            "greedy_gaps": [short(g) for g in gaps],
            "peer_greedy": peer_greedy,
            "peer_greedy_gaps": [short(g) for g in peer_gaps],
            "peer_mean_kl": short(text["kl"].mean()),
            "peer_mean_kl_full": short(text["kl_full"].mean()),
            "peer_max_difference": short(text["difference"].max()),
        }
        all_kl.append(text["kl"])
        all_full.append(text["kl_full"])
        all_gaps.append(text["gap_change"])
        largest = max(largest, float(text["difference"].max()))
        same = next((i for i, (a, b) in enumerate(zip(greedy, peer_greedy, strict=True)) if a != b), N_GREEDY)
        measured = {k: v for k, v in texts[path.stem].items() if k.startswith("peer_m")}
        print(path.stem, len(ids), measured, "same greedy", same, flush=True)
    every_kl, every_full, every_gap = np.concatenate(all_kl), np.concatenate(all_full), np.concatenate(all_gaps)
    figures = {
        "positions": len(every_kl),
        "mean_kl": short(every_kl.mean()),
        "median_kl": short(float(np.median(every_kl))),
        "mean_kl_full": short(every_full.mean()),
        "max_difference": short(largest),
        "max_gap_change": short(every_gap.max()),
        "p99_gap_change": short(float(np.quantile(every_gap, 0.99))),
    }
    print(figures)
    about = {
        "oracle": "tools/oracle/forward.py in float64, weights dequantised by gguf "
        f"{package_version('gguf')}, numpy {np.__version__}",
        "peer": peer.version(),
        "command": f"python tools/make_golden_logits.py {args.name} {args.model.name}",
        "model_sha256": hashlib.sha256(args.model.read_bytes()).hexdigest(),
        "columns": columns_of(model.n_vocab),
        "n_vocab": model.n_vocab,
    }
    np.savez_compressed(GOLDEN / f"{args.name}.npz", **arrays)
    (GOLDEN / f"{args.name}.json").write_text(golden_json({"about": about, "peer": figures, "texts": texts}) + "\n")


if __name__ == "__main__":
    main()
