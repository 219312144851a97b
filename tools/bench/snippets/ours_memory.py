"""Run in a fresh interpreter: a context of 512 filled by prompt and answer, then the peak of resident memory.

argv: model, threads
"""

import json
import random
import sys
from pathlib import Path

import zigllama as zl

rng = random.Random(1)
with zl.Model(sys.argv[1], n_ctx=512, n_threads=int(sys.argv[2])) as model:
    prompt = [rng.randrange(model.info.n_vocab) for _ in range(448)]
    result = model.generate(prompt, max_tokens=64, temperature=0.0, ignore_eos=True)
    if len(result.token_ids) != 64:
        raise SystemExit(f"{len(result.token_ids)} tokens instead of 64")
    status = Path("/proc/self/status").read_text("utf-8")  # VmHWM: the mapped file's pages are counted too
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    print(json.dumps({"peak": int(peak.split()[1]) * 1024, "version": zl.__version__, "about": model.fingerprint}))
