"""Estimate how much memory a model will need, part by part, from the head of its file. Nothing is loaded."""

from __future__ import annotations

import argparse
import json

from zigllama.app.console import size
from zigllama.app.estimate import estimate
from zigllama.app.machine import available_memory
from zigllama.app.options import add_model, model_path


def configure(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument(
        "-c", "--ctx-size", dest="n_ctx", type=int, metavar="N", help="context in tokens (default: the model's, 0 too)"
    )
    parser.add_argument(
        "-ctk", "--cache-type", dest="cache_type", default="f16", metavar="TYPE", help="f16 (default), f32 or q8_0"
    )
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(args: argparse.Namespace) -> int:
    result = estimate(model_path(args), n_ctx=args.n_ctx or None, cache_type=args.cache_type)
    memory = available_memory()
    if args.json:
        print(json.dumps({**result.to_json(), "available": memory}, indent=2))
        return 0
    print(result)
    if memory is not None:
        fits = "it fits" if result.total < memory else "it does not fit"
        print(f"this machine has {size(memory)} available: {fits}")
    return 0
