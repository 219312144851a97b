"""The keywords of `generate` that say how a text is written, as a TextGenerator: how much of it, how its tokens are
chosen, what it must look like.

What it is not: the keywords about running it (lookup, deadline, reuse, images), which are `Model.request`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zigllama.inference.generation import TextGenerator
from zigllama.inference.keyword_types import as_bool, as_int, as_texts, refuse
from zigllama.inference.row_scan import RowScan
from zigllama.inference.sampling import CONSTRAINTS, split_keywords
from zigllama.models.tokenizer import Tokenizer


def text_generator(
    tokenizer: Tokenizer,
    n_ctx: int,
    scan: RowScan,
    *,
    max_tokens: int | None = None,
    stop: str | Sequence[str] = (),
    ignore_eos: bool = False,
    forced: bool = True,
    **sampling: Any,
) -> TextGenerator:
    """A TextGenerator with these options. Raises TypeError for an unknown keyword, InvalidArgument for a bad value, and
    what `Grammar` raises."""
    given = {name: sampling.pop(name) for name in CONSTRAINTS if name in sampling}
    for name in ("regex", "ebnf", "gbnf", "cfg"):
        if given.get(name) is not None and not isinstance(given[name], str):
            refuse(name, given[name], "a text")
    params = split_keywords(sampling)
    stop = [stop] if isinstance(stop, str) else as_texts("stop", () if stop is None else stop)
    if max_tokens is not None:
        max_tokens = as_int("max_tokens", max_tokens, "a whole number >= 0, or None")
    ignore_eos, forced = as_bool("ignore_eos", ignore_eos), as_bool("forced", forced)
    constraint = None
    if any(value is not None for value in given.values()):
        from zigllama.inference.grammar_constraints import constraint_of  # only loaded where there is one

        constraint = constraint_of(given, tokenizer, params, ignore_eos=ignore_eos, forced=forced)
    options: dict[str, Any] = {"max_tokens": max_tokens, "stop": stop, "ignore_eos": ignore_eos}
    return TextGenerator(tokenizer, params, n_ctx, scan=scan, constraint=constraint, **options)
