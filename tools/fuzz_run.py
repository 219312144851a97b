"""Runs a fuzzer until it has had enough: so many minutes of CPU, and so many of them without new coverage.

    python tools/fuzz_run.py --work DIR [--minutes 30] [--quiet 10] -- python tools/fuzz_templates.py --work DIR

The command after `--` is a libFuzzer of any kind, whose report on stderr is read. Time is the processor's: on a machine
that others use, and where a fuzzer has the lowest priority, minutes on the wall mean nothing. The sums are kept in
DIR/fuzz_run.json, so that a run may be ended (SIGINT) and taken up again; `cov` counts as new only above all before.
Exit code 1 if something was found (DIR/crash-*, timeout-*, oom-*).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

TICKS = os.sysconf("SC_CLK_TCK")
FOUND = ("crash-*", "timeout-*", "oom-*", "leak-*")


class Sums(NamedTuple):
    """What all runs together came to."""

    cpu: float = 0.0  # seconds
    quiet: float = 0.0  # of them since the last new coverage
    executions: int = 0
    coverage: int = 0
    features: int = 0
    corpus: str = ""

    def __str__(self) -> str:
        return (
            f"{self.executions:,} executions in {self.cpu / 60:.1f} CPU minutes, cov {self.coverage}, "
            f"ft {self.features}, corpus {self.corpus}; no new coverage for {self.quiet / 60:.1f} CPU minutes"
        )


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, its children's that have ended included; 0.0 for one that is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / TICKS  # utime stime cutime cstime


def follow(command: list[str], work: Path, minutes: float, quiet: float) -> int:
    """Run it; the sums are written after each report. -> exit code"""
    kept = work / "fuzz_run.json"
    before = sums = Sums(**json.loads(kept.read_text("utf-8"))) if kept.exists() else Sums()
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace")
    assert process.stderr is not None
    news, noted, initial = 0.0, time.monotonic(), True
    try:
        for line in process.stderr:
            cpu = cpu_seconds(process.pid)
            m = re.match(r"#(\d+)\s+(\w+)\s+cov: (\d+) ft: (\d+) corp: (\S+)", line)
            if m is None:
                if not re.match(r"\s*(INFO|NEW_FUNC|#\d+\s+READ)", line):
                    print(line, end="", flush=True)
                continue
            coverage = int(m[3])
            if initial and m[2] == "INITED":
                initial, news = False, cpu - before.quiet if coverage <= before.coverage else cpu
            if coverage > sums.coverage:
                news = cpu
            sums = Sums(
                before.cpu + cpu,
                cpu - news,
                before.executions + int(m[1]),
                max(coverage, sums.coverage),
                int(m[4]),
                m[5],
            )
            kept.write_text(json.dumps(sums._asdict()))
            if time.monotonic() - noted > 60:
                noted = time.monotonic()
                print(sums, flush=True)
            if sums.cpu >= 60 * minutes and sums.quiet >= 60 * quiet:
                break
    except KeyboardInterrupt:
        pass
    process.kill()
    process.wait()
    print("ended:", sums, flush=True)
    return 1 if any(f for kind in FOUND for f in work.glob(kind)) else 0


def main() -> int:
    """Run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=30, help="CPU minutes in all")
    parser.add_argument("--quiet", type=float, default=10, help="CPU minutes without new coverage")
    parser.add_argument("command", nargs="+")
    a = parser.parse_args()
    a.work.mkdir(parents=True, exist_ok=True)
    return follow(a.command, a.work, a.minutes, a.quiet)


if __name__ == "__main__":
    sys.exit(main())
