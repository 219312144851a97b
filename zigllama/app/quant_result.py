"""`QuantReport`, what `zl.quant_report` gives back: a table for the terminal, JSON, a picture.

What it is not: it measures nothing (quant_report.py); the numbers are in quant_rows.py, the picture is drawn by
quant_picture.py.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from os.path import basename
from typing import Any

from zigllama.app import svg
from zigllama.app.console import printable, table
from zigllama.app.quant_picture import picture
from zigllama.app.quant_rows import QuantRow, Skipped, TypeSummary, by_type, plain
from zigllama.foundation.byte_source import StrPath


@dataclass(frozen=True)
class QuantReport:
    """See `quant_report`.

    path          the model file
    reference     the file whose values and logits it was compared with; None: its own
    imatrix       the file of importances
    n_tokens      of the text that the model was run on; 0: it was not
    fingerprint   how it was run (ISA variant, cache, ...)
    skipped       what could not be measured
    """

    path: str
    reference: str | None
    imatrix: str | None
    rows: tuple[QuantRow, ...]
    skipped: tuple[Skipped, ...] = ()
    n_tokens: int = 0
    fingerprint: str | None = None

    def by_type(self) -> tuple[TypeSummary, ...]:
        """The sums, in the order of bits per weight."""
        return by_type(self.rows)

    def notes(self) -> list[str]:
        """What a reader must know beside the figures."""
        found = Counter((s.type, s.reason) for s in self.skipped)
        return [f"{kind} is not measured for {n} tensors: {reason}" for (kind, reason), n in found.items()]

    def table(self) -> str:
        """For the terminal: every row, then the sums."""
        kl = any(r.kl is not None for r in self.rows)
        weighted = any(r.weighted_rmse is not None for r in self.rows)
        head = ["tensor", "is", "as", "bits", "RMSE", "relative", "largest", "cosine"]
        head += ["weighted"] * weighted + ["KL", "largest KL"] * kl
        rows = []
        for r in self.rows:
            cells = [printable(r.tensor), r.source_type, r.type, f"{r.bits_per_weight:.4g}", f"{r.rmse:.4g}"]
            cells += [f"{r.relative_rmse:.4%}", f"{r.max_error:.4g}", f"{r.cosine:.7f}"]
            cells += [_number(r.weighted_rmse)] * weighted + [_number(r.kl), _number(r.kl_max)] * kl
            rows.append(cells)
        sums_head = ["as", "tensors", "bits", "relative", "best", "worst", "largest", "worst tensor"]
        sums_head += ["mean KL", "worst KL", "its tensor"] * kl
        sums = []
        for s in self.by_type():
            cells = [s.type, str(s.n_tensors), f"{s.bits_per_weight:.4g}"]
            cells += [f"{x:.4%}" for x in (s.relative_rmse, s.lowest, s.highest)]
            cells += [f"{s.max_error:.4g}", printable(s.worst)]
            cells += [_number(s.kl), _number(s.kl_highest), printable(s.kl_worst or "")] * kl
            sums.append(cells)
        right = [*range(3, 8 + weighted + 2 * kl)]
        return table(rows, head, right=right) + "\n\n" + table(sums, sums_head, right=[1, 2, 3, 4, 5, 6, 8, 9])

    def to_json(self) -> dict[str, Any]:
        """As plain values, the sums included."""
        return {
            "path": self.path,
            "reference": self.reference,
            "imatrix": self.imatrix,
            "n_tokens": self.n_tokens,
            "fingerprint": self.fingerprint,
            "rows": [r.to_json() for r in self.rows],
            "by_type": [{k: plain(v) for k, v in vars(s).items()} for s in self.by_type()],
            "skipped": [vars(s) for s in self.skipped],
        }

    def plot(self, path: StrPath) -> None:
        """Rate against distortion as an SVG file: a point per format, bits per weight against relative RMSE, and
        against KL where the model was run. Replaces a picture that is there. Raises InvalidArgument, OSError.
        """
        n = len({r.tensor for r in self.rows})
        title = f"{n} tensor{'s' * (n != 1)} of {basename(self.path)} beside "
        title += "its own values" if self.reference is None else basename(self.reference)
        title += f", importance from {basename(self.imatrix)}" if self.imatrix else ""
        svg.save(path, picture(self.by_type(), title, n, self.n_tokens))


def _number(x: float | None) -> str:
    return "" if x is None else f"{x:.4g}"
