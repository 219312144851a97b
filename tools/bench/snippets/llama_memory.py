"""Run in a fresh interpreter: a context of 512 filled by prompt and answer in llama-cpp-python, then the peak of
resident memory.

argv: model, threads
"""

import json
import random
import sys
from pathlib import Path

import llama_cpp

rng, n_threads = random.Random(1), int(sys.argv[2])
model = llama_cpp.Llama(sys.argv[1], n_ctx=512, n_threads=n_threads, n_threads_batch=n_threads, verbose=False)
tokens = model.generate([rng.randrange(model.n_vocab()) for _ in range(448)], temp=0.0)
for _ in range(64):
    next(tokens)
status = Path("/proc/self/status").read_text("utf-8")
peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
about = llama_cpp.llama_print_system_info().decode().strip()
print(json.dumps({"peak": int(peak.split()[1]) * 1024, "version": llama_cpp.__version__, "about": about}))
