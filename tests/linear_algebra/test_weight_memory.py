"""Repacking a mapped weight with `release`: the file's pages leave the resident memory, no byte is lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from zigllama.foundation.ggml_types import type_by_name
from zigllama.foundation.memory_mapping import MemoryMap
from zigllama.foundation.native import NativeContext, NativeWeight, guarded
from zigllama.foundation.runtime import EagerRuntime, Step
from zigllama.linear_algebra.linear import Weight, linear


def resident_file_bytes() -> int:
    """RssFile of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssFile")) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc on this system")
def test_pages_are_let_go_and_nothing_is_lost(tmp_path: Path) -> None:
    rows, cols = 4099, 2048
    values = np.random.default_rng(1).standard_normal((rows, cols)).astype(np.float32)
    (tmp_path / "w").write_bytes(b"head" * 5 + values.tobytes())
    x = np.random.default_rng(2).standard_normal((2, cols)).astype(np.float32)
    with MemoryMap(tmp_path / "w") as mapping, NativeContext(2) as ctx, guarded(mapping.view):
        data = mapping.view[20:]
        data.sum()  # every page is resident now
        before = resident_file_bytes()
        kept = NativeWeight(ctx, 0, rows, cols, data)
        assert resident_file_bytes() > before - values.nbytes // 2
        kept.close()
        weight = Weight(type_by_name("F32"), rows, cols, data)
        weight.prepare(ctx, release=True)
        assert resident_file_bytes() < before - values.nbytes * 0.9
        assert bytes(data) == values.tobytes()
        runtime = EagerRuntime(ctx, Step.of_rows(2))
        got = linear(runtime.rows(x), weight).array
        np.testing.assert_allclose(got, x @ values.T, rtol=1e-4, atol=1e-3)
        weight.close()
