"""Show how a model's tokenizer cuts a text: ids, where each token lies in the text's UTF-8 bytes, and its piece.

On a terminal the text comes first, in colours; NO_COLOR turns them off. The weights are not touched. Control tokens
written in the text are text, unless --parse-special. Exit code 1 when the tokens do not give the text back, which
happens where the vocabulary has no token for it.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass

from zigllama.app.console import coloured, note, printable, table
from zigllama.app.options import add_model, model_path
from zigllama.app.prompt import add_prompt, prompt_of
from zigllama.models.tokenizer import Tokenizer

SHADES = (106, 103, 105, 102)  # of a terminal's bright backgrounds


@dataclass(frozen=True)
class Token:
    """A token: its bytes, and where they are in the text; nowhere (None) for one that was added."""

    id: int
    piece: bytes
    start: int | None
    end: int | None


def configure(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_prompt(parser)
    add = parser.add_argument_group("tokens").add_argument
    add("--no-bos", action="store_true", help="do not add the tokens that the model wants around a text")
    add("--parse-special", action="store_true", help="control tokens written in the text become those tokens")
    add("--pre", metavar="NAME", help="use this pre-tokenizer instead of the one that the file names")
    add("--ids", action="store_true", help="only the ids, as a list")
    add("--show-count", action="store_true", help="only how many tokens there are")
    add("--json", action="store_true", help="print as JSON")


def run(args: argparse.Namespace) -> int:
    text = prompt_of(args)
    tokenizer = Tokenizer(model_path(args), pre=args.pre)
    added = not args.no_bos
    ids, places = tokenizer.encode_with_offsets(text, add_special=added, parse_special=args.parse_special)
    tokens = [Token(i, tokenizer.piece(i), *(place or (None, None))) for i, place in zip(ids, places, strict=True)]
    if args.json:
        print(json.dumps({"text": text, "n_tokens": len(ids), "tokens": [_plain(t) for t in tokens]}, indent=2))
    elif args.ids:
        print(ids)
    elif args.show_count:
        print(len(ids))
    else:
        if coloured(sys.stdout):
            print(painted(text.encode(), tokens), end="\n\n")
        rows = [(t.id, "" if t.start is None else f"{t.start}-{t.end}", _shown(t.piece)) for t in tokens]
        print(table(rows, ("id", "bytes", "piece"), right=[0, 1]))
    own = [i for i, place in zip(ids, places, strict=True) if place is not None]
    if tokenizer.decode_bytes(own, special=True) != text.encode():
        note("the tokens do not give the text back: it was normalised, or the vocabulary has none for a part of it")
        return 1
    return 0


def painted(text: bytes, tokens: list[Token]) -> str:
    """The text with the place of each token on a colour of its own, in turn; what cannot be printed as escapes.

    A character that several tokens share is shown as the bytes that each has of it; where each has all of it, as
    WordPiece's of a syllable that was taken apart, it is the first one's.
    """
    parts, shade, at = list[str](), 0, 0
    for token in tokens:
        if token.start is None or token.end is None or (start := max(at, token.start)) >= token.end:
            continue
        at = token.end
        piece = text[start:at].decode("utf-8", "backslashreplace")
        ends = "\n" * piece.count("\n")  # a line ends where the text's does, after its escape
        parts.append(f"\x1b[30;{SHADES[shade % len(SHADES)]}m{printable(piece)}\x1b[0m{ends}")
        shade += 1
    return "".join(parts)


def _shown(piece: bytes) -> str:
    """A piece in quotes; bytes that are no text of their own (part of a character) as \\x.."""
    text = piece.decode("utf-8", "backslashreplace")
    return f"'{printable(text)}'"


def _plain(token: Token) -> dict[str, object]:
    text: str | None
    try:
        text = token.piece.decode()
    except UnicodeDecodeError:
        text = None
    return {"id": token.id, "piece": text, "bytes": token.piece.hex(), "start": token.start, "end": token.end}
