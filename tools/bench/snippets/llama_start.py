"""Run in a fresh interpreter: when llama-cpp-python's import, load and first token are done.

argv: model, threads, prompt
"""

import json
import sys
import time

begin = time.monotonic()
import llama_cpp  # noqa: E402

imported = time.monotonic()
n_threads = int(sys.argv[2])
model = llama_cpp.Llama(sys.argv[1], n_ctx=2048, n_threads=n_threads, n_threads_batch=n_threads, verbose=False)
loaded = time.monotonic()
model.create_completion(sys.argv[3], max_tokens=1, temperature=0.0)
first = time.monotonic()
version = f"{llama_cpp.__version__} {llama_cpp.llama_print_system_info().decode().strip()}"
print(json.dumps({"begin": begin, "imported": imported, "loaded": loaded, "first": first, "version": version}))
