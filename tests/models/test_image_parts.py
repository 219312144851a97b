"""Images in messages: every way to say where one is, and what is refused."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from zigllama.errors import InvalidArgument
from zigllama.models.image_parts import flattened, source, taken_out

PIXELS = np.zeros((2, 3, 3), np.uint8)
URL = "data:image/png;base64," + base64.b64encode(b"PNG").decode()


@pytest.mark.parametrize(
    ("part", "image"),
    [
        ({"type": "image", "image": "a.png"}, "a.png"),
        ({"type": "image", "path": "a.png"}, "a.png"),
        ({"type": "image", "url": "file:///a.png"}, "/a.png"),
        ({"type": "image", "image": b"bytes"}, b"bytes"),
        ({"type": "image_url", "image_url": {"url": URL}}, b"PNG"),
        ({"type": "image_url", "image_url": URL}, b"PNG"),
    ],
)
def test_source(part: dict[str, Any], image: Any) -> None:
    assert source(part) == image


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"type": "image"}, "without an image"),
        ({"type": "image_url", "image_url": {}}, "without an image"),
        ({"type": "image", "url": "https://example.org/a.png"}, "nothing is fetched"),
        ({"type": "image", "url": "data:image/png;base64,###"}, "not in base64"),
        ({"type": "image", "url": "data:,a"}, "not in base64"),
    ],
)
def test_refused(part: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        source(part)


def test_taken_out_and_flattened() -> None:
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "a"},
        {"role": "user", "content": [{"type": "image", "image": PIXELS}, "b", {"type": "text", "text": "c"}]},
        {"role": "user", "content": [{"type": "image", "image": "d.png"}], "name": "e"},
    ]
    bare, images = taken_out(messages)
    assert images[0] is PIXELS and images[1:] == ["d.png"]
    assert bare[1]["content"][0] == {"type": "image"} and messages[1]["content"][0] != {"type": "image"}
    assert [m["content"] for m in flattened(bare)] == ["a", "<image>bc", "<image>"]
    assert flattened(bare)[2]["name"] == "e"
    with pytest.raises(InvalidArgument, match="a text or an image"):
        flattened([{"role": "user", "content": [{"type": "audio"}]}])
