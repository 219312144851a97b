"""Make tests/golden/tokenizer_NAME.json: token ids that llama.cpp gives, for texts chosen to be difficult.

    pip install llama-cpp-python numpy
    python tools/make_tokenizer_golden.py rules                                  every pre-tokenizer, a vocabulary of
                                                                                 tests/dense_vocabulary.py (seconds)
    python tools/make_tokenizer_golden.py smollm2 path/to/smollm2.gguf           a real vocabulary
    python tools/make_tokenizer_golden.py gemma3-270m path/to/gemma3-270m.gguf

Only vocabularies are loaded. The engine takes no part.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import llama_cpp

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
import dense_vocabulary  # noqa: E402
import gguf_bytes  # noqa: E402

# Names that llama.cpp knows, spelled out: the tool takes nothing from the engine. A test fails for a rule that is not
# here.
RULES = """
a.x-4.0 chatglm-bpe codeshell command-r dbrx deepseek-r1-qwen default exaone exaone4 falcon falcon-h1 falcon3
gigachat glm4 glm5 gpt-2 granite-docling grok-2 hunyuan jais jina-de jina-es lfm2 llama-bpe llama-v3 llama3
megrez mellum minerva-7b modern-bert mpt olmo phi-2 pixtral qwen2 qwen35 refact smaug-bpe smollm solar-open
stablelm2 starcoder trillion
""".split()  # noqa: SIM905

SPECIAL = [
    "<|im_start|>user\nHi<|im_end|>\n",
    "<start_of_turn>model\n<end_of_turn>",
    "<b>bold</b>  <eos><bos><unused7>",
]
REAL_TEXTS = [
    *("", " ", "  ", "\n", "\n\n\n", "\t\t", " \n \n  ", "\r\n", "a", " a", "a ", "  a  b   c    d", "Hello, world!"),
    *("it's I'LL we'Ve 'tis o'clock", "1 12 123 1234 12345678901", "3.14 $1,000.00 -7e-3 \u0663\u0664 \u00bd \u2167"),
    *(
        "def f(x):\n    return x**2  # \u00b2\n\n\n\tpass\n",
        "a" * 100,
        " " * 100,
        "\n" * 70,
        "=" * 50,
        "\u2581\u2581 \u2581",
    ),
    *("\u4e16\u754c\u4f60\u597d", "\u3053\u3093\u306b\u3061\u306f\u3000\u4e16\u754c", "\u0645\u0631\u062d\u0628\u0627"),
    *("\u0939\u093f\u0928\u094d\u0926\u0940", "\U0001f642\U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f"),
    *(
        "e\u0301\u0301\u0301 \u00e9",
        "\u00a0\u0085\u2028\u202f\u1680x",
        "\x00\x01\x1c\x7f",
        "\ufeff\ufffd\ue000\U0010ffff",
    ),
    *("\u2ffc\u0897\U000107a5 new letters", "<0x0A> <|x|> [INST]", *SPECIAL),
]


@contextmanager
def loaded(path: Path) -> Iterator[Any]:
    """The file's vocabulary in llama.cpp."""
    model = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    try:
        yield model
    finally:
        model.close()


def ends(model: Any) -> list[int]:
    """Ids that llama.cpp takes for the end of a generation."""
    vocabulary = llama_cpp.llama_model_get_vocab(model.model)
    return [i for i in range(model.n_vocab()) if llama_cpp.llama_vocab_is_eog(vocabulary, i)]


def pieces(model: Any, ids: list[int]) -> list[str]:
    """Bytes of tokens, in hexadecimal."""
    vocabulary, buffer = llama_cpp.llama_model_get_vocab(model.model), ctypes.create_string_buffer(1024)
    found = []
    for i in ids:
        n = llama_cpp.llama_token_to_piece(vocabulary, i, buffer, 1024, 0, True)
        found.append(buffer.raw[:n].hex())
    return found


def rule_texts() -> list[str]:
    """Strings over the letters that merge, seeded; and some by hand."""
    rng = random.Random(1)
    letters = dense_vocabulary.TEXT_WITH_ALL
    texts = ["".join(rng.choices(letters, k=24)) for _ in range(16)]
    texts += ["".join(rng.choice(letters) * rng.choice((1, 1, 2, 5)) for _ in range(10)) for _ in range(8)]
    return [
        *texts,
        " abc abc",
        "ab'll cd'S 's''s",
        "a  1  12345 .. --$$\n\n  \n a",
        "a   ",
        "\u2ffca\u0897a",
        "  abc\n",
    ]


def rules() -> dict[str, Any]:
    """Ids for each rule; rules that say the same share one list."""
    texts, found, names = rule_texts(), [], {}
    with tempfile.TemporaryDirectory() as folder:
        for name in sorted(RULES):
            path = Path(folder) / f"{name}.gguf"
            gguf_bytes.write(path, dense_vocabulary.dense(name), {})
            with loaded(path) as model:
                ids = [list(model.tokenize(t.encode(), add_bos=True, special=False)) for t in texts]
            if ids not in found:
                found.append(ids)
            names[name] = found.index(ids)
    return {"texts": texts, "rules": names, "ids": dict(enumerate(found))}


def real(path: Path) -> dict[str, Any]:
    """Ids with BOS; those that differ where control tokens in the text count; ends; some pieces."""
    with loaded(path) as model:
        plain = [list(model.tokenize(t.encode(), add_bos=True, special=False)) for t in REAL_TEXTS]
        parsed = [list(model.tokenize(t.encode(), add_bos=True, special=True)) for t in REAL_TEXTS]
        some = sorted({*range(0, model.n_vocab(), model.n_vocab() // 100), *range(24), *ends(model)})
        return {
            "end_ids": ends(model),
            "texts": REAL_TEXTS,
            "ids": {str(i): ids for i, ids in enumerate(plain)},
            "parsed": {str(i): p for i, p in enumerate(parsed) if p != plain[i]},
            "pieces": dict(zip(map(str, some), pieces(model, some), strict=True)),
        }


def main() -> None:
    """One file."""
    name, *rest = sys.argv[1:]
    about = {"oracle": f"llama-cpp-python {llama_cpp.__version__}"}
    about["command"] = " ".join(["python tools/make_tokenizer_golden.py", name, *(Path(r).name for r in rest)])
    if rest:
        about["model_sha256"] = hashlib.sha256(Path(rest[0]).read_bytes()).hexdigest()
    found = real(Path(rest[0])) if rest else rules()
    lines = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in {"about": about, **found}.items() if k != "ids"]
    ids = ",\n".join(f" {json.dumps(str(k))}: {json.dumps(v)}" for k, v in found["ids"].items())
    text = "{\n" + ",\n".join([*lines, f'"ids": {{\n{ids}\n}}']) + "\n}\n"
    (ROOT / "tests" / "golden" / f"tokenizer_{name}.json").write_text(text, "utf-8")


if __name__ == "__main__":
    main()
