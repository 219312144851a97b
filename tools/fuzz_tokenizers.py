"""Coverage-guided fuzzing of tokenizers: vocabularies of every family, options, texts, all from its bytes.

    python tools/fuzz_tokenizers.py build build/editable --work DIR
    python tools/fuzz_run.py --work DIR -- python tools/fuzz_tokenizers.py run --work DIR    # verbs: see fuzzing.py

What is checked stands in tests/tokenizer_judge.py. Inputs that brought coverage are in DIR/corpus; a small choice of
them is committed in tests/corpus/tokenizers, which a test replays without atheris.
"""

from __future__ import annotations

import sys

from fuzzing import Judge, Target, main

WORDS = ["\u2581", " \u2581", "<1>", "ab", "\n", "\r\n", "  ", "'s", "123", "1234567", "\u00e9", "e\u0301", "\u4e16"]
WORDS += ["\u1100\u1161\u11a8", "\U0001f642\u200d", "\u0130", "\ufb01", "\u0344"]
BYTES = (b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xfe\x20\x01", b"\xfe\x7f\x00")  # a surrogate, too large, repetitions
MODULES = ["special_tokens", "text_encoder", "space_normalizer", "vocabulary", "unicode_forms"]
MODULES += ["tokenizer", *(f"tokenizer_{family}" for family in ("bpe", "spm", "unigram", "wordpiece"))]


def load() -> Judge:
    """The judge, with tables made."""
    from tokenizer_judge import judge, warm

    warm()
    return judge


def changed(data: bytes, most: int, seed: int) -> bytes:
    """Mostly the text: its tokenizer, which takes most of the time to make, is kept."""
    import atheris  # type: ignore[import-untyped, import-not-found, unused-ignore]
    from tokenizer_judge import divided, joined

    words, text = divided(data)
    if seed % 8 < 2:
        words = atheris.Mutate(words, max(1, most - 2 - len(text)))
    if seed % 8:
        text = atheris.Mutate(text, max(1, most - 2 - len(words)))
    return joined(words, text)


TARGET = Target(
    corpus="tokenizers",
    modules=tuple(f"zigllama.models.{name}" for name in MODULES),
    load=load,
    words=(*(w.encode() for w in WORDS), *BYTES),
    max_len=1024,
    mutator=changed,
)

if __name__ == "__main__":
    sys.exit(main({"tokenizers": TARGET}, __doc__))
