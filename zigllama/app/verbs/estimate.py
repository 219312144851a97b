"""Estimate how much memory a model will need, part by part: from the head of a file, or of a published shape by its
name (llama-7b, codellama-34b). Nothing is loaded."""

from __future__ import annotations

import argparse
import json

from zigllama.app.advice import advice, memory_from
from zigllama.app.estimate import estimate, preset_of
from zigllama.app.machine import available_memory
from zigllama.app.options import add_model, model_path
from zigllama.models.model_config import ModelSize


def configure(parser: argparse.ArgumentParser) -> None:
    add_model(parser, also=tuple(ModelSize))
    parser.add_argument(
        "-c", "--ctx-size", dest="n_ctx", type=int, metavar="N", help="context in tokens (default: the model's, 0 too)"
    )
    parser.add_argument(
        "-ctk", "--cache-type", dest="cache_type", default="f16", metavar="TYPE", help="f16 (default), f32 or q8_0"
    )
    parser.add_argument(
        "--type", dest="type_name", metavar="TYPE", help="number format of a published shape's matrices (default: F16)"
    )
    parser.add_argument(
        "--memory", metavar="SIZE", help="advice for this much memory, as 16G (default: what is available)"
    )
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(args: argparse.Namespace) -> int:
    given = args.model or args.model_flag
    config = preset_of(given) if given and (args.model_flag or given) == given else None
    model = model_path(args) if config is None else config
    result = estimate(model, n_ctx=args.n_ctx or None, cache_type=args.cache_type, type_name=args.type_name)
    memory = available_memory() if args.memory is None else memory_from(args.memory)
    told = None if memory is None else advice(result, memory, config)
    if args.json:
        print(json.dumps({**result.to_json(), "available": memory, "advice": told}, indent=2))
        return 0
    print(result)
    if told is not None:
        print(told if args.memory else f"available here: {told}")
    return 0
