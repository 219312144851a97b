"""Talk with an instruction-tuned model, turn by turn. Answers go to stdout.

On a terminal a line is a message; in a pipe every line of standard input is one. Ctrl-C stops an answer, and that turn
is forgotten; Ctrl-D, /exit or Ctrl-C at the prompt leave; /reset starts afresh. Images go before the next message:
those of --image before the first, and `/image FILE` adds one.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zigllama.app.answer import describe, show
from zigllama.app.console import UsageError, note
from zigllama.app.options import (
    add_engine,
    add_generation,
    add_images,
    add_model,
    engine_options,
    generation_options,
    image_options,
    model_path,
)
from zigllama.app.verbs.template import template_of
from zigllama.errors import BadImage, ContextOverflow, ImageTooLarge

if TYPE_CHECKING:
    from zigllama.inference.model import Model

PROMPT = "> "


def configure(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    group = parser.add_argument_group("conversation")
    group.add_argument("-sys", "--system-prompt", dest="system", metavar="TEXT", help="what the model is told before")
    group.add_argument("-p", "--prompt", metavar="TEXT", help="the first message")
    form = "a built-in template, one of the file's by name, or a file of Jinja, in place of the file's own"
    group.add_argument("--template", "--chat-template", dest="template", metavar="NAME|FILE", help=form)
    add_images(parser)
    add_generation(parser)
    add_engine(parser)
    parser.add_argument("-v", "--verbose", action="store_true", help="tell on stderr what was done, and how fast")


def run(args: argparse.Namespace) -> int:
    options, path, images = generation_options(args), model_path(args), image_options(args)
    template: dict[str, Any] = {} if args.template is None else {"template": template_of(args.template)}
    from zigllama.inference.model import Model

    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    waiting: list[str] = list(args.image)  # for the next message
    with Model(path, **engine_options(args), **images) as model:
        model.render_chat([{"role": "user", "content": "?"}], **template)  # no template: say so before anybody types
        if interactive:
            with contextlib.suppress(ImportError):
                import readline  # noqa: F401  (line editing and history for input())
            note(f"{model.info.name or path.name}: /reset starts afresh, /exit or Ctrl-D leaves")
        first = args.prompt
        session = model.session(system=args.system)
        while True:
            message, first = (first, None) if first is not None else (_next_message(interactive), None)
            if message is None or message == "/exit":
                return 0
            if message.startswith("/image "):
                _add_image(message.removeprefix("/image ").strip(), model, waiting)
                continue
            if message == "/reset":
                session.close()
                session = model.session(system=args.system)
                continue
            if message.startswith("/"):
                note(f"unknown command {message!r}; there are /reset, /image FILE and /exit")
                continue
            if not message:
                continue
            content = [*({"type": "image", "image": f} for f in waiting), {"type": "text", "text": message}]
            try:
                result = show(session.chat(content if waiting else message, stream=True, **options, **template))
                waiting = []
            except KeyboardInterrupt:
                if not interactive:
                    raise
                note("stopped; this turn is forgotten")
                continue
            except ContextOverflow as error:
                if not interactive:
                    raise
                note(f"{error}; /reset starts afresh")
                continue
            except (BadImage, ImageTooLarge) as error:
                if not interactive:
                    raise
                note(f"{error}; this turn and its images are forgotten")
                waiting = []
                continue
            if args.verbose:
                note(describe(result, model.backend))


def _add_image(file: str, model: Model, waiting: list[str]) -> None:
    """One more image for the next message, if there is such a file and a tower to read it."""
    if model.vision is None:
        note("the model has no vision tower: start with --mmproj FILE")
    elif not Path(file).is_file():
        note(f"there is no file {file!r}")
    else:
        waiting.append(file)
        note(f"{len(waiting)} image{'s' if len(waiting) > 1 else ''} for the next message")


def _next_message(interactive: bool) -> str | None:
    """The next line, None when there are no more. The prompt is shown on a terminal only."""
    if not interactive:
        line = sys.stdin.readline()
        return line.rstrip("\r\n") if line else None
    try:
        return input(PROMPT)
    except (EOFError, KeyboardInterrupt):
        note("")
        return None
    except UnicodeDecodeError:
        raise UsageError("the terminal sent text that is not UTF-8") from None
