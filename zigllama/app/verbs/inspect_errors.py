"""`zigllama inspect --errors`: what number formats do to each tensor of a model; the other half of the verb.

zigllama inspect m.gguf --errors --types Q4_0,Q8_0 --only ffn_down --picture formats.svg
zigllama inspect q.gguf --errors --reference f16.gguf --kl
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zigllama.app.console import Progress, UsageError, note
from zigllama.app.options import model_path
from zigllama.app.prompt import prompt_of

if TYPE_CHECKING:
    from zigllama.app.quant_report import Work


class Bar(Progress):
    """A bar over two kinds of work, values and runs, each of which takes the time it took so far."""

    STEPS = 1000

    def __init__(self, label: str, shown: bool) -> None:
        super().__init__(label, self.STEPS, shown=shown)
        self.seen: tuple[int, int] = (0, 0)  # values, runs
        self.of: tuple[int, int] = (0, 0)
        self.seconds = [0.0, 0.0]
        self.last = self.start

    def left(self) -> float:
        """Seconds to go."""
        rates = (s / n if n else 0.0 for s, n in zip(self.seconds, self.seen, strict=True))
        return sum(r * (n - m) for r, n, m in zip(rates, self.of, self.seen, strict=True))

    def work(self, done: Work, total: Work) -> None:
        """So much of so much is done; one of the two kinds went on."""
        now = time.monotonic()
        self.seconds[done.runs > self.seen[1]] += now - self.last
        self.seen, self.of, self.last = done, total, now
        self.update(int(self.STEPS * sum(self.seconds) / max(sum(self.seconds) + self.left(), 1e-9)))

    def line(self, done: int) -> str:
        share = min(done / self.total, 1.0)
        full = int(share * self.WIDTH)
        bar = "#" * full + "." * (self.WIDTH - full)
        runs = f", {self.seen[1]} of {self.of[1]} runs" if self.of[1] else ""
        values = f"{self.seen[0] / 1e6:,.1f} of {self.of[0] / 1e6:,.1f} M values{runs}"
        return f"{self.label} [{bar}] {share:4.0%}  {values}" + (f", {self.left():.0f} s left" if share < 1 else "")


def configure(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("errors of number formats")
    add = group.add_argument
    add("--errors", action="store_true", help="what each number format does to each tensor, beside the file's values")
    add("--types", action="append", metavar="A,B,...", help="these formats (default: all that can be made)")
    add("--only", metavar="REGEX", help="tensors in whose name this is found")
    add("--reference", metavar="FILE", help="instead: the tensors as they are, beside those of the file they came from")
    kl = "run the model too, with one tensor replaced at a time: KL divergence of the logits"
    add("--kl", action="store_true", help=kl)
    add("-p", "--prompt", metavar="TEXT", help="on this text, not the built-in one; implies --kl")
    add("-f", "--file", metavar="FILE", help="on this file's text; implies --kl")
    add("-e", "--escape", action="store_true", help=r"\n, \t and the like in -p mean what they mean in Python")
    add("--imatrix", metavar="FILE", help="importances, as llama-imatrix writes them")
    add("--picture", metavar="FILE.svg", help="draw bits per weight against error, and against KL with --kl")
    add("-t", "--threads", dest="n_threads", type=int, metavar="N", help="threads (default: see `zigllama doctor`)")
    add("-q", "--quiet", action="store_true", help="no progress bar and no notes")


ALONE = {  # mean nothing without --errors
    "types": "--types",
    "only": "--only",
    "reference": "--reference",
    "kl": "--kl",
    "prompt": "-p",
    "file": "-f",
    "escape": "-e",
    "imatrix": "--imatrix",
    "picture": "--picture",
    "n_threads": "-t",
    "quiet": "-q",
}


def _given(args: argparse.Namespace, name: str) -> bool:
    """Whether a flag is there: an empty text is, and so is a 0, which equals False."""
    value = getattr(args, name)
    return value is not None and value is not False


def check(args: argparse.Namespace) -> None:
    """Raises UsageError for a flag of --errors without it, and for one of the other half with it."""
    if not args.errors:
        for name, flag in ALONE.items():
            if _given(args, name):
                raise UsageError(f"{flag} is for --errors")
        return
    for name in ("metadata", "tensors", "key"):
        if _given(args, name):
            raise UsageError(f"--errors and --{name}: one or the other")


def run(args: argparse.Namespace) -> int:
    """The report on stdout; the picture in its file."""
    from zigllama.app.quant_report import quant_report  # a plain `inspect` needs no quantiser
    from zigllama.app.svg import check_path

    if args.picture is not None:
        check_path(args.picture)
    text = None if args.prompt is None and args.file is None else prompt_of(args)
    options: dict[str, Any] = {"text": text, "logits": args.kl, "imatrix": args.imatrix, "n_threads": args.n_threads}
    if args.types is not None:
        options["types"] = [t for words in args.types for t in words.split(",") if t]
    if args.reference is not None:
        options["reference"] = model_path(argparse.Namespace(model=args.reference, model_flag=None))
    path: Path = model_path(args)
    with Bar(path.name, shown=not args.quiet) as bar:
        report = quant_report(path, tensors=args.only, **options, progress=bar.work)
    if not args.quiet:
        for line in report.notes():
            note(line)
    if args.picture is not None:
        report.plot(args.picture)
    print(json.dumps(report.to_json(), indent=2) if args.json else report.table())
    return 0
