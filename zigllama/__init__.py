"""Language models on CPUs, fast and explained.

    import zigllama as zl

Importing the package imports no other module of it: a name is fetched from its home when it is first used, so a script
pays only for what it touches. `_HOMES` below is the whole list. Nothing is printed; `zl.errors.ZigllamaError` is the
root of all errors.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what type checkers and editors see
    from zigllama import errors as errors
    from zigllama import gguf as gguf
    from zigllama import kernels as kernels
    from zigllama.app import diff as diff
    from zigllama.app.estimate import estimate as estimate
    from zigllama.app.pull import pull as pull
    from zigllama.app.quant_report import quant_report as quant_report
    from zigllama.app.quantize import quantize as quantize
    from zigllama.inference.calibration import importance as importance
    from zigllama.inference.grammar_constraints import Grammar as Grammar
    from zigllama.inference.grammar_constraints import GrammarConstraint as GrammarConstraint
    from zigllama.inference.model import Model as Model
    from zigllama.inference.profiling import Profiler as Profiler
    from zigllama.inference.profiling import profile as profile
    from zigllama.inference.vision import Vision as Vision
    from zigllama.linear_algebra.number_formats import dequantize as dequantize
    from zigllama.linear_algebra.number_formats import quantize_rows as quantize_rows
    from zigllama.linear_algebra.quantized_tensor import QuantizedTensor as QuantizedTensor
    from zigllama.models.chat_templates import ChatTemplates as ChatTemplates
    from zigllama.models.conversion.convert import convert as convert
    from zigllama.models.gguf import GGUFLoader as GGUFLoader
    from zigllama.models.llama_model import LLaMAModel as LLaMAModel
    from zigllama.models.model_config import ModelConfig as ModelConfig
    from zigllama.models.model_config import ModelSize as ModelSize
    from zigllama.models.simple_tokenizer import SimpleTokenizer as SimpleTokenizer
    from zigllama.models.tokenizer import Tokenizer as Tokenizer
    from zigllama.models.tool_calls import parse_tool_calls as parse_tool_calls
    from zigllama.models.tool_schemas import function_schema as function_schema

__version__ = "0.1.0"

# public name -> "module" or "module:attribute"
_HOMES = {
    "ChatTemplates": "zigllama.models.chat_templates:ChatTemplates",
    "GGUFLoader": "zigllama.models.gguf:GGUFLoader",
    "Grammar": "zigllama.inference.grammar_constraints:Grammar",
    "GrammarConstraint": "zigllama.inference.grammar_constraints:GrammarConstraint",
    "LLaMAModel": "zigllama.models.llama_model:LLaMAModel",
    "Model": "zigllama.inference.model:Model",
    "ModelConfig": "zigllama.models.model_config:ModelConfig",
    "ModelSize": "zigllama.models.model_config:ModelSize",
    "Profiler": "zigllama.inference.profiling:Profiler",
    "QuantizedTensor": "zigllama.linear_algebra.quantized_tensor:QuantizedTensor",
    "SimpleTokenizer": "zigllama.models.simple_tokenizer:SimpleTokenizer",
    "Tokenizer": "zigllama.models.tokenizer:Tokenizer",
    "Vision": "zigllama.inference.vision:Vision",
    "convert": "zigllama.models.conversion.convert:convert",
    "dequantize": "zigllama.linear_algebra.number_formats:dequantize",
    "diff": "zigllama.app.diff",
    "errors": "zigllama.errors",
    "estimate": "zigllama.app.estimate:estimate",
    "function_schema": "zigllama.models.tool_schemas:function_schema",
    "gguf": "zigllama.gguf",
    "importance": "zigllama.inference.calibration:importance",
    "kernels": "zigllama.kernels",
    "parse_tool_calls": "zigllama.models.tool_calls:parse_tool_calls",
    "profile": "zigllama.inference.profiling:profile",
    "pull": "zigllama.app.pull:pull",
    "quant_report": "zigllama.app.quant_report:quant_report",
    "quantize_rows": "zigllama.linear_algebra.number_formats:quantize_rows",
    "quantize": "zigllama.app.quantize:quantize",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> object:
    """Fetch a public name from its home, once."""
    try:
        module, _, attribute = _HOMES[name].partition(":")
    except KeyError:
        raise AttributeError(f"module 'zigllama' has no attribute {name!r}") from None
    found = import_module(module)
    value: object = getattr(found, attribute) if attribute else found
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
