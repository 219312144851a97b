"""The outside truth: a second, independent evaluation of GGUF models, and the peers that we are measured against.

Nothing in this package imports zigllama, so that an error of ours cannot hide by being on both sides of a comparison.
It reads files with PyPI's `gguf` (which also dequantises), computes in NumPy float64, and asks `llama-cpp-python`
where that is installed.

    weights.py   a GGUF file as metadata and float64 arrays
    forward.py   the llama and gemma3 forward passes, written from the papers, with a plain cache
    peer.py      the same questions put to llama-cpp-python
    ggml.py      ggml's C quantisers, in a library that is already built
    measures.py  largest difference, Kullback-Leibler divergence, distance of the top two logits
    torch_model.py        a GGUF file as a transformers model
    llama_vocabulary.py   a vocabulary's ids by llama.cpp's library
    sentencepiece_model.py, hf_wordpiece.py   the same by the libraries that these vocabularies are made with
    hf_bpe.py             the same by `tokenizers`, from rules written down apart from ours

It is slow and large on purpose (eight bytes a weight) and is not part of the installed package: tools use it, and
what they find is committed as small golden files that the tests read.

How far the references agree, largest difference of a logit over positions up to 600, past Gemma's window (versions in
tests/golden/):

    float64 here with transformers in float64, both real models     6e-5 and 4e-4; 1e-5 and 6e-5 with its rotary tables
    float64 here with transformers, twelve small random models      6e-5
    float64 here with llama.cpp, weights and cache in F32, SmolLM2  3e-4
    float64 here with llama.cpp, weights and cache in F32, Gemma    4e-2

transformers keeps its rotary angles in float32: position 599 is then off by up to 4e-5 of a radian, and with that
table put in here the two meet. llama.cpp looks GELU up in a table of f16 for f16 arguments: the same rounding put in
here takes a small Gemma model's difference from 1e-3 to 1e-5 at the first position. So both differences are the
other's rounding, and float64 is right.
"""
