"""The command line: finds the verb, runs it, turns what happened into an exit code.

    0    done                          3    the model (file, vocabulary, template) cannot be used
    1    found a difference, or a      4    not enough memory, context, disk or network; or the CPU cannot
         measurement regressed         70   a defect of zigllama itself: please report it
    2    the command was wrong         130  interrupted by Ctrl-C

Only the answer goes to stdout. Notes, progress and errors go to stderr, an error as one line; `--debug` adds the
traceback. A verb is a module of zigllama.app.verbs with `configure(parser)` and `run(args) -> int`; only the one that
was asked for is imported.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from zigllama import errors
from zigllama.app.console import UsageError, nearest, note, printable, table

OK, FOUND, USAGE, BAD_MODEL, NO_RESOURCES, DEFECT, INTERRUPTED = 0, 1, 2, 3, 4, 70, 130

VERBS = {
    "run": "continue a prompt",
    "chat": "talk with an instruction-tuned model",
    "tokenize": "text to tokens: ids, pieces, offsets",
    "template": "a conversation as the model's chat template writes it: text and ids",
    "inspect": "a model file's metadata and tensors",
    "estimate": "how much memory a model will need, part by part",
    "perplexity": "how well a model predicts a text, and how far it is from a reference",
    "imatrix": "importance from text, for a better quantize",
    "convert": "a Hugging Face folder (safetensors) as a model file",
    "quantize": "a model file in fewer bits: llama-quantize's mixes",
    "bench": "speed: llama-bench's tests and columns",
    "profile": "time, bytes and share of the machine's limit of each op; two builds in turn",
    "diff": "two runtimes or instruction sets side by side: the first op that differs",
    "doctor": "what zigllama found on this machine, and what it chose",
    "pull": "fetch a model by name into the cache",
}


class Parser(argparse.ArgumentParser):
    """argparse with errors as exceptions, no abbreviations, and the nearest flag named when one is unknown."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)

    def parse_all(self, argv: Sequence[str]) -> argparse.Namespace:
        """Parse; what is left over is an error that names the nearest flag."""
        args, rest = self.parse_known_args(argv)
        for word in rest:
            flag = word.split("=", 1)[0]
            if flag.startswith("-") and len(flag) > 1:
                near = nearest(flag, self._option_string_actions)
                raise UsageError(f"unknown flag {flag}" + (f"; did you mean {near}?" if near else ""))
        if rest:
            raise UsageError(f"unexpected argument {rest[0]!r}")
        return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. `argv` without the program's name; None takes the process's own."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(_overview(), file=sys.stdout if words else sys.stderr)
        return OK if words else USAGE
    if words[0] in ("-V", "--version"):
        from zigllama import __version__

        print(f"zigllama {__version__}")
        return OK
    verb = words[0]
    debug = "--debug" in words
    try:
        if verb not in VERBS:
            near = nearest(verb, VERBS)
            hint = f"did you mean {near!r}?" if near else "`zigllama --help` lists them"
            raise UsageError(f"unknown verb {verb!r}; {hint}")
        module = importlib.import_module(f"zigllama.app.verbs.{verb}")
        parser = Parser(prog=f"zigllama {verb}", description=module.__doc__)
        parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
        module.configure(parser)
        args = parser.parse_all(words[1:])
        _end_cleanly_on_sigterm()
        code = int(module.run(args))
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader of our stdout went away (`| head`): nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        note(f"zigllama {verb}: interrupted")
        return INTERRUPTED
    except Exception as error:
        if debug:
            import traceback

            traceback.print_exc()
        else:
            note(f"zigllama {verb}: {_one_line(error)}")
        return exit_code(error)


def exit_code(error: Exception) -> int:
    """The exit code that tells a script what kind of error this was."""
    match error:
        case UsageError():
            return USAGE
        case (
            errors.ModelFileError()
            | errors.TemplateError()
            | errors.ChecksumMismatch()
            | errors.NonFinite()
            | errors.MappingFault()
            | errors.WrongKindOfModel()
        ):
            return BAD_MODEL
        case errors.PullError() | errors.ContextOverflow() | errors.NativeError() | errors.NoSpace() | MemoryError():
            return NO_RESOURCES
        case errors.InvalidArgument():
            return USAGE
        case OSError():
            return BAD_MODEL
        case _:
            return DEFECT


def _one_line(error: Exception) -> str:
    """The error's own words; a defect also says what kind it was and how to see more."""
    if isinstance(error, OSError) and not isinstance(error, errors.ZigllamaError) and error.filename is not None:
        return f"{os.fspath(error.filename)}: {(error.strerror or 'cannot be read').lower()}"
    text = printable(" ".join(str(error).split()))  # a message may quote a hostile file
    if exit_code(error) == DEFECT:
        return f"internal error, {type(error).__name__}: {text} (--debug shows where)"
    return text


def _end_cleanly_on_sigterm() -> None:
    """SIGTERM unwinds like Ctrl-C, so that temporary files go. Only the main thread may set this."""

    def unwind(number: int, frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    with contextlib.suppress(ValueError):  # main() was called from another thread
        signal.signal(signal.SIGTERM, unwind)


def _overview() -> str:
    verbs = table([("  " + name, text) for name, text in VERBS.items()])
    return (
        "zigllama: language models on CPUs\n\n"
        "usage: zigllama VERB [MODEL] [flags]      zigllama VERB --help\n\n"
        f"{verbs}\n\n"
        "A model is a path to a GGUF file or a name that `zigllama pull` knows.\n"
        "For example: zigllama pull smollm2"
    )
