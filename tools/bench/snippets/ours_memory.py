"""Run in a fresh interpreter: `zigllama` as the command line runs it, then VmHWM on stderr.

argv: the arguments of zigllama
"""

import atexit
import runpy
import sys
from pathlib import Path


def report() -> None:
    """The most memory that this process ever had resident, the mapped file's pages included."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
    print(line, file=sys.stderr)


atexit.register(report)
sys.argv = ["zigllama", *sys.argv[1:]]
runpy.run_module("zigllama", run_name="__main__")
