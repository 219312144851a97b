"""What the benchmarks share.

rows.py         the table: which model, which test, what is asked
contestants.py  who is measured: ours, llama.cpp, ik_llama.cpp
pairs.py        the method: pairs in turn with a probe beside each
single.py       rows of another kind: growth of batches, Python's share, start, memory
probe.py        the machine's ceilings, by zigllama's own probes
summary.py      medians, bootstrap intervals, verdicts
report.py       results kept as JSON, and shown
blocks.py       random weights as blocks of a number format (for tools/make_shape.py, as the next two)
shapes.py       architectures with their sizes
vocabulary.py   made-up words, as many as are wanted
snippets/       small programs run in a fresh interpreter, one per measurement
"""
