"""Images among the messages of a conversation: what a message may hold, and where a template puts them.

    {"role": "user", "content": [{"type": "image", "image": X}, {"type": "text", "text": "What is this?"}]}

X is a file's path, a file's bytes, or pixels, uint8 (H, W, 3). Understood as well are a path under "path" or "url", and
OpenAI's {"type": "image_url", "image_url": {"url": ...}}, where a `data:` URL holds the file itself. Nothing is fetched
from a network.

Some templates walk over the parts and write the placeholder themselves (SmolVLM's); others want a text, which then has
the placeholder where the image stands. What this file is not: it decodes no image (image_processing.py).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

from zigllama.errors import InvalidArgument

PLACEHOLDER = "<image>"  # where in a text an image stands; in a list of ids it is -1
IMAGE: Mapping[str, str] = {"type": "image"}  # an image's part once the image is taken out


def taken_out(messages: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], list[Any]]:
    """The messages with bare image parts, and the images in their order. Raises InvalidArgument."""
    images: list[Any] = []
    out: list[Mapping[str, Any]] = []
    for message in messages:
        content = message.get("content")
        if isinstance(content, list | tuple):
            parts = []
            for part in content:
                if is_image(part):
                    images.append(source(part))
                parts.append(IMAGE if is_image(part) else part)
            message = {**message, "content": parts}
        out.append(message)
    return out, images


def is_image(part: Any) -> bool:
    """Whether a part of a message's content is an image."""
    return isinstance(part, Mapping) and part.get("type") in ("image", "image_url")


def source(part: Mapping[str, Any]) -> Any:
    """The image of a part: what `Vision.encode` takes. Raises InvalidArgument."""
    found = next((part[k] for k in ("image", "path", "url", "image_url") if part.get(k) is not None), None)
    if isinstance(found, Mapping):
        found = found.get("url")
    if found is None:
        raise InvalidArgument(f"an image part without an image: its keys are {sorted(map(str, part))}")
    if not isinstance(found, str):
        return found
    if found.startswith("data:"):
        head, comma, data = found.partition(",")
        try:
            if not comma or not head.endswith(";base64"):
                raise ValueError
            return base64.b64decode(data, validate=True)
        except (ValueError, binascii.Error):
            raise InvalidArgument(f"an image's data: URL of {len(found)} characters is not in base64") from None
    if found.startswith(("http:", "https:")):
        raise InvalidArgument(f"an image is given as {found[:80]!r}: nothing is fetched; pass its bytes or a path")
    return found.removeprefix("file://")


def flattened(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Messages whose content is a text: texts one after another, the placeholder for each image.

    Raises InvalidArgument for a part of another kind.
    """
    out = []
    for message in messages:
        content = message.get("content")
        if isinstance(content, list | tuple):
            content = "".join(_text(part) for part in content)
        out.append({**message, "content": content})
    return out


def _text(part: Any) -> str:
    if is_image(part):
        return PLACEHOLDER
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str):
        text: str = part["text"]
        return text
    raise InvalidArgument(f"a part of a message is a text or an image, found {part!r:.100}")
