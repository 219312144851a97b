"""What the tests of the foundation share: a native context of two threads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from zigllama.foundation.native_context import NativeContext


@pytest.fixture
def ctx() -> Iterator[NativeContext]:
    with NativeContext(2) as made:
        yield made
