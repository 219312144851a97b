"""Importance from text, for `zigllama quantize --imatrix`: how large the inputs of each matrix are, channel by channel.

    zigllama imatrix -m model.gguf -f text.txt -o imatrix.gguf        reads the text in windows, saves the sums
    zigllama imatrix --in-file a.gguf --in-file b.dat -o both.gguf    adds earlier files up, without a model

Windows, sums and both file forms are llama-imatrix's. OUT is saved after every 10 windows (--output-frequency) and at
the end, whole each time; Ctrl-C and SIGTERM save the windows that were read to their end, and say how many.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from zigllama.app.console import UsageError, Windows, note, printable
from zigllama.app.options import add_engine, add_model, engine_options, model_path
from zigllama.app.prompt import add_prompt, prompt_of
from zigllama.app.quantize import NO_ROOM, check_target
from zigllama.errors import NoSpace
from zigllama.foundation.runtime import I32
from zigllama.inference.calibration import WINDOW, Collector, windows_of
from zigllama.inference.model import Model
from zigllama.inference.perplexity import Mean, RunningMean, mean, with_bos
from zigllama.inference.scoring import F64
from zigllama.models.importance import (
    Importance,
    combined,
    read_importance,
    write_importance,
    write_legacy_importance,
)

FREQUENCY = 10
OF_MODEL = {  # dest: what it is called, its default; they say how a model reads a text, and mean nothing without
    "chunks": ("--chunks", -1),
    "skip": ("--chunk", 0),
    "process_output": ("--process-output", False),
    "no_ppl": ("--no-ppl", False),
    "parse_special": ("--parse-special", False),
    "often": ("--output-frequency", FREQUENCY),
    "escape": ("-e", False),
    "n_threads": ("-t", None),
    "type_k": ("-ctk", None),
    "type_v": ("-ctv", None),
    "backend": ("--backend", None),
    "isa": ("--isa", None),
    "blas": ("--blas", None),
    "float_compute": ("--float-compute", None),
    "pre": ("--pre", None),
}


def configure(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_prompt(parser)
    add = parser.add_argument_group("importance").add_argument
    out = "the new file (default: %(default)s)"
    add("-o", "--output", "--output-file", dest="out", default="imatrix.gguf", metavar="OUT", help=out)
    add("--output-format", choices=["gguf", "dat"], help="gguf (default), or dat: the older binary form")
    add("--in-file", action="append", default=[], metavar="FILE", help="add an earlier file, of either form; repeat it")
    add("--process-output", action="store_true", help="also the matrix that makes the logits")
    add("--chunks", type=int, default=-1, metavar="N", help="at most N windows; -1: all")
    add("--chunk", "--from-chunk", dest="skip", type=int, default=0, metavar="N", help="leave out the first N windows")
    add("--no-ppl", action="store_true", help="no perplexity: less to compute")
    add("--parse-special", action="store_true", help="special tokens that are written in the text count as such")
    often = "save after every N windows, 0: only at the end (default: %(default)s)"
    add("-ofreq", "--output-frequency", dest="often", type=int, default=FREQUENCY, metavar="N", help=often)
    add("--force", action="store_true", help="replace OUT if it exists")
    add("--json", action="store_true", help="print as JSON")
    add_engine(parser)


def run(args: argparse.Namespace) -> int:
    for flag, value, least in (("--chunk", args.skip, 0), ("--output-frequency", args.often, 0)):
        if value < least:
            raise UsageError(f"{flag} {value}: at least {least}")
    if args.chunks < 1 and args.chunks != -1:
        raise UsageError(f"--chunks {args.chunks}: at least 1, or -1 for all")
    has_text = args.prompt is not None or args.file is not None
    has_model = bool(args.model or args.model_flag)
    if has_model and args.in_file and not has_text:
        raise UsageError("a model and no text: -f FILE gives one; to add files up, leave the model out")
    only_files = bool(args.in_file) and not has_model and not has_text
    path = None if only_files else model_path(args)
    if only_files:
        needless = [flag for name, (flag, default) in OF_MODEL.items() if getattr(args, name) != default]
        if needless:
            raise UsageError(f"{', '.join(needless)}: how a model reads a text, and files are added up without one")
    texts = [] if args.file in (None, "-") else [args.file]
    # earlier files are not among the inputs: the sum may replace one, which is read whole before that
    place = check_target(args.out, [*([path] if path else []), *texts], args.force)
    if args.output_format is None and not place.endswith(".gguf"):
        note(f"{printable(place)} will be a GGUF file; --output-format dat is the older form")
    earlier = [read_importance(name) for name in args.in_file]
    result = together(args, place, earlier) if path is None else gather(args, path, place, earlier)
    print(json.dumps(result, indent=2) if args.json else shown(result))
    return 0


def save(args: argparse.Namespace, place: str, importance: Importance) -> None:
    """Write OUT whole or not at all. Raises NoSpace, OSError."""
    write = write_legacy_importance if args.output_format == "dat" else write_importance
    try:
        write(place, importance)
    except OSError as e:
        if e.errno in NO_ROOM:
            need = sum(entry.sums.nbytes + entry.counts.nbytes for entry in importance.entries.values())
            raise NoSpace(place, need, str(e.strerror)) from e
        raise


def together(args: argparse.Namespace, place: str, earlier: list[Importance]) -> dict[str, Any]:
    """Earlier files as one; a window is -c tokens, or what the first file says that does."""
    said = next((part.chunk_size for part in earlier if part.chunk_size), WINDOW)
    whole = combined(earlier, said if args.n_ctx is None else args.n_ctx)
    save(args, place, whole)
    return _facts(place, whole)


def gather(args: argparse.Namespace, path: Path, place: str, earlier: list[Importance]) -> dict[str, Any]:
    """Read the text and save what its windows, with the earlier files, amount to."""
    text = prompt_of(args)
    n_ctx = WINDOW if args.n_ctx is None else args.n_ctx or None
    with Model(path, **engine_options(args) | {"n_ctx": n_ctx, "n_seq": 1, "max_batch": 1, "keep": 0}) as model:
        windows = windows_of(model, text, model.n_ctx, args.chunks, skip=args.skip, parse_special=args.parse_special)
        work = _Work(args, place, earlier, Collector(model, model.n_ctx, process_output=args.process_output))
        for part in earlier:
            work.collector.check(part)
        work.read(path.name, windows)
        figures: dict[str, Any] = {"perplexity": None, "perplexities": []}
        if work.scores:
            whole = mean(np.concatenate(work.scores)).exponential()  # the bits of `zigllama perplexity`
            figures = {"perplexity": whole._asdict(), "perplexities": [*work.so_far[:-1], whole.value]}
        facts = {"model": str(path), "fingerprint": model.fingerprint, "n_ctx": model.n_ctx, "n_chunk": len(windows)}
        return _facts(place, work.whole()) | facts | figures


class _Work:
    """Window after window, and what to do when it ends early."""

    def __init__(self, args: argparse.Namespace, place: str, earlier: list[Importance], collector: Collector) -> None:
        self.args, self.place, self.earlier, self.collector = args, place, earlier, collector
        self.scores: list[F64] = []
        self.so_far: list[float] = []  # the perplexity after each window
        self.saved = 0  # windows that OUT holds

    def read(self, label: str, windows: I32) -> None:
        """Read all, save now and then and at the end. What interrupts it is passed on when the rest is saved."""
        collector, often, running = self.collector, self.args.often, RunningMean()
        try:
            with Windows(label, len(windows)) as bar:
                for window in windows:
                    score = collector.add(with_bos(collector.model, window), score=not self.args.no_ppl)
                    if score is not None:
                        self.scores.append(score)
                        self.so_far.append(running.add(score).exponential().value)
                        bar.says = f", PPL {self.so_far[-1]:.4f}"
                    bar.update(collector.n_windows)
                    if often and collector.n_windows % often == 0:
                        self.save()
            self.save()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit) and collector.n_windows > self.saved:
                self.save()
            holds = f"holds the first {self.saved} of {len(windows)} windows" if self.saved else "was not written"
            note(f"{printable(self.place)} {holds}")
            raise

    def whole(self) -> Importance:
        """The windows so far with the earlier files."""
        text = self.args.file
        own = self.collector.importance(*([text] if text not in (None, "-") else []))
        return combined([*self.earlier, own], self.collector.n_ctx)

    def save(self) -> None:
        """OUT gets the windows so far."""
        if self.collector.n_windows > self.saved:
            save(self.args, self.place, self.whole())
            self.saved = self.collector.n_windows


def _facts(place: str, whole: Importance) -> dict[str, Any]:
    return {
        "path": place,
        "matrices": len(whole.entries),
        "chunk_count": whole.n_chunks,
        "chunk_size": whole.chunk_size,
        "datasets": list(whole.datasets),
    }


def shown(result: dict[str, Any]) -> str:
    """The answer as text."""
    n, size = result["chunk_count"], result["chunk_size"]
    text = f"{printable(result['path'])}: {result['matrices']} matrices, {n} windows of {size} tokens"
    if result.get("perplexity"):
        ppl = Mean(**result["perplexity"])
        text += f"; PPL = {ppl.value:.4f} +/- {ppl.error:.5f}"
    return text
