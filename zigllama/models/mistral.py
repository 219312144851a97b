"""Mistral 7B (Jiang et al., 2023, arXiv 2310.06825).

LLaMA's block with a sliding window: a row sees itself and the window - 1 = 4,095 rows before it, so that a layer's
cache stays at 4,096 positions however long the text is, and what lies further back arrives through the layers below (k
layers reach k windows). From version 0.2 on the window is gone and the rotation's base is 1,000,000.

Its files call themselves "llama"; the window is the key llama.attention.sliding_window. llama.cpp does not look at
that key there and lets every row see everything: beyond the window its logits are not those of the model's authors,
ours are. A file that calls itself "mistral" is the same.
"""

from __future__ import annotations

from zigllama.models.llama import spec
from zigllama.models.registry import Architecture, register
from zigllama.models.tensors import decoder_tensors

register("mistral", Architecture(spec, decoder_tensors))
