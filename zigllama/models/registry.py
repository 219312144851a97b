"""Which architectures there are. Each registers itself under its GGUF name, in a file of its own.

The name is only a key to find the definition by: nothing that computes looks at it, so an alias of an architecture
gives the same bits.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from zigllama.errors import UnsupportedArchitecture
from zigllama.models.config import HyperParameters
from zigllama.models.decoder import Decoder
from zigllama.models.tensors import TensorTable


class Architecture(NamedTuple):
    """How to make a spec of hyper-parameters (and the vocabulary's size), which tensors the spec asks for, and what
    runs it: `model(spec, weights)`, the one decoder unless the architecture has a forward pass of its own."""

    spec: Callable[[HyperParameters, int], Any]
    tensors: Callable[[Any], TensorTable]
    model: Callable[[Any, Mapping[str, Any]], Any] = Decoder


# GGUF name -> the file that registers it
_MODULES: Mapping[str, str] = {
    "bert": "bert",
    "bloom": "bloom",
    "falcon": "falcon",
    "gemma": "gemma",
    "gemma2": "gemma",
    "gemma3": "gemma",
    "gpt2": "gpt2",
    "gptj": "gptj",
    "gptneox": "gpt_neox",
    "llama": "llama",
    "mamba": "mamba",
    "mamba2": "mamba",
    "mistral": "mistral",
    "phi2": "phi",
    "phi3": "phi",
    "qwen": "qwen",
    "qwen2": "qwen",
    "qwen2moe": "mixture_of_experts",
    "qwen3": "qwen",
    "qwen3moe": "mixture_of_experts",
    "starcoder": "starcoder",
    "starcoder2": "starcoder",
}
_REGISTERED: dict[str, Architecture] = {}


def register(name: str, architecture: Architecture) -> None:
    """Make an architecture known by a name; an alias is the same architecture under a second one."""
    _REGISTERED[name] = architecture


def names() -> list[str]:
    """All names, sorted."""
    return sorted({*_MODULES, *_REGISTERED})


def architecture(name: str) -> Architecture:
    """The architecture of that name. Raises UnsupportedArchitecture with the nearest name."""
    if name not in _REGISTERED and name in _MODULES:
        importlib.import_module(f"zigllama.models.{_MODULES[name]}")
    if name not in _REGISTERED:
        raise UnsupportedArchitecture(name, next(iter(difflib.get_close_matches(name[:120], names())), None))
    return _REGISTERED[name]
