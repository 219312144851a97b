"""Evaluate a GGUF model in float64 and print what it would say: the measure that zigllama's own engine is held against.

    pip install gguf numpy              (llama-cpp-python for --text; torch and transformers for --check torch)
    python tools/evaluate_float.py MODEL.gguf --ids 504,3575,282,4649,314 -n 16
    python tools/evaluate_float.py MODEL.gguf --text "The capital of France is" --check llama
    python tools/evaluate_float.py MODEL.gguf --ids 504,3575,282,4649,314 --check torch

`--check` evaluates the same tokens with a second reference, and prints the largest difference and the mean divergence.
Independent of zigllama: see tools/oracle/.
"""

from __future__ import annotations

import argparse

import numpy as np
from oracle.forward import FloatModel
from oracle.measures import kl, max_difference


def main() -> None:
    """Read the command line, evaluate, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--ids", help="token ids, separated by commas")
    what.add_argument("--text", help="text, encoded by llama-cpp-python")
    parser.add_argument("-n", type=int, default=0, help="tokens to continue greedily")
    parser.add_argument("--check", choices=["llama", "torch"], help="a second reference to compare with")
    args = parser.parse_args()

    if args.text is not None:
        from oracle.peer import Peer

        ids = Peer(args.model).encode(args.text)
        print("ids", ids)
    else:
        ids = [int(i) for i in args.ids.split(",")]
    model = FloatModel(args.model)
    logits = model.logits(ids)
    for position, row in enumerate(logits):
        best = np.argsort(-row)[:5]
        print(position, ids[position], " ".join(f"{i}:{row[i]:.4f}" for i in best))
    if args.check:
        if args.check == "llama":
            from oracle.peer import Peer, version

            other = np.asarray(Peer(args.model, n_ctx=max(256, len(ids))).logits(ids), np.float64)
        else:
            from oracle.torch_model import TorchModel, version

            other = TorchModel(args.model).logits(ids)
        print(
            f"{version()}: max difference {max_difference(logits, other):.3g}, mean KL {kl(logits, other).mean():.3g}"
        )
    if args.n:
        tokens, gaps = model.greedy(ids, args.n)
        print("greedy", tokens)
        print("top-two gaps", " ".join(f"{g:.3f}" for g in gaps))


if __name__ == "__main__":
    main()
