"""What the benchmarks share: running contestants in turn, a probe of the memory's speed, and honest summaries.

probe.py      GB/s that all threads together read from memory, by a C program compiled on the spot
summary.py    medians, ratios of pairs, bootstrap intervals, tables
peers.py      llama-bench (llama.cpp's or a fork's): run it, read its figures, say what it is
blocks.py     random weights as blocks of a number format (for tools/make_shape.py)
snippets/     small programs run in a fresh interpreter, one per measurement: ours and llama-cpp-python's
"""
