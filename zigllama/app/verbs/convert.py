"""Write a Hugging Face folder as a model file: zigllama convert FOLDER OUT.gguf --type F16.

FOLDER has config.json, safetensors files and the tokenizer's files. The type is that of the matrices: F32, F16, BF16
or Q8_0; `zigllama quantize` makes smaller ones of the result. The output appears when it is whole; progress goes to
stderr. A model that sees images is two files: its text model, and with --mmproj its projector.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

from zigllama.app.console import Progress, UsageError, note, printable, size
from zigllama.errors import UnknownName
from zigllama.models.conversion.convert import FILE_TYPES, Converted, convert


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="FOLDER OUT", help="the folder, and the new file")
    add = parser.add_argument
    add("--type", default="F16", help=f"of the matrices: {', '.join(FILE_TYPES)} (default: F16)")
    add("--pre", metavar="NAME", help="the pre-tokenizer, where the folder's rule is not known by name")
    add("--mmproj", action="store_true", help="the projector of a model that sees images, not its text model")
    add("--no-vocab", action="store_true", help="a file without a tokenizer")
    add("--force", action="store_true", help="replace OUT if it exists")
    add("-t", "--threads", dest="n_threads", type=int, metavar="N", help="threads (default: see `zigllama doctor`)")
    add("-q", "--quiet", action="store_true", help="no progress bar and no notes")
    add("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    if len(args.words) != 2:
        raise UsageError(f"expected FOLDER OUT, found {len(args.words)} words")
    kind = args.type.upper()
    if kind not in FILE_TYPES:
        raise UnknownName("type", args.type, tuple(FILE_TYPES))
    folder, target = args.words
    if args.mmproj and (args.pre or args.no_vocab):
        raise UsageError("--mmproj is a file without a tokenizer: --pre and --no-vocab say nothing about it")
    if not Path(folder).is_dir():
        raise UsageError(f"{folder} is no folder")
    with Progress(kind, 1, shown=not args.quiet) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done)

        done = convert(
            folder, target, kind, vocabulary=not args.no_vocab, pre=args.pre, force=args.force,
            mmproj=args.mmproj, n_threads=args.n_threads, progress=progress,
        )  # fmt: skip
    if not args.quiet:
        for text in done.notes:
            note(text)
    print(json.dumps(_facts(done), indent=2) if args.json else f"{printable(target)}: {_summary(done)}")
    return 0


def _facts(done: Converted) -> dict[str, object]:
    return {
        "path": done.path,
        "architecture": done.arch,
        "tensors": len(done.tensors),
        "bytes": done.n_bytes,
        "tokenizer": done.metadata.get("tokenizer.ggml.model"),
        "notes": list(done.notes),
    }


def _summary(done: Converted) -> str:
    types = ", ".join(f"{n} {name}" for name, n in Counter(t.name for _, t in done.tensors.values()).most_common())
    words = done.metadata.get("tokenizer.ggml.model", "none, a projector has no words")
    return f"{done.arch}, {size(done.n_bytes)}; tensors: {types}; tokenizer: {words}"
