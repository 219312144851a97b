"""Show what zigllama found on this machine, what it chose, and why: instruction sets, threads, memory, cache. Exit code
1 when something is wrong.
"""

from __future__ import annotations

import argparse
import json

from zigllama.app.doctor import examine


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(args: argparse.Namespace) -> int:
    report = examine()
    print(json.dumps(report.to_json(), indent=2) if args.json else report)
    return 1 if report.problems else 0
