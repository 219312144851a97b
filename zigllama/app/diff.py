"""Two runtimes, ISA variants or BLAS libraries side by side: which op is the first to differ, and by how much.

    zl.diff.model("m.gguf", prompt="hi").first_divergence           reference against native: None, or where
    zl.diff.model("m.gguf", a="avx2", b="generic").first_divergence
    zl.diff.model("m.gguf", a="openblas", b="generic").first_divergence
    zl.diff.kernel("softmax", x, a="reference", b="avx2").ok

A side is "reference" (the NumPy twins), "native" (the best ISA variant, or `isa`, with `blas`), an ISA variant by name,
or a BLAS library by name or path. Beside a library "generic" means what it means in ZIGLLAMA_BLAS, our own kernels, and
not the ISA variant of that name.

A model is compared twice. Op by op, both sides get the same inputs and each op has a bound derived from its arithmetic
(diff_bounds.py); so an error is found at the op that makes it. And end to end, each side on its own, where the bound
must be looser: activations are rounded to 8 bits, and one rounding that falls to the other side moves all that follows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from zigllama.app import diff_bounds
from zigllama.app.console import nearest
from zigllama.app.lockstep import Alone, Divergence, FloatSide, Lockstep, Measured, Side, compare
from zigllama.errors import InvalidArgument, UnknownName, WrongKindOfModel
from zigllama.foundation.byte_source import StrPath
from zigllama.foundation.runtime import F32, REGISTRY, Op, Rows, Step
from zigllama.foundation.tape import TapeProgram, record
from zigllama.inference.kv_cache import ModelKVCache
from zigllama.linear_algebra.linear import Weight
from zigllama.models.decoder import Decoder
from zigllama.models.gguf import GGUFLoader
from zigllama.neural_primitives.fusion import FUSIONS

# The bound end to end is on a row's root mean square difference over its logits' deviation, in the median over rows:
# a few rows in which attention hangs in the balance say nothing of the others. With quantised weights every product
# rounds its activations to 8 bits, and sides that sum in another order round differently here and there, at worst
# everywhere. What that rounding costs this model on this prompt is measured: the distance c of side A from the same
# pass with float32 activations. Two independent roundings are sqrt(2) c apart; the bound leaves room for a median over
# a few rows.
ROUNDINGS = 2.0  # times c
# With float weights nothing but float32 and a float16 cache rounds: 2^-11 of a key or value that falls the other way
END_TO_END_FLOAT = 0.002

# Long enough for a median over rows, and for tiles of rows.
PROMPT = (
    "The quick brown fox jumps over the lazy dog. In 1969, people first walked on the moon; what did they see there?"
)


@dataclass(frozen=True)
class EndToEnd:
    """The logits of both sides, each run on its own, over all rows of the prompt.

    relative_rms   rms(a - b) / std(a), the median over rows: the figure that has the bound
    rounding       what 8-bit activations cost side a, in the same measure; 0 with float weights, None if not measured
    largest        |a - b|; kl   mean KL divergence of b from a, in nats
    same_choice    rows whose likeliest token is the same, of `rows`
    """

    relative_rms: float
    bound: float
    largest: float
    kl: float
    same_choice: int
    rows: int
    rounding: float | None = None


@dataclass(frozen=True)
class Report:
    """What a comparison found. `first_divergence` is None when everything is within its bound. `notes` says what the
    comparison leaves out: a BLAS library that no product went through."""

    a: str
    b: str
    ops: tuple[Measured, ...]
    first_divergence: Divergence | None
    end_to_end: EndToEnd | None = None
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Everything is within its bound."""
        return self.first_divergence is None

    def shares(self) -> dict[str, tuple[int, int, float]]:
        """Op name -> how often it ran, how often its bits were the same, its largest error as a share of its bound."""
        out: dict[str, tuple[int, int, float]] = {}
        for m in self.ops:
            n, same, share = out.get(m.op, (0, 0, 0.0))
            out[m.op] = n + 1, same + m.identical, max(share, m.share)
        return out

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        rows = {
            name: {"runs": n, "identical": same, "share_of_bound": share if np.isfinite(share) else str(share)}
            for name, (n, same, share) in self.shares().items()
        }
        found = None if self.first_divergence is None else self.first_divergence.to_json()
        whole = None if self.end_to_end is None else {k: _finite(v) for k, v in vars(self.end_to_end).items()}
        out = {"a": self.a, "b": self.b, "ok": self.ok, "first_divergence": found, "ops": rows, "end_to_end": whole}
        return out | {"notes": list(self.notes)}

    def __str__(self) -> str:
        from zigllama.app.console import table

        rows = [(name, n, same, f"{share:.3g}") for name, (n, same, share) in self.shares().items()]
        lines = [table(rows, ("op", "runs", "same bits", "largest error / bound"), right=(1, 2, 3)), ""]
        if self.end_to_end is not None:
            e = self.end_to_end
            cost = f", twice what 8-bit activations cost {self.a}" if e.rounding else ""
            lines.append(
                f"end to end: logits differ by {e.relative_rms:.3g} of their deviation, in the median of rows "
                f"(bound {e.bound:.3g}{cost}), at most {e.largest:.3g}; KL {e.kl:.3g}; "
                f"the same first choice in {e.same_choice} of {e.rows} rows"
            )
        if self.first_divergence is None:
            lines.append(f"{self.a} and {self.b} agree: every op is within its bound")
        else:
            lines.append(f"{self.a} and {self.b} differ first in {self.first_divergence}")
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)


def _finite(value: float | None) -> float | str | None:
    return value if value is None or np.isfinite(value) else str(value)


# --- sides ------------------------------------------------------------------------------------------------------------


def side(name: str, *, isa: str | None = None, n_threads: int | None = None, blas: str | None = None) -> Side:
    """A side by name: "reference", "native" (on `isa`, with `blas`), an ISA variant (our own kernels), or a BLAS
    library (on `isa`). Raises UnknownName, ISAUnavailable, BlasUnavailable.
    """
    from zigllama.foundation.blas_integration import GENERIC, BlasInterface
    from zigllama.foundation.native import isa_variants
    from zigllama.foundation.native_context import NativeContext
    from zigllama.foundation.threading import default_threads

    if name == "reference":
        return Side(name, None)
    known, library = tuple(n for n, _ in isa_variants()), _is_library(name)
    if name != "native" and name not in known and not library:
        choices = ("reference", "native", *known, *_libraries())
        raise UnknownName("runtime, ISA variant or BLAS library", name, choices, nearest(name, choices))
    chosen = BlasInterface(name if library else blas if name == "native" else GENERIC)
    count = default_threads().n_threads if n_threads is None else n_threads
    context = NativeContext(count, name if name in known else isa)
    chosen.attach(context)
    if name == "native":
        name = f"native ({context.isa}{f' with {chosen.name}' if chosen.is_library else ''})"
    return Side(name, context, chosen.name if chosen.is_library else None)


def _libraries() -> tuple[str, ...]:
    from zigllama.foundation.blas_integration import CHOICES, GENERIC

    return tuple(name for name in CHOICES if name not in ("auto", GENERIC))


def _is_library(name: str | Side) -> bool:
    from zigllama.foundation.blas_integration import is_path

    return isinstance(name, str) and (name in _libraries() or is_path(name))


_How = dict[str, Any]  # isa, n_threads, blas: of sides that are named


class _Sides:
    """Both sides for the length of a block."""

    def __init__(self, a: str | Side, b: str | Side, how: _How) -> None:
        self._stack = ExitStack()
        try:
            self.a, self.b = self._take(a, b, how), self._take(b, a, how)
        except BaseException:
            self._stack.close()
            raise

    def _take(self, x: str | Side, other: str | Side, how: _How) -> Side:
        if isinstance(x, Side):  # its owner closes it
            return x
        own = x == "generic" and _is_library(other)
        made = side("native", **how | {"blas": "generic"}) if own else side(x, **how)
        if made.context is not None:
            self._stack.callback(made.context.close)
        return made

    def notes(self) -> tuple[str, ...]:
        """What there is to say when everything was run."""
        return tuple(
            f"{s.name}: {s.blas} was never called; it multiplies F32 and F16 matrices by more than 8 rows"
            for s in (self.a, self.b)
            if s.context is not None and s.blas and not s.context.counters()["blas_calls"]
        )

    def __enter__(self) -> tuple[Side, Side]:
        return self.a, self.b

    def __exit__(self, *exc: object) -> None:
        self._stack.close()


# --- an op, a kernel --------------------------------------------------------------------------------------------------


def op(
    name: str | Op, *args: Any, a: str | Side = "reference", b: str | Side = "native", isa: str | None = None,
    n_threads: int | None = None, blas: str | None = None, **params: Any,
) -> Report:  # fmt: skip
    """One op in two ways. Two-dimensional arrays among `args` are rows; vectors are constants.

    Raises UnknownName, and what the op raises.
    """
    if isinstance(name, str) and name not in REGISTRY:
        raise UnknownName("op", name, tuple(REGISTRY))
    which = REGISTRY[name] if isinstance(name, str) else name
    rows = [i for i, x in enumerate(args) if isinstance(x, np.ndarray) and x.ndim == 2]
    step = next((x for x in args if isinstance(x, Step)), None)
    if step is None:
        if not rows:
            raise InvalidArgument(f"op {which.name}: neither rows nor a step among its arguments")
        step = Step.of_rows(len(args[rows[0]]))
    return _one(which, step, args, rows, params, a, b, {"isa": isa, "n_threads": n_threads, "blas": blas})


def kernel(
    name: str | Any, *args: Any, a: str | Side = "reference", b: str | Side = "native", isa: str | None = None,
    n_threads: int | None = None, blas: str | None = None, **params: Any,
) -> Report:  # fmt: skip
    """One of `zl.kernels` in two ways, with its own arguments. Raises UnknownName, and what the kernel raises."""
    from zigllama import kernels

    names = tuple(n for n in kernels.__all__ if n != "variants")
    if isinstance(name, str) and name not in names:
        raise UnknownName("kernel", name, names)
    which = getattr(kernels, name) if isinstance(name, str) else name
    how = {"isa": isa, "n_threads": n_threads, "blas": blas}
    if which is not kernels.matmul:
        call = which.call(*args, **params)
        return _one(call.op, call.step, tuple(call.args), call.rows, call.params, a, b, how)
    from zigllama.foundation import native_context

    x, y = (np.ascontiguousarray(m, np.float32) for m in args)
    with (both := _Sides(a, b, how)) as sides:
        got = [which.ref(x, y) if s.context is None else native_context.matmul(s.context, x, y) for s in sides]
        limit = 2 * diff_bounds.product(x.astype(np.float64), y.astype(np.float64))
        found = compare("matmul", got[0], got[1], limit)
        return Report(sides[0].name, sides[1].name, (found,), found.divergence, notes=both.notes())


def _one(
    which: Op, step: Step, args: Sequence[Any], rows: Sequence[int], params: dict[str, Any],
    a: str | Side, b: str | Side, how: _How,
) -> Report:  # fmt: skip
    with (both := _Sides(a, b, how)) as (left, right):
        lockstep = Lockstep(left, right, step)
        values = tuple(
            Rows(lockstep, x.shape[1], array=np.ascontiguousarray(x, np.float32)) if i in rows else x
            for i, x in enumerate(args)
        )
        lockstep.call(which, values, dict(params))
        return Report(left.name, right.name, tuple(lockstep.measured), _first(lockstep.measured), notes=both.notes())


def _first(measured: Sequence[Measured]) -> Divergence | None:
    return next((m.divergence for m in measured if m.divergence is not None), None)


# --- a model ----------------------------------------------------------------------------------------------------------


def model(
    path: StrPath,
    prompt: str | Sequence[int] = PROMPT,
    *,
    a: str | Side = "reference",
    b: str | Side = "native",
    isa: str | None = None,
    n_threads: int | None = None,
    blas: str | None = None,
    float_compute: str | None = None,
    bound: float | None = None,
    cache_type: str | None = None,
) -> Report:
    """A whole model in two ways: op by op on the same inputs, then end to end.

    prompt   text or ids. All but the last token are read in one step, the last in a step of its own, so that the
             kernels for many rows and for one both run
    float_compute   of both sides: "f32", or "bf16" (F16 and BF16 matrices); None: BF16 in bf16 where every native
             side has the instruction, and one is native
    bound    end to end; None: twice what 8-bit activations cost side a here, measured (see ROUNDINGS,
             END_TO_END_FLOAT)

    The end-to-end runs are those that a `Model` does: the tape for a native side, the twins for the reference.
    Raises the errors of GGUFLoader, WrongKindOfModel, UnknownName, ISAUnavailable, BlasUnavailable, ContextOverflow,
    InvalidArgument.
    """
    from zigllama.foundation.native_context import guarded

    with ExitStack() as stack:
        loader = stack.enter_context(GGUFLoader(path))
        if not loader.spec.causal:
            raise WrongKindOfModel("a comparison of logits", "an encoder, which has none", "`embed` texts")
        for part in range(len(loader.reader.paths)):
            stack.enter_context(guarded(loader.reader.mapping(part).view))
        ids = _ids(loader, prompt)
        both = _Sides(a, b, {"isa": isa, "n_threads": n_threads, "blas": blas})
        pair = stack.enter_context(both)
        weights = dict(loader.weights())
        matrices = {name: w for name, w in weights.items() if isinstance(w, Weight)}
        for w in matrices.values():
            stack.callback(w.close)
        _choose_compute(pair, matrices.values(), float_compute)
        for s in pair:
            if s.context is not None:
                for name, w in matrices.items():
                    w.prepare(s.context, mapped=name == "token_embd.weight" and w is not weights["output.weight"])
        types = {w.type.name for w in matrices.values()}
        cache_type = cache_type or ("F32" if types == {"F32"} else "F16")
        decoder = loader.architecture.model(loader.spec, weights)
        runs = _Runs(decoder, [x for x in (ids[:-1], ids[-1:]) if x], cache_type)

        names = {id(x): name for name, x in reversed(list(weights.items()))}  # a tied matrix goes by its first name
        measured = runs.in_lockstep(*pair, names)
        x, y = (runs.logits(s) for s in pair)
        cost = None
        if bound is None:
            quantised = bool(types - {"F32", "F16", "BF16"}) or any(w.compute == "bf16" for w in matrices.values())
            cost = _relative(x, runs.logits(FloatSide())) if quantised else 0.0
            bound = ROUNDINGS * cost if quantised else END_TO_END_FLOAT
        whole = _end_to_end(x, y, bound, cost)
        first = _first(measured)
        if first is None and not whole.relative_rms <= bound:  # then some element is further off than that, too
            first = compare("logits", x, y, bound * x.std(-1, keepdims=True), number=len(measured)).divergence
        return Report(pair[0].name, pair[1].name, tuple(measured), first, whole, both.notes())


def _choose_compute(pair: Sequence[Side], matrices: Iterable[Weight], asked: str | None) -> None:
    from zigllama.foundation.native import isa_has_bf16
    from zigllama.linear_algebra import bf16

    names = [s.context.isa for s in pair if s.context is not None]
    lacking = next((name for name in names if not isa_has_bf16(name)), None)
    bf16.choose(asked or (None if names else "f32"), matrices, lacking is None, lacking or "numpy")


def _ids(loader: GGUFLoader, prompt: str | Sequence[int]) -> list[int]:
    from zigllama.models.tokenizer import Tokenizer

    if isinstance(prompt, str):
        ids = Tokenizer.from_metadata(loader.reader.metadata).encode(prompt)
    else:
        ids = [int(i) for i in prompt]
    if not ids or not all(0 <= i < loader.spec.n_vocab for i in ids):
        raise InvalidArgument(f"{len(ids)} token ids, want at least one, each below {loader.spec.n_vocab}")
    return ids


@dataclass
class _Runs:
    """A decoder, the pieces of a prompt that are read step by step, and the cache's type: every run starts afresh."""

    decoder: Decoder
    pieces: list[list[int]]
    cache_type: str

    def _steps(self) -> tuple[ModelKVCache, Iterator[Step]]:
        cache = ModelKVCache(self.decoder.cache_spec(), sum(map(len, self.pieces)), type_name=self.cache_type)
        sequence = cache.add()
        return cache, (cache.extend(sequence, piece) for piece in self.pieces)

    def in_lockstep(self, a: Side, b: Side, names: dict[int, str]) -> list[Measured]:
        """Every op on both sides with the same inputs."""
        cache, steps = self._steps()
        measured: list[Measured] = []
        for step in steps:
            self.decoder.forward(Lockstep(a, b, step, names, measured).bind(), cache)
        return measured

    def logits(self, side: Side) -> F32:
        """Logits (T, V) of one side by itself."""
        cache, steps = self._steps()
        program, rows = None, []
        if side.on_tape:
            tape = record(lambda step: self.decoder.forward(step, cache), FUSIONS)
            program = TapeProgram(tape, side.context, max(map(len, self.pieces)))
        try:
            for step in steps:
                step.out_rows = np.arange(step.n_rows, dtype=np.int32)
                if program is None:
                    rows.append(self.decoder.forward(Alone(side, step).bind(), cache).array)
                else:
                    assert side.context is not None
                    program.run(side.context.make_step(step))
                    rows.append(program.result(0, step.n_out).copy())
        finally:
            if program is not None:
                program.close()
        return np.concatenate(rows)


def _relative(x: F32, y: F32) -> float:
    """rms(x - y) over the deviation of x: the median over rows."""
    with np.errstate(all="ignore"):
        rms = np.sqrt(((x.astype(np.float64) - y) ** 2).mean(-1))
        return float(np.median(np.where((x == y).all(-1), 0, rms / x.std(-1, dtype=np.float64))))


def _end_to_end(x: F32, y: F32, bound: float, rounding: float | None) -> EndToEnd:
    with np.errstate(all="ignore"):
        p, q = (v.astype(np.float64) - v.max(-1, keepdims=True) for v in (x, y))
        p, q = (v - np.log(np.exp(v).sum(-1, keepdims=True)) for v in (p, q))
        kl = float((np.exp(p) * (p - q)).sum(-1).mean())
        largest = float(np.abs(x - y).max())
    same = int((x.argmax(-1) == y.argmax(-1)).sum())
    return EndToEnd(_relative(x, y), bound, largest, kl, same, len(x), rounding)
