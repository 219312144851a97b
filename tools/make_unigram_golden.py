"""Make tests/golden/tokenizer_unigram.json: small unigram models, and their ids and normalised texts by SentencePiece.

    pip install sentencepiece
    python tools/make_unigram_golden.py

Models are trained on tests/golden/texts and written into the file whole (base64 of the protocol buffer). The engine
takes no part.
"""

from __future__ import annotations

import base64
import io
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import sentencepiece

ROOT = Path(__file__).resolve().parent.parent
TEXTS = ROOT / "tests" / "golden" / "texts"
# A small character map with all that a large one has: one to several, several to one, to nothing, to spaces, prefixes
RULES = {
    "\ufb01": "fi", "\ufdfa": "\u0635\u0644\u0649 \u0627\u0644\u0644\u0647", "e\u0301": "\u00e9", "e\u0301\u0323": "x",
    "\u200b": "", "\u3000": " ", "\t": " ", "\n": " ", "\uff76\uff9e": "\u30ac", "\uff76": "\u30ab", "\u2026": "...",
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "rules": {},
    "plain": {"normalization_rule_name": "identity", "remove_extra_whitespaces": False, "add_dummy_prefix": False},
    "bytes": {"byte_fallback": True, "vocab_size": 560},
    "pieces": {"user_defined_symbols": ["<sep>", "th", "a  b", "\u2581x", "\ufb01"], "control_symbols": ["<mask>"]},
    "inside": {"normalization_rule_name": "identity", "remove_extra_whitespaces": True, "split_by_whitespace": False},
}
ALPHABETS = [
    "the and of a  ", "  ", "\u2581 a", "e\u0301\u0323 ", "\uff76\uff9e\u4e16\u754c", "\ufb01\ufdfa\u2026\u200b",
    "xyzTHE19.,",
    "\t\n\u3000\u00a0", "\U0001f642\U0001f468\u200d\x00", "th<sep>a  b",
]  # fmt: skip


def texts(model: str) -> list[str]:
    """Texts written to be difficult, and random ones."""
    r = random.Random(model)
    found = [
        "",
        " ",
        "   ",
        "a",
        " a",
        "a ",
        "  the  light  ",
        "<sep>",
        "a<sep> b",
        "the<sep>the",
        "a  b",
        " a  b ",
        "xa  bx",
    ]
    found += [
        "\u2581x y\u2581x",
        "thth",
        "\u2581\u2581 \u2581",
        "\ufdfa\ufdfa",
        "\ufb01re",
        "e\u0301\u0323e\u0301e",
        "\u200b \u200b",
        "<mask>",
    ]
    found += ["\U0001f642\U0001f642 \U0001f642", "a" * 60, " " * 60, "the " * 20]
    for _ in range(60):
        found.append("".join(r.choice(r.choice(ALPHABETS)) for _ in range(r.randrange(1, 24))))
    return found


def train(options: dict[str, Any]) -> bytes:
    lines = [line for path in sorted(TEXTS.glob("*.txt")) for line in path.read_text("utf-8").split("\n") if line]
    model = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        settings: dict[str, Any] = {"vocab_size": 300, "model_type": "unigram", "hard_vocab_limit": False} | options
        if "normalization_rule_name" not in options:
            path = Path(folder) / "rules.tsv"
            rows = (
                " ".join(f"{ord(c):X}" for c in a) + "\t" + " ".join(f"{ord(c):X}" for c in b) for a, b in RULES.items()
            )
            path.write_text("\n".join(rows) + "\n")
            settings["normalization_rule_tsv"] = str(path)
        trainer = sentencepiece.SentencePieceTrainer
        trainer.train(sentence_iterator=iter(lines), model_writer=model, num_threads=1, minloglevel=2, **settings)
    return model.getvalue()


def main() -> None:
    version, command = sentencepiece.__version__, "python tools/make_unigram_golden.py"
    golden: dict[str, Any] = {"about": {"oracle": f"sentencepiece {version}", "command": command}, "models": {}}
    for name, options in MODELS.items():
        model = train(options)
        oracle = sentencepiece.SentencePieceProcessor(model_proto=model)
        cases = [[t, oracle.normalize(t), oracle.encode(t), oracle.decode(oracle.encode(t))] for t in texts(name)]
        golden["models"][name] = {"model": base64.b64encode(model).decode(), "cases": cases}
    path = ROOT / "tests" / "golden" / "tokenizer_unigram.json"
    path.write_text(json.dumps(golden, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
