"""Where the memory of weights lies on a machine with several nodes: the C library's plan, and what it asks the kernel.

A leaf of native.py's door, as native_formats.py. Which CPU is on which node, and where threads run, is topology.py's
and threading.py's business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from zigllama.errors import InvalidArgument

from .native import check, ffi, lib
from .native_context import NativeContext


class NodeSpan(NamedTuple):
    """Bytes begin .. end - 1 of a weight's panels belong on `node`: `threads` read them (see zl_node_span)."""

    node: int
    threads: range
    begin: int
    end: int


def plan(nodes: Sequence[int], n_panels: int, panel_bytes: int, page: int = 4096) -> list[NodeSpan]:
    """How a weight of so many panels is laid out for threads on these nodes: whole pages, in order, without gaps.

    Raises InvalidArgument.
    """
    spans, count = ffi.new("zl_node_span[]", max(len(nodes), 1)), ffi.new("int *")
    check(lib.zl_numa_plan(ffi.new("int[]", list(nodes)), len(nodes), n_panels, panel_bytes, page, spans, count))
    return [
        NodeSpan(s.node, range(s.first_thread, s.first_thread + s.n_threads), s.begin, s.end)
        for s in spans[0 : count[0]]
    ]


def set_nodes(ctx: NativeContext, nodes: Sequence[int] | None) -> None:
    """The node of each thread of a context, by the system's numbers: weights made from now on are laid out by them.
    None, or all the same: they lie where they fall. Raises InvalidArgument."""
    if nodes is not None and len(nodes) != ctx.n_threads:
        raise InvalidArgument(f"{len(nodes)} nodes for {ctx.n_threads} threads")
    with ctx.using() as pointer:
        check(lib.zl_ctx_set_nodes(pointer, ffi.NULL if nodes is None else ffi.new("int[]", list(nodes))))


class MbindHook:
    """For tests: `call(address, bytes, mode, nodes) -> errno` instead of the system's mbind, until the block ends.

    `nodes` are the bits of the mask.
    """

    def __init__(self, ctx: NativeContext, call: Callable[[int, int, int, list[int]], int]) -> None:
        self.ctx = ctx

        def hook(arg: Any, start: Any, n_bytes: int, mode: int, mask: Any, max_node: int) -> int:
            nodes = [i for i in range(max_node) if mask[i // 64] >> (i % 64) & 1]
            return call(int(ffi.cast("uintptr_t", start)), n_bytes, mode, nodes)

        self._hook = ffi.callback("int(void *, void *, int64_t, int, const uint64_t *, int64_t)", hook)

    def __enter__(self) -> MbindHook:
        with self.ctx.using() as pointer:
            check(lib.zl_ctx_set_mbind(pointer, self._hook, ffi.NULL))
        return self

    def __exit__(self, *exc: object) -> None:
        with self.ctx.using() as pointer:
            check(lib.zl_ctx_set_mbind(pointer, ffi.NULL, ffi.NULL))
