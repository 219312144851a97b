"""What number formats do to a model's tensors: `zl.quant_report("m.gguf", types=["Q4_0", "Q8_0"])`.

Two questions, one kind of answer (quant_result.py):

    what would this format do?   every tensor of a file is put into each of some types; compared with the file's own
                                 values, dequantised where they are quantised already
    what has been done?          with `reference`: every tensor of a file as it is, compared with another file of the
                                 same model, the wider one that it was made from

For the errors no model is run: a tensor is read in slabs of rows, and memory stays at a few megabytes. With `logits` or
a text, the model (with `reference`: that one) is loaded, and run on the text again and again with one tensor replaced;
then the tensor in question is in memory twice more, as its bytes in the type and as the panels in which they are
multiplied (inference/trials.py), and neither when the next is measured.

A type that a tensor has already is copied, as `zl.quantize` does: its errors are 0.

A product with a quantised matrix rounds its activations to 8 bits, so in a quantised model KL has a floor: a change of
no size at all makes some roundings fall to the other side. F32 among the types shows it (of a quantised tensor it
changes no value, only the arithmetic); a file of floats has next to none.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from zigllama.app import mixes
from zigllama.app.quant_result import QuantReport
from zigllama.app.quant_rows import QuantRow, Skipped
from zigllama.app.quantize_plan import INTEGERS, importance_for
from zigllama.app.tensor_slabs import slabs
from zigllama.errors import DTypeError, ImportanceNeeded, InvalidArgument, MissingTensor, TensorShapeMismatch
from zigllama.foundation.byte_source import StrPath
from zigllama.foundation.ggml_types import GGMLType, row_bytes, type_by_name
from zigllama.foundation.gguf_format import GGUFReader, TensorInfo
from zigllama.foundation.runtime import F32
from zigllama.linear_algebra.distortion import Distortion
from zigllama.linear_algebra.iq_quantizers import NEED_IMPORTANCE
from zigllama.linear_algebra.number_formats import dequantize
from zigllama.linear_algebra.quantizers import QUANTIZE
from zigllama.models.importance import Importance, read_importance

if TYPE_CHECKING:
    from zigllama.inference.trials import Trials

U8 = npt.NDArray[np.uint8]

# Some 60 tokens of prose, names, figures and code: enough to tell formats apart, a tenth of a second of a small model.
TEXT = (
    "The lighthouse keeper, Mrs Abernathy, wrote down the weather every evening. On 3 November 1904 she noted: wind "
    "north-west, 48 knots. `for i in range(10): print(i * i)` is how her great-granddaughter counts waves."
)


class Work(NamedTuple):
    """Values that were put into a format and compared, and runs of the model on the text."""

    values: int
    runs: int


Tick = Callable[[Work, Work], None]


@dataclass(frozen=True)
class _Pair:
    """One row to be: a tensor (of the reference, where there is one) and the type it is put into or has in the file."""

    info: TensorInfo
    target: GGMLType

    @property
    def n_values(self) -> int:
        return math.prod(self.info.shape)


def quant_report(
    path: StrPath,
    types: Iterable[str] | None = None,
    tensors: str | None = None,
    *,
    reference: StrPath | None = None,
    logits: bool = False,
    text: str | Sequence[int] | None = None,
    imatrix: StrPath | None = None,
    n_threads: int | None = None,
    isa: str | None = "auto",
    progress: Tick | None = None,
) -> QuantReport:
    """Errors of every tensor in every format, and what each alone does to the logits.

    types       names of formats; None: all quantised formats that there is a quantiser of. Not with `reference`
    tensors     a regular expression: only tensors in whose name it is found
    reference   a file of the same model: the error of this one's tensors as they are
    logits      also run the model with one tensor replaced at a time: the KL divergence of its logits
    text        on this text (or these token ids) instead of one of some 60 tokens; implies `logits`
    imatrix     a file of importances, used by the quantisers, and for the weighted error
    progress    called with the work that is done and the whole of it

    Measured are the matrices that `zl.quantize` may change; `skipped` has those that a type cannot hold, and
    with logits those that no model is run with as they are in the file (F64). Without importance some types are
    measured that quantize refuses then; three cannot be made at all (NEED_IMPORTANCE).
    Raises InvalidArgument (nothing to measure, no regular expression, `types` with `reference`), its UnknownName,
    DTypeError and ImportanceNeeded for a type that cannot be made; MissingTensor and
    TensorShapeMismatch for a reference of another model; BadImportance; BadTensor for a value that is not finite or
    that a type does not take; what GGUFReader raises; with logits what Model and Trials do.
    """
    wanted = _wanted(types, reference)
    importance = None if imatrix is None else read_importance(imatrix)
    with ExitStack() as stack:
        reader = stack.enter_context(GGUFReader(path))
        base = reader if reference is None else stack.enter_context(GGUFReader(reference))
        chosen = _chosen(reader, tensors)
        if reference is None:
            pairs, skipped = _fitting(chosen, wanted, importance, asked=types is not None)
        else:
            pairs, skipped = [_Pair(_matching(base, t), t.type) for t in chosen], []
        trials, fingerprint = None, None
        if logits or text is not None:
            trials, fingerprint = _trials(stack, base, TEXT if text is None else text, n_threads, isa)
            pairs = _usable(trials, pairs, skipped)
        total = Work(sum(p.n_values for p in pairs), len(pairs) if trials else 0)
        done, rows = Work(0, 0), []
        for pair in pairs:
            source = None if reference is None else reader
            distortion, data = _measure(base, source, pair, importance, n_threads, trials is not None)
            done = Work(done.values + pair.n_values, done.runs)
            if progress:
                progress(done, total)
            kl = None
            if trials is not None:
                assert data is not None
                kl = trials.divergences(pair.info.name, pair.target.name, data)
                del data  # or it were there still when the next tensor's is made
                done = Work(done.values, done.runs + 1)
                if progress:
                    progress(done, total)
            rows.append(
                QuantRow(
                    pair.info.name,
                    tuple(pair.info.shape),
                    pair.info.type.name,
                    pair.target.name,
                    distortion.rms,
                    distortion.rmse,
                    distortion.largest,
                    distortion.cosine,
                    distortion.weighted_rmse,
                    None if kl is None else float(kl.mean()),
                    None if kl is None else float(kl.max()),
                )
            )
        return QuantReport(
            path=os.fspath(path),
            reference=None if reference is None else os.fspath(reference),
            imatrix=None if imatrix is None else os.fspath(imatrix),
            rows=tuple(rows),
            skipped=tuple(skipped),
            n_tokens=len(trials.ids) if trials else 0,
            fingerprint=fingerprint,
        )


# --- what is measured -------------------------------------------------------------------------------------------------


def _wanted(types: Iterable[str] | None, reference: StrPath | None) -> list[GGMLType]:
    if types is None:
        return [t for t in map(type_by_name, QUANTIZE) if t.is_quantized]
    if reference is not None:
        raise InvalidArgument("types with a reference: the file's own types are compared with it")
    names = [types] if isinstance(types, str) else list(types)
    found = {t.name: t for t in map(type_by_name, names)}
    if not found:
        raise InvalidArgument("no types: there is nothing to measure")
    for name in found:
        if name not in QUANTIZE:
            raise DTypeError(f"there is no quantiser of {name}; there is one of: {', '.join(QUANTIZE)}")
    return list(found.values())


def _chosen(reader: GGUFReader, pattern: str | None) -> list[TensorInfo]:
    """The tensors that may be quantised and have the pattern in their name, layer after layer."""
    try:
        found = re.compile(pattern or "")
    except re.error as e:
        raise InvalidArgument(f"{pattern!r} is no regular expression: {e}") from None
    every = [
        t
        for t in sorted(reader.tensors.values(), key=lambda t: mixes.order_of(t.name))
        if t.type.name not in INTEGERS and mixes.is_quantizable(t.name, tuple(t.shape))
    ]
    chosen = [t for t in every if found.search(t.name)]
    if not chosen:
        having = "" if pattern is None else f" has a name with {pattern!r}"
        raise InvalidArgument(
            f"none of the {len(every)} tensors that may be quantised (of {len(reader.tensors)}){having}"
        )
    return chosen


def _fitting(
    chosen: Sequence[TensorInfo], wanted: Sequence[GGMLType], importance: Importance | None, asked: bool
) -> tuple[list[_Pair], list[Skipped]]:
    """Every tensor in every type that it can have, and what is left out. A type that was asked for and cannot be made
    without importance is no surprise where there is some for other tensors, and an error where there is none at all."""
    pairs, skipped = [], []
    for t in chosen:
        for kind in wanted:
            needs = kind.name in NEED_IMPORTANCE and kind.id != t.type.id
            if t.shape[-1] % kind.block_size:
                reason = f"its quant blocks of {kind.block_size} do not divide rows of {t.shape[-1]}"
            elif not needs or importance_for(t, importance) is not None:
                pairs.append(_Pair(t, kind))
                continue
            elif asked and importance is None:
                raise ImportanceNeeded(t.name, kind.name, False)
            else:
                reason = "it needs importance, and there is none"
            skipped.append(Skipped(t.name, kind.name, reason))
    if not pairs:
        raise _nothing(skipped)
    return pairs, skipped


def _usable(trials: Trials, pairs: Sequence[_Pair], skipped: list[Skipped]) -> list[_Pair]:
    """Those that a trial takes. The rest is put into `skipped` now: what ends a long run in its middle loses it all."""
    usable = []
    for p in pairs:
        reason = trials.refusal(p.info.name, p.target.name)
        if reason is None:
            usable.append(p)
        else:
            skipped.append(Skipped(p.info.name, p.target.name, reason))
    if not usable:
        raise _nothing(skipped)
    return usable


def _nothing(skipped: Sequence[Skipped]) -> InvalidArgument:
    s = skipped[0]
    return InvalidArgument(f"nothing to measure: of {len(skipped)} the first is {s.tensor!r} as {s.type}: {s.reason}")


def _matching(base: GGUFReader, t: TensorInfo) -> TensorInfo:
    """The reference's tensor of the same name and shape."""
    if t.name not in base.tensors:
        raise MissingTensor(t.name, tuple(t.shape))
    found = base.tensors[t.name]
    if tuple(found.shape) != tuple(t.shape):
        raise TensorShapeMismatch(t.name, tuple(t.shape), tuple(found.shape))
    return found


# --- measuring --------------------------------------------------------------------------------------------------------


def _measure(
    base: GGUFReader, source: GGUFReader | None, pair: _Pair, importance: Importance | None, n_threads: int | None,
    keep: bool,
) -> tuple[Distortion, U8 | None]:  # fmt: skip
    """The errors, and with `keep` the tensor's bytes in the type. `source`: the file that has them; None: they are
    made."""
    distortion, at = Distortion(), 0
    shape = math.prod(pair.info.shape[:-1]), row_bytes(pair.target, pair.info.shape[-1])
    whole = np.empty(shape, np.uint8) if keep else None
    for x, y, data, weights in _pieces(base, source, pair, importance, n_threads):
        distortion.add(x, y, weights)
        if whole is not None:
            whole[at : at + len(data)] = data  # at once: where it is the file's, its pages are let go for the next
            at += len(data)
    return distortion, whole


def _pieces(
    base: GGUFReader, source: GGUFReader | None, pair: _Pair, importance: Importance | None, n_threads: int | None
) -> Iterator[tuple[F32, F32, U8, F32 | None]]:
    """Slab by slab: the values that count, what they are in the type, its bytes, and the columns' importance."""
    mine = slabs(base, pair.info, importance, n_threads)
    if source is not None:
        theirs = slabs(source, source.tensors[pair.info.name], None, n_threads)
        for slab, other in zip(mine, theirs, strict=True):
            yield slab.floats(), other.floats(), other.data, slab.importance
        return
    for slab in mine:
        x = slab.floats()
        if pair.target.id == pair.info.type.id:
            yield x, x, slab.data, slab.importance
        else:
            data = slab.quantized(x, pair.target)
            yield x, dequantize(data, pair.target.name, n_threads=n_threads), data, slab.importance


def _trials(
    stack: ExitStack, base: GGUFReader, text: str | Sequence[int], n_threads: int | None, isa: str | None
) -> tuple[Trials, str]:
    """The model of the values that count, run on the text once. It stays open as long as the stack does."""
    from zigllama.inference.model import Model
    from zigllama.inference.trials import Trials

    model = stack.enter_context(Model(base.paths[0], None, n_threads, isa=isa, n_seq=1, max_batch=1, keep=0))
    return Trials(model, model.prompt_ids(text)), model.fingerprint
