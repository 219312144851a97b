"""Run in a fresh interpreter: tokens per second of zigllama, prompt and decode.   argv: model, threads, n_prompt, n_gen

What llama-bench does: a warm-up, then a prompt of random tokens from an empty cache, then as many single steps from
one token. The prompts differ, so that no cached prefix can help.
"""

import json
import random
import sys
import time

import zigllama as zl


def main() -> None:
    """Measure, print one line of JSON."""
    path, n_threads, n_prompt, n_gen = sys.argv[1], *map(int, sys.argv[2:5])
    rng = random.Random(1)
    with zl.Model(path, n_ctx=n_prompt + n_gen + 8, n_threads=n_threads) as model:
        common = {"temperature": 0.0, "ignore_eos": True}
        model.generate([rng.randrange(10, 20_000) for _ in range(n_prompt)], max_tokens=2, **common)
        prompt = [rng.randrange(10, 20_000) for _ in range(n_prompt)]
        start = time.perf_counter()
        model.generate(prompt, max_tokens=1, **common)
        read = time.perf_counter()
        result = model.generate([rng.randrange(10, 20_000)], max_tokens=n_gen, **common)
        done = time.perf_counter()
        if len(result.token_ids) != n_gen:
            raise SystemExit(f"{len(result.token_ids)} tokens instead of {n_gen}")
        print(
            json.dumps(
                {"pp": n_prompt / (read - start), "tg": n_gen / (done - read), "fingerprint": str(result.fingerprint)}
            )
        )


main()
