"""Where a prompt comes from: -p TEXT, a file, or standard input."""

from __future__ import annotations

import argparse
import codecs
import os
import re
import sys
from pathlib import Path

from zigllama.app.console import UsageError

_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|[\\ntr'\"])")


def add_prompt(parser: argparse.ArgumentParser) -> None:
    """-p, -f and -e."""
    add = parser.add_argument_group("prompt").add_argument
    add("-p", "--prompt", metavar="TEXT", help="the prompt; - reads standard input, as does leaving it out in a pipe")
    add("-f", "--file", metavar="FILE", help="read the prompt from a file; one line break at its end is dropped")
    add("-e", "--escape", action="store_true", help=r"\n, \t, \\, \" and \u00e9 in -p mean what they mean in Python")


def prompt_of(args: argparse.Namespace) -> str:
    """The prompt that the arguments mean. Raises UsageError when there is none, there are two, or it is not UTF-8."""
    if args.prompt is not None and args.file is not None:
        raise UsageError("two prompts: -p and -f")
    if args.prompt is not None and args.prompt != "-":
        text: str = unescape(args.prompt) if args.escape else args.prompt
        return _decoded(os.fsencode(text) + b"\n", "the prompt")  # what the shell passed need not be UTF-8
    if args.file is not None and args.file != "-":
        return _decoded(Path(args.file).read_bytes(), args.file)
    if args.prompt is None and args.file is None and sys.stdin.isatty():
        raise UsageError("which prompt? -p TEXT, -f FILE, or standard input")
    return _decoded(sys.stdin.buffer.read(), "standard input")


def _decoded(raw: bytes, source: str) -> str:
    """UTF-8 text without the one line break that editors and `echo` put at the end."""
    try:
        text = codecs.decode(raw, "utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{source} is not UTF-8 text (byte {error.start})") from None
    return text.removesuffix("\r\n") if text.endswith("\r\n") else text.removesuffix("\n")


def unescape(text: str) -> str:
    r"""Replace the escapes of -e; a backslash before anything else stays.

    >>> unescape(r"a\nb\\n\q")
    'a\nb\\n\\q'
    """
    plain = {"n": "\n", "t": "\t", "r": "\r"}

    def one(match: re.Match[str]) -> str:
        code = match[1]
        return chr(int(code[1:], 16)) if code[0] in "xu" and len(code) > 1 else plain.get(code, code)

    return _ESCAPE.sub(one, text)
