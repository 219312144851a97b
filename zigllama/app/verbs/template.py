"""Render a conversation with a model's chat template: the text and the token ids that the model would read.

The conversation is a JSON list of messages, in a file, from standard input, or one user's message as -p. The weights
are not touched. What users wrote never becomes a control token; the ids are those that `chat` would use. An image's
place is <image> in the text and -1 among the ids; its file is not opened.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from zigllama.app.console import UsageError, note, printable, shown, table
from zigllama.app.options import add_model, model_path
from zigllama.foundation.gguf_format import GGUFReader
from zigllama.models.image_parts import PLACEHOLDER
from zigllama.models.tokenizer import Tokenizer

MAX_FILE = 64 << 20


def configure(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add = parser.add_argument_group("conversation").add_argument
    add("-f", "--file", metavar="FILE", help="a JSON list of messages, or {messages, tools, ...}; - is standard input")
    add("-p", "--prompt", metavar="TEXT", help="what a user says, in place of a file")
    add("-sys", "--system-prompt", dest="system", metavar="TEXT", help="what the model is told before -p")
    add("--tools", metavar="FILE", help="a JSON list of function schemas")
    add("--no-generation-prompt", action="store_true", help="stop after the last message")
    add(
        "--set",
        metavar="NAME=JSON",
        action="append",
        default=[],
        help="a variable of the template: enable_thinking=false",
    )
    add = parser.add_argument_group("template").add_argument
    add("--template", metavar="NAME|FILE", help="a built-in template, one of the file's by name, or a file of Jinja")
    add("--source", action="store_true", help="print the template itself, and render nothing")
    add("--pre", metavar="NAME", help="use this pre-tokenizer instead of the one that the file names")
    add("--ids", action="store_true", help="only the ids, as a list")
    add("--json", action="store_true", help="print as JSON")


def run(args: argparse.Namespace) -> int:
    from zigllama.models.chat_templates import ChatTemplates  # Jinja is only loaded when it is needed

    with GGUFReader(model_path(args)) as reader:
        tokenizer = Tokenizer.from_metadata(reader.metadata, pre=args.pre)
        chat = ChatTemplates.from_metadata(
            reader.metadata, tokenizer, template=None if args.template is None else template_of(args.template)
        )
    if args.source:
        print(json.dumps(chat.sources, indent=2) if args.json else shown(chat.source, sys.stdout))
        return 0
    messages, given = _conversation(args)
    tools = given.pop("tools", None)
    if args.tools is not None:
        tools = _read(args.tools)
    if tools is not None and not isinstance(tools, list):
        raise UsageError("the tools are a JSON list of function schemas")
    given |= dict(_variable(text) for text in args.set)
    given.setdefault("add_generation_prompt", not args.no_generation_prompt)
    made = chat.render_chat(messages, tools, **given)
    if args.json:
        print(json.dumps({"text": made.text, "n_tokens": len(made.ids), "ids": made.ids}, indent=2))
    elif args.ids:
        print(made.ids)
    else:
        print(shown(made.text, sys.stdout), end="" if made.text.endswith("\n") else "\n")
        rows = [(i, f"'{printable(_piece(tokenizer, i))}'") for i in made.ids]
        print()
        print(table(rows, ("id", "piece"), right=[0]))
        note(f"{len(made.ids)} tokens")
    return 0


def _piece(tokenizer: Tokenizer, id: int) -> str:
    """A token's text; -1 is the place of an image."""
    return PLACEHOLDER if id < 0 else tokenizer.piece(id).decode("utf-8", "backslashreplace")


def template_of(name: str) -> str:
    """What has braces is a template itself; else a file's text where there is such a file, or the name is a path; else
    the name, which the templates know or refuse."""
    if "{" in name:  # the system may refuse to look for so long a name
        return name
    is_path = os.sep in name or Path(name).suffix == ".jinja"
    return _text(name) if is_path or Path(name).is_file() else name


def _text(name: str) -> str:
    try:
        if name == "-":
            return sys.stdin.read(MAX_FILE)
        path = Path(name)
        if not path.is_file() or path.stat().st_size > MAX_FILE:
            raise UsageError(f"{name} is no file of at most {MAX_FILE} bytes")
        return path.read_text("utf-8")
    except (UnicodeDecodeError, OSError) as error:
        raise UsageError(f"{name}: {error}") from None


def _read(name: str) -> Any:
    try:
        return json.loads(_text(name))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name} is no JSON: {error}") from None


def _conversation(args: argparse.Namespace) -> tuple[list[Any], dict[str, Any]]:
    """Messages, and what else a file of the form of a request holds."""
    if (args.file is None) == (args.prompt is None):
        raise UsageError("give a conversation: -f FILE, or -p TEXT")
    if args.file is not None and args.system is not None:
        raise UsageError("-sys goes with -p; a file's conversation has its own system message")
    if args.prompt is not None:
        system = [] if args.system is None else [{"role": "system", "content": args.system}]
        return [*system, {"role": "user", "content": args.prompt}], {}
    read = _read(args.file)
    given = read if isinstance(read, dict) else {"messages": read}
    messages = given.pop("messages", None)
    if not isinstance(messages, list):
        raise UsageError(f"{args.file} is no JSON list of messages, nor a mapping that has one as `messages`")
    return messages, given


def _variable(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise UsageError(f"--set {text}: want NAME=JSON")
    if name in ("messages", "tools"):
        raise UsageError(f"--set {text}: {name} come from a file (-f, --tools)")
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):
        return name, value  # a plain word is text
