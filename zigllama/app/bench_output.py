"""What `zigllama bench` prints: llama-bench's table, or its fields as CSV, a JSON list or a line of JSON per test.

Each result is printed when it is there. What this is not: it measures nothing (bench.py).
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping
from typing import Any, TextIO

FORMATS = ("md", "csv", "json", "jsonl")
MIB, GIB = 1 << 20, 1 << 30

# header, width (negative: flush left), as llama-bench has them
COLUMNS = (
    ("model", -30),
    ("size", 10),
    ("params", 10),
    ("backend", -10),
    ("threads", 7),
    ("test", 15),
    ("t/s", 20),
)
BATCH_COLUMNS = (
    ("PP", 6, "pp", "d"),
    ("TG", 6, "tg", "d"),
    ("B", 4, "pl", "d"),
    ("N_KV", 6, "n_kv", "d"),
    ("T_PP s", 8, "t_pp", ".3f"),
    ("S_PP t/s", 8, "speed_pp", ".2f"),
    ("T_TG s", 8, "t_tg", ".3f"),
    ("S_TG t/s", 8, "speed_tg", ".2f"),
    ("T s", 8, "t", ".3f"),
    ("S t/s", 8, "speed", ".2f"),
)


def binary_size(n_bytes: int) -> str:
    """llama-bench's way to write bytes.

    >>> binary_size(98 << 20), binary_size(3 << 29)
    ('98.00 MiB', '1.50 GiB')
    """
    return f"{n_bytes / MIB:.2f} MiB" if n_bytes < GIB else f"{n_bytes / GIB:.2f} GiB"


def parameters(n: int) -> str:
    """llama-bench's way to write how many weights there are.

    >>> parameters(134_515_008), parameters(1_100_048_384)
    ('134.52 M', '1.10 B')
    """
    return f"{n / 1e6:.2f} M" if n < 1e9 else f"{n / 1e9:.2f} B"


def cells(row: Mapping[str, Any]) -> list[str]:
    """A result as the table's cells."""
    return [
        row["model_type"],
        binary_size(row["model_size"]),
        parameters(row["model_n_params"]),
        row["backends"],
        str(row["n_threads"]),
        row["test"],
        f"{row['avg_ts']:.2f} \u00b1 {row['stddev_ts']:.2f}",
    ]


def batch_cells(row: Mapping[str, Any]) -> list[str]:
    """A batch's result as the table's cells."""
    return [format(row[key], form) for _, _, key, form in BATCH_COLUMNS]


class Printer:
    """Results in one of FORMATS to `out`, one after another: `with Printer("md") as p: p.row(result)`.

    `batched`: they are results of batches. Nothing is printed before the first, so that an error leaves stdout empty.
    CSV has no samples. A table ends with a line that says what ran.
    """

    def __init__(self, form: str, *, batched: bool = False, out: TextIO | None = None) -> None:
        self.form, self.batched, self.out = form, batched, out or sys.stdout
        self.widths = [abs(w) for _, w in COLUMNS] if not batched else [w for _, w, _, _ in BATCH_COLUMNS]
        self.left = [w < 0 for _, w in COLUMNS] if not batched else [False] * len(BATCH_COLUMNS)
        self.count, self.footer = 0, ""

    def _print(self, text: str, end: str = "\n") -> None:
        print(text, file=self.out, end=end, flush=True)

    def _line(self, texts: list[str]) -> str:
        padded = zip(texts, self.widths, self.left, strict=True)
        return "| " + " | ".join(t.ljust(w) if left else t.rjust(w) for t, w, left in padded) + " |"

    def __enter__(self) -> Printer:
        return self

    def _head(self, row: Mapping[str, Any]) -> None:
        """What stands before the first result."""
        if self.form == "json":
            self._print("[", "")
        if self.form == "csv":
            self._print(",".join(row))
        if self.form == "md":
            names = [name for name, *_ in (BATCH_COLUMNS if self.batched else COLUMNS)]
            rule = ["-" * w if left else "-" * (w - 1) + ":" for w, left in zip(self.widths, self.left, strict=True)]
            self._print(f"{self._line(names)}\n{self._line(rule)}")

    def row(self, row: Mapping[str, Any]) -> None:
        """One result."""
        flat = {k: v for k, v in row.items() if not isinstance(v, list)}
        if not self.count:
            self._head(flat)
        if self.form == "md":
            self._print(self._line(batch_cells(row) if self.batched else cells(row)))
            self.footer = f"\nbuild: zigllama {row['build_commit']} ({row['fingerprint']})"
        elif self.form == "csv":
            csv.writer(self.out, lineterminator="\n").writerow(flat.values())
            self.out.flush()
        elif self.form == "json":
            self._print(("," if self.count else "") + "\n  " + json.dumps(row), "")
        else:
            self._print(json.dumps(row))
        self.count += 1

    def __exit__(self, *exc: object) -> None:
        if self.form == "json" and self.count:  # closed on an error too: what was measured can be read
            self._print("\n]")
        if self.form == "md" and self.footer:
            self._print(self.footer)
