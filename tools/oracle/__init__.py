"""The outside truth: a second, independent evaluation of GGUF models, and the peers that we are measured against.

Nothing in this package imports zigllama, so that an error of ours cannot hide by being on both sides of a comparison.
It reads files with PyPI's `gguf` (which also dequantises), computes in NumPy float64, and asks `llama-cpp-python`
where that is installed.

    weights.py   a GGUF file as metadata and float64 arrays
    forward.py   the llama and gemma3 forward passes, written from the papers, with a plain cache
    peer.py      the same questions put to llama-cpp-python
    measures.py  largest difference, Kullback-Leibler divergence, distance of the top two logits

It is slow and large on purpose (eight bytes a weight) and is not part of the installed package: tools use it, and
what they find is committed as small golden files that the tests read.
"""
