"""Write a model file in fewer bits: zigllama quantize IN OUT TYPE, with llama-quantize's mixes and flags.

TYPE is a mix: Q4_K_M, Q8_0, IQ4_XS, F16 and so on; a wrong one lists all. --dry-run shows what would become what, and
needs no OUT. The output appears when it is whole; progress goes to stderr.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from zigllama.app.console import Progress, UsageError, note, printable, size, table
from zigllama.app.mixes import mix_by_name
from zigllama.app.options import model_path
from zigllama.app.quantize import plan_quantize, quantize
from zigllama.app.quantize_plan import Options, Plan, without_importance
from zigllama.errors import ZigllamaError
from zigllama.linear_algebra.quantizers import WEIGHED
from zigllama.models.conversion.recipes import wider_of
from zigllama.models.importance import Importance, read_importance

SHOWN = 3  # names in a note


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="IN OUT TYPE", help="the model, the new file, the mix")
    add = parser.add_argument
    add("--imatrix", metavar="FILE", help="importances (`zigllama imatrix`), in either form that llama-imatrix writes")
    add(
        "--tensor-type", action="append", metavar="PATTERN=TYPE",
        help="the type of tensors whose name has this regular expression; may be repeated, the first that fits holds",
    )  # fmt: skip
    add("--output-tensor-type", metavar="TYPE", help="the type of output.weight, or of an embedding that is the output")
    add("--token-embedding-type", metavar="TYPE", help="the type of the token embedding")
    add("--pure", action="store_true", help="the mix's base type for every matrix")
    add("--leave-output-tensor", action="store_true", help="output.weight keeps its type")
    add("--wider", action="store_true", help="of an encoder, attention's values and output in F16, as convert has them")
    add("--allow-requantize", action="store_true", help="also from a model that is quantised; it loses more")
    add("--dry-run", action="store_true", help="only show types and sizes")
    add("--force", action="store_true", help="replace OUT if it exists")
    add("-t", "--threads", dest="n_threads", type=int, metavar="N", help="threads (default: see `zigllama doctor`)")
    add("-q", "--quiet", action="store_true", help="no progress bar and no notes")
    add("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    tensor_types = _tensor_types(args.tensor_type or [])
    source, target, type_name = _words(args)
    chosen: dict[str, Any] = {
        "tensor_types": tensor_types,
        "output_tensor_type": args.output_tensor_type,
        "token_embedding_type": args.token_embedding_type,
        "pure": args.pure,
        "leave_output_tensor": args.leave_output_tensor,
        "wider": args.wider,
    }
    plan = plan_quantize(source, type_name, Options(**chosen), args.imatrix)
    importance = read_importance(args.imatrix) if args.imatrix else None
    if not args.quiet:
        _notes(plan, importance)
        _note_wider(plan, args.wider)
    if args.dry_run:
        _dry_run(plan, importance, args)
        return 0
    assert target is not None
    with Progress(plan.mix.name, plan.n_bytes_before, shown=not args.quiet) as bar:
        quantize(
            source, target, type_name, imatrix=args.imatrix, **chosen, allow_requantize=args.allow_requantize,
            force=args.force, n_threads=args.n_threads, progress=bar.update,
        )  # fmt: skip
    if args.json:
        print(json.dumps({"path": target, **_sums(plan)}, indent=2))
    else:
        print(f"{printable(target)}: {_summary(plan)}")
    return 0


def _words(args: argparse.Namespace) -> tuple[Path, str | None, str]:
    """Input, output and mix. Raises UsageError unless there are three words (two in a dry run), or UnknownName."""
    need = (2, 3) if args.dry_run else (3,)
    if len(args.words) not in need:
        raise UsageError(f"expected IN OUT TYPE (with --dry-run IN TYPE), found {len(args.words)} words")
    type_name = args.words[-1]
    mix_by_name(type_name)  # before a model is fetched
    source = model_path(argparse.Namespace(model=args.words[0], model_flag=None))
    return source, args.words[1] if len(args.words) == 3 else None, type_name


def _tensor_types(words: list[str]) -> dict[str, str]:
    types: dict[str, str] = {}
    for word in words:
        pattern, _, kind = word.rpartition("=")
        if not pattern or not kind:
            raise UsageError(f"--tensor-type {word!r}: expected PATTERN=TYPE, as attn_v=Q8_0")
        types.setdefault(pattern, kind)
    return types


def _notes(plan: Plan, importance: Importance | None) -> None:
    """What a user should know beside the result."""
    fell_back = [s for s in plan.steps if s.fell_back]
    if fell_back:
        kinds = Counter(f"{s.wanted} became {s.target}" for s in fell_back)
        text = ", ".join(f"{kind} ({n})" for kind, n in kinds.most_common())
        note(f"{len(fell_back)} tensors have rows that their type's quant blocks do not divide: {text}")
    unweighed = Counter(s.target.name for s in plan.steps if s.changes and s.target.name not in WEIGHED)
    if importance is not None and unweighed:
        types = ", ".join(f"{name} ({n})" for name, n in unweighed.most_common())
        note(f"importance makes no difference to tensors of these types: {types}")
    if importance is not None and (missing := without_importance(plan.steps, importance)):
        names = ", ".join(map(printable, missing[:SHOWN])) + (", ..." if len(missing) > SHOWN else "")
        note(f"no importance for {len(missing)} tensors: {names}")


def _note_wider(plan: Plan, asked: bool) -> None:
    """Of an encoder: what the mix costs its embeddings, and how not to."""
    pattern = "" if asked else wider_of(plan.architecture)
    small = [s for s in plan.steps if pattern and s.target.is_quantized and re.search(pattern, s.name)]
    if small:
        what = f"{len(small)} tensors cost an encoder more than others in {small[0].target} ({small[0].name}, ...)"
        note(f"{what}: --wider leaves them in F16, as `zigllama convert` does")


def _sums(plan: Plan) -> dict[str, Any]:
    return {
        "mix": plan.mix.name,
        "file_type": plan.mix.file_type,
        "tensors": len(plan.steps),
        "bytes_before": plan.n_bytes_before,
        "bytes": plan.n_bytes,
        "bits_per_weight": round(plan.bits_per_weight, 4),
    }


def _summary(plan: Plan) -> str:
    before = 8 * plan.n_bytes_before / max(plan.n_values, 1)
    by_type = Counter(s.target.name for s in plan.steps)
    types = ", ".join(f"{n} {name}" for name, n in by_type.most_common())
    return (
        f"{plan.mix.name}, {size(plan.n_bytes_before)} ({before:.2f} bits per weight) became {size(plan.n_bytes)} "
        f"({plan.bits_per_weight:.2f}); tensors: {types}"
    )


def _dry_run(plan: Plan, importance: Importance | None, args: argparse.Namespace) -> None:
    """The table of tensors and the sums; what would stand against doing it is a note."""
    if args.json:
        tensors = [
            {
                "name": s.name,
                "shape": list(s.info.shape),
                "type_before": s.info.type.name,
                "type": s.target.name,
                "bytes_before": s.info.n_bytes,
                "bytes": s.n_bytes,
            }
            for s in plan.steps
        ]
        print(json.dumps({**_sums(plan), "plan": tensors}, indent=2))
    else:
        rows = [
            (
                printable(s.name),
                " x ".join(map(str, s.info.shape)),
                s.info.type.name,
                s.target.name if s.changes else "",
                f"{s.info.n_bytes:,}",
                f"{s.n_bytes:,}" if s.changes else "",
            )
            for s in plan.steps
        ]
        print(table(rows, ("tensor", "shape", "is", "becomes", "bytes", "become"), right=[4, 5]))
        print(f"\n{_summary(plan)}")
    try:
        plan.check(importance, args.allow_requantize)
    except ZigllamaError as e:
        note(f"as it stands this would be refused: {e}")
