"""What `zl.quant_report` finds, as numbers: a row per tensor and number format, and their sums per format.

What it is not: it measures nothing (quant_report.py) and shows nothing (quant_result.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from zigllama.foundation.ggml_types import row_bytes, type_by_name


@dataclass(frozen=True)
class QuantRow:
    """One tensor in one number format.

    source_type     what the values that it is compared with are stored as
    rms, rmse       root mean square of these values, and of the error; max_error: the largest
    cosine          between the two as long vectors
    weighted_rmse   as rmse, each column counting by its importance; None where there is none
    kl, kl_max      KL divergence in nats of the logits with this tensor alone in this format, the mean over the text's
                    tokens and the largest; None where the model was not run
    """

    tensor: str
    shape: tuple[int, ...]
    source_type: str
    type: str
    rms: float
    rmse: float
    max_error: float
    cosine: float
    weighted_rmse: float | None = None
    kl: float | None = None
    kl_max: float | None = None

    @property
    def n_values(self) -> int:
        """Values of the tensor."""
        return math.prod(self.shape)

    @property
    def n_bytes(self) -> int:
        """Bytes of the tensor in this format."""
        return math.prod(self.shape[:-1]) * row_bytes(type_by_name(self.type), self.shape[-1])

    @property
    def bits_per_weight(self) -> float:
        """8 * n_bytes / n_values."""
        return 8 * self.n_bytes / self.n_values

    @property
    def relative_rmse(self) -> float:
        """rmse / rms; 0 where there is no error, inf where there is one and all values are 0."""
        return relative(self.rmse, self.rms)

    def to_json(self) -> dict[str, Any]:
        """As plain values; infinity by its name, as JSON has none."""
        out = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}
        derived = {"bits_per_weight": self.bits_per_weight, "relative_rmse": self.relative_rmse}
        return {k: plain(v) for k, v in (out | derived).items()}


@dataclass(frozen=True)
class TypeSummary:
    """One number format over all its rows.

    n_tensors        how many of them
    relative_rmse    of all their values together: sqrt(sum of squared errors / sum of squared values)
    lowest, highest  the relative RMSE of the best tensor and of the worst, `worst`
    kl               the mean over tensors of their KL, kl_lowest and kl_highest: of single ones (`kl_worst`); None
                     where the model was not run. For small errors KLs add up: n_tensors * kl is about what all of them
                     do together
    """

    type: str
    n_tensors: int
    bits_per_weight: float
    relative_rmse: float
    lowest: float
    highest: float
    worst: str
    max_error: float
    kl: float | None
    kl_lowest: float | None
    kl_highest: float | None
    kl_worst: str | None


@dataclass(frozen=True)
class Skipped:
    """A tensor that was not measured in a format, and why."""

    tensor: str
    type: str
    reason: str


def relative(error: float, size: float) -> float:
    """error / size; 0 / 0 is 0."""
    return error / size if size else math.inf if error else 0.0


def plain(value: Any) -> Any:
    """A value for JSON, which has no infinity: its name."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def by_type(rows: Iterable[QuantRow]) -> tuple[TypeSummary, ...]:
    """The sums of each format, in the order of bits per weight."""
    groups: dict[str, list[QuantRow]] = {}
    for row in rows:
        groups.setdefault(row.type, []).append(row)
    return tuple(sorted((_summary(g) for g in groups.values()), key=lambda s: (s.bits_per_weight, s.type)))


def _summary(rows: Sequence[QuantRow]) -> TypeSummary:
    """Of rows of one type, at least one."""
    error = math.sqrt(math.fsum(r.rmse**2 * r.n_values for r in rows))
    size = math.sqrt(math.fsum(r.rms**2 * r.n_values for r in rows))
    worst = max(rows, key=lambda r: r.relative_rmse)
    kls = [(r.kl, r.tensor) for r in rows if r.kl is not None]
    return TypeSummary(
        type=rows[0].type,
        n_tensors=len(rows),
        bits_per_weight=8 * sum(r.n_bytes for r in rows) / sum(r.n_values for r in rows),
        relative_rmse=relative(error, size),
        lowest=min(r.relative_rmse for r in rows),
        highest=worst.relative_rmse,
        worst=worst.tensor,
        max_error=max(r.max_error for r in rows),
        kl=math.fsum(k for k, _ in kls) / len(kls) if kls else None,
        kl_lowest=min(kls)[0] if kls else None,
        kl_highest=max(kls)[0] if kls else None,
        kl_worst=max(kls)[1] if kls else None,
    )
