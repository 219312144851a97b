"""Bring the pages of docs/ listed here up to date: run their code, put what it prints beneath it, draw the pictures.

    python tools/make_pages.py              all pages and pictures (SmolLM2 and what tools/fetch_vocabularies.py
                                            fetches must be in the cache)
    python tools/make_pages.py layer3       pages and pictures whose name begins so

A page is written by hand. Its ```python blocks are run from top to bottom, in one namespace and a process of their own;
the ```text block that follows one is what it printed. Pictures are made by page_pictures.py. What this tool is not: it
changes no prose.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from page_pictures import PICTURES

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = {
    "layer1": "layer1-tensor-and-file.md",
    "layer2": "layer2-formats.md",
    "layer3": "layer3-primitives.md",
    "layer4": "layer4-attention.md",
    "layer5": "layer5-architectures.md",
    "layer5-tokenizers": "layer5-tokenizers.md",
    "layer5-templates": "layer5-templates.md",
    "layer6-generation": "layer6-generation.md",
    "layer6-cache": "layer6-cache.md",
    "layer6-batching": "layer6-batching.md",
    "layer6-sampling": "layer6-sampling.md",
    "layer6-grammars": "layer6-grammars.md",
    "layer6-profiling": "layer6-profiling.md",
    "notations": "notations.md",
}
NEED_MODEL = ("layer1", "layer4", "layer5", "layer6")  # pages, and pictures of their names, for which SmolLM2 is needed
NEED_VOCABULARIES = ("layer5-tokenizers", "layer5-lattice")  # and those for which llama.cpp's vocabularies are

_CODE = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)
_RUN = """
import contextlib, io, json, sys
printed, space = [], {"__name__": "page"}
for block in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(block, "page", "exec"), space)
    printed.append(out.getvalue())
json.dump(printed, sys.stdout)
"""


def text_of(page: str) -> str:
    """The page as it is."""
    return (DOCS / PAGES[page]).read_text("utf-8")


def renewed(text: str) -> str:
    """The page with its code run anew. Raises RuntimeError, with the child's words, where the code fails."""
    blocks = [match[1] for match in _CODE.finditer(text)]
    done = subprocess.run(
        [sys.executable, "-P", "-c", _RUN], input=json.dumps(blocks), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    printed = iter(json.loads(done.stdout))

    def with_output(match: re.Match[str]) -> str:
        said = next(printed)
        return f"```python\n{match[1]}```\n" + (f"\n```text\n{said}```\n" if said else "")

    return _CODE.sub(with_output, text)


def main(argv: list[str]) -> None:
    wanted = tuple(argv) or ("",)
    for page, name in PAGES.items():
        if page.startswith(wanted):
            (DOCS / name).write_text(renewed(text_of(page)), "utf-8")
            print(DOCS / name)
    for name, draw in PICTURES.items():
        if name.startswith(wanted):
            (DOCS / name).write_text(draw(), "utf-8")
            print(DOCS / name)


if __name__ == "__main__":
    main(sys.argv[1:])
