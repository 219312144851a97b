"""The probes: speeds that a machine can have, memory that a smaller amount of it does not slow down, errors."""

from __future__ import annotations

import pytest

from zigllama.errors import ClosedError, DTypeError, InvalidArgument
from zigllama.foundation import native_probe
from zigllama.foundation.native import isa_variants
from zigllama.foundation.native_context import NativeContext


@pytest.mark.parametrize("isa", [name for name, usable in isa_variants() if usable])
def test_speeds_of_every_variant(isa: str) -> None:
    """Between what a computer of twenty years ago and one of the next ten could do: on a busy machine no more is sure.
    What they compute is checked by the C selftest."""
    with NativeContext(2, isa) as context:
        assert 1e8 < native_probe.read(context, 1 << 16, 0.01) < 1e14
        assert 1e8 < native_probe.peak(context, "int8", 0.01) < 1e15
        assert 1e8 < native_probe.peak(context, "f32", 0.01) < 1e15


def test_errors() -> None:
    with NativeContext(1) as context:
        with pytest.raises(InvalidArgument, match="0 bytes"):
            native_probe.read(context, 0)
        with pytest.raises(InvalidArgument, match="seconds"):
            native_probe.peak(context, "f32", -1.0)
        with pytest.raises(DTypeError, match="want I8 or F32"):
            native_probe.peak(context, "bf16")
    with pytest.raises(ClosedError):
        native_probe.read(context, 1)
