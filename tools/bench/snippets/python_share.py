"""Run in a fresh interpreter: seconds that `generate` takes to decode, and a bare loop of the same steps in C.

argv: model, threads, n_gen, rounds

The loop runs the recorded program on steps that were prepared before: one call of the C library per token, nothing
else. Both decode the same tokens at the same positions, in turn; a first round is not counted.
"""

import json
import random
import sys
import time

import zigllama as zl

N_PROMPT = 16


def main() -> None:
    """Measure, print one line of JSON: a list of [generate, loop], in seconds, of n_gen - 1 steps."""
    path, n_threads, n_gen, rounds = sys.argv[1], *map(int, sys.argv[2:5])
    rng = random.Random(1)
    seconds = []
    with zl.Model(path, n_ctx=N_PROMPT + n_gen, n_threads=n_threads) as model:
        engine, cache = model.engine, model.engine.cache
        for turn in range(rounds + 1):
            prompt = [rng.randrange(model.info.n_vocab) for _ in range(N_PROMPT)]
            result = model.generate(prompt, max_tokens=n_gen, temperature=0.0, ignore_eos=True, reuse=False)
            with engine.lock:
                sequence = cache.add(N_PROMPT + n_gen)
                engine.run(cache.extend(sequence, prompt))
                steps = [cache.extend(sequence, [token]) for token in result.token_ids[:-1]]
                prepared = [engine.context.make_step(step) for step in steps]
                start = time.perf_counter()
                for step in prepared:
                    engine._program.run(step)
                loop = time.perf_counter() - start
                told = int(engine._program.result(0, 1)[0].argmax())
                cache.remove(sequence)
            if told != result.token_ids[-1]:
                raise SystemExit(f"the loop ended with token {told}, generate with {result.token_ids[-1]}")
            if turn:
                seconds.append([result.timings["decode_s"], loop])
        print(json.dumps({"seconds": seconds, "version": zl.__version__, "about": model.fingerprint}))


main()
