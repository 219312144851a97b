"""Run in a fresh interpreter: 32 tokens by llama-cpp-python, then VmHWM on stderr.

argv: model, threads, prompt
"""

import sys
from pathlib import Path

import llama_cpp

n_threads = int(sys.argv[2])
model = llama_cpp.Llama(sys.argv[1], n_ctx=2048, n_threads=n_threads, n_threads_batch=n_threads, verbose=False)
model.create_completion(sys.argv[3], max_tokens=32, temperature=0.0)
print(next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM")), file=sys.stderr)
