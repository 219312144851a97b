"""How well a model predicts a text: its perplexity, by llama-perplexity's windows; and how far it is from a reference.

    zigllama perplexity wide.gguf -f text.txt --kl-divergence-base base.logits           saves the reference's logits
    zigllama perplexity small.gguf --kl-divergence --kl-divergence-base base.logits      compares with them

The file of logits is llama-perplexity's; the text is in it, so that -f is not needed with --kl-divergence.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from zigllama.app.console import UsageError, Windows, table
from zigllama.app.options import add_engine, add_model, engine_options, model_path
from zigllama.app.prompt import add_prompt, prompt_of
from zigllama.foundation.runtime import F32, I32
from zigllama.inference.logits_file import LogitsReader, LogitsWriter
from zigllama.inference.model import Model
from zigllama.inference.perplexity import (
    Divergence,
    Mean,
    RunningMean,
    cut,
    divergences,
    mean,
    quantiles,
    text_ids,
    window_surprises,
)
from zigllama.inference.scoring import F64, surprise

WINDOW = 512


def configure(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_prompt(parser)
    add = parser.add_argument_group("perplexity").add_argument
    add("--chunks", type=int, default=-1, metavar="N", help="at most N windows; -1: all")
    add("--kl-divergence", action="store_true", help="compare with the logits that --kl-divergence-base names")
    base = "without --kl-divergence: save the logits there; with it: the reference to compare with"
    add("--kl-divergence-base", dest="base", metavar="FILE", help=base)
    add("--json", action="store_true", help="print as JSON")
    add_engine(parser)


def run(args: argparse.Namespace) -> int:
    if args.kl_divergence and args.base is None:
        raise UsageError("--kl-divergence with what? --kl-divergence-base FILE names the saved logits")
    if args.chunks < 1 and args.chunks != -1:
        raise UsageError(f"--chunks {args.chunks}: at least 1, or -1 for all")
    path = model_path(args)
    result = compare(args, path) if args.kl_divergence else measure(args, path)
    print(json.dumps(result, indent=2) if args.json else shown(result))
    return 0


def _model(args: argparse.Namespace, path: Path, n_ctx: int | None) -> Model:
    """The model with one sequence of a window's length, whose place in the cache is not kept."""
    return Model(path, **engine_options(args) | {"n_ctx": n_ctx, "n_seq": 1, "max_batch": 1, "keep": 0})


def _facts(model: Model, path: Path, windows: I32, values: F64) -> dict[str, Any]:
    of = mean(values)
    return {
        "model": str(path),
        "fingerprint": model.fingerprint,
        "n_ctx": windows.shape[1],
        "n_chunk": windows.shape[0],
        "n_scored": len(values),
        "nll": of._asdict(),
        "perplexity": of.exponential()._asdict(),
    }


def measure(args: argparse.Namespace, path: Path) -> dict[str, Any]:
    """The perplexity; with --kl-divergence-base also that file."""
    text = prompt_of(args)
    n_ctx = WINDOW if args.n_ctx is None else args.n_ctx or None
    with _model(args, path, n_ctx) as model:
        windows = cut(text_ids(model, text), model.n_ctx, args.chunks)
        saving: AbstractContextManager[LogitsWriter | None] = nullcontext()
        if args.base is not None:
            saving = LogitsWriter(args.base, windows, model.spec.n_vocab)
        parts: list[F64] = []
        so_far = RunningMean()
        with saving as writer, Windows(path.name, len(windows)) as bar:
            each = surprise if writer is None else _recorded(writer)
            for window in windows:
                parts.append(window_surprises(model, window, each))
                bar.says = f", PPL {so_far.add(parts[-1]).exponential().value:.4f}"
                bar.update(len(parts))
        return _facts(model, path, windows, np.concatenate(parts))


def _recorded(writer: LogitsWriter) -> Callable[[F32, int], float]:
    """`surprise`, with every row written to the file."""

    def each(row: F32, target: int) -> float:
        writer.add(row)
        return surprise(row, target)

    return each


def compare(args: argparse.Namespace, path: Path) -> dict[str, Any]:
    """The perplexity beside the reference's, and the distance between the two."""
    with LogitsReader(args.base) as base:
        if args.n_ctx not in (None, base.n_ctx):
            raise UsageError(f"-c {args.n_ctx}: {args.base} has windows of {base.n_ctx}")
        windows = base.windows[: None if args.chunks == -1 else args.chunks]
        with _model(args, path, base.n_ctx) as model:
            if args.prompt is not None or args.file is not None:
                _same_text(args, model.tokenizer.encode(prompt_of(args)), base)
            parts: list[Divergence] = []
            so_far = RunningMean()
            with Windows(path.name, len(windows)) as bar:
                for part in divergences(model, base, args.chunks):
                    parts.append(part)
                    bar.says = f", PPL {so_far.add(part.surprise).exponential().value:.4f}"
                    bar.update(len(parts))
            whole = Divergence.joined(parts)
            return _facts(model, path, windows, whole.surprise) | _distance(whole)


def _same_text(args: argparse.Namespace, ids: list[int], base: LogitsReader) -> None:
    """Raises UsageError where the text that was given is not the one that the reference read."""
    for i, (here, there) in enumerate(zip(ids, base.windows.flat, strict=False)):
        if here != there:
            raise UsageError(f"the text is not that of {args.base}: token {i} is {here} here, {there} there")
    if len(ids) < base.windows.size:
        raise UsageError(f"the text has {len(ids)} tokens, that of {args.base} at least {base.windows.size}")


def _distance(d: Divergence) -> dict[str, Any]:
    ratio = mean(d.surprise - d.base)
    return {
        "base_perplexity": mean(d.base).exponential()._asdict(),
        "correlation": d.correlation,
        "ln_ratio": ratio._asdict(),
        "ratio": ratio.exponential()._asdict(),
        "kl": mean(d.kl)._asdict() | {"quantiles": quantiles(d.kl)},
        "delta_p": mean(d.delta_p)._asdict() | {"rms": d.rms_delta_p._asdict(), "quantiles": quantiles(d.delta_p)},
        "same_top": mean(d.same_top)._asdict(),
    }


def shown(result: dict[str, Any]) -> str:
    """The answer as text: one line, or with a reference a table and the quantiles."""
    ppl = Mean(**result["perplexity"])
    if "kl" not in result:
        return f"PPL = {ppl.value:.4f} +/- {ppl.error:.5f}"

    def of(figure: dict[str, float], digits: int = 6, percent: bool = False) -> str:
        m = Mean(figure["value"], figure["error"]).times(100 if percent else 1)
        return f"{m.value:.{digits}f} +/- {m.error:.{digits}f}" + (" %" if percent else "")

    kl, dp = result["kl"], result["delta_p"]
    rows = [
        ("PPL", of(result["perplexity"])),
        ("PPL of the reference", of(result["base_perplexity"])),
        ("correlation of ln PPL", f"{100 * result['correlation']:.2f} %"),
        ("ln(PPL / reference)", of(result["ln_ratio"])),
        ("PPL / reference", of(result["ratio"])),
        ("mean KL", of(kl)),
        ("mean delta p", of(dp, 3, percent=True)),
        ("RMS delta p", of(dp["rms"], 3, percent=True)),
        ("same top token", of(result["same_top"], 3, percent=True)),
    ]
    names = {"1": "maximum", "0.5": "median", "0": "minimum"}
    shares = [
        (names.get(q, f"{100 * float(q):g} %"), f"{kl['quantiles'][q]:.6f}", f"{100 * dp['quantiles'][q]:.3f} %")
        for q in kl["quantiles"]
    ]
    return table(rows) + "\n\n" + table(shares, ("quantile", "KL", "delta p"), right=[1, 2])
