"""How much memory `encode` takes beyond its result, C's allocations included: the peak of the resident set, as Linux
has it, in a process of its own.

    python tests/encode_memory.py VOCABULARY NAME N        -> one line of JSON; VOCABULARY: a GGUF file, or small:bpe

What is subtracted: what was resident before, and the result as it is afterwards (the list and its numbers).
"""

from __future__ import annotations

import gc
import json
import random
import re
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests")]
GENESIS = ROOT / "tests" / "golden" / "texts" / "genesis.txt"
MIXED = (
    "the \u4e16\u754c \u043c\u0438\u0440 \u05e9\u05dc\u05d5\u05dd \u0639\u0631\u0628 \u0928\u092e\u0938\u094d\u0924"
    "\u0947 \U0001f642\u200d\u2764\ufe0f 12,345\n\u0e01\u0e34 e\u0301 \ud55c\uae00 x=y;\t"
)


def text_of(name: str, n: int) -> str:
    """A text of `n` bytes of UTF-8, or a few less."""
    unit = {
        "letter": "a", "spaces": " ", "marks": "\u0301", "digits": "7", "joiners": "\u200d", "nul": "\0",
        "replaced": "\ufffd", "newlines": "\n", "apostrophes": "'", "mixed": MIXED, "wide": "\U0001f642",
        "alternating": "a\u4e16\u0431\u05d0", "underlines": "\u2581", "ligatures": "\ufdfa", "hangul": "\u1100\u1161",
        "cases": "aA", "word": "abcdefghijklmnopqrstuvwxyz", "a space": "a ", "space a": " a", "dotted": "\u0130",
        "chinese": "\u4e16",
    }.get(name)  # fmt: skip
    if unit is None:
        assert name in ("english", "random"), name
        unit = GENESIS.read_text("utf-8") if name == "english" else _random()
    return (unit * (n // len(unit.encode()) + 1)).encode()[:n].decode("utf-8", "ignore")


def _random() -> str:
    """Letters of no language, so that hardly a word comes twice."""
    r = random.Random(1)
    return "".join(r.choices("abcdefghijklmnopqrstuvwxyz     \u00e9\u0301\u4e16", k=1 << 20))


def tokenizer_of(path: str) -> Any:
    """A tokenizer of a file, or one of small_vocabularies."""
    import small_vocabularies

    from zigllama.models.tokenizer import Tokenizer

    if path.startswith("golden:"):
        from models.test_tokenizer_unigram import METADATA

        return Tokenizer.from_metadata(METADATA[path[7:]])
    if path.startswith("small:"):
        return Tokenizer.from_metadata(getattr(small_vocabularies, path[6:])())
    return Tokenizer(path)


def _resident(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text("ascii"), re.MULTILINE)
    assert found is not None
    return int(found[1]) << 10


def measure(path: str, name: str, n: int) -> dict[str, Any]:
    """Peak and result in bytes, CPU seconds."""
    t = tokenizer_of(path)
    text = text_of(name, n)
    t.encode(text[:1000])
    gc.collect()
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    begin = time.process_time()
    ids = t.encode(text, add_special=False)
    took = time.process_time() - begin
    peak = _resident("VmHWM") - before
    # Numbers up to 256 exist already; of the others those that are the same object count once.
    result = sys.getsizeof(ids) + 32 * len({id(i) for i in ids if i > 256})
    size = len(text.encode())
    return {"name": name, "bytes": size, "ids": len(ids), "peak": peak, "result": result, "cpu": took,
            "per_byte": round((peak - result) / size, 2)}  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
