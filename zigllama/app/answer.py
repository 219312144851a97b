"""Show an answer as it is written: text to stdout, everything about it to stderr."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from typing import Any


def show(events: Iterator[Any]) -> Any:
    """Write a stream's text to stdout as it comes, then end the line; returns the stream's result.

    Ctrl-C ends the stream after the present token and the line too, and is passed on.
    """
    out = sys.stdout
    last = "\n"
    try:
        while True:
            try:
                text = next(events).text
            except StopIteration as end:
                return end.value
            if text:
                out.write(text)
                out.flush()
                last = text[-1]
    finally:
        if isinstance(events, Generator):
            events.close()
        if last != "\n":
            out.write("\n")
            out.flush()


def describe(result: Any, backend: dict[str, Any]) -> str:
    """One line about a result: how much, how fast, with which seed, by what."""
    usage, timings = result.usage, result.timings
    cached = f" ({usage['cached_tokens']} from the cache)" if usage["cached_tokens"] else ""
    return (
        f"prompt {usage['prompt_tokens']} tokens{cached}, {timings['prefill_tps']:.1f} per second; "
        f"answer {usage['completion_tokens']} tokens, {timings['decode_tps']:.1f} per second; "
        f"ended by {result.finish_reason}; seed {result.seed}; {backend['n_threads']} threads, {result.fingerprint}"
    )


def as_json(result: Any, backend: dict[str, Any]) -> dict[str, Any]:
    """A result as plain values, for json.dumps."""
    more: dict[str, Any] = {}
    if result.logprobs is not None:
        more["logprobs"] = [token._asdict() for token in result.logprobs]
    if result.explain is not None:
        more["explain"] = [[kept._asdict() for kept in step] for step in result.explain]
    return {
        "text": result.text,
        "token_ids": result.token_ids,
        "finish_reason": result.finish_reason,
        "usage": result.usage,
        "timings": result.timings,
        "truncated": result.truncated,
        "seed": result.seed,
        "fingerprint": result.fingerprint,
        "backend": backend,
        **more,
    }
