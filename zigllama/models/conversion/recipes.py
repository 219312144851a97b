"""What a family's file says, and the helpers it says it with.

    def metadata(config): return {**decoder_metadata(config), "rope.freq_base": rope_theta(config)}

    def tensors(config):
        return {
            "token_embd.weight": take("model.embed_tokens.weight"),
            "blk.0.attn_q.weight": permuted("model.layers.0.self_attn.q_proj.weight", heads),
            "blk.0.ffn_down.weight": Recipe(("a.weight", "b.weight"), lambda a, b: a + b),     # anything else
        }

    register("LlamaForCausalLM", Conversion("llama", metadata, tensors, ignored=(r"\\.rotary_emb\\.inv_freq$",)))

A file of this folder is imported by itself: nothing else has to list it. Keys of metadata get the architecture's name
in front, unless they begin with `general.` or `tokenizer.`; an int becomes UINT32, a float FLOAT32, a list an array. A
tensor of one dimension, a norm, and what FLOAT32 below names stay F32 whatever type is asked for.

What it is not: it opens nothing and writes nothing (checkpoint.py, convert.py).
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zigllama.errors import BadCheckpoint, ShapeError, UnsupportedArchitecture
from zigllama.foundation.runtime import F32
from zigllama.models.conversion.checkpoint import Checkpoint, Config
from zigllama.models.conversion.safetensors import shown

Shape = tuple[int, ...]

# Names of GGUF tensors that are small or read element by element: F32 in every file, as llama.cpp's converter has them.
FLOAT32 = r"_norm\.weight$|ffn_gate_inp|position_embd|patch_embd|token_types|ssm_conv1d|ssm_a|ssm_d$|rope_f"


@dataclass(frozen=True)
class Recipe:
    """How one tensor of the GGUF file is made.

    names      the folder's tensors that go into it; () for one that the config alone makes
    make       their float32 arrays -> the tensor's; None: the one tensor as it is, read a slab at a time
    shape      their shapes -> the tensor's; None: `make` is tried on zeros once, which costs memory and time
    optional   left out where none of the tensors is in the folder
    otherwise  the recipe where none of the tensors is in the folder
    """

    names: tuple[str, ...]
    make: Callable[..., F32] | None = None
    shape: Callable[..., Shape] | None = None
    optional: bool = False
    otherwise: Recipe | None = None

    def shape_of(self, *shapes: Shape) -> Shape:
        """The tensor's shape, of the shapes of what goes into it. Raises ShapeError."""
        if self.shape is not None:
            return self.shape(*shapes)
        if self.make is None:
            return shapes[0]
        zero = np.float32(0)
        return tuple(self.make(*(np.broadcast_to(zero, s) for s in shapes)).shape)


@dataclass(frozen=True)
class Conversion:
    """A family: `metadata(config)` and `tensors(config)` (see the top of this file).

    ignored        regular expressions of names in the folder that are no weights (or the same again); a function of the
                   config where it depends on that
    prefixes       beginnings of names that some folders leave out ("transformer.")
    other_names    what some folders call a tensor instead
    wider          regular expression of the file's tensors that lose too much in 8 bits: F16 where Q8_0 is asked for
    defaults       what the class takes for keys that config.json does not have at all (null is something else): those
                   that would change what is computed without a tensor's shape telling
    spellings      (regular expression, what some folders have in its place), each tried on the name as it is
    images         of a projector's file, which has no tokenizer: keys and notes of the folder's image processor
    check          of an architecture that the registry has not: raises for metadata and shapes that nobody could load
    notes          what whoever converts should know
    """

    arch: str
    metadata: Callable[[Config], dict[str, Any]]
    tensors: Callable[[Config], dict[str, Recipe]]
    ignored: tuple[str, ...] | Callable[[Config], tuple[str, ...]] = ()
    prefixes: tuple[str, ...] = ()
    other_names: Mapping[str, str] = field(default_factory=dict)
    wider: str = ""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    spellings: tuple[tuple[str, str], ...] = ()
    images: Callable[[Checkpoint], tuple[dict[str, Any], list[str]]] | None = None
    check: Callable[[Mapping[str, Any], Mapping[str, Shape]], None] | None = None
    notes: tuple[str, ...] = ()

    def complete(self, config: Config) -> Config:
        """The config itself, with what the class takes for the keys that it lacks."""
        for key, value in self.defaults.items():
            config.setdefault(key, value)
        return config


_REGISTERED: dict[str, Conversion] = {}
_PROJECTORS: dict[str, Conversion] = {}


def wider_of(arch: str) -> str:
    """Regular expression of an architecture's tensors that lose too much in 8 bits (see Conversion.wider), or ""."""
    _import_all()
    return next((c.wider for c in _REGISTERED.values() if c.arch == arch and c.wider), "")


def _import_all() -> None:
    package = importlib.import_module(__package__ or "")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")


def register(name: str, conversion: Conversion, projector: Conversion | None = None) -> None:
    """Make a family known by its class name, as config.json's "architectures" has it; `projector`: the other file of
    one that sees images."""
    _REGISTERED[name] = conversion
    if projector is not None:
        _PROJECTORS[name] = projector


def conversion_of(config: Config, projector: bool = False) -> Conversion:
    """The conversion for a folder, or that of its projector; the config gets the class's defaults. Raises
    UnsupportedArchitecture with the nearest name."""
    _import_all()
    names = config.list("architectures")
    if not names or not isinstance(names[0], str):
        raise BadCheckpoint(config.path, f"architectures: {shown(names)} names no class")
    known = _PROJECTORS if projector else _REGISTERED
    if names[0] not in known:
        nearest = next(iter(difflib.get_close_matches(names[0][:120], known)), None)
        raise UnsupportedArchitecture(f"{names[0]:.80} as a projector" if projector else names[0], nearest)
    known[names[0]].complete(config)
    return known[names[0]]


# --- recipes ----------------------------------------------------------------------------------------------------------


def take(name: str, optional: bool = False) -> Recipe:
    """The tensor as it is."""
    return Recipe((name,), optional=optional)


def transposed(name: str) -> Recipe:
    """(in, out) -> (out, in), for layers that store the matrix the other way round (GPT-2's Conv1D)."""
    return Recipe((name,), lambda x: x.T, lambda s: s[::-1])


def plus_one(name: str) -> Recipe:
    """x + 1, for norms that multiply with 1 + weight (Gemma)."""
    return Recipe((name,), lambda x: x + np.float32(1), lambda s: s)


def permute_rope(x: F32, heads: int) -> F32:
    """Rows of q or k (heads * D, ...) from half-split rotation, pairs (i, i + D/2), to interleaved, (2i, 2i + 1).

    Raises ShapeError where the rows are no whole number of pairs per head."""
    _paired(x.shape, heads)
    split = x.reshape(heads, 2, x.shape[0] // heads // 2, *x.shape[1:])
    return split.swapaxes(1, 2).reshape(x.shape)


def _paired(shape: Shape, heads: int) -> Shape:
    if heads < 1 or shape[0] % (2 * heads):
        raise ShapeError(f"{shape[0]} rows are no pairs of channels in {heads} heads")
    return shape


def permuted(name: str, heads: int, optional: bool = False) -> Recipe:
    """q or k, matrix or bias, of a model whose file has interleaved rotation."""
    return Recipe((name,), lambda x: permute_rope(x, heads), lambda s: _paired(s, heads), optional)


def rows(name: str, first: int, count: int) -> Recipe:
    """Rows first .. first + count - 1 of a tensor that holds several."""

    def cut(x: F32) -> F32:
        if first + count > x.shape[0]:
            raise ShapeError(f"{name}: rows {first} to {first + count} of {x.shape[0]}")
        return x[first : first + count]

    return Recipe((name,), cut)


def joined(*names: str) -> Recipe:
    """Several tensors, one under the other."""
    return Recipe(names, lambda *x: np.concatenate(x), lambda *s: (sum(t[0] for t in s), *s[0][1:]))


def stacked(names: Sequence[str]) -> Recipe:
    """N tensors of one shape as (N, ...): the experts of a layer."""

    def shape(*shapes: Shape) -> Shape:
        if len(set(shapes)) != 1:
            raise ShapeError(f"{names[0]} and its like have different shapes: {sorted(set(shapes))}")
        return (len(shapes), *shapes[0])

    return Recipe(tuple(names), lambda *x: np.stack(x), shape)


# --- metadata ---------------------------------------------------------------------------------------------------------


def decoder_metadata(config: Config) -> dict[str, Any]:
    """The sizes by the names that most of the folders have (LLaMA's)."""
    heads, width = config.int("num_attention_heads", low=1), config.int("hidden_size", low=1)
    head_dim = config.int("head_dim", default=width // heads)
    keys: dict[str, Any] = {
        "context_length": config.int("max_position_embeddings", high=1 << 30),
        "embedding_length": width,
        "block_count": config.layers("num_hidden_layers"),
        "feed_forward_length": config.int("intermediate_size", low=1),
        "attention.head_count": heads,
        "attention.head_count_kv": config.int("num_key_value_heads", default=heads, low=1),
        "vocab_size": config.int("vocab_size", low=1),
    }
    if head_dim * heads != width:
        keys |= {"attention.key_length": head_dim, "attention.value_length": head_dim}
    return keys


def rope_parameters(config: Config, kind: str | None = None) -> Config:
    """What the config says about the rotation, in either spelling: `rope_parameters` (transformers 5), or `rope_theta`
    beside `rope_scaling`. Keys: rope_theta, rope_type, factor, ... `kind`: of models that rotate some layers otherwise,
    the type of layer ("full_attention"); None where the config has one for all."""
    found = config.object("rope_parameters")
    if kind is not None and kind in found:
        found = found.object(kind)
    if not found:
        base = config.float("rope_theta", "rotary_emb_base", default=10000.0)
        found = Config({"rope_theta": base} | config.object("rope_scaling"))
    if "type" in found and "rope_type" not in found:
        found["rope_type"] = found["type"]
    return found
