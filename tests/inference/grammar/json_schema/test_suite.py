"""The official JSON Schema test suite: each document is accepted exactly where the suite calls it valid.

The suite is fetched by tools/fetch_json_schema_suite.py. Its folder `remotes` is given as documents that are known, for
nothing is fetched. Formats are asserted only in the tests that are about them.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from zigllama.app.catalogue import cache_dir
from zigllama.errors import EmptyLanguage, UnsupportedSchema
from zigllama.inference.grammar.json_schema import compile_schema
from zigllama.inference.grammar.json_schema.formats import FORMATS
from zigllama.inference.grammar.json_schema.values import parse

PINS = json.loads((Path(__file__).parents[3] / "golden" / "json_schema_suite.json").read_text("utf-8"))
DRAFTS = {"draft4": 4, "draft6": 6, "draft7": 7, "draft2019-09": 2019, "draft2020-12": 2020}
# Tests in groups that are refused: vocabularies of a metaschema of one's own are not read.
REFUSED = {"draft2019-09": 5, "draft2020-12": 5}
NARROWER = {"leap second", "punycoded"}  # what formats.py says it does not take


@cache
def suite() -> dict[str, str]:
    path = cache_dir() / "json_schema_suite.json"
    if not path.is_file():
        pytest.skip("the JSON Schema test suite is not in the cache; tools/fetch_json_schema_suite.py fetches it")
    data = path.read_bytes()
    assert hashlib.sha256(data).hexdigest() == PINS["suite"]
    return json.loads(data)  # type: ignore[no-any-return]


@cache
def remotes() -> dict[str, Any]:
    return {
        "http://localhost:1234/" + name.removeprefix("remotes/"): parse(text)
        for name, text in suite().items()
        if name.startswith("remotes/")
    }


def written(value: Any) -> str:
    """The document as the suite has it: its numbers with all their digits."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(k)}:{written(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(written, value)) + "]"
    return json.dumps(value) if isinstance(value, (str, bool)) or value is None else str(value)


def run(text: str, draft: int, formats: bool) -> tuple[Counter[str], list[str]]:
    """How many tests of a file came out right and how many were refused; what came out wrong."""
    counts: Counter[str] = Counter()
    wrong = []
    for group in parse(text):
        try:
            made = compile_schema(group["schema"], draft=draft, documents=remotes(), formats=formats, writing=False)
        except UnsupportedSchema as error:
            counts["refused"] += len(group["tests"]) if error.keyword == "$schema" else 1_000
            continue
        except EmptyLanguage:
            made = None
        for test in group["tests"]:
            accepted = made is not None and made.accepts(written(test["data"]).encode())
            counts["right"] += accepted == test["valid"]
            if accepted != test["valid"]:
                wrong.append(f"{'accepted' if accepted else 'refused'}: {group['description']} | {test['description']}")
    return counts, wrong


@pytest.mark.parametrize("draft", DRAFTS)
def test_required(draft: str) -> None:
    counts: Counter[str] = Counter()
    for name, text in suite().items():
        if name.startswith(f"tests/{draft}/") and name.count("/") == 2:
            found, wrong = run(text, DRAFTS[draft], formats=False)
            assert not wrong, name
            counts += found
    assert counts["refused"] == REFUSED.get(draft, 0)
    assert counts["right"] > 600


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_formats(name: str) -> None:
    counts, wrong = run(suite()[f"tests/draft2020-12/optional/format/{name}.json"], 2020, formats=True)
    assert [w for w in wrong if not any(word in w for word in NARROWER) or w.startswith("accepted")] == []
    assert counts["right"] > 5 and not counts["refused"]


@pytest.mark.parametrize("draft", ["draft7", "draft2020-12"])
def test_numbers_of_many_digits(draft: str) -> None:
    for name in ("bignum", "float-overflow"):
        counts, wrong = run(suite()[f"tests/{draft}/optional/{name}.json"], DRAFTS[draft], formats=False)
        assert not wrong
        assert counts["right"] and not counts["refused"]


def test_without_the_remote_documents_nothing_else_changes() -> None:
    """At least 95 in a hundred required tests of drafts 7 and 2020-12 without any document given; the rest: refused."""
    for draft in ("draft7", "draft2020-12"):
        right = total = 0
        refused: set[str] = set()
        for name, text in suite().items():
            if name.startswith(f"tests/{draft}/") and name.count("/") == 2:
                for group in parse(text):
                    total += len(group["tests"])
                    try:
                        made = compile_schema(group["schema"], draft=DRAFTS[draft], writing=False)
                    except EmptyLanguage:
                        made = None
                    except UnsupportedSchema as error:
                        refused.add(error.keyword)
                        continue
                    for test in group["tests"]:
                        assert (made is not None and made.accepts(written(test["data"]).encode())) == test["valid"]
                        right += 1
        assert right >= 0.95 * total
        assert refused <= {"$ref", "$schema", "$dynamicRef"}
