"""What weights leave in memory: pages of the file that are let go, panels that share huge pages; no byte is lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from zigllama.foundation.ggml_types import type_by_name
from zigllama.foundation.memory_mapping import MemoryMap
from zigllama.foundation.native_context import NativeContext, guarded
from zigllama.foundation.native_weights import NativeWeight
from zigllama.foundation.runtime import EagerRuntime, Step
from zigllama.linear_algebra.linear import Weight, embed, linear


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


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc on this system")
@pytest.mark.parametrize(("n", "n_threads"), [(512, 1), (512, 16), (100, 2)])
def test_a_prompts_rows_do_not_keep_the_embedding_in_memory(n: int, n_threads: int, tmp_path: Path) -> None:
    """A fault brings the pages around a row too: rows all over the file would bring most of it."""
    rows, cols = 8192, 1024
    values = np.random.default_rng(3).standard_normal((rows, cols)).astype(np.float32)
    (tmp_path / "w").write_bytes(values.tobytes())
    step = Step.of_rows(n)
    step.tokens = np.random.default_rng(4).integers(0, rows, n).astype(np.int32)
    with MemoryMap(tmp_path / "w") as mapping, NativeContext(n_threads) as ctx, guarded(mapping.view):
        weight = Weight(type_by_name("F32"), rows, cols, mapping.view)
        weight.prepare(ctx, mapped=True, release=True)
        before = resident_file_bytes()
        got = embed(EagerRuntime(ctx, step).bind(), weight).array
        assert resident_file_bytes() < before + n_threads * (2 << 20)  # each thread's last 16 rows
        np.testing.assert_array_equal(got, values[step.tokens])
        weight.close()


def test_memory_that_is_no_files_is_never_let_go() -> None:
    values = np.random.default_rng(5).standard_normal((4096, 64)).astype(np.float32)
    step = Step.of_rows(200)
    step.tokens = np.arange(200, dtype=np.int32) * 20
    with NativeContext(1) as ctx:
        weight = Weight.from_array(values)
        weight.prepare(ctx, mapped=True)
        for _ in range(2):
            np.testing.assert_array_equal(embed(EagerRuntime(ctx, step).bind(), weight).array, values[step.tokens])
        weight.close()


def test_weights_that_come_together_go_with_the_last_of_them() -> None:
    """The context may be closed before them; their products are those of a weight on its own."""
    values = [np.random.default_rng(i).standard_normal((40 + i, 64)).astype(np.float32) for i in range(3)]
    x = np.random.default_rng(9).standard_normal((2, 64)).astype(np.float32)
    with NativeContext(1) as ctx:
        runtime = EagerRuntime(ctx, Step.of_rows(2))
        weights = [Weight.from_array(v) for v in values]
        natives = [w.prepare(ctx, together=True) for w in weights]
        alone = [linear(runtime.rows(x), Weight.from_array(v)).array for v in values]
        weights[0].close()
        for w, want in zip(weights[1:], alone[1:], strict=True):
            np.testing.assert_array_equal(linear(runtime.rows(x), w).array, want)
        weights.clear()
    for native in natives:
        native.close()
