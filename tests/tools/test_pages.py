"""docs/layer1-*.md to layer6-*.md: their code runs, what they print and draw is what stands there, their links lead
somewhere."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import make_pages
import pytest
from conftest import model_or_skip
from make_pages import DOCS, NEED_MODEL, NEED_VOCABULARIES, PAGES, renewed, text_of
from page_pictures import PICTURES

from zigllama.app.catalogue import cache_dir

ELSEWHERE = {"architectures.md"}  # another tool makes it
NUMBER = re.compile(r"-?\d+\.?\d*")


def need(name: str) -> None:
    """Skip aloud what needs SmolLM2 where it is not."""
    if name.startswith(NEED_MODEL):
        model_or_skip("smollm2")
    if name.startswith(NEED_VOCABULARIES) and not (cache_dir() / "vocabularies").is_dir():
        pytest.skip("llama.cpp's vocabularies are not in the cache; tools/fetch_vocabularies.py fetches them")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_prints_what_it_says(page: str) -> None:
    need(page)
    assert renewed(text_of(page)) == text_of(page), f"run tools/make_pages.py {page}"


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_as_its_code_draws_it(name: str) -> None:
    """The same words and shapes, each number within a tenth (of a map the cells come below): the last bits of a value
    may differ between instruction sets."""
    need(name)
    here, new = (DOCS / name).read_text("utf-8"), PICTURES[name]()
    assert plain(here) == plain(new), f"run tools/make_pages.py {name}"
    for a, b in zip(numbers(here), numbers(new), strict=True):
        assert abs(a - b) <= 0.11, f"run tools/make_pages.py {name}"


def plain(svg: str) -> str:
    """The picture without its numbers, cells of a map counted all together: a shade more or less moves a cell."""
    svg = re.sub(r'<path d="[^"]*" fill="[^"]*"/>\n', "", svg)
    return NUMBER.sub("0", svg)


def numbers(svg: str) -> list[float]:
    return [float(n) for n in NUMBER.findall(re.sub(r'<path d="[^"]*" fill="[^"]*"/>\n', "", svg))]


def cells(svg: str) -> dict[tuple[str, str], int]:
    """Squares of a map by their corner -> how dark (0 to 255)."""
    found = {}
    for path, colour in re.findall(r'<path d="([^"]*)" fill="#([0-9a-f]{2})[0-9a-f]{4}"/>', svg):
        for x, y in re.findall(r"M(\S+) (\S+?)h", path):
            found[x, y] = int(colour, 16)
    return found


def test_the_maps_cells_have_their_shades() -> None:
    need("layer4")
    name = "layer4-attention.svg"
    here, new = cells((DOCS / name).read_text("utf-8")), cells(PICTURES[name]())
    assert len(here) > 200
    assert here.keys() == new.keys()
    assert max(abs(here[at] - new[at]) for at in here) <= 16  # a sixteenth of the scale: one level
    assert sum(here[at] != new[at] for at in here) <= 4


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_small_and_on_white_paper(name: str) -> None:
    text = (DOCS / name).read_text("utf-8")
    assert len(text) < 30_000
    root = ElementTree.fromstring(text)
    paper = root[0]
    assert (paper.get("fill"), paper.get("width")) == ("white", root.get("viewBox", "").split()[2])
    assert any(f"]({name})" in text_of(page) for page in PAGES), "no page shows it"


@pytest.mark.parametrize("page", PAGES)
def test_links_and_code_names_lead_somewhere(page: str) -> None:
    text = text_of(page)
    for target in set(re.findall(r"\]\(([^)#:]+)\)", text)) - ELSEWHERE:
        assert (DOCS / target).exists(), target
    for path in re.findall(r"`((?:zigllama|tools|ckernels|docs)/[\w./]*)`", text):
        assert (DOCS.parent / path).exists() or path == "docs/gguf.md", path  # that one is in ggml's repository
    assert max(map(len, text.splitlines())) <= 160


def test_a_page_whose_code_fails_is_told() -> None:
    assert renewed("a\n\n```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n\nb\n") == (
        "a\n\n```python\nprint(1 + 1)\n```\n\n```text\n2\n```\n\nb\n"
    )
    assert renewed("```python\nx = 1\n```\n\n```text\nold\n```\n") == "```python\nx = 1\n```\n"
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        renewed("```python\n1 / 0\n```\n")
    parts = ("generation", "cache", "batching", "sampling", "grammars", "profiling")
    more = {"layer5-tokenizers", "layer5-templates", "notations", *(f"layer6-{part}" for part in parts)}
    assert set(PAGES) == {f"layer{n}" for n in range(1, 6)} | more
    assert make_pages.DOCS.name == "docs"
