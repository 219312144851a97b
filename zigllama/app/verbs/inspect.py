"""Show what is in a GGUF file: metadata and tensors. Only the head of the file is read, no tensor.

With --errors tensors are read too: what each number format does to each of them, or what was done to them compared with
--reference; errors, bits per weight, and with --kl what a tensor alone does to the logits.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from zigllama.app.console import UsageError, nearest, printable, size, table
from zigllama.app.options import add_model, model_path
from zigllama.app.verbs import inspect_errors
from zigllama.foundation.gguf_format import GGUFReader, StringArray

SHOWN = 60  # characters of a value in the table
LONG = 64  # elements of an array beyond which JSON has only its length
SAMPLE = 6  # elements of an array that are shown


def configure(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("--metadata", action="store_true", help="only the metadata")
    parser.add_argument("--tensors", action="store_true", help="only the tensors")
    parser.add_argument("--key", metavar="KEY", help="only this key's value, whole")
    parser.add_argument(
        "--json",
        action="store_true",
        help="print as JSON; long arrays as their length, unless --key",
    )
    inspect_errors.configure(parser)


def run(args: argparse.Namespace) -> int:
    inspect_errors.check(args)
    if args.errors:
        return inspect_errors.run(args)
    path = model_path(args)
    with GGUFReader(path) as reader:
        if args.key is not None:
            _print_key(reader, args.key, args.json)
            return 0
        both = args.metadata == args.tensors
        if args.json:
            print(json.dumps(_as_json(path, reader, both or args.metadata, both or args.tensors), indent=2))
            return 0
        if both:
            print(_summary(path, reader) + "\n")
        if both or args.metadata:
            rows = [(printable(key), _type_name(reader, key), _shown(reader.metadata[key])) for key in reader.metadata]
            print(table(rows, ("key", "type", "value")))
        if both:
            print()
        if both or args.tensors:
            tensors = [
                (printable(t.name), _shape(t.shape), t.type.name, f"{t.n_bytes:,}") for t in reader.tensors.values()
            ]
            print(table(tensors, ("tensor", "shape", "type", "bytes"), right=[3]))
    return 0


def _summary(path: Path, reader: GGUFReader) -> str:
    """Four lines that tell what the file is."""
    metadata = reader.metadata
    n_params = sum(math.prod(t.shape) for t in reader.tensors.values())
    by_type = Counter[str]()
    for t in reader.tensors.values():
        by_type[t.type.name] += t.n_bytes
    parts = f" in {len(reader.paths)} parts" if len(reader.paths) > 1 else ""
    name, architecture = (_shown(metadata.get(f"general.{key}", "?")) for key in ("name", "architecture"))
    rows = [
        ("file", f"{path}, GGUF v{reader.version}, {size(reader.n_bytes)}{parts}"),
        ("model", f"{name}, architecture {architecture}"),
        ("licence", _shown(metadata.get("general.license", "not stated"))),
        ("tensors", f"{len(reader.tensors)}, {n_params / 1e6:,.1f} M parameters: " + _list_types(by_type)),
    ]
    return table(rows)


def _list_types(by_type: Counter[str]) -> str:
    return ", ".join(f"{name} {size(n)}" for name, n in by_type.most_common())


def _type_name(reader: GGUFReader, key: str) -> str:
    element = reader.metadata.element_type_of(key)
    if element is None:
        return reader.metadata.type_of(key).name.lower()
    return f"{element.name.lower()}[{len(reader.metadata[key])}]"  # type: ignore[arg-type]


def _shape(shape: Iterable[int]) -> str:
    return " x ".join(map(str, shape))


def _shown(value: Any) -> str:
    """A value on one line.

    What a file says is shown as Python would write it, so that no control character reaches the terminal.
    """
    if isinstance(value, StringArray):
        text = ", ".join(repr(value.raw(i).decode("utf-8", "replace")) for i in range(min(SAMPLE, len(value))))
        return _cut(text + (", ..." if len(value) > SAMPLE else ""))
    if isinstance(value, np.ndarray):
        return _cut(", ".join(f"{v:g}" for v in value[:SAMPLE].tolist()) + (", ..." if len(value) > SAMPLE else ""))
    if isinstance(value, str):
        return _cut(printable(value))
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN else text[: SHOWN - 4] + " ..."


def _plain(value: Any, whole: bool) -> Any:
    """A value for JSON: bytes that are not UTF-8 as replacement characters, non-finite numbers as their names."""
    if isinstance(value, StringArray | np.ndarray) and len(value) > LONG and not whole:
        return {"length": len(value)}
    if isinstance(value, StringArray):
        return [raw.decode("utf-8", "replace") for raw in value.raw_list()]
    if isinstance(value, np.ndarray):
        return [_plain(v, True) for v in value.tolist()]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _as_json(path: Path, reader: GGUFReader, metadata: bool, tensors: bool) -> dict[str, Any]:
    result: dict[str, Any] = {
        "file": str(path),
        "version": reader.version,
        "bytes": reader.n_bytes,
        "parts": len(reader.paths),
    }
    if metadata:
        result["metadata"] = {key: _plain(reader.metadata[key], False) for key in reader.metadata}
    if tensors:
        result["tensors"] = [
            {
                "name": t.name,
                "shape": list(t.shape),
                "type": t.type.name,
                "offset": t.offset,
                "bytes": t.n_bytes,
                "part": t.part,
            }
            for t in reader.tensors.values()
        ]
    return result


def _print_key(reader: GGUFReader, key: str, as_json: bool) -> None:
    """The whole value of one key. A string is printed as it is: that is what --key is for."""
    if key not in reader.metadata:
        near = nearest(key, reader.metadata)
        raise UsageError(f"no key {key!r} in the file" + (f"; did you mean {near!r}?" if near else ""))
    value = _plain(reader.metadata[key], True)
    if as_json:
        print(json.dumps(value, indent=2))
    elif isinstance(value, list):
        for item in value:
            print(item)
    else:
        print(value)
