"""Show how a model's tokenizer cuts a text: ids, where each token lies in the text's UTF-8 bytes, and its piece.

The weights are not touched. Control tokens written in the text are text, unless --parse-special. Exit code 1 when the
tokens do not give the text back, which happens where the vocabulary has no token for it.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass

from zigllama.app.console import note, printable, table
from zigllama.app.options import add_model, model_path
from zigllama.app.prompt import add_prompt, prompt_of
from zigllama.models.tokenizer import Tokenizer


@dataclass(frozen=True)
class Token:
    """A token: its bytes, and where they are in the text; nowhere (None) for one that was added or stands for other
    bytes.
    """

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
    ids = tokenizer.encode(text, add_special=not args.no_bos, parse_special=args.parse_special)
    tokens, whole = locate(tokenizer, text.encode(), ids, added=not args.no_bos)
    if args.json:
        print(json.dumps({"text": text, "n_tokens": len(ids), "tokens": [_plain(t) for t in tokens]}, indent=2))
    elif args.ids:
        print(ids)
    elif args.show_count:
        print(len(ids))
    else:
        rows = [(t.id, "" if t.start is None else f"{t.start}-{t.end}", _shown(t.piece)) for t in tokens]
        print(table(rows, ("id", "bytes", "piece"), right=[0, 1]))
    if not whole:
        note("the tokens do not give the text back: the vocabulary has none for a part of it")
        return 1
    return 0


def locate(tokenizer: Tokenizer, text: bytes, ids: list[int], added: bool) -> tuple[list[Token], bool]:
    """Each token with its place in the text, and whether together they are the text.

    A BOS or EOS that was added has no place. A space that the tokenizer put before a word is in the piece and not in
    the text. After a piece that stands for other bytes (an unknown token) places are not known any more.
    """
    bos, eos = added and tokenizer.add_bos, added and tokenizer.add_eos
    tokens: list[Token] = []
    at: int | None = 0
    for i, token_id in enumerate(ids):
        piece = tokenizer.piece(token_id)
        start, end = at, None
        if (bos and i == 0) or (eos and i == len(ids) - 1):
            start = None
        elif at is not None:
            if text.startswith(piece, at):
                at = end = at + len(piece)
            elif piece.startswith(b" ") and text.startswith(piece[1:], at):
                at = end = at + len(piece) - 1
            else:
                at = start = None
        tokens.append(Token(token_id, piece, start, end))
    return tokens, at == len(text)


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
