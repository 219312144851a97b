"""Ops: one definition, three executions.

An op is written once: its formula (the docstring), its NumPy twin (the function body, the textbook), its opcode, and
`lower`, which says how a call becomes a row of numbers for the C library. The same call then runs in one of three ways,
chosen by its arguments:

    reference   plain NumPy arrays     -> the twin itself (also `Rows` of TwinRuntime, for who wants to see each call)
    eager       `Rows` of EagerRuntime -> one C call, now
    tape        `Rows` of a recorder   -> one more row on the tape (foundation/tape.py)

so a forward pass is written once and can be run in two ways side by side (see `zigllama.diff`).

A value that flows between ops is a matrix (T, cols) of float32: T rows, one per token of the step. Everything that
varies from step to step (token ids, positions, pages) is in the `Step`, which ops that need it take as an argument.

What this file is not: it holds no op. Each layer defines its own, beside its formula.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from zigllama.errors import IndexOutOfRange, InvalidArgument, ShapeError

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]

# how many rows a value has: one per token of the step, or one per row whose logits are wanted
ROWS_STEP, ROWS_OUT = 0, 1


# --- the step ---------------------------------------------------------------------------------------------------------


@dataclass
class Step:
    """What differs between two runs of the same forward pass. T rows, each a token (or an input row) of some sequence.

    tokens      (T,)   token ids; -1 takes the row of `inputs` instead
    positions   (n, T) rotary positions, one plane per axis (n = 1 for text)
    cache_pos   (T,)   absolute position of the row in its sequence: where its key and value are stored
    see_to      (T,)   the last position the row may see; equal to `cache_pos` for causal attention
    seq         (T,)   which sequence the row belongs to; rows of one sequence are adjacent, `cache_pos` ascending
    out_rows    (R,)   rows whose logits are wanted
    tables      one (n_seq, width) array of page numbers per cache class, -1 where there is no page
    inputs      (T, C) float rows that stand in for embeddings (images), or None
    masks       per wanted row None or a bit mask over the vocabulary of the tokens allowed (uint32 words), or None for
                no masks
    best        whether the best of each wanted row are wanted too, where the forward pass ends with `top_k`
    hidden      whether the hidden states of the wanted rows are wanted too
    """

    tokens: I32
    positions: I32
    cache_pos: I32
    see_to: I32
    seq: I32
    out_rows: I32
    tables: list[I32] = field(default_factory=list)
    inputs: F32 | None = None
    masks: list[npt.NDArray[np.uint32] | None] | None = None
    n_seq: int = 1
    best: bool = True
    hidden: bool = False
    runtime: Any = None  # set by a runtime's `bind`; None means reference

    @property
    def n_rows(self) -> int:
        return int(self.tokens.shape[0])

    @property
    def n_out(self) -> int:
        return int(self.out_rows.shape[0])

    def plane(self, i: int) -> I32:
        """Plane i of the positions (T,); a step without rows has any. Raises IndexOutOfRange."""
        if not self.n_rows:
            return np.zeros(0, np.int32)
        if not 0 <= i < len(self.positions):
            raise IndexOutOfRange(f"position plane {i} of {len(self.positions)}")
        plane: I32 = self.positions[i]
        return plane

    @classmethod
    def of_rows(cls, n_rows: int) -> Step:
        """A step of `n_rows` rows with nothing in it: for ops called on their own. Positions count from 0."""
        count = np.arange(n_rows, dtype=np.int32)
        return cls(np.zeros(n_rows, np.int32), count[None, :], count, count, np.zeros(n_rows, np.int32), count)


# --- values and lowering ----------------------------------------------------------------------------------------------


class Rows:
    """A value of the eager runtime or of the tape: (T, cols) float32 that belongs to `runtime`."""

    __slots__ = ("array", "cols", "rows_kind", "runtime", "slot")

    def __init__(
        self, runtime: Any, cols: int, rows_kind: int = ROWS_STEP, array: F32 | None = None, slot: int = -1
    ) -> None:
        self.runtime, self.cols, self.rows_kind, self.array, self.slot = runtime, cols, rows_kind, array, slot

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols); rows is -1 on the tape, where it is not known yet."""
        return (-1 if self.array is None else self.array.shape[0], self.cols)


class NativeOperand(Protocol):
    """What an op argument that is neither rows nor a constant offers: a native weight or cache."""

    def native_operand(self, context: Any) -> tuple[int, int, int, Any]:
        """(tensor kind, rows, cols, pointer) for this context; the object keeps the memory alive."""
        ...


class Lowered(NamedTuple):
    """A call as the C library takes it: input operands in the opcode's order (None = absent), columns per output,
    parameters.
    """

    ins: Sequence[Any]
    outs: Sequence[int]
    ints: Sequence[int] = ()
    floats: Sequence[float] = ()
    rows_kind: int | None = None  # None: that of the first Rows operand


class Runtime(Protocol):
    """What executes or records a lowered op."""

    name: str

    def execute(self, op: Op, call: Lowered) -> Any: ...


REGISTRY: dict[str, Op] = {}


class Op:
    """A named op. Call it with arrays to run its twin, with `Rows` to run or record it natively; `.ref` is the twin.

    `rowwise`: row t of the result depends on row t of the operands and on nothing of the step.
    """

    def __init__(self, ref: Callable[..., Any], code: int, lower: Callable[..., Lowered], rowwise: bool) -> None:
        self.ref, self.code, self.lower, self.rowwise = ref, code, lower, rowwise
        self.name = ref.__name__
        self.__doc__, self.__name__ = ref.__doc__, ref.__name__

    def __call__(self, *args: Any, **params: Any) -> Any:
        runtime = next((r for a in args if (r := getattr(a, "runtime", None)) is not None), None)
        if runtime is None:
            return self.ref(*args, **params)
        whole = getattr(runtime, "call", None)  # a runtime that wants the call as it was written (app/diff.py)
        if whole is not None:
            return whole(self, args, params)
        return runtime.execute(self, self.lower(*args, **params))

    def __repr__(self) -> str:
        return f"<op {self.name}>"


def op(code: int, lower: Callable[..., Lowered], *, rowwise: bool = False) -> Callable[[Callable[..., Any]], Op]:
    """Make an op of a NumPy function: `@op(code=ZL_OP_..., lower=lambda x, w, *, eps: Lowered(...))`."""

    def wrap(ref: Callable[..., Any]) -> Op:
        made = Op(ref, code, lower, rowwise)
        if made.name in REGISTRY:
            raise InvalidArgument(f"op {made.name!r} is defined twice")
        REGISTRY[made.name] = made
        return made

    return wrap


def cols_of(x: Any) -> int:
    """Columns of a value: of `Rows`, or of a (T, cols) array."""
    return int(x.cols) if isinstance(x, Rows) else int(x.shape[-1])


# --- at once ----------------------------------------------------------------------------------------------------------

Observer = Callable[[Op, Lowered, Any], None]  # an op that was run, its operands, its result


class _AtOnce:
    """What the runtimes that run each op at once have in common: a step, its rows, and who is told of every op."""

    def __init__(self, step: Step, observer: Observer | None) -> None:
        self.step, self.observer = step, observer

    def bind(self) -> Step:
        """The step, marked as belonging to this runtime, to be handed to a forward pass."""
        from dataclasses import replace

        return replace(self.step, runtime=self)

    def rows(self, x: npt.ArrayLike, rows_kind: int = ROWS_STEP) -> Rows:
        """Wrap a (T, cols) array as a value of this runtime. Raises ShapeError when T is not the step's."""
        a = np.ascontiguousarray(x, np.float32)
        want = self.step.n_out if rows_kind == ROWS_OUT else self.step.n_rows
        if a.ndim != 2 or a.shape[0] != want:
            raise ShapeError(f"expected a ({want}, cols) array, found shape {a.shape}")
        return Rows(self, a.shape[1], rows_kind, a)

    def _done(self, op: Op, call: Lowered, outs: list[Rows]) -> Any:
        """The result as a forward pass expects it."""
        result: Any = outs[0] if len(outs) == 1 else tuple(outs) if outs else None
        if self.observer is not None:
            self.observer(op, call, result)
        return result

    @staticmethod
    def _kind(call: Lowered) -> int:
        if call.rows_kind is not None:
            return call.rows_kind
        return next((x.rows_kind for x in call.ins if isinstance(x, Rows)), ROWS_STEP)


class EagerRuntime(_AtOnce):
    """Runs each op at once, in one call of the C library, for one step; `observer` is told of each.

    >>> rt = EagerRuntime(context, Step.of_rows(len(x)))
    >>> y = rms_norm(rt.rows(x), w, eps=1e-6).array
    """

    name = "eager"

    def __init__(self, context: Any, step: Step, observer: Observer | None = None) -> None:
        super().__init__(step, observer)
        self.context = context
        self.native_step = context.make_step(step)

    def execute(self, op: Op, call: Lowered) -> Any:
        kind = self._kind(call)
        n = self.step.n_out if kind == ROWS_OUT else self.step.n_rows
        outs = [Rows(self, cols, kind, np.empty((n, cols), np.float32)) for cols in call.outs]
        self.context.run_op(op.code, call.ins, outs, call.ints, call.floats, self.native_step)
        return self._done(op, call, outs)


class TwinRuntime(_AtOnce):
    """Runs each op at once by its twin: the reference with its calls to be seen by `observer`."""

    name = "reference"

    def __init__(self, step: Step, observer: Observer | None = None) -> None:
        super().__init__(step, observer)

    def call(self, op: Op, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        """Run one op with the arguments as they were written."""
        lowered = op.lower(*args, **params)
        plain = (a.array if isinstance(a, Rows) else self.step if isinstance(a, Step) else a for a in args)
        made = op.ref(*plain, **params)
        arrays = made if isinstance(made, tuple) else () if made is None else (made,)
        return self._done(op, lowered, [Rows(self, y.shape[1], self._kind(lowered), y) for y in arrays])
