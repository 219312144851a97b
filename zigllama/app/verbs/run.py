"""Continue a prompt: the model's text goes to stdout as it is written, and nothing else does.

The prompt is taken as it is, without a chat template (see `zigllama chat`). Each --image takes the place of an <image>
in the prompt; where the prompt has none, images stand before it. Ctrl-C ends the text, with exit code 130.
"""

from __future__ import annotations

import argparse
import json

from zigllama.app.answer import as_json, describe, show
from zigllama.app.console import note
from zigllama.app.options import (
    add_engine,
    add_generation,
    add_images,
    add_model,
    engine_options,
    generation_options,
    image_options,
    model_path,
)
from zigllama.app.prompt import add_prompt, prompt_of


def configure(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_prompt(parser)
    add_images(parser)
    add_generation(parser)
    add_engine(parser)
    parser.add_argument("-v", "--verbose", action="store_true", help="tell on stderr what was done, and how fast")
    parser.add_argument(
        "--json", action="store_true", help="print text, tokens, timings and settings as JSON at the end"
    )


def run(args: argparse.Namespace) -> int:
    options, prompt, path = generation_options(args), prompt_of(args), model_path(args)
    images = image_options(args)
    from zigllama.inference.model import Model
    from zigllama.models.image_parts import PLACEHOLDER

    if args.image:
        options["images"] = args.image
        if PLACEHOLDER not in prompt:
            note(f"the prompt has no {PLACEHOLDER}: the images stand before it")
            prompt = PLACEHOLDER * len(args.image) + prompt
    with Model(path, **engine_options(args), **images) as model:
        if args.json:
            result = model.generate(prompt, **options)
            print(json.dumps(as_json(result, model.backend), indent=2))
        else:
            result = show(model.generate(prompt, stream=True, **options))
        if args.verbose:
            note(describe(result, model.backend))
    return 0
