"""Run in a fresh interpreter: when zigllama's import, load and first token are done.

argv: model, threads, prompt
"""

import json
import sys
import time

begin = time.monotonic()
import zigllama as zl  # noqa: E402

imported = time.monotonic()
model = zl.Model(sys.argv[1], n_ctx=2048, n_threads=int(sys.argv[2]))
loaded = time.monotonic()
model.generate(sys.argv[3], max_tokens=1, temperature=0.0)
first = time.monotonic()
print(json.dumps({"begin": begin, "imported": imported, "loaded": loaded, "first": first, "version": zl.__version__}))
