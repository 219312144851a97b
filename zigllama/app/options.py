"""Flags that several verbs share, with llama.cpp's names where it has them: which model, how the engine runs, how
tokens are chosen.

What it is not: a table of defaults. A flag that is not given is not passed on, so the library's own defaults hold; a
flag goes before the environment, the environment before the default.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zigllama.app.catalogue import CATALOGUE, lookup
from zigllama.app.console import UsageError, note
from zigllama.app.pull import pull
from zigllama.app.remote import is_remote

# --- the model --------------------------------------------------------------------------------------------------------


def add_model(parser: argparse.ArgumentParser, also: Sequence[str] = ()) -> None:
    """The model, as the first argument or as -m; `also`: names that this verb knows beside the catalogue's."""
    parser.add_argument("model", nargs="?", help=f"a GGUF file, or a name: {', '.join([*CATALOGUE, *also])}")
    parser.add_argument("-m", "--model", dest="model_flag", metavar="MODEL", help="the same, as a flag")


def model_path(args: argparse.Namespace) -> Path:
    """The file that the arguments mean. A name of the catalogue that is not in the cache is fetched first, with a note;
    so are hf:owner/repo/file and URLs.

    Raises UsageError when there is no model or there are two, UnknownName for a word that is neither a file nor a name,
    and FileNotFoundError for what looks like a path and is not there.
    """
    if args.model and args.model_flag and args.model != args.model_flag:
        raise UsageError(f"two models: {args.model!r} and {args.model_flag!r}")
    given: str | None = args.model or args.model_flag
    if given is None:
        raise UsageError(f"which model? A path to a GGUF file, or a name: {', '.join(CATALOGUE)}")
    if is_remote(given):
        return pull(given, verify=False)
    path = Path(given)
    if given in CATALOGUE and not path.is_file():
        entry = CATALOGUE[given]
        if not entry.present:
            note(f"{given} is not in the cache yet")
            pull(given)
        return entry.path
    if path.exists():
        return path
    if os.sep in given or path.suffix:
        raise FileNotFoundError(2, "No such file", given)
    return lookup(given).path  # raises, naming the nearest


# --- the engine -------------------------------------------------------------------------------------------------------


BLAS_HELP = (
    "for float weights by many rows: generic (our own kernels, the default), linked, openblas, mkl, accelerate, atlas, "
    "blis, or a library's path"
)


CACHE_HELP = "of the keys: f16 (default), f32, or q8_0 for heads of a multiple of 32"
FLOAT_HELP = "how F16 and BF16 matrices are multiplied (default: f32; BF16 in bf16 where the instruction set has it)"


def add_engine(parser: argparse.ArgumentParser) -> None:
    """How the model is loaded and run."""
    add = parser.add_argument_group("engine").add_argument
    context = "context in tokens (default: the model's, 0 too)"
    add("-c", "--ctx-size", dest="n_ctx", type=int, metavar="N", help=context)
    add("-t", "--threads", dest="n_threads", type=int, metavar="N", help="threads (default: see `zigllama doctor`)")
    add("-ctk", "--cache-type-k", dest="type_k", metavar="TYPE", help=CACHE_HELP)
    add("-ctv", "--cache-type-v", dest="type_v", metavar="TYPE", help="of the values: the same")
    add("--backend", choices=["native", "reference"], help="native kernels, or NumPy: slow, for comparison")
    add("--isa", metavar="NAME", help="instruction set variant (default: the best that this CPU has)")
    add("--blas", metavar="NAME", help=BLAS_HELP)
    add("--float-compute", choices=["f32", "bf16"], help=FLOAT_HELP)
    add("--pre", metavar="NAME", help="the pre-tokenizer, where the file names none that is known")


def engine_options(args: argparse.Namespace) -> dict[str, Any]:
    """The keyword arguments of `zl.Model` that the flags give."""
    chosen = {name: getattr(args, name) for name in ("n_ctx", "n_threads", "backend", "isa", "blas", "float_compute")}
    if chosen["n_ctx"] == 0:  # llama.cpp's way to say "the model's own"
        chosen["n_ctx"] = None
    chosen["cache_type"] = cache_type(args.type_k, args.type_v)
    if args.pre is not None:
        from zigllama.models.tokenizer import Tokenizer

        chosen["tokenizer"] = Tokenizer(model_path(args), pre=args.pre)
    return {name: value for name, value in chosen.items() if value is not None}


def cache_type(k: str | None, v: str | None) -> str | None:
    """The number format that -ctk and -ctv give, None where neither is there. Raises UsageError where they differ."""
    if k and v and k.lower() != v.lower():
        raise UsageError(f"-ctk {k} -ctv {v}: keys and values have one type")
    given = k or v
    return given.upper() if given else None


# --- images -----------------------------------------------------------------------------------------------------------


def add_images(parser: argparse.ArgumentParser) -> None:
    """--mmproj and --image."""
    add = parser.add_argument_group("images").add_argument
    add("-mm", "--mmproj", metavar="FILE", help="the vision tower that belongs to the model")
    add("--image", action="append", default=[], metavar="FILE", help="an image; may be repeated")


def image_options(args: argparse.Namespace) -> dict[str, Any]:
    """The keyword of `zl.Model` that --mmproj gives. Raises UsageError for images without it, FileNotFoundError."""
    if args.image and args.mmproj is None:
        raise UsageError("--image needs --mmproj FILE, the vision tower that belongs to the model")
    for file in args.image:
        if not Path(file).exists():
            raise FileNotFoundError(2, "No such file", file)
    return {} if args.mmproj is None else {"vision": args.mmproj}


# --- generation -------------------------------------------------------------------------------------------------------

# flags, keyword of generate(), type, what it does
SAMPLING: tuple[tuple[tuple[str, ...], str, type, str], ...] = (
    (("-s", "--seed"), "seed", int, "seed; -1 draws one, and -v shows it"),
    (("--temp", "--temperature"), "temperature", float, "0 takes the likeliest token; higher is more surprising"),
    (("--top-k",), "top_k", int, "only the k likeliest tokens; 0 is off"),
    (("--top-p",), "top_p", float, "only the likeliest tokens that together have this probability; 1 is off"),
    (("--min-p",), "min_p", float, "only tokens at least this likely relative to the likeliest; 0 is off"),
    (("--typical", "--typical-p"), "typical_p", float, "only tokens about as surprising as expected; 1 is off"),
    (("--tfs", "--tfs-z"), "tfs_z", float, "cuts the flat tail of the distribution; 1 is off"),
    (("--top-nsigma", "--top-n-sigma"), "top_n_sigma", float, "only logits within X deviations of the best; 0 is off"),
    (("--xtc-probability",), "xtc_probability", float, "how often the likeliest tokens are left out; 0 is off"),
    (("--xtc-threshold",), "xtc_threshold", float, "which tokens those are: at least this likely (default 0.1)"),
    (("--dynatemp-range",), "dynatemp_range", float, "temperature within +-X, by the entropy; 0 is off"),
    (("--dynatemp-exp",), "dynatemp_exponent", float, "how steeply it follows the entropy (default 1)"),
    (("--mirostat",), "mirostat_mode", int, "1 or 2: hold the surprise near --mirostat-ent; 0 is off"),
    (("--mirostat-ent",), "mirostat_tau", float, "that surprise, in bits per token (default 5)"),
    (("--mirostat-lr",), "mirostat_eta", float, "how fast it is steered to (default 0.1)"),
    (("--dry-multiplier",), "dry_multiplier", float, "taken off what would continue a repetition; 0 is off"),
    (("--dry-base",), "dry_base", float, "grows by this factor per repeated token (default 1.75)"),
    (("--dry-allowed-length",), "dry_allowed_length", int, "repetitions up to this length are free (default 2)"),
    (("--dry-penalty-last-n",), "dry_last_n", int, "how many tokens are searched; -1 (the default) is all"),
    (("--penalty-alpha",), "penalty_alpha", float, "contrastive search among --top-k candidates; 0 is off"),
    (("--guidance-scale", "--cfg-scale"), "guidance_scale", float, "away from --negative-prompt; 1 is off"),
    (("--num-beams",), "num_beams", int, "beam search; 1 is off"),
    (("--top-logprobs",), "top_logprobs", int, "with --json, log-probabilities of the N likeliest of each step"),
    (("--repeat-penalty",), "repeat_penalty", float, "divides the logits of recent tokens; 1 is off"),
    (("--repeat-last-n",), "repeat_last_n", int, "how many tokens count as recent; -1 is the whole context"),
    (("--presence-penalty",), "presence_penalty", float, "taken off the logits of tokens that occurred; 0 is off"),
    (("--frequency-penalty",), "frequency_penalty", float, "taken off once per occurrence; 0 is off"),
)


def add_generation(parser: argparse.ArgumentParser) -> None:
    """How much is generated and how tokens are chosen."""
    add = parser.add_argument_group("generation").add_argument
    limit = "at most N tokens; -1: no limit but the context"
    add("-n", "--predict", "--n-predict", dest="max_tokens", type=int, metavar="N", help=limit)
    for flags, keyword, kind, text in SAMPLING:
        add(*flags, dest=keyword, type=kind, metavar="N" if kind is int else "X", help=text)
    stop = "stop before this text; may be repeated"
    add("-r", "--reverse-prompt", "--stop", dest="stop", action="append", metavar="TEXT", help=stop)
    add("--ignore-eos", action="store_true", help="go on after an end-of-text token")
    breaker = "no repetition goes across this text (default: \\n : \" *); 'none': there is none; may be repeated"
    add("--dry-sequence-breaker", dest="dry_sequence_breakers", action="append", metavar="TEXT", help=breaker)
    add("--negative-prompt", "--cfg-negative-prompt", metavar="TEXT", help="what --guidance-scale leads away from")
    add("--explain", action="store_true", default=None, help="with --json, what each stage kept, per step")
    bias = "add to a token's logit, as 15043+1; may be repeated"
    add("-l", "--logit-bias", action="append", metavar="ID(+/-)X", help=bias)
    add_constraints(parser)


def generation_options(args: argparse.Namespace) -> dict[str, Any]:
    """The keyword arguments of `Model.generate` that the flags give."""
    names = ["max_tokens", "stop", "negative_prompt", "explain", *(keyword for _, keyword, _, _ in SAMPLING)]
    options = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if options.get("seed") == -1:
        options["seed"] = None
    if options.get("max_tokens") == -1:
        options["max_tokens"] = None
    if args.dry_sequence_breakers:  # the first one given clears the default list, as in llama.cpp
        given = [text for text in args.dry_sequence_breakers if text != "none"]
        options["dry_sequence_breakers"] = [text.replace("\\n", "\n") for text in given]
    if args.ignore_eos:
        options["ignore_eos"] = True
    if args.logit_bias:
        options["logit_bias"] = dict(_bias(word) for word in args.logit_bias)
    return options | constraint_options(args)


# --- constraints ------------------------------------------------------------------------------------------------------

NOTATIONS = {".ebnf": "ebnf", ".cfg": "cfg", ".xsd": "xsd", ".json": "json_schema"}  # of --grammar-file; others: GBNF


def add_constraints(parser: argparse.ArgumentParser) -> None:
    """What the answer must look like: at most one of these."""
    group = parser.add_argument_group("constraint")
    by_itself = "of a --grammar-file that ends in .ebnf: whose notation it is (else: as its first rule looks)"
    group.add_argument("--ebnf-notation", dest="ebnf_notation", choices=("iso", "w3c"), help=by_itself)
    add = group.add_mutually_exclusive_group().add_argument
    schema = "the answer is JSON that this JSON Schema accepts: its text, or a file"
    add("-j", "--json-schema", dest="json_schema", metavar="SCHEMA", help=schema)
    add("-jf", "--json-schema-file", dest="json_schema_file", metavar="FILE", help="the same, a file")
    add("--grammar", metavar="GBNF", help="the answer is one of this grammar, in llama.cpp's notation")
    by_name = "a grammar's file: GBNF, or by its name's end .ebnf, .cfg, .xsd or .json (a JSON Schema)"
    add("--grammar-file", dest="grammar_file", metavar="FILE", help=by_name)
    add("--regex", metavar="PATTERN", help="the whole answer matches this regular expression (ECMA-262)")
    add("--xsd", metavar="SCHEMA", help="the answer is XML that this XML Schema accepts: its text, or a file")


def constraint_options(args: argparse.Namespace) -> dict[str, Any]:
    """The keyword argument of `Model.generate` that the flags give. Raises UsageError for a file that is not UTF-8,
    FileNotFoundError."""
    file = args.grammar_file or ""
    if args.ebnf_notation is not None and NOTATIONS.get(Path(file).suffix.lower()) != "ebnf":
        raise UsageError("--ebnf-notation goes with a --grammar-file that ends in .ebnf")
    if args.grammar is not None:
        return {"gbnf": args.grammar}
    if args.grammar_file is not None:
        notation = NOTATIONS.get(Path(args.grammar_file).suffix.lower(), "gbnf")
        text = _text_of(args.grammar_file)
        return {notation: text if args.ebnf_notation is None else {"text": text, "notation": args.ebnf_notation}}
    if args.json_schema is not None:
        given = args.json_schema
        is_text = given.lstrip()[:1] == "{" or given.strip() in ("true", "false")
        return {"json_schema": given if is_text else _text_of(given)}
    if args.json_schema_file is not None:
        return {"json_schema": _text_of(args.json_schema_file)}
    if args.regex is not None:
        return {"regex": args.regex}
    if args.xsd is not None:
        return {"xsd": args.xsd if args.xsd.lstrip()[:1] == "<" else _text_of(args.xsd)}
    return {}


def _text_of(file: str) -> str:
    try:
        return Path(file).read_bytes().decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8 text (byte {error.start})") from None


def _bias(word: str) -> tuple[int, float]:
    """`15043+1` or `15043-0.5` as (token id, bias)."""
    number, sign, rest = re.fullmatch(r"(\d*)([+-]?)(.*)", word, re.DOTALL).groups()  # type: ignore[union-attr]
    try:
        return int(number), float((sign or "?") + rest)
    except ValueError:
        raise UsageError(
            f"--logit-bias {word!r}: expected a token id and a signed number, as 15043+1 or 15043-0.5"
        ) from None
